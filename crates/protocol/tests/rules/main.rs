//! What the rules promise, as sentences. Every block of every story is followed by a check of the
//! whole state (`world.rs`).

mod a_competition_over_three_epochs;
mod bytes_from_outside_never_panic;
mod copies_never_win;
mod epochs_turn_by_clock_or_command;
mod models_commit_reveal_refresh_and_retire;
mod money_is_conserved_whatever_happens;
mod routing_equals_a_naive_search;
mod submissions_and_settlement;
mod transactions_and_fees;
mod what_must_be_impossible;
mod world;

//! What the rules promise, as sentences. After every block of every test the invariants of the
//! whole state are checked (`world.rs`).

#[cfg(test)]
mod a_competition_over_three_epochs;
#[cfg(test)]
mod wrong_verdicts_are_slashed;
#[cfg(test)]
mod bytes_from_outside_never_panic;
#[cfg(test)]
mod copies_never_win;
#[cfg(test)]
mod phases_end_by_clock_or_command;
#[cfg(test)]
mod models_commit_reveal_refresh_and_retire;
#[cfg(test)]
mod money_is_conserved_whatever_happens;
#[cfg(test)]
mod rent_is_voted_and_earned_by_proof;
#[cfg(test)]
mod routing_equals_a_naive_search;
#[cfg(test)]
mod stakes_are_shared_and_slashed_alike;
#[cfg(test)]
mod submissions_and_settlement;
#[cfg(test)]
mod the_documented_parameters_are_the_real_ones;
#[cfg(test)]
mod the_rules_change_at_an_epoch;
#[cfg(test)]
mod transactions_and_fees;
#[cfg(test)]
mod validators_and_seats;
#[cfg(test)]
mod validators_vote_and_models_migrate;
#[cfg(test)]
mod data_is_fixed_first_and_wins_once;
#[cfg(test)]
mod hostile_state;
#[cfg(test)]
mod known_attacks_fail;
#[cfg(test)]
mod hold_under_attack;
#[cfg(test)]
mod library;
#[cfg(test)]
mod world;

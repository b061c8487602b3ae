//! Every defense is needed: without it, an attacker of the simulator breaks a promise, and the
//! checker says which. So the promises can fail, and the attackers are worth their name.

use soma_protocol::Defense;
use soma_sim::{Plant, Settings, Violation, attackers::Attacker, run};

/// Seeds within which the missing defense is found.
const SEEDS: u64 = 100;

/// The height at which a node joins in histories that have to be long: data wins, and may win
/// again, in five epochs.
const LONG: u64 = 130;

/// The violation in the first history, of those with this attacker, that has one without this
/// defense. Each lasts until a node has joined at `join_height`, if that is given.
fn found_without(plant: Plant, attacker: Option<Attacker>, join_height: Option<u64>) -> Violation {
    let settings = (0..SEEDS).map(|seed| Settings { seed, plant: Some(plant), join_height });
    let mut attacked = settings.filter(|settings| {
        attacker.is_none_or(|attacker| settings.attackers().contains(&attacker))
    });
    let found = attacked.find_map(|settings| run(settings).err());
    found.unwrap_or_else(|| panic!("without {plant}, no promise is broken in {SEEDS} seeds"))
}

/// Asserts that the first promise to break without a defense is this one.
macro_rules! assert_broken {
    ($promise:ident, $plant:expr, $attacker:expr) => {
        assert_broken!($promise, $plant, $attacker, None)
    };
    ($promise:ident, $plant:expr, $attacker:expr, $join_height:expr) => {{
        let violation = found_without($plant, $attacker, $join_height);
        assert!(matches!(violation, Violation::$promise { .. }), "{violation}");
    }};
}

#[test]
fn without_admission_fees_a_rejected_payment_is_seen_to_pay_nothing() {
    assert_broken!(Unpaid, Plant::Without(Defense::AdmissionFee), None);
}

#[test]
fn if_duties_may_fail_a_rejected_one_is_seen_in_a_block() {
    assert_broken!(RejectedDuty, Plant::Without(Defense::DutyValidity), None);
}

#[test]
fn without_quarters_a_flooder_is_seen_to_fill_a_block() {
    assert_broken!(NoQuarter, Plant::Without(Defense::Quarters), Some(Attacker::Flooder));
}

#[test]
fn without_room_fees_a_permanent_record_is_seen_to_be_free() {
    assert_broken!(FreeRoom, Plant::Without(Defense::RoomFee), None);
}

#[test]
fn if_all_candidates_are_kept_a_crowd_is_seen_to_make_a_record_too_long() {
    assert_broken!(LongRecord, Plant::Without(Defense::ClosestOnly), Some(Attacker::Crowd));
}

#[test]
fn without_a_budget_a_block_is_seen_to_work_too_long() {
    assert_broken!(LongWork, Plant::Without(Defense::TaskBudget), None);
}

#[test]
fn if_stake_does_not_wait_a_sniper_is_seen_to_join_before_a_win_is_settled() {
    assert_broken!(EarlyStake, Plant::Without(Defense::JoiningWait), Some(Attacker::Sniper));
}

#[test]
fn without_a_minimum_an_inflater_is_seen_to_leave_few_shares() {
    assert_broken!(FewShares, Plant::Without(Defense::SharesMin), Some(Attacker::Inflater));
}

#[test]
fn if_seats_need_no_stake_a_swarm_is_seen_to_take_one() {
    assert_broken!(CheapSeat, Plant::Without(Defense::SeatStake), Some(Attacker::Swarm));
}

#[test]
fn if_seats_count_without_limit_the_cheapest_third_is_seen_to_be_cheap() {
    assert_broken!(CheapThird, Plant::Without(Defense::SeatLimit), Some(Attacker::Sniper));
}

#[test]
fn if_all_validators_contribute_one_without_a_seat_is_seen_in_the_beacon() {
    assert_broken!(Outsider, Plant::Without(Defense::SeatedBeacon), Some(Attacker::Swarm));
}

#[test]
fn if_data_may_win_again_a_repeater_is_seen_to_win_twice() {
    let without = Plant::Without(Defense::WinsOnce);
    assert_broken!(WonTwice, without, Some(Attacker::Repeater), Some(LONG));
}

#[test]
fn if_nothing_waits_for_the_settlement_something_is_seen_before_it() {
    assert_broken!(Unsettled, Plant::Without(Defense::SettledFirst), None);
}

#[test]
fn if_a_commit_binds_nobody_a_model_is_seen_that_can_choose_its_weights() {
    assert_broken!(Unbound, Plant::Without(Defense::BoundCommit), None);
}

#[test]
fn without_places_a_swarm_is_seen_to_take_those_of_proposals() {
    assert_broken!(ManyProposals, Plant::Without(Defense::ProposalPlaces), Some(Attacker::Swarm));
}

#[test]
fn if_undecided_claims_cost_nothing_an_overloader_is_seen_to_deny_for_nothing() {
    let without = Plant::Without(Defense::UndecidedCosts);
    assert_broken!(FreeDenial, without, Some(Attacker::Overloader), Some(LONG));
}

#[test]
fn if_broken_files_cost_little_a_breaker_is_seen_to_deny_more_than_it_pays() {
    let without = Plant::Without(Defense::BrokenCosts);
    assert_broken!(CheapDenial, without, Some(Attacker::Breaker));
}

#[test]
fn without_a_bound_a_hoarder_is_seen_to_take_more_room_than_there_is() {
    assert_broken!(ManyFiles, Plant::Without(Defense::FileRoom), Some(Attacker::Hoarder));
}

#[test]
fn without_bids_a_flooder_is_seen_to_keep_a_transfer_out() {
    assert_broken!(Late, Plant::NoBids, Some(Attacker::Flooder));
}

#[test]
fn without_a_room_for_duties_a_flooder_is_seen_to_have_an_honest_validator_slashed() {
    assert_broken!(Slashed, Plant::NoDutyRoom, Some(Attacker::Flooder));
}

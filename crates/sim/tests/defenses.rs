//! Every defense is needed: without it, an attacker of the simulator breaks a promise, and the
//! checker says which. So the promises can fail, and the attackers are worth their name.

use soma_protocol::Defense;
use soma_sim::{Plant, Settings, Violation, attackers::Attacker, run};

/// Seeds within which the missing defense is found.
const SEEDS: u64 = 100;

/// The violation in the first history, of those with this attacker, that has one without this
/// defense.
fn found_without(plant: Plant, attacker: Option<Attacker>) -> Violation {
    let settings = (0..SEEDS).map(|seed| Settings { seed, plant: Some(plant), join_height: None });
    let mut attacked = settings.filter(|settings| {
        attacker.is_none_or(|attacker| settings.attackers().contains(&attacker))
    });
    let found = attacked.find_map(|settings| run(settings).err());
    found.unwrap_or_else(|| panic!("without {plant}, no promise is broken in {SEEDS} seeds"))
}

#[test]
fn without_admission_fees_a_rejected_payment_is_seen_to_pay_nothing() {
    let violation = found_without(Plant::Without(Defense::AdmissionFee), None);
    assert!(matches!(violation, Violation::Unpaid { .. }), "{violation}");
}

#[test]
fn if_duties_may_fail_a_rejected_one_is_seen_in_a_block() {
    let violation = found_without(Plant::Without(Defense::DutyValidity), None);
    assert!(matches!(violation, Violation::RejectedDuty { .. }), "{violation}");
}

#[test]
fn without_quarters_a_flooder_is_seen_to_fill_a_block() {
    let plant = Plant::Without(Defense::Quarters);
    let violation = found_without(plant, Some(Attacker::Flooder));
    assert!(matches!(violation, Violation::NoQuarter { .. }), "{violation}");
}

#[test]
fn without_room_fees_a_permanent_record_is_seen_to_be_free() {
    let violation = found_without(Plant::Without(Defense::RoomFee), None);
    assert!(matches!(violation, Violation::FreeRoom { .. }), "{violation}");
}

#[test]
fn if_all_candidates_are_kept_a_crowd_is_seen_to_make_a_record_too_long() {
    let plant = Plant::Without(Defense::ClosestOnly);
    let violation = found_without(plant, Some(Attacker::Crowd));
    assert!(matches!(violation, Violation::LongRecord { .. }), "{violation}");
}

#[test]
fn without_a_budget_a_block_is_seen_to_work_too_long() {
    let violation = found_without(Plant::Without(Defense::TaskBudget), None);
    assert!(matches!(violation, Violation::LongWork { .. }), "{violation}");
}

#[test]
fn if_stake_does_not_wait_a_sniper_is_seen_to_join_before_a_win_is_settled() {
    let plant = Plant::Without(Defense::JoiningWait);
    let violation = found_without(plant, Some(Attacker::Sniper));
    assert!(matches!(violation, Violation::EarlyStake { .. }), "{violation}");
}

#[test]
fn without_a_minimum_an_inflater_is_seen_to_leave_few_shares() {
    let plant = Plant::Without(Defense::SharesMin);
    let violation = found_without(plant, Some(Attacker::Inflater));
    assert!(matches!(violation, Violation::FewShares { .. }), "{violation}");
}

#[test]
fn if_seats_need_no_stake_a_swarm_is_seen_to_take_one() {
    let plant = Plant::Without(Defense::SeatStake);
    let violation = found_without(plant, Some(Attacker::Swarm));
    assert!(matches!(violation, Violation::CheapSeat { .. }), "{violation}");
}

#[test]
fn if_seats_count_without_limit_the_cheapest_third_is_seen_to_be_cheap() {
    let plant = Plant::Without(Defense::SeatLimit);
    let violation = found_without(plant, Some(Attacker::Sniper));
    assert!(matches!(violation, Violation::CheapThird { .. }), "{violation}");
}

#[test]
fn if_all_validators_contribute_one_without_a_seat_is_seen_in_the_beacon() {
    let plant = Plant::Without(Defense::SeatedBeacon);
    let violation = found_without(plant, Some(Attacker::Swarm));
    assert!(matches!(violation, Violation::Outsider { .. }), "{violation}");
}

#[test]
fn without_bids_a_flooder_is_seen_to_keep_a_transfer_out() {
    let violation = found_without(Plant::NoBids, Some(Attacker::Flooder));
    assert!(matches!(violation, Violation::Late { .. }), "{violation}");
}

#[test]
fn without_a_room_for_duties_a_flooder_is_seen_to_have_an_honest_validator_slashed() {
    let violation = found_without(Plant::NoDutyRoom, Some(Attacker::Flooder));
    assert!(matches!(violation, Violation::Slashed { .. }), "{violation}");
}

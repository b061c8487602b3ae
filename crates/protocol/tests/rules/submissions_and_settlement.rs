//! Submissions, publication by rank, audits, and what every outcome pays.

use crate::world::{
    CHUNK, Data, OTHER, OWNER, Person, RIVAL, SECOND_VALIDATOR, SUBMITTER, THIRD_VALIDATOR,
    VALIDATOR, World, publish, validator,
};
use soma_codes::Coded as _;
use soma_protocol::record::{ReturnReason, TargetStatus};
use soma_protocol::{
    Action, Amount, Epoch, Event, ModelId, Phase, Rejection, TargetId, Validity, action, read,
};

/// An account with almost no money.
const POOR: Person = Person(77);

fn competing() -> World {
    let mut world = World::with(|_| ());
    world.go_to_compete();
    world
}

fn distances(world: &World, target: u32) -> Vec<u64> {
    let candidates = read::candidates(&world.state, TargetId(target));
    candidates.iter().map(|candidate| candidate.distance).collect()
}

/// The submission with some of its numbers changed.
fn changed(action: &Action, change: impl FnOnce(&mut action::Submit)) -> Action {
    let Action::Submit(mut claim) = action.clone() else { unreachable!() };
    change(&mut claim);
    Action::Submit(claim)
}

#[test]
fn the_closest_are_kept_and_a_displaced_bond_returns_at_once() {
    let mut world = competing();
    let bond = world.target(1).reward.bps(world.params().bond_bps);
    for (person, text, distance) in [(OWNER, "a", 30), (RIVAL, "b", 20), (OTHER, "c", 40)] {
        world.must(person, world.submit(person, 1, &Data::new(text), distance));
    }
    assert_eq!(distances(&world, 1), [20, 30, 40]);
    let farther = world.submit(SUBMITTER, 1, &Data::new("d"), 40);
    let full = Rejection::NotAmongClosest { target: TargetId(1) };
    assert_eq!(world.act(SUBMITTER, farther), Err(full), "among equals, the earlier stays");
    let before = world.balance(OTHER);
    world.must(SUBMITTER, world.submit(SUBMITTER, 1, &Data::new("d"), 30));
    assert_eq!(distances(&world, 1), [20, 30, 30]);
    assert_eq!(read::candidates(&world.state, TargetId(1))[2].submitter, SUBMITTER.address());
    assert_eq!(world.balance(OTHER), before.plus(bond));
    assert_eq!(world.holdings.bonds, bond.times(3));
}

#[test]
fn an_impossible_claim_is_rejected() {
    let mut world = competing();
    let good = world.submit(SUBMITTER, 1, &Data::new("data"), 5);
    let change = |change: fn(&mut action::Submit)| changed(&good, change);
    let cases = [
        (change(|claim| claim.model = ModelId(9)), "model_not_routed"),
        (change(|claim| claim.loss_q32 = -1), "bad_loss"),
        (change(|claim| claim.loss_q32 = 1 << 52), "bad_loss"),
        (change(|claim| claim.distance = u64::MAX), "bad_distance"),
        (change(|claim| claim.distance = 1 << 33), "bad_distance"),
        (change(|claim| claim.size_bytes = 15), "bad_data_size"),
        (change(|claim| claim.size_bytes = 65_537), "bad_data_size"),
    ];
    for (action, code) in cases {
        assert_eq!(world.act(SUBMITTER, action).unwrap_err().code().as_str(), code);
    }
    world.must(SUBMITTER, good.clone());
    let twice = Rejection::DuplicateSubmission { target: TargetId(1) };
    assert_eq!(world.act(SUBMITTER, good), Err(twice));
}

#[test]
fn targets_take_submissions_in_their_own_compete_phase_alone() {
    let mut world = competing();
    let action = world.submit(SUBMITTER, 1, &Data::new("late"), 5);
    world.go_to_next_epoch();
    let early = Rejection::WrongPhase { phase: Phase::Reveal };
    assert_eq!(world.act(SUBMITTER, action.clone()), Err(early));
    world.go_to_compete();
    assert_eq!(world.act(SUBMITTER, action).unwrap_err().code().as_str(), "target_closed");
}

#[test]
fn a_bond_that_cannot_be_paid_leaves_the_candidates_alone() {
    let mut world = competing();
    let action = world.submit(POOR, 1, &Data::new("poor"), 5);
    world.must(
        OWNER,
        Action::Transfer(action::Transfer { to: POOR.address(), amount: Amount(1_000_000) }),
    );
    let rejection = world.act(POOR, action).unwrap_err();
    assert_eq!(rejection.code().as_str(), "insufficient_balance");
    assert!(distances(&world, 1).is_empty());
}

#[test]
fn a_silent_candidate_loses_its_bond_and_the_next_one_may_publish() {
    let mut world = competing();
    let (near, far) = (Data::new("near"), Data::new("far"));
    world.must(OTHER, world.submit(OTHER, 1, &near, 5));
    world.must(SUBMITTER, world.submit(SUBMITTER, 1, &far, 6));
    let bond = world.target(1).reward.bps(world.params().bond_bps);
    world.go_to_next_epoch();
    let turn = Rejection::NotPublisher { target: TargetId(1) };
    assert_eq!(world.act(SUBMITTER, publish(1, &far)), Err(turn.clone()), "not its turn yet");
    world.end_phase();
    assert_eq!(world.clock().1, Phase::Publish(0));
    let burned = world.holdings.burned;
    world.end_phase();
    assert_eq!(world.holdings.burned, burned.plus(bond));
    assert_eq!(world.clock().1, Phase::Publish(1));
    assert_eq!(world.act(OTHER, publish(1, &near)), Err(turn), "its turn is over");
    world.must(SUBMITTER, publish(1, &far));
    world.go_to_compete();
    world.must(VALIDATOR, world.attest(VALIDATOR, 1, Validity::Valid));
    let before = world.balance(SUBMITTER);
    let half = Amount(world.target(1).reward.0 / 2);
    world.go_to_next_epoch();
    assert_eq!(world.balance(SUBMITTER), before.plus(half).plus(bond));
}

#[test]
fn if_all_candidates_are_silent_all_bonds_burn_and_the_reward_returns() {
    let mut world = competing();
    for (person, distance) in [(OTHER, 5), (OWNER, 6), (RIVAL, 7)] {
        world.must(person, world.submit(person, 1, &Data::new("silent"), distance));
    }
    let bonds = world.holdings.bonds;
    let burned = world.holdings.burned;
    world.go_to_next_epoch();
    world.go_to_compete();
    assert_eq!((world.holdings.burned, world.holdings.bonds), (burned.plus(bonds), Amount::ZERO));
    world.go_to_next_epoch();
    let unclaimed = TargetStatus::Returned { reason: ReturnReason::Unclaimed };
    assert_eq!(world.target(1).status, unclaimed);
}

#[test]
fn published_data_must_match_the_commitment() {
    let mut world = competing();
    let data = Data::new("the data itself");
    world.must(SUBMITTER, world.submit(SUBMITTER, 1, &data, 5));
    world.go_to_next_epoch();
    let mut other = data.clone();
    other.bytes[0] ^= 1;
    let mut longer = data.clone();
    longer.bytes.push(0);
    let salted = Data { salt: [5; 32], ..data.clone() };
    for wrong in [other, longer, salted] {
        let mismatch = Rejection::CommitmentMismatch;
        assert_eq!(world.act(SUBMITTER, publish(1, &wrong)), Err(mismatch));
    }
    assert_eq!(world.act(OTHER, publish(1, &data)).unwrap_err().code().as_str(), "not_publisher");
    world.must(SUBMITTER, publish(1, &data));
    assert_eq!(
        world.act(SUBMITTER, publish(1, &data)).unwrap_err().code().as_str(),
        "already_published"
    );
}

#[test]
fn data_of_another_size_than_claimed_cannot_be_published() {
    let mut world = competing();
    let data = Data::new(&"x".repeat(CHUNK + 1));
    let action = world.submit(SUBMITTER, 1, &data, 5);
    world.must(SUBMITTER, changed(&action, |claim| claim.size_bytes -= 1));
    world.go_to_next_epoch();
    let mismatch = Rejection::CommitmentMismatch;
    assert_eq!(world.act(SUBMITTER, publish(1, &data)), Err(mismatch));
}

#[test]
fn data_that_won_in_an_earlier_epoch_is_rejected() {
    let mut world = World::with(|_| ());
    let data = Data::new("won once");
    let first = world.win(SUBMITTER, &data);
    world.go_to_compete();
    world.must(VALIDATOR, world.attest(VALIDATOR, first, Validity::Valid));
    // The win of epoch 1 is not settled when epoch 2 submits; it is when epoch 2 publishes.
    let second = read::targets(&world.state, world.epoch())[0].id.0;
    let spent = Data { salt: [8; 32], ..data.clone() };
    world.must(OTHER, world.submit(OTHER, second, &spent, 5));
    world.must(SUBMITTER, world.submit(SUBMITTER, second, &Data::new("new"), 6));
    world.go_to_next_epoch();
    let won = Rejection::DataSeenBefore { winner: TargetId(first), epoch: Epoch(1) };
    assert_eq!(world.act(OTHER, publish(second, &spent)), Err(won));
    world.end_phase();
    world.end_phase();
    world.must(SUBMITTER, publish(second, &Data::new("new")));
}

#[test]
fn two_targets_of_one_epoch_may_be_won_with_the_same_data() {
    let mut world = competing();
    let data = Data::new("found by two");
    world.must(SUBMITTER, world.submit(SUBMITTER, 1, &data, 5));
    world.must(OTHER, world.submit(OTHER, 2, &data, 5));
    world.go_to_next_epoch();
    world.must(SUBMITTER, publish(1, &data));
    world.must(OTHER, publish(2, &data));
    for target in [1, 2] {
        world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
    }
    world.go_to_next_epoch();
    for target in [1, 2] {
        assert!(matches!(world.target(target).status, TargetStatus::Settled { .. }));
    }
}

#[test]
fn a_claim_judged_invalid_burns_the_bond_and_pays_nobody() {
    let mut world = World::with(|_| ());
    let target = world.win(SUBMITTER, &Data::new("a lie"));
    world.go_to_compete();
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Invalid));
    let bond = world.target(target).reward.bps(world.params().bond_bps);
    let (balance, burned) = (world.balance(SUBMITTER), world.holdings.burned);
    let stakes = world.holdings.model_stakes;
    world.go_to_next_epoch();
    assert_eq!(world.balance(SUBMITTER), balance);
    assert_eq!(world.holdings.burned, burned.plus(bond));
    assert_eq!(world.holdings.model_stakes, stakes);
    let invalid = TargetStatus::Returned { reason: ReturnReason::Invalid };
    assert_eq!(world.target(target).status, invalid);
}

#[test]
fn more_than_two_thirds_of_the_stake_decide_and_one_unit_less_does_not() {
    // 667 of 1001 are 66.63 %, 668 of 1001 are 66.73 %.
    for (stakes, decided) in [([334, 333, 334], false), ([334, 334, 333], true)] {
        let mut world = World::with(|genesis| {
            let people = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR];
            genesis.params.validator_stake_min = Amount(1_000_000);
            genesis.validators = people
                .into_iter()
                .zip(stakes)
                .map(|(person, stake)| validator(person, stake))
                .collect();
        });
        let target = world.win(SUBMITTER, &Data::new("disputed"));
        world.go_to_compete();
        world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
        world.must(SECOND_VALIDATOR, world.attest(SECOND_VALIDATOR, target, Validity::Valid));
        world.must(THIRD_VALIDATOR, world.attest(THIRD_VALIDATOR, target, Validity::Invalid));
        let before = world.balance(SUBMITTER);
        let bond = world.target(target).reward.bps(world.params().bond_bps);
        world.go_to_next_epoch();
        match world.target(target).status {
            TargetStatus::Settled { .. } => assert!(decided),
            TargetStatus::Returned { reason: ReturnReason::NoQuorum } => {
                assert!(!decided);
                assert_eq!(
                    world.balance(SUBMITTER),
                    before.plus(bond),
                    "without a quorum the bond returns"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_verdict_is_given_once_by_validators_on_published_claims() {
    let mut world = World::with(|_| ());
    let target = world.win(SUBMITTER, &Data::new("audited"));
    let id = TargetId(target);
    assert_eq!(
        world.act(OTHER, world.attest(OTHER, target, Validity::Valid)),
        Err(Rejection::NotValidator)
    );
    let unpublished = Rejection::NotPublished { target: TargetId(target + 1) };
    assert_eq!(
        world.act(VALIDATOR, world.attest(VALIDATOR, target + 1, Validity::Valid)),
        Err(unpublished)
    );
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
    let twice = Rejection::AlreadyAttested { target: id };
    assert_eq!(
        world.act(VALIDATOR, world.attest(VALIDATOR, target, Validity::Invalid)),
        Err(twice)
    );
    world.go_to_next_epoch();
    assert_eq!(
        world
            .act(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid))
            .unwrap_err()
            .code()
            .as_str(),
        "target_closed"
    );
}

#[test]
fn the_commission_goes_to_the_owner_and_the_rest_onto_the_stake() {
    let mut world = World::with(|_| ());
    let target = world.win(SUBMITTER, &Data::new("shared"));
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
    world.go_to_next_epoch();
    let event = world.events.iter().find_map(|event| match event {
        Event::TargetSettled { paid_submitter, paid_model, commission, .. } => {
            Some((*paid_submitter, *paid_model, *commission))
        }
        _ => None,
    });
    let (paid_submitter, paid_model, commission) = event.unwrap();
    assert_eq!(paid_submitter, paid_model);
    assert_eq!(commission, paid_model.bps(1_000));
}

//! A whole competition, checked by balances: weights are published, targets drawn, data submitted,
//! published and audited, and the books balance to the base unit.

use crate::world::{Data, OTHER, OWNER, Release, SUBMITTER, VALIDATOR, World, axis, publish};
use soma_protocol::record::{ModelStatus, ReturnReason, TargetStatus};
use soma_protocol::{Action, Amount, Event, Hash, ModelId, Validity, action, commitment, read};

/// The validator's part of an epoch's randomness.
fn reveal_beacon(world: &mut World, value: Hash) {
    let epoch = world.epoch().next();
    let commitment = commitment::beacon(&world.chain, &VALIDATOR.address(), epoch, &value);
    world.must(VALIDATOR, Action::CommitBeacon(action::CommitBeacon { epoch, commitment }));
    world.go_to_next_epoch();
    world.must(VALIDATOR, Action::RevealBeacon(action::RevealBeacon { epoch, value }));
}

/// Epoch 1: the models of genesis compete at once, a third one is registered and committed, two
/// people submit to target 1.
fn first_epoch(world: &mut World, third: &Release) -> Amount {
    world.go_to_compete();
    let model = world.register(OTHER, "third");
    world.must(OTHER, world.commit(OTHER, model, third));
    world.must(VALIDATOR, world.hold(model, third));
    let target = world.target(1);
    assert_eq!(target.routed.len(), 2);
    let before = world.balance(SUBMITTER);
    world.must(OWNER, world.submit(OWNER, 1, &Data::new("farther away"), 2_000));
    world.must(SUBMITTER, world.submit(SUBMITTER, 1, &Data::new("nearest"), 1_000));
    let bond = target.reward.bps(world.params().bond_bps);
    assert!(world.balance(SUBMITTER) < before.less(bond));
    bond
}

/// Epoch 2: weights are revealed, the beacon is revealed, the closest candidate publishes and is
/// audited.
fn second_epoch(world: &mut World, third: &Release, bond: Amount) {
    reveal_beacon(world, Hash([5; 32]));
    world.must(OTHER, third.reveal(ModelId(3)));
    assert_eq!(world.model(3).status, ModelStatus::Active);
    world.must(SUBMITTER, publish(1, &Data::new("nearest")));
    let target = world.target(1).id;
    let released = Event::SubmissionReleased { target, rank: 1, submitter: OWNER.address(), bond };
    assert!(world.events.contains(&released));
    world.go_to_compete();
    let record = read::epoch(&world.state, world.epoch()).unwrap();
    assert_eq!(record.revealed, [VALIDATOR.address()]);
    world.must(VALIDATOR, world.attest(VALIDATOR, 1, Validity::Valid));
    let files = std::slice::from_ref(third);
    world.must(VALIDATOR, world.due_answer(VALIDATOR, files).unwrap());
}

#[test]
fn a_win_pays_half_to_the_submitter_and_half_to_the_model() {
    let mut world = World::with(|_| ());
    let third = Release::new("third", axis(2));
    let bond = first_epoch(&mut world, &third);
    second_epoch(&mut world, &third, bond);

    // The beginning of epoch 3: everything of epoch 1 is paid.
    let target = world.target(1);
    let winner = target.routed[0].model;
    let (submitter, model) = (world.balance(SUBMITTER), world.model(winner.0));
    let owner = read::account(&world.state, &model.owner).balance;
    let pot = read::epoch(&world.state, world.epoch()).unwrap().validator_pot;
    let validator = world.balance(VALIDATOR);
    world.go_to_next_epoch();
    let half = Amount(target.reward.0 / 2);
    let commission = half.bps(model.commission_bps);
    assert_eq!(half.plus(half), target.reward);
    assert_eq!(world.balance(SUBMITTER), submitter.plus(half).plus(bond));
    assert_eq!(world.model(winner.0).pool.stake, model.pool.stake.plus(half).less(commission));
    assert_eq!(read::account(&world.state, &model.owner).balance, owner.plus(commission));
    assert_eq!((world.model(winner.0).wins, world.model(winner.0).earned), (1, half));
    let rent = world.events.iter().find_map(|event| match event {
        Event::RentPaid { amount, .. } => Some(*amount),
        _ => None,
    });
    assert_eq!(world.balance(VALIDATOR), validator.plus(pot).plus(rent.unwrap()));
    assert!(matches!(world.target(1).status, TargetStatus::Settled { .. }));
    let unclaimed = TargetStatus::Returned { reason: ReturnReason::Unclaimed };
    assert_eq!(world.target(2).status, unclaimed);
    assert_eq!(read::publication(&world.state, target.id), None, "data is pruned");
}

#[test]
fn the_same_history_gives_the_same_state_and_events() {
    let run = || {
        let mut world = World::with(|_| ());
        let target = world.win(SUBMITTER, &Data::new("run twice"));
        world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
        world.go_to_next_epoch();
        (world.state.clone(), world.events.clone())
    };
    assert_eq!(run(), run());
}

#[test]
fn an_epoch_that_nobody_wins_returns_everything_to_the_reserve() {
    let mut world = World::with(|_| ());
    let before = world.holdings;
    world.go_to_next_epoch();
    world.go_to_next_epoch();
    let after = world.holdings;
    let minted = read::epoch(&world.state, soma_protocol::Epoch(2)).unwrap();
    let held = minted.target_reward.times(minted.targets.into());
    assert_eq!(after.reserve.plus(held), before.reserve);
    assert_eq!((after.burned, after.balances), (before.burned, before.balances));
}

//! The life of a model: registered, committed, revealed, refreshed, retired; and what it pays.

use crate::world::{
    OTHER, OWNER, RIVAL, Release, SECOND_VALIDATOR, THIRD_VALIDATOR, VALIDATOR, World, axis,
    validator,
};
use soma_codes::Coded as _;
use soma_protocol::event::LapseReason;
use soma_protocol::record::ModelStatus;
use soma_protocol::{
    Action, Amount, Epoch, Event, ModelId, Params, Rejection, action, query, read, rent,
};

fn lapse(world: &World) -> Option<(LapseReason, Amount, Amount)> {
    world.events.iter().find_map(|event| match event {
        Event::CommitLapsed { reason, returned, burned, .. } => Some((*reason, *returned, *burned)),
        _ => None,
    })
}

/// A model of OTHER with a commit for the next epoch.
fn committed() -> (World, ModelId, Release) {
    let mut world = World::with(|genesis| genesis.params.missed_reveal_slash_bps = 500);
    let model = world.register(OTHER, "third");
    let release = Release::new("weights", axis(4));
    world.must(OTHER, world.commit(OTHER, model, &release));
    (world, model, release)
}

#[test]
fn a_revealed_model_is_active_and_routed_in_the_same_epoch() {
    let (mut world, model, release) = committed();
    assert_eq!(world.model(3).status, ModelStatus::Registered);
    world.must(VALIDATOR, world.hold(model, &release));
    world.go_to_next_epoch();
    // Anyone may carry a reveal.
    world.must(RIVAL, release.reveal(model));
    let record = world.model(3);
    assert_eq!((record.status, record.weights), (ModelStatus::Active, Some(release.weights_hash)));
    let weights = read::weights(&world.state, model, &release.weights_hash).unwrap();
    assert_eq!((weights.key, weights.ciphertext_hash), (release.key, release.ciphertext_hash));
    world.must(OWNER, Action::RetireModel(action::RetireModel { model: ModelId(1) }));
    world.go_to_compete();
    let targets = read::targets(&world.state, Epoch(2));
    assert!(targets.iter().all(|target| target.routed.iter().any(|one| one.model == model)));
}

#[test]
fn a_model_that_does_not_reveal_competes_with_neither_its_old_nor_its_new_weights() {
    let mut world = World::with(|_| {});
    let release = Release::new("better", axis(6));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    world.go_to_next_epoch();
    let is_routed = |world: &World| {
        let targets = read::targets(&world.state, world.epoch());
        assert!(!targets.is_empty());
        targets.iter().any(|target| target.routed.iter().any(|one| one.model == ModelId(1)))
    };
    // Its owner knows the beacon by now: there is nothing to choose from.
    world.go_to_compete();
    assert!(!is_routed(&world));
    assert_eq!(world.model(1).status, ModelStatus::Active);
    world.go_to_compete();
    assert!(is_routed(&world), "its old weights are in use again");
}

#[test]
fn a_commit_pays_its_rent_ahead_and_a_refresh_only_what_is_used_up() {
    let (mut world, model, release) = committed();
    let due =
        rent::due(release.size_bytes, Epoch(2), read::rent_price(&world.state), &world.params());
    assert!(due > Amount::ZERO);
    let commit = read::commit(&world.state, model, Epoch(2)).unwrap();
    assert_eq!((commit.rent, commit.paid), (due, due));
    world.must(VALIDATOR, world.hold(model, &release));
    world.go_to_next_epoch();
    world.must(OTHER, release.reveal(model));
    let epochs = u64::from(world.params().refresh_epochs);
    for _ in 0..3 {
        assert_eq!(query::commit_cost(&world.state, model, 1, release.size_bytes).unwrap().0, due);
        let holders = world.balance(VALIDATOR);
        world.go_to_compete();
        let files = std::slice::from_ref(&release);
        world.must(VALIDATOR, world.due_answer(VALIDATOR, files).unwrap());
        world.go_to_next_epoch();
        assert!(world.balance(VALIDATOR) > holders, "holders are paid every epoch");
    }
    let (rent, paid) = query::commit_cost(&world.state, model, 1, release.size_bytes).unwrap();
    assert_eq!(rent, due);
    let used = due.over(epochs).times(4);
    assert!(paid.0.abs_diff(used.0) <= epochs, "three epochs and the one that runs: {paid:?}");
    let before = world.balance(OTHER);
    let receipt = world.send(OTHER, world.transaction(OTHER, world.commit(OTHER, model, &release)));
    assert_eq!(world.balance(OTHER), before.less(receipt.fee).less(paid));
    world.must(VALIDATOR, world.hold(model, &release));
    world.go_to_next_epoch();
    world.must(OTHER, release.reveal(model));
    let record = read::rent(&world.state, model).unwrap();
    assert_eq!((record.prepaid, record.epochs_left), (due, world.params().refresh_epochs));
}

/// The premium of the commit in the last block.
fn last_premium(world: &World) -> Amount {
    let mut premiums = world.events.iter().filter_map(|event| match event {
        Event::WeightsCommitted { premium, .. } => Some(*premium),
        _ => None,
    });
    premiums.next_back().expect("a commit")
}

#[test]
fn room_for_files_is_bounded_and_a_refresh_needs_none() {
    let max = 1 << 20;
    let mut world = World::with(|genesis| genesis.params.files_bytes_max = max);
    let [first, second] = [OTHER, RIVAL].map(|owner| world.register(owner, "new"));
    let [mine, yours, again] = ["mine", "yours", "again"]
        .map(|name| Release { size_bytes: 600_000, ..Release::new(name, axis(4)) });
    let burned = world.holdings.burned;
    world.must(OTHER, world.commit(OTHER, first, &mine));
    let paid = last_premium(&world);
    assert!(paid > Amount::ZERO, "less than half is left");
    assert!(world.holdings.burned >= burned.plus(paid));
    world.must(OTHER, world.commit(OTHER, first, &mine));
    assert_eq!(last_premium(&world), Amount::ZERO, "it has that room already");
    let free_bytes = max - read::file_room(&world.state);
    let full = Rejection::NoFileRoom { size_bytes: 600_000, free_bytes };
    assert_eq!(world.act(RIVAL, world.commit(RIVAL, second, &yours)), Err(full.clone()));
    world.must(VALIDATOR, world.hold(first, &mine));
    world.go_to_next_epoch();
    world.must(OTHER, mine.reveal(first));
    // Its next file takes the place of this one, and no other comes between.
    assert_eq!(world.act(RIVAL, world.commit(RIVAL, second, &yours)), Err(full));
    world.must(OTHER, world.commit(OTHER, first, &again));
    assert_eq!(last_premium(&world), Amount::ZERO);
    world.must(VALIDATOR, world.hold(first, &again));
    world.go_to_next_epoch();
    world.must(OTHER, again.reveal(first));
    world.must(OTHER, Action::RetireModel(action::RetireModel { model: first }));
    for _ in 0..world.params().unbonding_epochs {
        world.go_to_next_epoch();
    }
    assert_eq!(world.model(first.0).status, ModelStatus::Retired);
    world.must(RIVAL, world.commit(RIVAL, second, &yours));
}

/// What filling the room until `left` bytes are free costs, in small steps, which is cheapest.
fn price_of_filling(left: u64) -> Amount {
    let params = Params::network();
    let (step, price) = (4_800_000_000 / 64, params.rent_price_per_mib_epoch);
    let steps = (params.files_bytes_max - left) / step;
    (1..=steps)
        .map(|taken| rent::premium(step, params.files_bytes_max - taken * step, price, &params))
        .sum()
}

#[test]
fn filling_all_room_of_a_network_costs_half_a_million_soma() {
    let Params { files_bytes_max, .. } = Params::network();
    let all_but_a_file = price_of_filling(4_800_000_000);
    assert!(all_but_a_file > Amount::soma(660_000), "{all_but_a_file}");
    let all_but_a_sixteenth = price_of_filling(files_bytes_max / 16);
    assert!(all_but_a_sixteenth > Amount::soma(8_900), "{all_but_a_sixteenth}");
    // While half is free, new models pay their rent alone.
    assert_eq!(price_of_filling(files_bytes_max / 2), Amount::ZERO);
}

#[test]
fn an_inactive_model_gives_up_its_room_and_pays_to_come_back() {
    let mut world = World::with(|genesis| genesis.params.files_bytes_max = 1 << 20);
    let model = world.register(OTHER, "mine");
    let release = Release { size_bytes: 600_000, ..Release::new("mine", axis(4)) };
    let room = |world: &World| read::file_room(&world.state);
    let others = room(&world);
    world.must(OTHER, world.commit(OTHER, model, &release));
    world.must(VALIDATOR, world.hold(model, &release));
    world.go_to_next_epoch();
    world.must(OTHER, release.reveal(model));
    assert_eq!(room(&world), others + 600_000);
    // Every refresh of the same length is free, and no room is counted twice for it.
    world.must(OTHER, world.commit(OTHER, model, &release));
    assert_eq!((last_premium(&world), room(&world)), (Amount::ZERO, others + 600_000));
    let longer = Release { size_bytes: 700_000, ..Release::new("longer", axis(4)) };
    world.must(OTHER, world.commit(OTHER, model, &longer));
    assert!(last_premium(&world) > Amount::ZERO, "a refresh pays for the room that it adds");
    assert_eq!(room(&world), others + 700_000);
    world.must(OTHER, world.commit(OTHER, model, &release));
    assert_eq!(room(&world), others + 600_000);
    while world.model(model.0).status == ModelStatus::Active {
        world.go_to_next_epoch();
    }
    world.go_to_next_epoch();
    assert_eq!(room(&world), 0, "no model has any: none is active");
    world.must(OTHER, world.commit(OTHER, model, &release));
    assert!(last_premium(&world) > Amount::ZERO, "it pays for new room");
}

#[test]
fn a_smaller_file_returns_the_rent_that_it_does_not_need() {
    let (mut world, model, release) = committed();
    world.must(VALIDATOR, world.hold(model, &release));
    world.go_to_next_epoch();
    world.must(OTHER, release.reveal(model));
    let smaller = Release { size_bytes: 1_000, ..Release::new("smaller", axis(5)) };
    world.must(OTHER, world.commit(OTHER, model, &smaller));
    assert_eq!(read::commit(&world.state, model, Epoch(3)).unwrap().paid, Amount::ZERO);
    world.must(VALIDATOR, world.hold(model, &smaller));
    world.go_to_next_epoch();
    let before = world.balance(OTHER);
    let left = read::rent(&world.state, model).unwrap().prepaid;
    world.must(RIVAL, smaller.reveal(model));
    let rent = read::rent(&world.state, model).unwrap().prepaid;
    assert_eq!(rent, rent::due(1_000, Epoch(3), read::rent_price(&world.state), &world.params()));
    assert_eq!(world.balance(OTHER), before.plus(left).less(rent));
}

#[test]
fn a_later_commit_for_the_same_epoch_replaces_the_earlier_one() {
    let (mut world, model, release) = committed();
    world.must(VALIDATOR, world.hold(model, &release));
    let before = world.balance(OTHER);
    // The same file again: nothing more to pay, and it is still held.
    let receipt = world.send(OTHER, world.transaction(OTHER, world.commit(OTHER, model, &release)));
    assert_eq!(world.balance(OTHER), before.less(receipt.fee));
    assert_eq!(read::commit(&world.state, model, Epoch(2)).unwrap().holders.len(), 1);
    // Another file is held by nobody yet.
    let other = Release::new("other", axis(6));
    world.must(OTHER, world.commit(OTHER, model, &other));
    assert!(read::commit(&world.state, model, Epoch(2)).unwrap().holders.is_empty());
    let stale = Rejection::OtherFileCommitted { model };
    assert_eq!(world.act(VALIDATOR, world.hold(model, &release)), Err(stale));
    world.must(VALIDATOR, world.hold(model, &other));
    world.go_to_next_epoch();
    assert_eq!(world.act(OTHER, release.reveal(model)), Err(Rejection::CommitmentMismatch));
    world.must(OTHER, other.reveal(model));
}

#[test]
fn a_commit_that_no_third_holds_lapses_and_its_rent_returns() {
    let (mut world, model, release) = committed();
    let paid = read::commit(&world.state, model, Epoch(2)).unwrap().paid;
    let before = world.balance(OTHER);
    world.go_to_next_epoch();
    assert_eq!(lapse(&world), Some((LapseReason::NotHeld, paid, Amount::ZERO)));
    assert_eq!(world.balance(OTHER), before.plus(paid));
    assert_eq!(world.model(3).pool.stake, Amount::soma(50), "nobody is slashed");
    let missing = Rejection::CommitNotFound { model, epoch: Epoch(2) };
    assert_eq!(world.act(OTHER, release.reveal(model)), Err(missing));
}

#[test]
fn exactly_a_third_of_the_stake_is_not_enough_to_hold_a_file() {
    for (stake, reveals) in [(1_000, false), (1_001, true)] {
        let mut world = World::with(|genesis| {
            genesis.validators = vec![
                validator(VALIDATOR, stake),
                validator(SECOND_VALIDATOR, 1_000),
                validator(THIRD_VALIDATOR, 1_000),
            ];
        });
        let release = Release::new("weights", axis(4));
        world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
        world.must(VALIDATOR, world.hold(ModelId(1), &release));
        world.go_to_next_epoch();
        assert_eq!(world.act(OWNER, release.reveal(ModelId(1))).is_ok(), reveals);
    }
}

#[test]
fn a_missed_reveal_loses_the_rent_and_a_part_of_the_stake() {
    let (mut world, model, release) = committed();
    let paid = read::commit(&world.state, model, Epoch(2)).unwrap().paid;
    world.must(VALIDATOR, world.hold(model, &release));
    world.go_to_next_epoch();
    world.go_to_compete();
    let too_late = world.act(OTHER, release.reveal(model)).unwrap_err();
    assert_eq!(too_late.code().as_str(), "wrong_phase");
    let burned = world.holdings.burned;
    world.go_to_next_epoch();
    let slashed = Amount::soma(50).bps(500);
    assert_eq!(lapse(&world), Some((LapseReason::NotRevealed, Amount::ZERO, paid)));
    assert_eq!(world.model(3).pool.stake, Amount::soma(50).less(slashed));
    assert_eq!(world.holdings.burned, burned.plus(paid).plus(slashed));
}

#[test]
fn after_a_missed_reveal_the_old_weights_stay_until_they_are_due() {
    let mut world = World::with(|_| ());
    let release = Release::new("new", axis(4));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    let before = world.model(1);
    for _ in 0..2 {
        world.go_to_next_epoch();
        world.go_to_compete();
        assert_eq!(world.model(1), before);
        assert!(!read::targets(&world.state, world.epoch()).is_empty());
    }
}

#[test]
fn a_model_that_is_not_refreshed_is_inactive_until_its_next_reveal() {
    let mut world = World::with(|genesis| genesis.params.refresh_epochs = 2);
    world.go_to_next_epoch();
    world.go_to_compete();
    assert_eq!(world.model(1).status, ModelStatus::Active, "revealed in 1, good for 1 and 2");
    world.go_to_next_epoch();
    world.go_to_compete();
    assert!(read::targets(&world.state, Epoch(3)).is_empty(), "nobody is routed any more");
    let again = Release::new("again", axis(0));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &again));
    world.must(VALIDATOR, world.hold(ModelId(1), &again));
    world.go_to_next_epoch();
    assert_eq!(world.model(1).status, ModelStatus::Inactive);
    world.must(OWNER, again.reveal(ModelId(1)));
    assert_eq!(world.model(1).status, ModelStatus::Active);
    assert_eq!(world.model(1).activated, Epoch(4));
    world.go_to_compete();
    assert!(!read::targets(&world.state, Epoch(4)).is_empty());
}

#[test]
fn a_retired_model_gets_its_stake_back_after_its_last_win_and_commit_are_settled() {
    let mut world = World::with(|_| ());
    let stake = world.model(1).pool.stake;
    world.must(OWNER, Action::RetireModel(action::RetireModel { model: ModelId(1) }));
    let release = Epoch(1 + world.params().unbonding_epochs);
    assert_eq!(world.model(1).status, ModelStatus::Retiring { release });
    let retired = Rejection::ModelRetired { model: ModelId(1) };
    assert_eq!(
        world.act(OWNER, Action::RetireModel(action::RetireModel { model: ModelId(1) })),
        Err(retired.clone())
    );
    let commit = world.commit(OWNER, ModelId(1), &Release::new("late", axis(0)));
    assert_eq!(world.act(OWNER, commit), Err(retired));
    while world.epoch() < release {
        assert_eq!(world.model(1).pool.stake, stake);
        let before = world.balance(OWNER);
        world.go_to_next_epoch();
        let returned = if world.epoch() == release { stake } else { Amount::ZERO };
        assert_eq!(world.balance(OWNER), before.plus(returned));
    }
    assert_eq!(
        (world.model(1).status, world.model(1).pool.stake),
        (ModelStatus::Retired, Amount::ZERO)
    );
}

#[test]
fn retiring_does_not_escape_the_slash_for_a_missed_reveal() {
    let (mut world, model, release) = committed();
    world.must(VALIDATOR, world.hold(model, &release));
    world.must(OTHER, Action::RetireModel(action::RetireModel { model }));
    world.go_to_next_epoch();
    world.go_to_next_epoch();
    assert_eq!(world.model(3).pool.stake, Amount::soma(50).less(Amount::soma(50).bps(500)));
}

#[test]
fn a_retiring_model_may_reveal_what_it_committed_to_and_keeps_its_stake() {
    let (mut world, model, release) = committed();
    world.must(VALIDATOR, world.hold(model, &release));
    world.must(OTHER, Action::RetireModel(action::RetireModel { model }));
    world.go_to_next_epoch();
    world.must(OTHER, release.reveal(model));
    world.go_to_next_epoch();
    let record = world.model(3);
    assert_eq!(record.pool.stake, Amount::soma(50));
    assert!(matches!(record.status, ModelStatus::Retiring { .. }));
}

#[test]
fn the_rent_of_a_replaced_file_is_credited_once() {
    let (mut world, model, release) = committed();
    world.must(VALIDATOR, world.hold(model, &release));
    world.go_to_next_epoch();
    world.must(OTHER, release.reveal(model));
    let small = Release { size_bytes: 1_000, ..Release::new("small", axis(5)) };
    world.must(OTHER, world.commit(OTHER, model, &small));
    world.must(VALIDATOR, world.hold(model, &small));
    world.go_to_next_epoch();
    // The reveal of the small file will return the large one's rent, so a second large one is paid
    // in full.
    let large = Release::new("large", axis(6));
    world.must(OTHER, world.commit(OTHER, model, &large));
    let commit = read::commit(&world.state, model, Epoch(4)).unwrap();
    assert_eq!(commit.paid, commit.rent);
    world.must(OTHER, small.reveal(model));
}

#[test]
fn only_the_owner_commits_and_only_for_the_next_epoch() {
    let (mut world, model, release) = committed();
    let outsider = world.commit(OTHER, model, &release);
    assert_eq!(world.act(RIVAL, outsider), Err(Rejection::NotModelOwner { model }));
    for (found, code) in [(Epoch(1), "wrong_epoch"), (Epoch(3), "wrong_epoch")] {
        let Action::CommitWeights(action::CommitWeights {
            commitment,
            ciphertext_hash,
            size_bytes,
            ..
        }) = world.commit(OTHER, model, &release)
        else {
            unreachable!()
        };
        let action = Action::CommitWeights(action::CommitWeights {
            architecture: 1,
            model,
            epoch: found,
            commitment,
            ciphertext_hash,
            size_bytes,
        });
        assert_eq!(world.act(OTHER, action).unwrap_err().code().as_str(), code);
    }
    for size_bytes in [0, u64::MAX] {
        let action = world.commit(OTHER, model, &Release { size_bytes, ..release.clone() });
        assert_eq!(world.act(OTHER, action).unwrap_err().code().as_str(), "bad_weights_size");
    }
}

#[test]
fn only_validators_hold_files_and_attest_each_once() {
    let (mut world, model, release) = committed();
    let hold = world.hold(model, &release);
    assert_eq!(world.act(OTHER, hold.clone()), Err(Rejection::NotValidator));
    world.must(VALIDATOR, hold.clone());
    assert_eq!(world.act(VALIDATOR, hold), Err(Rejection::AlreadyHeld { model }));
    let twice = release.held_by(ModelId(9));
    for (held, code) in [
        (vec![], "bad_held_list"),
        (vec![twice; 2_000], "bad_held_list"),
        (vec![twice], "commit_not_found"),
    ] {
        let action = Action::HoldWeights(action::HoldWeights { epoch: Epoch(2), held });
        assert_eq!(world.act(VALIDATOR, action).unwrap_err().code().as_str(), code);
    }
}

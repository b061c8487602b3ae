//! Stake of models and validators: shares, pending withdrawals, slashes, commissions
//! that change late.

use crate::world::{Data, OTHER, OWNER, Person, RIVAL, Release, SUBMITTER, VALIDATOR, World, axis};
use soma_protocol::record::ModelStatus;
use soma_protocol::{Action, Amount, Event, ModelId, PoolId, Rejection, Validity, action, read};

const FIRST: PoolId = PoolId::Model(ModelId(1));

fn add(world: &mut World, person: Person, pool: PoolId, amount: Amount) {
    world.must(person, Action::AddStake(action::AddStake { pool, amount }));
}

fn withdraw(pool: PoolId, amount: Amount) -> Action {
    Action::WithdrawStake(action::WithdrawStake { pool, amount })
}

/// Adds stake and waits until it is active.
fn stake(world: &mut World, person: Person, pool: PoolId, amount: Amount) {
    add(world, person, pool, amount);
    for _ in 0..2 {
        world.go_to_next_epoch();
    }
}

/// Value of a staker's active shares.
fn worth(world: &World, person: Person, model: u32) -> Amount {
    let share = read::share(&world.state, PoolId::Model(ModelId(model)), &person.address());
    world.model(model).pool.value(share.shares)
}

#[test]
fn a_win_is_shared_by_all_who_stake() {
    let mut world = World::with(|_| {});
    stake(&mut world, OTHER, FIRST, Amount::soma(100));
    let target = world.win(SUBMITTER, &Data::new("shared by two"));
    let winner = world.target(target).routed[0].model.0;
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
    let before = world.model(winner).pool.stake;
    world.go_to_next_epoch();
    let gained = world.model(winner).pool.stake.less(before);
    assert!(gained > Amount::ZERO);
    if winner == 1 {
        let (owner, other) = (worth(&world, OWNER, 1), worth(&world, OTHER, 1));
        assert!(owner.0.abs_diff(other.0) <= 1, "half each: {owner}, {other}");
        assert!(owner.plus(other).0.abs_diff(world.model(1).pool.stake.0) <= 1);
    }
}

#[test]
fn a_withdrawal_waits_is_slashed_and_is_paid_automatically() {
    let mut world = World::with(|genesis| genesis.params.missed_reveal_slash_bps = 1_000);
    stake(&mut world, OTHER, FIRST, Amount::soma(100));
    world.must(OTHER, withdraw(FIRST, Amount::soma(60)));
    assert_eq!(world.model(1).pool.stake, Amount::soma(140));
    assert_eq!(world.model(1).pool.leaving, Amount::soma(60));
    // The model misses a reveal while the money waits.
    let release = Release::new("never revealed", axis(0));
    let model = ModelId(1);
    world.must(OWNER, world.commit(OWNER, model, &release));
    world.must(VALIDATOR, world.hold(model, &release));
    let balance = world.balance(OTHER);
    world.go_to_next_epoch();
    world.go_to_next_epoch();
    assert_eq!(world.model(1).pool.stake, Amount::soma(126));
    assert_eq!(world.model(1).pool.leaving, Amount::soma(54));
    assert_eq!(world.balance(OTHER), balance, "not yet");
    world.go_to_next_epoch();
    assert_eq!(world.balance(OTHER), balance.plus(Amount::soma(54)));
    assert_eq!(world.model(1).pool.leaving, Amount::ZERO);
    assert_eq!(worth(&world, OTHER, 1), Amount::soma(36));
}

/// The pools of a staker's list, in order; each has its shares and knows its place.
fn listed(world: &World, person: Person) -> Vec<PoolId> {
    let staker = person.address();
    let count = read::stake_count(&world.state, &staker);
    let pools = (0..count).map(|place| {
        let pool = read::staked_pool(&world.state, &staker, place).expect("the list has no gaps");
        let share = read::share(&world.state, pool, &staker);
        assert!(!share.is_empty() && share.place == place);
        pool
    });
    let pools = pools.collect();
    assert_eq!(read::staked_pool(&world.state, &staker, count), None);
    pools
}

#[test]
fn the_list_of_a_stakers_pools_has_no_gaps_and_forgets_what_is_withdrawn() {
    let mut world = World::with(|_| {});
    let second = PoolId::Model(ModelId(2));
    let validator = PoolId::Validator(VALIDATOR.address());
    assert_eq!(listed(&world, OTHER), []);
    for pool in [FIRST, second, validator] {
        add(&mut world, OTHER, pool, Amount::soma(7));
        add(&mut world, OTHER, pool, Amount::soma(7));
    }
    assert_eq!(listed(&world, OTHER), [FIRST, second, validator]);
    for _ in 0..2 {
        world.go_to_next_epoch();
    }
    world.must(OTHER, withdraw(FIRST, Amount(u64::MAX)));
    assert_eq!(listed(&world, OTHER), [FIRST, second, validator], "it can still be slashed");
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    assert_eq!(listed(&world, OTHER), [validator, second]);
    add(&mut world, OTHER, FIRST, Amount::soma(7));
    assert_eq!(listed(&world, OTHER), [validator, second, FIRST]);
    for pool in [second, validator] {
        world.must(OTHER, withdraw(pool, Amount(u64::MAX)));
    }
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    assert_eq!(listed(&world, OTHER), [FIRST]);
    assert_eq!(listed(&world, OWNER).first(), Some(&FIRST), "models of genesis are listed");
}

#[test]
fn a_model_slashed_below_the_minimum_is_not_routed_and_can_be_staked_again() {
    let mut world = World::with(|genesis| {
        genesis.params.missed_reveal_slash_bps = 9_950;
    });
    let release = Release::new("never revealed", axis(0));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    for _ in 0..2 {
        world.go_to_next_epoch();
    }
    assert_eq!(world.model(1).pool.stake, Amount(500_000_000));
    let routed = |world: &World| {
        let targets = read::targets(&world.state, world.epoch());
        let all = targets.iter().flat_map(|target| &target.routed);
        all.map(|one| one.model).collect::<Vec<_>>()
    };
    world.go_to_compete();
    assert!(!routed(&world).contains(&ModelId(1)));
    stake(&mut world, RIVAL, FIRST, Amount(500_000_000));
    world.go_to_compete();
    assert!(routed(&world).contains(&ModelId(1)), "a stake is never stuck");
}

#[test]
fn everything_is_withdrawn_by_any_amount_that_is_not_less() {
    let mut world = World::with(|_| {});
    stake(&mut world, OTHER, FIRST, Amount::soma(7));
    world.must(OTHER, withdraw(FIRST, Amount(u64::MAX)));
    let share = read::share(&world.state, FIRST, &OTHER.address());
    assert_eq!(share.shares, 0);
    assert_eq!(world.model(1).pool.leaving, Amount::soma(7));
    let nothing = world.act(OTHER, withdraw(FIRST, Amount(1)));
    assert_eq!(nothing, Err(Rejection::ZeroAmount));
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    assert!(world.events.iter().any(|event| matches!(
        event,
        Event::WithdrawalPaid { staker, amount, .. }
            if *staker == OTHER.address() && *amount == Amount::soma(7)
    )));
}

#[test]
fn a_model_that_lost_everything_is_closed() {
    let mut world = World::with(|genesis| genesis.params.missed_reveal_slash_bps = 10_000);
    stake(&mut world, OTHER, FIRST, Amount::soma(5));
    let release = Release::new("never revealed", axis(0));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    world.go_to_next_epoch();
    world.go_to_next_epoch();
    assert_eq!(world.model(1).status, ModelStatus::Retired);
    assert!(world.model(1).pool.is_closed());
    let model = ModelId(1);
    let late = Action::AddStake(action::AddStake { pool: FIRST, amount: Amount::soma(1) });
    assert_eq!(world.act(OTHER, late), Err(Rejection::ModelRetired { model }));
    let nothing = world.act(OTHER, withdraw(FIRST, Amount(1)));
    assert_eq!(nothing, Err(Rejection::ZeroAmount));
}

#[test]
fn stake_of_a_retired_model_is_paid_at_once() {
    let mut world = World::with(|_| {});
    add(&mut world, OTHER, FIRST, Amount::soma(5));
    world.must(OWNER, Action::RetireModel(action::RetireModel { model: ModelId(1) }));
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    assert_eq!(world.model(1).status, ModelStatus::Retired);
    assert_eq!(world.model(1).pool.stake, Amount::soma(5), "the owner's is back");
    let before = world.balance(OTHER);
    world.must(OTHER, withdraw(FIRST, Amount::soma(5)));
    assert!(world.balance(OTHER) > before.plus(Amount::soma(4)));
    assert_eq!(world.model(1).pool.stake, Amount::ZERO);
}

#[test]
fn a_commission_changes_as_late_as_a_withdrawal_is_paid() {
    let mut world = World::with(|_| {});
    let change = |pool, commission_bps| {
        Action::SetCommission(action::SetCommission { pool, commission_bps })
    };
    let foreign = world.act(RIVAL, change(FIRST, 5));
    assert_eq!(foreign, Err(Rejection::NotModelOwner { model: ModelId(1) }));
    let all = world.act(OWNER, change(FIRST, 10_001));
    assert_eq!(all, Err(Rejection::BadCommission { bps: 10_001 }));
    stake(&mut world, OTHER, FIRST, Amount::soma(1));
    world.must(OWNER, change(FIRST, 9_000));
    world.must(OTHER, withdraw(FIRST, Amount::soma(1)));
    let waits = world.params().unbonding_epochs;
    for _ in 1..waits {
        world.go_to_next_epoch();
        assert_eq!(world.model(1).commission_bps, 1_000);
    }
    world.go_to_next_epoch();
    assert_eq!(world.model(1).commission_bps, 9_000);
    let paid = |event: &Event| matches!(event, Event::WithdrawalPaid { .. });
    assert!(world.events.iter().any(paid), "stakers that leave are paid before");
}

#[test]
fn a_validators_reward_is_shared_after_its_commission() {
    let mut world = World::with(|_| {});
    let pool = PoolId::Validator(VALIDATOR.address());
    let commission_bps = 2_500;
    world.must(VALIDATOR, Action::SetCommission(action::SetCommission { pool, commission_bps }));
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    let epoch = world.epoch().next();
    let value = soma_protocol::Hash([5; 32]);
    let commitment =
        soma_protocol::commitment::beacon(&world.chain, &VALIDATOR.address(), epoch, &value);
    world.must(VALIDATOR, Action::CommitBeacon(action::CommitBeacon { epoch, commitment }));
    world.go_to_next_epoch();
    world.must(VALIDATOR, Action::RevealBeacon(action::RevealBeacon { epoch, value }));
    let stake = |world: &World| {
        let validator = read::validator(&world.state, &VALIDATOR.address());
        validator.unwrap().pool.stake
    };
    let (balance, before) = (world.balance(VALIDATOR), stake(&world));
    world.go_to_next_epoch();
    let cash = world.balance(VALIDATOR).less(balance);
    let earned = stake(&world).less(before);
    assert_eq!(cash, cash.plus(earned).bps(commission_bps));
    assert!(earned > Amount::ZERO);
}

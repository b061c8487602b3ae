//! The ends of phases: their work is bounded in every block, and nobody earns by acting in the last
//! block before one.

use crate::hostile_state::{self, Size, hostile_state};
use crate::world::{
    Data, OPERATOR, OTHER, OWNER, Person, RIVAL, Release, SUBMITTER, VALIDATOR, World, axis,
    validator,
};
use soma_codes::Coded as _;
use soma_protocol::record::{ModelStatus, TargetStatus, Task};
use soma_protocol::{
    Action, Amount, Change, Event, Hash, Key, MemoryState, ModelId, Outcome, Phase, PoolId,
    ProposalId, Rejection, TASK_WORK_MAX, Validity, action, execute, invariants, read, storage,
};

const SMALL: Size = Size {
    models: 1_000,
    stakers: 10_000,
    accounts: 1_000,
    validators: 1_024,
    targets: 260,
    candidates: 4,
    data_bytes: 1_000,
    dim: 128,
};

fn add(pool: PoolId, amount: Amount) -> Action {
    Action::AddStake(action::AddStake { pool, amount })
}

fn withdraw(pool: PoolId, amount: Amount) -> Action {
    Action::WithdrawStake(action::WithdrawStake { pool, amount })
}

/// How many events of a kind a block has.
fn count(outcome: &Outcome, is_one: impl Fn(&Event) -> bool) -> u64 {
    outcome.events.iter().filter(|event| is_one(event)).count() as u64
}

#[test]
fn no_block_does_more_than_its_part_of_the_work_however_much_is_due() {
    let mut state = hostile_state(&SMALL);
    let (mut blocks, mut joined, mut lapsed, mut drawn) = (0, 0, 0, 0);
    hostile_state::run(&mut state, |before, block| {
        let outcome = execute(before, block, &[]).unwrap();
        let settled = count(&outcome, |event| matches!(event, Event::TargetDecided { .. }));
        let changed = count(&outcome, |event| matches!(event, Event::WithdrawalPaid { .. }));
        let visited = count(&outcome, |event| matches!(event, Event::CommissionChanged { .. }));
        assert!(600 * settled + 25 * changed + 40 * visited <= TASK_WORK_MAX);
        joined += count(&outcome, |event| matches!(event, Event::StakeJoined { .. }));
        lapsed += count(&outcome, |event| matches!(event, Event::CommitLapsed { .. }));
        drawn += count(&outcome, |event| matches!(event, Event::TargetDrawn { .. }));
        blocks += 1;
        let mut after = before.clone();
        after.apply(&outcome.changes);
        let waits = |state: &MemoryState| !read::tasks(state).0.is_empty();
        if waits(before) && waits(&after) {
            let ended = count(&outcome, |event| matches!(event, Event::PhaseBegan { .. }));
            assert_eq!(ended, 0, "no phase ends while work is left");
            invariants::check(&after).unwrap();
        }
        outcome
    });
    assert!(blocks > 6, "it takes several blocks");
    // A tenth of the models have retired, so the stake that was to join them goes back.
    assert_eq!((joined, lapsed, drawn), (9_000, 200, 260), "and all of it is done");
}

#[test]
fn a_command_to_end_a_phase_waits_until_the_work_of_the_last_is_done() {
    let mut world = World::with(|_| {});
    let task = Task::Models(soma_protocol::record::ModelTask {
        ended: world.epoch().previous(),
        architectures: Vec::new(),
        left: 0,
    });
    let tasks = soma_protocol::record::Tasks(vec![task]);
    let value = soma_protocol::state::Record::to_bytes(&tasks);
    world.state.0.insert(Key::tasks(), value.into());
    let (epoch, phase) = world.clock();
    // The block finishes the work first, so the command finds none.
    world.must(OPERATOR, Action::EndPhase(action::EndPhase { epoch, phase }));
    assert_eq!(world.clock().1, Phase::Compete);
}

#[test]
fn withdrawing_often_makes_no_queue() {
    let mut world = World::with(|_| {});
    let pool = PoolId::Validator(VALIDATOR.address());
    world.must(VALIDATOR, withdraw(pool, Amount::soma(1)));
    let records = world.state.0.len();
    for _ in 0..100 {
        world.must(VALIDATOR, withdraw(pool, Amount(1)));
    }
    assert_eq!(world.state.0.len(), records);
    let before = world.balance(VALIDATOR);
    for _ in 0..world.params().unbonding_epochs {
        world.go_to_next_epoch();
    }
    let paid = world.balance(VALIDATOR).less(before);
    assert_eq!(paid, Amount(Amount::soma(1).0 + 100));
}

#[test]
fn stake_of_the_last_block_takes_no_part_of_a_win_that_is_already_decided() {
    let mut world = World::with(|genesis| {
        for model in &mut genesis.models {
            (model.commission_bps, model.stake) = (0, Amount::soma(10));
        }
    });
    let target = world.win(SUBMITTER, &Data::new("shared by nobody else"));
    let winner = world.target(target).routed[0].model;
    world.go_to_compete();
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
    world.end_phase();
    assert_eq!(world.clock().1, Phase::Attest, "the outcome is public now");
    let (pool, amount) = (PoolId::Model(winner), Amount::soma(990));
    world.must(OTHER, add(pool, amount));
    assert_eq!(world.model(winner.0).pool.joining, amount);
    world.go_to_next_epoch();
    let status = world.target(target).status;
    let TargetStatus::Settled { paid_model, .. } = status else {
        panic!("{status:?}");
    };
    assert_eq!(world.model(winner.0).pool.stake, Amount::soma(10).plus(paid_model));
    world.go_to_next_epoch();
    let share = read::share(&world.state, pool, &OTHER.address());
    let pool = world.model(winner.0).pool;
    assert_eq!((pool.joining, share.joining_shares), (Amount::ZERO, 0));
    let worth = pool.value(share.shares);
    assert!(worth <= amount && worth.0 + 1_000 > amount.0, "nothing gained, nothing lost: {worth}");
}

#[test]
fn stake_that_is_not_active_yet_is_slashed_like_the_rest_and_routed_nowhere() {
    let mut world = World::with(|genesis| genesis.params.missed_reveal_slash_bps = 1_000);
    let release = Release::new("never revealed", axis(0));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    world.go_to_next_epoch();
    world.must(OTHER, add(PoolId::Model(ModelId(1)), Amount::soma(50)));
    assert_eq!(world.model(1).pool.stake, Amount::soma(100));
    world.go_to_next_epoch();
    let pool = world.model(1).pool;
    assert_eq!((pool.stake, pool.joining), (Amount::soma(90), Amount::soma(45)));
    world.go_to_next_epoch();
    assert_eq!(world.model(1).pool.stake, Amount::soma(135));
}

#[test]
fn stake_on_a_model_that_retires_meanwhile_goes_back() {
    let mut world = World::with(|genesis| genesis.params.unbonding_epochs = 2);
    world.must(OTHER, add(PoolId::Model(ModelId(1)), Amount::soma(50)));
    world.must(OWNER, Action::RetireModel(action::RetireModel { model: ModelId(1) }));
    let before = world.balance(OTHER);
    world.go_to_next_epoch();
    assert_eq!(world.balance(OTHER), before);
    world.go_to_next_epoch();
    assert_eq!(world.model(1).status, ModelStatus::Retired);
    assert_eq!(world.balance(OTHER), before.plus(Amount::soma(50)));
}

#[test]
fn shares_never_become_so_few_that_a_staker_loses_by_rounding() {
    let mut world = World::with(|_| {});
    let pool = PoolId::Validator(VALIDATOR.address());
    let dust = world.act(OTHER, add(pool, Amount(999_999)));
    assert_eq!(dust, Err(Rejection::NoShare { pool }));
    // All but one share is everything.
    world.must(VALIDATOR, withdraw(pool, Amount(Amount::soma(1_000).0 - 1)));
    let record = read::validator(&world.state, &VALIDATOR.address()).unwrap();
    assert_eq!((record.pool.stake, record.pool.shares), (Amount::ZERO, 0));
}

#[test]
fn an_owner_gets_its_minimum_back_only_by_retiring_the_model() {
    let mut world = World::with(|_| {});
    let id = world.register(OTHER, "locked");
    let pool = PoolId::Model(id);
    let minimum = world.params().model_stake_min;
    for amount in [Amount(u64::MAX), Amount(Amount::soma(49).0 + 1)] {
        let stake = Amount::soma(50).less(amount);
        let rejection = Rejection::StakeTooLow { stake, minimum };
        assert_eq!(world.act(OTHER, withdraw(pool, amount)), Err(rejection));
    }
    world.must(OTHER, withdraw(pool, Amount::soma(49)));
    world.must(OTHER, Action::RetireModel(action::RetireModel { model: id }));
    for _ in 0..world.params().unbonding_epochs {
        world.go_to_next_epoch();
    }
    assert_eq!(world.model(id.0).pool.total(), Amount::ZERO);
}

#[test]
fn the_list_of_living_models_has_no_gaps_and_forgets_the_retired() {
    let mut world = World::with(|genesis| genesis.params.unbonding_epochs = 2);
    for owner in [OTHER, OWNER, RIVAL] {
        world.register(owner, "one more");
    }
    assert_eq!(read::living_count(&world.state), 5);
    for (owner, model) in [(OWNER, 1), (RIVAL, 5), (OTHER, 3)] {
        let model = ModelId(model);
        world.must(owner, Action::RetireModel(action::RetireModel { model }));
    }
    for _ in 0..2 {
        world.go_to_next_epoch();
    }
    let mut living: Vec<u32> = read::living_models(&world.state).map(|model| model.id.0).collect();
    living.sort_unstable();
    assert_eq!((living, read::model_count(&world.state)), (vec![2, 4], 5));
}

#[test]
fn a_commit_is_available_from_the_attestation_that_brings_it_over_a_third() {
    let people = [VALIDATOR, Person(7), Person(8)];
    let mut world = World::with(|genesis| {
        genesis.validators = people.map(|one| validator(one, 1_000)).to_vec();
    });
    let release = Release::new("weights", axis(4));
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    let available = |world: &World| {
        world.events.iter().any(|event| matches!(event, Event::WeightsAvailable { .. }))
    };
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    assert!(!available(&world), "a third is not more than a third");
    world.must(Person(7), world.hold(ModelId(1), &release));
    assert!(available(&world));
    // The same file again is still held.
    world.must(OWNER, world.commit(OWNER, ModelId(1), &release));
    world.go_to_next_epoch();
    world.must(OWNER, release.reveal(ModelId(1)));
}

#[test]
fn a_storage_challenge_does_not_change_as_models_are_registered() {
    let mut world = World::with(|genesis| {
        genesis.params.rent_price_per_mib_epoch = Amount(1_000_000_000);
    });
    world.publish_weights(OWNER, ModelId(1), &Release::new("kept", axis(0)));
    assert_eq!(storage::challenge(&world.state, &VALIDATOR.address()), None);
    world.go_to_compete();
    let asked = storage::challenge(&world.state, &VALIDATOR.address());
    assert_eq!(asked.map(|one| one.model), Some(ModelId(1)));
    for _ in 0..5 {
        world.register(OTHER, "one more");
        assert_eq!(storage::challenge(&world.state, &VALIDATOR.address()), asked);
    }
    assert_eq!(storage::challenge(&world.state, &OTHER.address()), None, "it holds nothing");
}

#[test]
fn claims_are_judged_by_the_margin_and_the_least_gain_they_were_made_under() {
    let mut world = World::with(|_| {});
    for (name, value, id) in [("loss_margin_q32", 0, 1), ("gain_min_q32", 1 << 33, 2)] {
        let change = Change::Parameter { name: name.into(), value };
        world.must(VALIDATOR, Action::Propose(action::Propose { change }));
        let (proposal, approve) = (ProposalId(id), true);
        world.must(VALIDATOR, Action::Vote(action::Vote { proposal, approve }));
    }
    let judged_by = |world: &World, target: u32| {
        let record = read::epoch(&world.state, world.target(target).epoch).unwrap();
        (record.loss_margin_q32, record.gain_min_q32)
    };
    let claimed = world.params().loss_margin_q32;
    let target = world.win(SUBMITTER, &Data::new("claim"));
    assert_eq!((world.params().loss_margin_q32, world.params().gain_min_q32), (0, 1 << 33));
    assert_eq!(judged_by(&world, target), (claimed, 0));
    world.go_to_compete();
    let next = read::targets(&world.state, world.epoch())[0].id.0;
    assert_eq!(judged_by(&world, next), (0, 1 << 33));
    let poor = world.submit(SUBMITTER, next, &Data::new("good"), 5);
    assert_eq!(world.act(SUBMITTER, poor).unwrap_err().code().as_str(), "gain_too_low");
}

#[test]
fn a_model_that_reveals_before_the_pass_over_all_models_visits_it_keeps_its_place_in_time() {
    let mut world = World::with(|genesis| genesis.params.refresh_epochs = 2);
    world.go_to_next_epoch();
    world.go_to_next_epoch();
    // It was good for epochs 1 and 2, so it is not routed in 3 and begins again in 4.
    let release = Release::new("late", axis(0));
    world.publish_weights(OWNER, ModelId(1), &release);
    assert_eq!(world.model(1).activated, world.epoch());
    let known = read::weights(&world.state, ModelId(1), &release.weights_hash).unwrap();
    assert_ne!(known.weights_hash, Hash::default());
}

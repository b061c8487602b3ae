//! When phases end: by block time or by the operator's command, one per block, each for one reason.

use crate::world::{Data, OPERATOR, OTHER, OWNER, START_MS, SUBMITTER, World};
use soma_protocol::{
    Action, BlockInfo, Epoch, Event, Params, Phase, Rejection, action, execute, query, read,
};

fn by_clock() -> World {
    World::with(|genesis| genesis.params = Params { epoch_ms: 10_000, ..Params::local() })
}

/// An empty block at a time.
fn block_at(world: &mut World, timestamp_ms: u64) {
    world.now_ms = timestamp_ms.checked_sub(500).unwrap();
    world.execute(&[]);
}

#[test]
fn an_epoch_by_the_clock_reveals_publishes_and_competes() {
    let mut world = by_clock();
    let mut phases = Vec::new();
    let mut time = START_MS;
    while world.epoch() == Epoch(1) {
        phases.push((world.clock().1, time - START_MS));
        time = query::deadline_ms(&world.state).unwrap();
        block_at(&mut world, time - 1);
        assert_eq!(world.clock().1, phases.last().unwrap().0, "not a moment too early");
        block_at(&mut world, time);
    }
    let publish = |rank| Phase::Publish(rank);
    assert_eq!(
        phases,
        [
            (Phase::Reveal, 0),
            (publish(0), 2_000),
            (publish(1), 3_000),
            (publish(2), 4_000),
            (Phase::Compete, 5_000),
            (Phase::Attest, 8_000)
        ]
    );
    assert_eq!((world.clock(), time), ((Epoch(2), Phase::Reveal), START_MS + 10_000));
}

#[test]
fn a_halt_of_the_chain_ends_no_phase() {
    let mut world = World::with(|genesis| {
        genesis.params = Params { epoch_ms: 100_000, halt_ms: 5_000, ..Params::local() }
    });
    block_at(&mut world, START_MS + 4_000);
    let day = 86_400_000;
    block_at(&mut world, START_MS + day);
    assert_eq!(world.clock(), (Epoch(1), Phase::Reveal));
    let deadline = query::deadline_ms(&world.state).unwrap();
    assert_eq!(
        deadline,
        START_MS + day + 20_000 - 4_000 - 5_000,
        "the day counts for five seconds"
    );
}

#[test]
fn at_most_one_phase_ends_in_a_block() {
    let mut world = by_clock();
    block_at(&mut world, START_MS + 10_000);
    assert_eq!(world.clock(), (Epoch(1), Phase::Publish(0)));
    let deadline = query::deadline_ms(&world.state).unwrap();
    assert_eq!(deadline, START_MS + 11_000, "the next phase has its full length");
}

#[test]
fn without_a_clock_time_changes_nothing() {
    let mut world = World::with(|_| ());
    assert_eq!(query::deadline_ms(&world.state), None);
    let before = world.state.clone();
    block_at(&mut world, START_MS + 1_000_000_000);
    assert_eq!(world.state, before);
}

#[test]
fn a_command_sent_twice_ends_one_phase() {
    let mut world = World::with(|_| ());
    let action = Action::EndPhase(action::EndPhase { epoch: Epoch(1), phase: Phase::Reveal });
    world.must(OPERATOR, action.clone());
    assert_eq!(world.clock(), (Epoch(1), Phase::Compete));
    let running = Phase::Compete;
    assert_eq!(world.act(OPERATOR, action), Err(Rejection::WrongPhase { phase: running }));
    assert_eq!(world.clock(), (Epoch(1), running));
    let ahead = Action::EndPhase(action::EndPhase { epoch: Epoch(2), phase: Phase::Reveal });
    let rejection = Rejection::PhaseNotBegun { epoch: Epoch(2), phase: Phase::Reveal };
    assert_eq!(world.act(OPERATOR, ahead), Err(rejection));
}

#[test]
fn only_the_operator_ends_phases_and_a_real_network_has_none() {
    let end = Action::EndPhase(action::EndPhase { epoch: Epoch(1), phase: Phase::Reveal });
    let mut world = World::with(|_| ());
    assert_eq!(world.act(OWNER, end.clone()), Err(Rejection::NotOperator));
    let mut world = World::with(|genesis| genesis.operator = None);
    assert_eq!(world.act(OPERATOR, end), Err(Rejection::NotOperator));
}

#[test]
fn by_command_ranks_without_candidates_are_skipped() {
    let mut world = World::with(|_| ());
    world.go_to_compete();
    world.must(SUBMITTER, world.submit(SUBMITTER, 1, &Data::new("one"), 5));
    world.must(OTHER, world.submit(OTHER, 1, &Data::new("two"), 6));
    world.go_to_next_epoch();
    let mut phases = vec![world.clock().1];
    while world.clock().1 != Phase::Compete {
        world.end_phase();
        phases.push(world.clock().1);
    }
    assert_eq!(phases, [Phase::Reveal, Phase::Publish(0), Phase::Publish(1), Phase::Compete]);
}

#[test]
fn events_of_a_transition_are_in_the_order_of_the_rules() {
    let mut world = World::with(|_| ());
    world.end_phase();
    let names: Vec<String> = world
        .events
        .iter()
        .map(|event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned())
        .collect();
    let drawn = vec!["target_drawn"; 4];
    let expected = [vec!["beacon_drawn", "phase_began", "emission_taken"], drawn].concat();
    assert_eq!(names, expected);
    let json = serde_json::to_string(&world.events).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Event>>(&json).unwrap(), world.events);
}

#[test]
fn without_an_active_model_nothing_is_drawn_and_nothing_minted() {
    let mut world = World::with(|genesis| genesis.models.clear());
    let reserve = world.holdings.reserve;
    world.go_to_compete();
    assert!(read::targets(&world.state, Epoch(1)).is_empty());
    world.go_to_next_epoch();
    assert_eq!(world.holdings.reserve, reserve);
}

#[test]
fn a_block_can_be_executed_again_with_the_same_outcome() {
    let world = by_clock();
    let block = BlockInfo { height: 1, timestamp_ms: START_MS + 5_000, proposer: OWNER.address() };
    assert_eq!(execute(&world.state, &block, &[]), execute(&world.state, &block, &[]));
}

//! A vote changes the version of the rules some epochs later, and software that lacks the next one
//! executes every block up to that epoch, and none after it.

use crate::validators_vote_and_models_migrate::{parameter, vote};
use crate::world::{
    OPERATOR, OWNER, Person, SECOND_VALIDATOR, THIRD_VALIDATOR, VALIDATOR, World, validator,
};
use soma_protocol::record::{NextRules, ProposalStatus, RulesInForce};
use soma_protocol::{
    Action, Amount, Change, Defense, Epoch, Event, GenesisAccount, InvalidBlock, ProposalId, RULES,
    Rejection, Ruleset, VerifiedTransaction, action, read,
};

const NOTICE: u32 = 3;
const NEXT: u16 = RULES.max + 1;
/// Rules of which the next version lets a rejected payment pay nothing.
const REHEARSAL: Ruleset = Ruleset::WHOLE.rehearsing(Defense::AdmissionFee);

fn rules(version: u16) -> Action {
    Action::Propose(action::Propose { change: Change::Rules { version } })
}

fn in_force(world: &World) -> RulesInForce {
    read::rules(&world.state)
}

fn world() -> World {
    let mut world = World::with(|genesis| {
        let people = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR];
        genesis.validators = people.map(|one| validator(one, 1_000)).to_vec();
        let poor = [SECOND_VALIDATOR, THIRD_VALIDATOR]
            .map(|one| GenesisAccount { address: one.address(), balance: Amount::soma(100) });
        genesis.accounts.extend(poor);
        genesis.params.rules_notice_epochs = NOTICE;
        genesis.params.voting_epochs = 3;
    });
    world.ruleset = REHEARSAL;
    world
}

/// All validators approve of a version; it passes as the next epoch begins.
fn pass(world: &mut World, version: u16) {
    world.must(VALIDATOR, rules(version));
    let number = read::proposal_count(&world.state);
    for person in [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR] {
        world.must(person, vote(number, true));
    }
    world.go_to_next_epoch();
    let status = read::proposal(&world.state, ProposalId(number)).unwrap().status;
    assert_eq!(status, ProposalStatus::Passed { epoch: world.epoch() });
}

/// What a payment costs that the rules reject.
fn price_of_a_rejected_payment(world: &mut World, person: Person) -> Amount {
    let before = world.balance(person);
    let rejected = world.act(person, parameter("burn_bps", 0));
    assert_eq!(rejected, Err(Rejection::NotValidator));
    before.less(world.balance(person))
}

#[test]
fn a_network_begins_with_the_first_rules_and_keeps_them_until_a_vote() {
    let mut world = world();
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    assert_eq!(in_force(&world), RulesInForce { version: 1, next: None });
}

#[test]
fn rules_that_passed_are_in_force_after_the_block_that_begins_their_epoch() {
    let mut world = world();
    pass(&mut world, NEXT);
    let from = world.epoch().after(NOTICE);
    let next = NextRules { version: NEXT, from };
    assert_eq!(in_force(&world), RulesInForce { version: RULES.max, next: Some(next) });
    assert!(world.events.contains(&Event::RulesScheduled { rules: NEXT, epoch: from }));
    while world.epoch() < from {
        assert_eq!(in_force(&world).version, RULES.max, "not before {from}");
        assert!(price_of_a_rejected_payment(&mut world, OWNER) > Amount::ZERO);
        world.end_phase();
    }
    assert_eq!(in_force(&world), RulesInForce { version: NEXT, next: None });
    assert!(world.events.contains(&Event::RulesChanged { rules: NEXT }));
    assert_eq!(price_of_a_rejected_payment(&mut world, OWNER), Amount::ZERO);
}

#[test]
fn the_block_that_begins_the_epoch_follows_the_rules_of_before_to_its_end() {
    let mut world = world();
    pass(&mut world, NEXT);
    let from = world.epoch().after(NOTICE);
    while world.epoch() != Epoch(from.0 - 1) || !ends_the_epoch(&world) {
        world.end_phase();
    }
    // The operator ends the phase, and a payment that will be rejected is in the same block.
    let (epoch, phase) = world.clock();
    let end = signed(&world, OPERATOR, Action::EndPhase(action::EndPhase { epoch, phase }));
    let rejected = signed(&world, OWNER, parameter("burn_bps", 0));
    let receipts = world.execute(&[end, rejected]);
    assert_eq!((world.epoch(), in_force(&world).version), (from, NEXT));
    assert!(receipts[1].result.is_err() && receipts[1].fee > Amount::ZERO);
}

fn signed(world: &World, person: Person, action: Action) -> VerifiedTransaction {
    world.transaction(person, action).sign(&person.key()).verify(&world.chain).unwrap()
}

/// Whether the end of the running phase is that of the epoch.
fn ends_the_epoch(world: &World) -> bool {
    let mut copy = world.clone();
    copy.end_phase();
    copy.epoch() != world.epoch()
}

#[test]
fn software_without_the_next_rules_executes_all_blocks_before_them_and_none_after() {
    let mut world = world();
    world.ruleset = Ruleset::WHOLE;
    pass(&mut world, NEXT);
    let from = world.epoch().after(NOTICE);
    while world.epoch() < from {
        world.end_phase();
    }
    let other = InvalidBlock::OtherRules { version: NEXT, executed: RULES };
    let block = world.next_block();
    assert_eq!(Ruleset::WHOLE.execute(&world.state, &block, &[]), Err(other.clone()));
    assert_eq!(Ruleset::WHOLE.build(&world.state, &block, &mut [].into_iter()), Err(other));
    // Other software continues from the same state.
    world.ruleset = REHEARSAL;
    world.go_to_next_epoch();
}

#[test]
fn only_the_version_after_the_one_in_force_can_be_proposed() {
    let mut world = world();
    for version in [0, RULES.max, NEXT + 1, u16::MAX] {
        let bad = Rejection::BadRules { version, expected: NEXT };
        assert_eq!(world.act(VALIDATOR, rules(version)), Err(bad));
    }
    assert_eq!(world.act(OWNER, rules(NEXT)), Err(Rejection::NotValidator));
    world.must(VALIDATOR, rules(NEXT));
}

#[test]
fn a_vote_for_the_rules_in_force_cancels_those_that_are_scheduled() {
    let mut world = world();
    pass(&mut world, NEXT);
    let bad = Rejection::BadRules { version: NEXT, expected: RULES.max };
    assert_eq!(world.act(VALIDATOR, rules(NEXT)), Err(bad));
    pass(&mut world, RULES.max);
    assert_eq!(in_force(&world), RulesInForce { version: RULES.max, next: None });
    assert!(world.events.contains(&Event::RulesCancelled { rules: NEXT }));
    for _ in 0..=NOTICE {
        world.go_to_next_epoch();
    }
    assert_eq!(in_force(&world).version, RULES.max);
    pass(&mut world, NEXT);
}

#[test]
fn a_cancellation_that_passes_when_the_rules_come_into_force_is_too_late() {
    let mut world = world();
    pass(&mut world, NEXT);
    let from = world.epoch().after(NOTICE);
    while world.epoch() != Epoch(from.0 - 1) {
        world.go_to_next_epoch();
    }
    world.must(VALIDATOR, rules(RULES.max));
    for person in [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR] {
        world.must(person, vote(2, true));
    }
    world.go_to_next_epoch();
    assert_eq!(in_force(&world), RulesInForce { version: NEXT, next: None });
    let status = read::proposal(&world.state, ProposalId(2)).unwrap().status;
    assert_eq!(status, ProposalStatus::Lapsed { epoch: world.epoch() }, "it would undo another");
}

#[test]
fn a_second_vote_for_the_same_rules_lapses_and_undoes_no_cancellation() {
    let mut world = world();
    for proposal in [1, 2] {
        world.must(VALIDATOR, rules(NEXT));
        for person in [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR] {
            world.must(person, vote(proposal, true));
        }
    }
    world.go_to_next_epoch();
    let status = read::proposal(&world.state, ProposalId(2)).unwrap().status;
    assert_eq!(status, ProposalStatus::Lapsed { epoch: world.epoch() });
    world.must(VALIDATOR, rules(RULES.max));
    for person in [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR] {
        world.must(person, vote(3, true));
    }
    for _ in 0..3 {
        world.go_to_next_epoch();
        assert_eq!(in_force(&world), RulesInForce { version: RULES.max, next: None });
    }
}

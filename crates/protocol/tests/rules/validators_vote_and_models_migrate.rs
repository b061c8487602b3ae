//! Votes change parameters within their bounds and, after a time in which models migrate, the
//! architecture, while models keep earning until the switch.

use crate::world::{
    DIM, Data, OWNER, Person, RIVAL, Release, SECOND_VALIDATOR, SUBMITTER, THIRD_VALIDATOR,
    VALIDATOR, World, axis, validator,
};
use soma_codes::Coded as _;
use soma_protocol::record::ProposalStatus;
use soma_protocol::record::{ModelStatus, TargetStatus};
use soma_protocol::{
    Action, Amount, Architecture, Change, Event, GenesisAccount, ModelId, ProposalId, Rejection,
    Validity, action, query, read,
};

pub(crate) fn parameter(name: &str, value: u64) -> Action {
    let name = name.to_owned();
    Action::Propose(action::Propose { change: Change::Parameter { name, value } })
}

pub(crate) fn vote(number: u32, approve: bool) -> Action {
    Action::Vote(action::Vote { proposal: ProposalId(number), approve })
}

fn status(world: &World, number: u32) -> ProposalStatus {
    read::proposal(&world.state, ProposalId(number)).unwrap().status
}

fn three() -> World {
    World::with(|genesis| {
        let people = [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR];
        genesis.validators = people.map(|one| validator(one, 1_000)).to_vec();
        let poor = [SECOND_VALIDATOR, THIRD_VALIDATOR]
            .map(|one| GenesisAccount { address: one.address(), balance: Amount::soma(100) });
        genesis.accounts.extend(poor);
        genesis.params.voting_epochs = 3;
    })
}

#[test]
fn more_than_two_thirds_of_the_stake_change_a_parameter_as_an_epoch_begins() {
    let mut world = three();
    let before = world.balance(VALIDATOR);
    world.must(VALIDATOR, parameter("targets_per_epoch", 7));
    assert_eq!(world.holdings.deposits, Amount::soma(1));
    world.must(VALIDATOR, vote(1, true));
    world.must(SECOND_VALIDATOR, vote(1, true));
    world.go_to_next_epoch();
    assert_eq!(status(&world, 1), ProposalStatus::Open, "two thirds are not more than two thirds");
    world.must(THIRD_VALIDATOR, vote(1, true));
    assert_eq!(world.params().targets_per_epoch, 4);
    world.go_to_next_epoch();
    assert_eq!(world.params().targets_per_epoch, 7);
    let epoch = world.epoch();
    assert_eq!(status(&world, 1), ProposalStatus::Passed { epoch });
    assert!(world.balance(VALIDATOR) > before.less(Amount::soma(1)), "the deposit returns");
    world.go_to_compete();
    assert_eq!(read::targets(&world.state, world.epoch()).len(), 7);
    let late = world.act(THIRD_VALIDATOR, vote(1, false));
    let proposal = ProposalId(1);
    assert_eq!(late, Err(Rejection::ProposalDecided { proposal }));
}

#[test]
fn a_proposal_that_does_not_pass_costs_its_deposit() {
    let mut world = three();
    world.must(VALIDATOR, parameter("burn_bps", 0));
    for person in [VALIDATOR, SECOND_VALIDATOR, THIRD_VALIDATOR] {
        world.must(person, vote(1, true));
    }
    // The last vote counts.
    world.must(SECOND_VALIDATOR, vote(1, false));
    let burned = world.holdings.burned;
    for _ in 0..3 {
        world.go_to_next_epoch();
    }
    let epoch = world.epoch();
    assert_eq!(status(&world, 1), ProposalStatus::Lapsed { epoch });
    assert!(world.holdings.burned >= burned.plus(Amount::soma(1)));
    assert_eq!(world.params().burn_bps, 5_000);
}

#[test]
fn a_change_that_breaks_its_bounds_or_the_network_cannot_be_proposed() {
    let mut world = three();
    let code = |world: &mut World, person: Person, action: Action| {
        world.act(person, action).unwrap_err().code().as_str()
    };
    let all = [
        ("refresh_epochs", 0, "out_of_bounds"),
        ("burn_bps", 10_001, "out_of_bounds"),
        ("reveal_bps", 70_000, "out_of_bounds"),
        ("data_bytes_max", 15, "out_of_bounds"),
        ("happiness", 1, "no_such_parameter"),
    ];
    for (name, value, expected) in all {
        assert_eq!(code(&mut world, VALIDATOR, parameter(name, value)), expected, "{name}");
    }
    assert_eq!(code(&mut world, OWNER, parameter("burn_bps", 1)), "not_validator");
    assert_eq!(code(&mut world, VALIDATOR, vote(9, true)), "proposal_not_found");
    let architecture = Architecture { heads: 3, ..larger() };
    let odd = Action::Propose(action::Propose { change: Change::Architecture { architecture } });
    assert_eq!(code(&mut world, VALIDATOR, odd), "bad_architecture");
}

#[test]
fn the_clock_cannot_be_voted_away_on_a_network_without_an_operator() {
    let mut world = World::with(|genesis| {
        genesis.operator = None;
        genesis.params.epoch_ms = 1_000_000;
    });
    let rejected = world.act(VALIDATOR, parameter("epoch_ms", 0));
    assert_eq!(rejected.unwrap_err().code().as_str(), "out_of_bounds");
}

pub(crate) fn larger() -> Architecture {
    Architecture {
        name: "larger".into(),
        layers: 2,
        dim: 2 * DIM,
        heads: 4,
        ffn: 64,
        positions: 32,
        ..Architecture::nano()
    }
}

/// A release for the larger architecture.
pub(crate) fn larger_release(name: &str, at: usize) -> Release {
    let mut specialization = vec![0; 2 * DIM as usize];
    specialization[at] = i16::MAX;
    Release::new(name, specialization)
}

fn pass_larger(world: &mut World) {
    let change = Change::Architecture { architecture: larger() };
    world.must(VALIDATOR, Action::Propose(action::Propose { change }));
    world.must(VALIDATOR, vote(1, true));
    world.go_to_next_epoch();
    let migration = read::migration(&world.state).unwrap();
    assert_eq!((migration.number, migration.architecture), (2, larger()));
}

fn architecture(world: &World) -> String {
    read::network(&world.state).architecture.name
}

#[test]
fn a_network_votes_itself_to_a_larger_architecture_while_models_earn() {
    let mut world = World::with(|genesis| genesis.params.migration_epochs = 2);
    let third = world.register(OWNER, "stays behind");
    pass_larger(&mut world);
    // Both models commit and reveal for the new architecture; the first refreshes the old one too.
    let releases = [larger_release("one, larger", 0), larger_release("two, larger", 1)];
    let refreshed = Release::new("one, refreshed", axis(0));
    let owners = [(OWNER, ModelId(1)), (RIVAL, ModelId(2))];
    for ((owner, model), release) in owners.iter().zip(&releases) {
        world.must(*owner, world.commit_for(2, *owner, *model, release));
        world.must(VALIDATOR, world.hold(*model, release));
    }
    world.must(OWNER, world.commit(OWNER, ModelId(1), &refreshed));
    world.must(VALIDATOR, world.hold(ModelId(1), &refreshed));
    world.go_to_next_epoch();
    for ((owner, model), release) in owners.iter().zip(&releases) {
        world.must(*owner, release.reveal(*model));
    }
    world.must(OWNER, refreshed.reveal(ModelId(1)));
    let one = world.model(1);
    assert_eq!(one.weights, Some(refreshed.weights_hash), "it competes with its old kind");
    assert!(one.is_ready_for(2));

    // A target of the last epoch before the switch is won and paid after it.
    world.go_to_compete();
    let stake = one.pool.stake;
    assert_eq!(architecture(&world), "tiny");
    let target = world.win(SUBMITTER, &Data::new("won before the switch"));
    assert_eq!(architecture(&world), "larger");
    let direction = query::direction(&world.state, &world.target(target)).unwrap();
    assert_eq!(direction.len(), DIM as usize, "it is judged by the architecture it was drawn in");
    world.must(VALIDATOR, world.attest(VALIDATOR, target, Validity::Valid));
    for (model, release) in [(1, &releases[0]), (2, &releases[1])] {
        let moved = world.model(model);
        assert_eq!(moved.status, ModelStatus::Active);
        assert_eq!(moved.weights, Some(release.weights_hash));
        assert!(moved.pool.stake >= stake, "under the same id and stake");
        let specialization = read::specialization(&world.state, ModelId(model)).unwrap();
        assert_eq!(specialization, release.specialization);
    }
    assert_eq!(world.model(third.0).status, ModelStatus::Registered);
    world.go_to_compete();
    let drawn = read::targets(&world.state, world.epoch());
    assert_eq!(drawn.len(), 4);
    let direction = query::direction(&world.state, &drawn[0]).unwrap();
    assert_eq!(direction.len(), 2 * DIM as usize);
    world.go_to_next_epoch();
    let fate = world.target(target).status;
    assert!(matches!(fate, TargetStatus::Settled { .. }), "{fate:?}");
}

#[test]
fn weights_are_accepted_for_one_future_architecture_and_only_after_the_vote() {
    let mut world = World::with(|_| {});
    let early = larger_release("too early", 0);
    let rejected = world.act(OWNER, world.commit_for(2, OWNER, ModelId(1), &early));
    assert_eq!(rejected, Err(Rejection::NoSuchArchitecture { architecture: 2 }));
    pass_larger(&mut world);
    let again = Action::Propose(action::Propose {
        change: Change::Architecture { architecture: larger() },
    });
    assert_eq!(world.act(VALIDATOR, again), Err(Rejection::MigrationRunning));
}

#[test]
fn too_few_migrated_models_extend_the_migration_and_nothing_stops() {
    let mut world = World::with(|genesis| genesis.params.migration_epochs = 2);
    pass_larger(&mut world);
    for _ in 0..2 {
        world.go_to_next_epoch();
    }
    let extended = |event: &Event| matches!(event, Event::MigrationExtended { .. });
    assert!(world.events.iter().any(extended));
    assert_eq!(architecture(&world), "tiny");
    world.go_to_compete();
    assert_eq!(read::targets(&world.state, world.epoch()).len(), 4);
}

#[test]
fn a_model_that_did_not_migrate_is_inactive_until_it_reveals_again() {
    let mut world = World::with(|genesis| {
        genesis.params.migration_epochs = 2;
        genesis.params.models_per_target = 1;
    });
    pass_larger(&mut world);
    let release = larger_release("one, larger", 0);
    world.must(OWNER, world.commit_for(2, OWNER, ModelId(1), &release));
    world.must(VALIDATOR, world.hold(ModelId(1), &release));
    world.go_to_next_epoch();
    world.must(OWNER, release.reveal(ModelId(1)));
    // The other one commits for the architecture that is about to end, through no fault of its
    // owner.
    let old = Release::new("two, refreshed", axis(1));
    world.must(RIVAL, world.commit(RIVAL, ModelId(2), &old));
    world.must(VALIDATOR, world.hold(ModelId(2), &old));
    world.go_to_next_epoch();
    assert_eq!(architecture(&world), "larger");
    assert_eq!(world.model(2).status, ModelStatus::Inactive);
    assert_eq!(world.model(2).pool.stake, Amount::soma(100));
    let late = world.act(RIVAL, old.reveal(ModelId(2)));
    let (model, epoch) = (ModelId(2), world.epoch());
    assert_eq!(late, Err(Rejection::CommitNotFound { model, epoch }));
    let release = larger_release("two, larger", 1);
    world.must(RIVAL, world.commit_for(2, RIVAL, ModelId(2), &release));
    world.must(VALIDATOR, world.hold(ModelId(2), &release));
    world.go_to_next_epoch();
    world.must(RIVAL, release.reveal(ModelId(2)));
    assert_eq!(world.model(2).status, ModelStatus::Active);
}

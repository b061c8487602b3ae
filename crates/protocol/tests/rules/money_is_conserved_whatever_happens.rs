//! Random histories: people do sensible and senseless things in any order, blocks come at any time.
//! After every block the whole state is legal and not one base unit has appeared or vanished.

use crate::world::{
    Data, OPERATOR, OTHER, OWNER, Person, RIVAL, Release, SECOND_VALIDATOR, SUBMITTER, VALIDATOR,
    World, axis, publish, validator,
};
use proptest::prelude::*;
use soma_protocol::{Action, Amount, Epoch, Hash, ModelId, Verdict, commitment, view};
use std::collections::BTreeSet;

const PEOPLE: [Person; 7] = [
    OPERATOR,
    VALIDATOR,
    OWNER,
    RIVAL,
    SUBMITTER,
    OTHER,
    SECOND_VALIDATOR,
];
const RELEASES: u8 = 2;
const DATA: u8 = 3;
const MODELS: u32 = 4;

/// What somebody does next; small numbers choose among what there is. The last four do what is due.
#[derive(Clone, Debug)]
enum Step {
    Transfer(u64),
    Register(u64, u16),
    Commit(u32, u8),
    Hold(u32, u8),
    Reveal(u32, u8),
    Retire(u32),
    CommitBeacon(u8),
    OpenBeacon(u8),
    Submit(u32, u8, u64),
    Publish(u32, u8),
    Attest(u32, bool),
    EndPhase,
    CommitAndHold(u32, u8),
    RevealAll,
    PublishAll,
    AttestAll(bool),
    OpenAll,
    AnswerAll,
}

fn step() -> impl Strategy<Value = Step> {
    let model = 1..=MODELS;
    let target = 0..4_u32;
    let release = 0..RELEASES;
    let data = 0..DATA;
    let amount = prop_oneof![0..100_u64, any::<u64>()];
    let stake = prop_oneof![Just(1_000_000_000), any::<u64>()];
    let anything = prop_oneof![
        amount.prop_map(Step::Transfer),
        (stake, 0..11_000_u16).prop_map(|(stake, bps)| Step::Register(stake, bps)),
        (model.clone(), release.clone()).prop_map(|(model, number)| Step::Commit(model, number)),
        (model.clone(), release.clone()).prop_map(|(model, number)| Step::Hold(model, number)),
        (model.clone(), release.clone()).prop_map(|(model, number)| Step::Reveal(model, number)),
        model.clone().prop_map(Step::Retire),
        (0..2_u8).prop_map(Step::CommitBeacon),
        (0..2_u8).prop_map(Step::OpenBeacon),
        (target.clone(), data.clone()).prop_map(|(target, number)| Step::Publish(target, number)),
        (target.clone(), any::<bool>()).prop_map(|(target, valid)| Step::Attest(target, valid)),
    ];
    prop_oneof![
        10 => anything,
        9 => (0..2_u32, data, 0..5_u64)
            .prop_map(|(target, number, distance)| Step::Submit(target, number, distance)),
        4 => Just(Step::EndPhase),
        3 => (model, release).prop_map(|(model, number)| Step::CommitAndHold(model, number)),
        3 => Just(Step::RevealAll),
        3 => Just(Step::PublishAll),
        3 => any::<bool>().prop_map(Step::AttestAll),
        3 => Just(Step::OpenAll),
        3 => Just(Step::AnswerAll),
    ]
}

fn release(number: u8) -> Release {
    let name = format!("release {number}");
    let size_bytes = 1 + 5_000 * u64::from(number);
    Release::sized(&name, axis(usize::from(number)), size_bytes)
}

fn data(person: Person, number: u8) -> Data {
    Data::new(&format!("{person:?} data {number}"))
}

/// Who has an address.
fn person(address: soma_protocol::Address) -> Option<Person> {
    PEOPLE
        .into_iter()
        .find(|person| person.address() == address)
}

/// A model's owner, so that commitments can be right.
fn owner(world: &World, model: u32) -> Person {
    let owner = view::model(&world.state, ModelId(model)).and_then(|model| person(model.owner));
    owner.unwrap_or(OTHER)
}

/// Ids of the targets of the last two epochs, the running one first.
fn targets(world: &World) -> Vec<u32> {
    let epoch = world.epoch();
    let targets = [
        view::targets(&world.state, epoch.previous()),
        view::targets(&world.state, epoch),
    ];
    targets.concat().iter().map(|target| target.id.0).collect()
}

/// The actions of a step, each with who takes it.
fn actions(world: &World, somebody: Person, step: &Step) -> Vec<(Person, Action)> {
    let id = ModelId;
    match *step {
        Step::Transfer(amount) => {
            vec![(
                somebody,
                Action::Transfer {
                    to: OTHER.address(),
                    amount: Amount(amount),
                },
            )]
        }
        Step::Register(stake, commission_bps) => {
            let stake = Amount(stake);
            vec![(
                somebody,
                Action::RegisterModel {
                    name: "m".into(),
                    commission_bps,
                    stake,
                },
            )]
        }
        Step::Commit(model, number) => {
            let owner = owner(world, model);
            vec![(owner, world.commit(owner, id(model), &release(number)))]
        }
        Step::Hold(model, number) => vec![(somebody, world.hold(id(model), &release(number)))],
        Step::Reveal(model, number) => vec![(somebody, release(number).reveal(id(model)))],
        Step::Retire(model) => vec![(
            owner(world, model),
            Action::RetireModel { model: id(model) },
        )],
        Step::CommitAndHold(model, number) => {
            let owner = owner(world, model);
            let commit = world.commit(owner, id(model), &release(number));
            vec![
                (owner, commit),
                (VALIDATOR, world.hold(id(model), &release(number))),
            ]
        }
        Step::RevealAll => (1..=MODELS)
            .flat_map(|model| (0..RELEASES).map(move |number| (model, number)))
            .map(|(model, number)| (somebody, release(number).reveal(id(model))))
            .collect(),
        _ => actions_on_targets(world, somebody, step),
    }
}

/// As [`actions`], for the steps that do not concern models.
fn actions_on_targets(world: &World, somebody: Person, step: &Step) -> Vec<(Person, Action)> {
    let nth = |at: u32| targets(world).get(at as usize).copied();
    let verdict = |valid| {
        if valid {
            Verdict::Valid
        } else {
            Verdict::Invalid
        }
    };
    let action = match *step {
        Step::CommitBeacon(value) => {
            let (epoch, value) = (world.epoch().next(), Hash([value; 32]));
            let commitment = commitment::beacon(&world.chain, &VALIDATOR.address(), epoch, &value);
            return vec![(VALIDATOR, Action::CommitBeacon { epoch, commitment })];
        }
        Step::OpenBeacon(value) => {
            let (epoch, value) = (world.epoch(), Hash([value; 32]));
            return vec![(VALIDATOR, Action::OpenBeacon { epoch, value })];
        }
        Step::EndPhase => {
            let (epoch, phase) = world.clock();
            return vec![(OPERATOR, Action::EndPhase { epoch, phase })];
        }
        Step::PublishAll => return due_publications(world),
        Step::OpenAll => return world.due_openings(),
        Step::AnswerAll => {
            let files: Vec<Release> = (0..RELEASES).map(release).collect();
            let due = [VALIDATOR, SECOND_VALIDATOR].into_iter();
            return due
                .filter_map(|one| Some((one, world.due_answer(one, &files)?)))
                .collect();
        }
        Step::AttestAll(valid) => {
            let all = targets(world).into_iter();
            return all
                .map(|target| (VALIDATOR, world.attest(VALIDATOR, target, verdict(valid))))
                .collect();
        }
        Step::Submit(target, number, distance) => nth(target)
            .map(|target| world.submit(somebody, target, &data(somebody, number), distance)),
        Step::Publish(target, number) => {
            nth(target).map(|target| publish(target, &data(somebody, number)))
        }
        Step::Attest(target, valid) => {
            nth(target).map(|target| world.attest(somebody, target, verdict(valid)))
        }
        _ => None,
    };
    action
        .into_iter()
        .map(|action| (somebody, action))
        .collect()
}

/// What the candidates whose turn it is may publish; one of a person's data is the right one.
fn due_publications(world: &World) -> Vec<(Person, Action)> {
    let rank = world.clock().1.publishing_rank().unwrap_or(0) as usize;
    let mut due = Vec::new();
    for target in targets(world) {
        let candidates = view::candidates(&world.state, soma_protocol::TargetId(target));
        let submitter = candidates
            .get(rank)
            .and_then(|candidate| person(candidate.submitter));
        let all = submitter
            .into_iter()
            .flat_map(|person| (0..DATA).map(move |number| (person, number)));
        due.extend(all.map(|(person, number)| (person, publish(target, &data(person, number)))));
    }
    due
}

fn any_world() -> impl Strategy<Value = World> {
    (
        any::<bool>(),
        1..4_u32,
        2..4_u32,
        0..10_000_u16,
        any::<bool>(),
    )
        .prop_map(
            |(clock, refresh_epochs, unbonding_epochs, slash_bps, two_validators)| {
                World::with(|genesis| {
                    // By the clock an epoch is some tens of blocks long.
                    genesis.params.epoch_ms = if clock { 20_000 } else { 0 };
                    genesis.params.refresh_epochs = refresh_epochs;
                    genesis.params.unbonding_epochs = unbonding_epochs;
                    genesis.params.missed_reveal_slash_bps = slash_bps;
                    genesis.params.beacon_slash_bps = slash_bps;
                    genesis.params.candidates_per_target = 2;
                    genesis.params.targets_per_epoch = 2;
                    if two_validators {
                        genesis.validators.push(validator(SECOND_VALIDATOR, 499));
                    }
                })
            },
        )
}

fn history(steps: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(usize, Step)>> {
    prop::collection::vec((0..PEOPLE.len(), step()), steps)
}

/// Takes a step; returns the names of the events.
fn take(world: &mut World, somebody: usize, step: &Step) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (person, action) in actions(world, PEOPLE[somebody], step) {
        // Whether it succeeds does not matter here: the world checks every state.
        drop(world.act(person, action));
        let names = world
            .events
            .iter()
            .map(|event| serde_json::to_value(event).unwrap());
        seen.extend(names.map(|event| event["event"].as_str().unwrap().to_owned()));
    }
    seen
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_history_conserves_the_supply_and_keeps_states_legal(
        mut world in any_world(), steps in history(0..100),
    ) {
        for (somebody, step) in &steps {
            take(&mut world, *somebody, step);
        }
        // Whatever was under way comes to an end.
        for _ in 0..4 {
            world.go_to_next_epoch();
        }
        let forgotten = (1..world.epoch().previous().0)
            .flat_map(|epoch| view::targets(&world.state, Epoch(epoch)))
            .all(|target| view::candidates(&world.state, target.id).is_empty());
        prop_assert!(forgotten);
        prop_assert_eq!(world.holdings.bonds, Amount::ZERO);
    }
}

#[test]
fn random_histories_reach_every_outcome() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for _ in 0..25 {
        let mut world = any_world().new_tree(&mut runner).unwrap().current();
        let steps = history(100..101).new_tree(&mut runner).unwrap().current();
        for (somebody, step) in &steps {
            seen.extend(take(&mut world, *somebody, step));
        }
    }
    let outcomes = [
        "weights_revealed",
        "weights_available",
        "commit_lapsed",
        "model_slashed",
        "model_inactive",
        "stake_released",
        "beacon_opened",
        "validator_slashed",
        "validator_rewarded",
        "rent_paid",
        "submission_displaced",
        "submission_released",
        "submission_forfeited",
        "data_published",
        "target_settled",
        "target_returned",
    ];
    for outcome in outcomes {
        assert!(
            seen.contains(outcome),
            "{outcome} never happened: the histories prove too little"
        );
    }
}

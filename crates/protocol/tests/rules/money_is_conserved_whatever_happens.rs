//! Random histories: participants take valid and invalid actions in any order, at any time.
//! After every block the whole state is legal and not one base unit has appeared or vanished.

use crate::library::{self, text_of};
use crate::validators_and_seats::{
    evidence, notarize, register, rotate, set_duty_key, set_endpoints_of,
};
use crate::validators_vote_and_models_migrate::{larger, larger_release, parameter, vote};
use crate::world::{
    Data, OPERATOR, OTHER, OWNER, Person, RIVAL, Release, SECOND_VALIDATOR, SUBMITTER, VALIDATOR,
    World, action_names, axis, publish, validator, verdicts,
};
use proptest::prelude::*;
use soma_protocol::{
    Action, Address, Amount, Architecture, Change, Epoch, Hash, ModelId, Params, Phase, PoolId,
    TargetId, action, commitment, read,
};
use std::collections::BTreeSet;
use std::sync::LazyLock;

const PEOPLE: [Person; 7] = [OPERATOR, VALIDATOR, OWNER, RIVAL, SUBMITTER, OTHER, SECOND_VALIDATOR];
static ADDRESSES: LazyLock<[Address; 7]> = LazyLock::new(|| PEOPLE.map(Person::address));

/// Two for the first architecture, then two for the next.
const RELEASES: u8 = 4;
const DATA: u8 = 3;
const MODELS: u32 = 4;
const SOMA: u64 = 1_000_000_000;

/// The next step of a participant; small numbers choose among what exists.
#[derive(Clone, Debug)]
enum Step {
    Transfer(usize, u64),
    Register(u64, u16),
    Commit(u32, u8),
    Hold(u32, u8),
    Reveal(u32, u8),
    Retire(u32),
    CommitBeacon(u8),
    RevealBeacon(u8),
    Submit(u32, u8, u64),
    Publish(u32, u8),
    Attest(u32, usize),
    Open(u32, usize),
    Answer(usize),
    /// The corpus that everybody has, or one without documents.
    CommitCorpus(bool),
    AddStake(PoolId, u64),
    WithdrawStake(PoolId, u64),
    SetCommission(PoolId, u16),
    /// Whether the proof of possession is its own or another's.
    RegisterValidator(u8, u64, bool),
    RotateKey(u8, bool),
    SetDutyKey(u8, bool),
    SetEndpoints(bool),
    Leave,
    Return,
    /// The key whose holder is accused, with two votes that contradict each other or are equal.
    Report(u8, bool),
    Propose(usize, u64),
    ProposeArchitecture(u32),
    Vote(u32, bool),
    VoteRentPrice(u64),
    Usurp,
    EndPhase,
    /// From here on everybody does what is due.
    CommitAndHold(u32, u8),
    RevealAll,
    PublishAll,
    AttestAll(usize),
    OpenAll,
    AnswerAll,
    VoteAll(bool),
    /// All of it for a whole epoch, in the right order.
    Epoch(usize),
}

/// Amounts that are too small, fit, and are too large.
fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![0..100_u64, SOMA..3_000 * SOMA, any::<u64>()]
}

fn step() -> impl Strategy<Value = Step> {
    let model = 1..=MODELS;
    let release = 0..RELEASES;
    let found = prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(2)];
    prop_oneof![
        10 => step_of_anybody(),
        14 => step_with_stake(),
        9 => (0..2_u32, 0..DATA, 0..5_u64)
            .prop_map(|(target, number, distance)| Step::Submit(target, number, distance)),
        5 => Just(Step::EndPhase),
        4 => (model, release).prop_map(|(model, number)| Step::CommitAndHold(model, number)),
        3 => Just(Step::RevealAll),
        3 => Just(Step::PublishAll),
        3 => found.clone().prop_map(Step::AttestAll),
        3 => Just(Step::OpenAll),
        3 => Just(Step::AnswerAll),
        2 => prop::bool::weighted(0.8).prop_map(Step::VoteAll),
        3 => found.prop_map(Step::Epoch),
    ]
}

/// With models, targets and duties, at the right moment or not.
fn step_of_anybody() -> impl Strategy<Value = Step> {
    let model = 1..=MODELS;
    let target = 0..4_u32;
    let release = 0..RELEASES;
    let stake = prop_oneof![Just(SOMA), any::<u64>()];
    let to = 0..PEOPLE.len();
    prop_oneof![
        (to, amount()).prop_map(|(to, amount)| Step::Transfer(to, amount)),
        (stake, 0..11_000_u16).prop_map(|(stake, bps)| Step::Register(stake, bps)),
        (model.clone(), release.clone()).prop_map(|(model, number)| Step::Commit(model, number)),
        (model.clone(), release.clone()).prop_map(|(model, number)| Step::Hold(model, number)),
        (model.clone(), release).prop_map(|(model, number)| Step::Reveal(model, number)),
        model.prop_map(Step::Retire),
        (0..2_u8).prop_map(Step::CommitBeacon),
        (0..2_u8).prop_map(Step::RevealBeacon),
        (target.clone(), 0..DATA).prop_map(|(target, number)| Step::Publish(target, number)),
        (target.clone(), 0..3_usize).prop_map(|(target, found)| Step::Attest(target, found)),
        (target, 0..3_usize).prop_map(|(target, found)| Step::Open(target, found)),
        (0..100_usize).prop_map(Step::Answer),
        any::<bool>().prop_map(Step::CommitCorpus),
        Just(Step::Usurp),
    ]
}

/// The steps with stake, and those that stake entitles to: validators, proposals and votes.
fn step_with_stake() -> impl Strategy<Value = Step> {
    let pool = prop_oneof![
        (1..=MODELS).prop_map(|model| PoolId::Model(ModelId(model))),
        (0..PEOPLE.len()).prop_map(|who| PoolId::Validator(ADDRESSES[who])),
    ];
    let key = 100..105_u8;
    let soma = prop_oneof![Just(0), Just(1), Just(1_000), Just(1_000_000)];
    let price = prop_oneof![0..200_000_u64, any::<u64>()];
    let own = prop::bool::weighted(0.8);
    let value = prop_oneof![4 => 0..6_u64, 1 => any::<u64>()];
    prop_oneof![
        2 => (pool.clone(), amount()).prop_map(|(pool, amount)| Step::AddStake(pool, amount)),
        2 => (pool.clone(), amount()).prop_map(|(pool, amount)| Step::WithdrawStake(pool, amount)),
        1 => (pool, 0..11_000_u16).prop_map(|(pool, bps)| Step::SetCommission(pool, bps)),
        2 => (key.clone(), soma, own)
            .prop_map(|(key, soma, own)| Step::RegisterValidator(key, soma, own)),
        1 => (key.clone(), own).prop_map(|(key, own)| Step::RotateKey(key, own)),
        1 => (key.clone(), own).prop_map(|(key, own)| Step::SetDutyKey(key, own)),
        1 => any::<bool>().prop_map(Step::SetEndpoints),
        1 => Just(Step::Leave),
        1 => Just(Step::Return),
        1 => (key, any::<bool>()).prop_map(|(key, truly)| Step::Report(key, truly)),
        1 => (0..Params::BOUNDS.len(), value).prop_map(|(at, value)| Step::Propose(at, value)),
        1 => (3..5_u32).prop_map(Step::ProposeArchitecture),
        1 => (0..6_u32, any::<bool>()).prop_map(|(number, approve)| Step::Vote(number, approve)),
        1 => price.prop_map(Step::VoteRentPrice),
    ]
}

/// Number of the architecture that a release is for.
const fn architecture(number: u8) -> u32 {
    if number < 2 { 1 } else { 2 }
}

fn release(number: u8) -> Release {
    let name = format!("release {number}");
    match architecture(number) {
        1 => Release::sized(&name, axis(number.into()), 1 + 5_000 * u64::from(number)),
        _ => larger_release(&name, number.into()),
    }
}

fn data(person: Person, number: u8) -> Data {
    Data::new(&text_of(person.0, number))
}

/// The participant with an address.
fn person(address: Address) -> Option<Person> {
    let at = ADDRESSES.iter().position(|one| *one == address)?;
    Some(PEOPLE[at])
}

/// The registered validators.
fn validators(world: &World) -> Vec<Person> {
    let all = read::validators(&world.state).into_iter();
    all.filter_map(|one| person(one.address)).collect()
}

/// A model's owner, so that commitments can be right.
fn owner(world: &World, model: u32) -> Person {
    let owner = read::model(&world.state, ModelId(model)).and_then(|model| person(model.owner));
    owner.unwrap_or(OTHER)
}

/// Ids of the targets of the last two epochs, the running one first.
fn targets(world: &World) -> Vec<u32> {
    let epoch = world.epoch();
    let targets =
        [read::targets(&world.state, epoch), read::targets(&world.state, epoch.previous())];
    targets.concat().iter().map(|target| target.id.0).collect()
}

fn commit(world: &World, model: u32, number: u8) -> (Person, Action) {
    let owner = owner(world, model);
    let (architecture, release) = (architecture(number), release(number));
    let commit = world.commit_for(architecture, owner, ModelId(model), &release);
    (owner, commit)
}

/// The actions of a step, each with who takes it.
fn actions(world: &World, actor: Person, step: &Step) -> Vec<(Person, Action)> {
    let id = ModelId;
    let action = match *step {
        Step::Transfer(to, amount) => {
            Action::Transfer(action::Transfer { to: ADDRESSES[to], amount: Amount(amount) })
        }
        Step::Register(stake, commission_bps) => Action::RegisterModel(action::RegisterModel {
            name: "m".into(),
            commission_bps,
            stake: Amount(stake),
        }),
        Step::Hold(model, number) => world.hold(id(model), &release(number)),
        Step::Reveal(model, number) => release(number).reveal(id(model)),
        Step::Usurp => {
            let (epoch, phase) = world.clock();
            Action::EndPhase(action::EndPhase { epoch, phase })
        }
        Step::Commit(model, number) => return vec![commit(world, model, number)],
        Step::Retire(model) => {
            let action = Action::RetireModel(action::RetireModel { model: id(model) });
            return vec![(owner(world, model), action)];
        }
        Step::EndPhase => return actions(world, OPERATOR, &Step::Usurp),
        Step::CommitAndHold(model, number) => {
            let hold = world.hold(id(model), &release(number));
            let all = validators(world).into_iter();
            let mut both = vec![commit(world, model, number)];
            both.extend(all.map(|one| (one, hold.clone())));
            return both;
        }
        Step::RevealAll => {
            return (1..=MODELS)
                .flat_map(|model| (0..RELEASES).map(move |number| (model, number)))
                .map(|(model, number)| (actor, release(number).reveal(id(model))))
                .collect();
        }
        _ => return actions_on_targets(world, actor, step),
    };
    vec![(actor, action)]
}

/// Like [`actions`], for the steps that concern targets and the duties of validators.
fn actions_on_targets(world: &World, actor: Person, step: &Step) -> Vec<(Person, Action)> {
    let nth = |at: u32| targets(world).get(at as usize).copied();
    let found = |at: usize| verdicts()[at].clone();
    let action = match *step {
        Step::CommitBeacon(value) => {
            let (epoch, value) = (world.epoch().next(), Hash([value; 32]));
            let all = validators(world).into_iter().chain([actor]);
            let commit =
                |one: Person| commitment::beacon(&world.chain, &one.address(), epoch, &value);
            return all
                .map(|one| (one, commit(one)))
                .map(|(one, commitment)| {
                    (one, Action::CommitBeacon(action::CommitBeacon { epoch, commitment }))
                })
                .collect();
        }
        Step::RevealBeacon(value) => {
            let (epoch, value) = (world.epoch(), Hash([value; 32]));
            let open = Action::RevealBeacon(action::RevealBeacon { epoch, value });
            return vec![(VALIDATOR, open.clone()), (actor, open)];
        }
        Step::PublishAll => return due_publications(world),
        Step::OpenAll => return world.due_reveals(),
        Step::AnswerAll => {
            let files: Vec<Release> = (0..RELEASES).map(release).collect();
            let due = validators(world).into_iter();
            return due.filter_map(|one| Some((one, world.due_answer(one, &files)?))).collect();
        }
        Step::AttestAll(at) => {
            let all = targets(world).into_iter();
            return all
                .flat_map(|target| validators(world).into_iter().map(move |one| (one, target)))
                .map(|(one, target)| (one, world.attest_verdict(one, target, &found(at))))
                .collect();
        }
        Step::Submit(target, number, distance) => {
            nth(target).map(|target| world.submit(actor, target, &data(actor, number), distance))
        }
        Step::Publish(target, number) => {
            nth(target).map(|target| publish(target, &data(actor, number)))
        }
        Step::Attest(target, at) => {
            nth(target).map(|target| world.attest_verdict(actor, target, &found(at)))
        }
        Step::Open(target, at) => nth(target).map(|target| {
            Action::RevealVerdict(action::RevealVerdict {
                target: TargetId(target),
                verdict: found(at),
            })
        }),
        Step::Answer(bytes) => Some(Action::AnswerChallenge(action::AnswerChallenge {
            epoch: world.epoch(),
            chunk: vec![7; bytes],
            path: vec![Hash([7; 32]); bytes],
        })),
        Step::CommitCorpus(legal) => {
            let (root, leaves) = library::root();
            let leaves = if legal { leaves } else { 0 };
            Some(Action::CommitCorpus(action::CommitCorpus { root, leaves }))
        }
        _ => return actions_with_stake(world, actor, step),
    };
    let action = action.into_iter();
    action.map(|action| (actor, action)).collect()
}

/// Like [`actions`], for the steps with stake.
fn actions_with_stake(world: &World, actor: Person, step: &Step) -> Vec<(Person, Action)> {
    let prover = |own: bool| if own { actor } else { OPERATOR };
    let action = match *step {
        Step::AddStake(pool, amount) => {
            Action::AddStake(action::AddStake { pool, amount: Amount(amount) })
        }
        Step::WithdrawStake(pool, amount) => {
            Action::WithdrawStake(action::WithdrawStake { pool, amount: Amount(amount) })
        }
        Step::SetCommission(pool, commission_bps) => {
            let set = Action::SetCommission(action::SetCommission { pool, commission_bps });
            let holder = match pool {
                PoolId::Model(model) => owner(world, model.0),
                PoolId::Validator(address) => person(address).unwrap_or(actor),
            };
            return vec![(holder, set.clone()), (actor, set)];
        }
        Step::RegisterValidator(key, soma, own) => register(world, prover(own), key, soma),
        Step::RotateKey(key, own) => rotate(world, prover(own), key),
        Step::SetDutyKey(key, own) => set_duty_key(world, prover(own), &Person(key).key()),
        Step::SetEndpoints(some) => {
            let all = validators(world).into_iter().chain([actor]);
            let set = |one| (one, set_endpoints_of(world, one, some.then_some("node:1")));
            return all.map(set).collect();
        }
        Step::Leave => Action::LeaveValidator(action::LeaveValidator {}),
        Step::Return => {
            let all = validators(world).into_iter().chain([actor]);
            return all
                .map(|one| (one, Action::ReturnValidator(action::ReturnValidator {})))
                .collect();
        }
        Step::Report(key, truly) => {
            evidence(world, key, notarize(1), notarize(if truly { 2 } else { 1 }))
        }
        Step::Propose(at, value) => {
            let propose = parameter(Params::BOUNDS[at].name, value);
            return vec![(VALIDATOR, propose.clone()), (actor, propose)];
        }
        Step::ProposeArchitecture(heads) => {
            let architecture = Architecture { heads, ..larger() };
            let change = Change::Architecture { architecture };
            return vec![(VALIDATOR, Action::Propose(action::Propose { change }))];
        }
        Step::Vote(number, approve) => vote(number, approve),
        Step::VoteRentPrice(price) => {
            let price = Amount(price);
            let all = validators(world).into_iter().chain([actor]);
            return all
                .map(|one| (one, Action::VoteRentPrice(action::VoteRentPrice { price })))
                .collect();
        }
        Step::VoteAll(approve) => {
            let proposals = 1..=read::proposal_count(&world.state);
            return proposals
                .flat_map(|number| validators(world).into_iter().map(move |one| (one, number)))
                .map(|(one, number)| (one, vote(number, approve)))
                .collect();
        }
        _ => unreachable!("{step:?} is a step of another kind"),
    };
    vec![(actor, action)]
}

/// What the candidates of the current rank may publish; one of a participant's data is the right
/// one.
fn due_publications(world: &World) -> Vec<(Person, Action)> {
    let rank = world.clock().1.publishing_rank().unwrap_or(0) as usize;
    let mut due = Vec::new();
    for target in targets(world) {
        let candidates = read::candidates(&world.state, TargetId(target));
        let submitter = candidates.get(rank).and_then(|candidate| person(candidate.submitter));
        let all =
            submitter.into_iter().flat_map(|person| (0..DATA).map(move |number| (person, number)));
        due.extend(all.map(|(person, number)| (person, publish(target, &data(person, number)))));
    }
    due
}

fn any_world() -> impl Strategy<Value = World> {
    (
        any::<bool>(),
        1..4_u32,
        2..4_u32,
        prop_oneof![Just(0), Just(10_000), 0..=10_000_u16],
        any::<bool>(),
    )
        .prop_map(|(clock, refresh_epochs, few_epochs, slash_bps, two_validators)| {
            World::with(|genesis| {
                // By the clock an epoch is some tens of blocks long.
                genesis.params.epoch_ms = if clock { 20_000 } else { 0 };
                genesis.params.refresh_epochs = refresh_epochs;
                genesis.params.unbonding_epochs = few_epochs;
                genesis.params.absence_epochs = few_epochs;
                genesis.params.voting_epochs = few_epochs;
                genesis.params.migration_epochs = few_epochs;
                genesis.params.missed_reveal_slash_bps = slash_bps;
                genesis.params.beacon_slash_bps = slash_bps;
                genesis.params.verdict_slash_bps = slash_bps;
                genesis.params.equivocation_slash_bps = slash_bps.max(1);
                genesis.params.candidates_per_target = 2;
                genesis.params.targets_per_epoch = 2;
                if two_validators {
                    genesis.validators.push(validator(SECOND_VALIDATOR, 501));
                }
            })
        })
}

fn history(steps: std::ops::Range<usize>) -> impl Strategy<Value = Vec<(usize, Step)>> {
    prop::collection::vec((0..PEOPLE.len(), step()), steps)
}

/// The pools that there are or may be.
fn pools() -> impl Iterator<Item = PoolId> {
    let models = (1..=MODELS).map(|model| PoolId::Model(ModelId(model)));
    models.chain(ADDRESSES.iter().copied().map(PoolId::Validator))
}

fn pool(world: &World, id: PoolId) -> Option<soma_protocol::record::Pool> {
    match id {
        PoolId::Model(model) => read::model(&world.state, model).map(|model| model.pool),
        PoolId::Validator(one) => read::validator(&world.state, &one).map(|one| one.pool),
    }
}

/// Every share of a pool has a holder, and nobody holds a share of an empty pool.
fn check_shares(world: &World) {
    for id in pools() {
        let mut held = [0; 3];
        for address in ADDRESSES.iter() {
            let share = read::share(&world.state, id, address);
            let parts = [share.shares, share.leaving_shares, share.joining_shares];
            for (sum, part) in held.iter_mut().zip(parts) {
                *sum += part;
            }
        }
        let pool = pool(world, id).unwrap_or_default();
        assert_eq!([pool.shares, pool.leaving_shares, pool.joining_shares], held, "{id}");
    }
}

/// An epoch in which everybody does what is due, except that some do not reveal their randomness.
/// Two models commit, for the architecture to come if there is one.
fn take_epoch(world: &mut World, actor: usize, found: usize) -> BTreeSet<String> {
    let first = if read::migration(&world.state).is_some() { 2 } else { 0 };
    let mut seen = BTreeSet::new();
    let mut all = |world: &mut World, steps: &[Step]| {
        for step in steps {
            seen.extend(take(world, actor, step));
        }
    };
    let commits = [(1, first), (2, first + 1)];
    let commits = commits.map(|(model, number)| Step::CommitAndHold(model, number));
    all(world, &commits);
    all(world, &[Step::CommitBeacon(0)]);
    let epoch = world.epoch();
    while world.epoch() == epoch {
        all(world, &[Step::EndPhase]);
    }
    all(world, &[Step::RevealAll, Step::RevealBeacon(0)]);
    while world.clock().1 != Phase::Compete {
        all(world, &[Step::PublishAll, Step::EndPhase]);
    }
    all(world, &[Step::AttestAll(found), Step::AnswerAll]);
    all(world, &[0, 1, 2].map(|number| Step::Submit(0, number, 2)));
    all(world, &[Step::EndPhase, Step::OpenAll]);
    seen
}

/// Takes a step; returns the names of the events, and of the actions with what became of them.
fn take(world: &mut World, actor: usize, step: &Step) -> BTreeSet<String> {
    if let Step::Epoch(found) = *step {
        return take_epoch(world, actor, found);
    }
    let mut seen = BTreeSet::new();
    for (person, action) in actions(world, PEOPLE[actor], step) {
        let name = action.name();
        // Whether it succeeds does not matter here: the world checks every state.
        let outcome = match world.act(person, action) {
            Ok(()) => "accepted",
            Err(_) => "rejected",
        };
        seen.insert(format!("{name} {outcome}"));
        let names = world.events.iter().map(|event| serde_json::to_value(event).unwrap());
        seen.extend(names.map(|event| event["event"].as_str().unwrap().to_owned()));
    }
    check_shares(world);
    seen
}

/// Nobody does anything for some epochs.
fn wait(world: &mut World, epochs: u32) {
    let until = world.epoch().after(epochs);
    while world.epoch() < until {
        take(world, 0, &Step::EndPhase);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        max_shrink_iters: 300,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_conserves_the_supply_and_keeps_states_legal(
        mut world in any_world(), steps in history(0..100),
    ) {
        for (actor, step) in &steps {
            take(&mut world, *actor, step);
        }
        // Whatever was under way comes to an end, and all stake can be taken back.
        for id in pools() {
            for actor in 0..PEOPLE.len() {
                take(&mut world, actor, &Step::WithdrawStake(id, u64::MAX));
            }
        }
        let unbonding_epochs = world.params().unbonding_epochs;
        wait(&mut world, unbonding_epochs.max(4));
        let forgotten = (1..world.epoch().previous().0)
            .flat_map(|epoch| read::targets(&world.state, Epoch(epoch)))
            .all(|target| read::candidates(&world.state, target.id).is_empty());
        prop_assert!(forgotten);
        prop_assert_eq!(world.holdings.bonds, Amount::ZERO);
        for pool in pools().filter_map(|id| pool(&world, id)) {
            prop_assert_eq!((pool.leaving, pool.leaving_shares), (Amount::ZERO, 0));
            prop_assert_eq!((pool.joining, pool.joining_shares), (Amount::ZERO, 0));
        }
    }
}

#[test]
fn random_histories_reach_every_outcome() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    let mut bytes = blake3::Hasher::new();
    for _ in 0..40 {
        let mut world = any_world().new_tree(&mut runner).unwrap().current();
        let steps = history(150..151).new_tree(&mut runner).unwrap().current();
        for (actor, step) in &steps {
            seen.extend(take(&mut world, *actor, step));
            bytes.update(&borsh::to_vec(&world.events).unwrap());
        }
        for (key, value) in world.state.iter() {
            bytes.update(key.as_bytes());
            bytes.update(value);
        }
    }
    assert_eq!(
        bytes.finalize().to_hex().as_str(),
        "276b7c4de3a25f99195e8c4fbdf4156701795e8a9c5a726fe73c60ad266e2af7",
        "the bytes of states or events have changed"
    );
    let outcomes = [
        "weights_revealed",
        "weights_available",
        "commit_lapsed",
        "model_slashed",
        "model_inactive",
        "model_broken",
        "model_closed",
        "stake_released",
        "beacon_revealed",
        "validator_slashed",
        "validator_rewarded",
        "validator_jailed",
        "validator_expelled",
        "seat_taken",
        "seat_lost",
        "key_rotated",
        "rent_paid",
        "rent_price_changed",
        "corpus_committed",
        "submission_displaced",
        "submission_released",
        "submission_forfeited",
        "target_settled",
        "target_returned",
        "withdrawal_paid",
        "stake_joined",
        "commission_changed",
        "proposal_passed",
        "proposal_lapsed",
        "parameter_changed",
        "migration_began",
        "migration_extended",
        "architecture_switched",
    ];
    let fates = action_names()
        .into_iter()
        .flat_map(|name| ["accepted", "rejected"].map(|outcome| format!("{name} {outcome}")));
    let missing: Vec<String> = outcomes
        .into_iter()
        .map(str::to_owned)
        .chain(fates)
        .filter(|outcome| !seen.contains(outcome))
        .collect();
    assert_eq!(missing, Vec::<String>::new(), "the histories do not reach these outcomes");
}

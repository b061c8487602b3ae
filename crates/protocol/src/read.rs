//! Typed reads of a state: only what is stored, nothing derived from several rules. The rules, the
//! API and commands all use them; none of them changes anything.

use crate::record::{
    Account, BeaconCommit, Candidate, Candidates, ChallengeAnswers, Clock, Committee, Corpus,
    DutyKeyHolder, EndpointsRecord, EpochRecord, FileRoom, KeyHolder, LastCommittee, LivingCount,
    LivingModel, Migration, Model, ModelCount, Network, Params, PastArchitecture, Piece, Proposal,
    ProposalCount, Publication, Rent, RentPrice, RevealedFile, Routed, Routes, RulesInForce,
    SHARES_MIN, Share, Specialization, StakeChange, StakeCount, StakedPool, Supply, Target, Tasks,
    Validator, Validators, VerdictCommit, Weights, WeightsCommit,
};
use crate::state::{Key, StateRead, load};
use crate::{
    Address, Amount, Architecture, ConsensusKey, Defense, Epoch, Hash, ModelId, PoolId, ProposalId,
    Ruleset, TargetId,
};

/// What every rule needs; it changes only between blocks and as epochs begin.
pub(crate) struct ChainConfig {
    pub(crate) network: Network,
    pub(crate) params: Params,
    pub(crate) rules: Ruleset,
}

impl ChainConfig {
    pub(crate) fn read(state: &dyn StateRead, rules: Ruleset) -> Self {
        Self { network: network(state), params: params(state), rules }
    }

    /// Whether a defense is part of the rules: always, but in a simulation.
    pub(crate) fn defends(&self, defense: Defense) -> bool {
        self.rules.defends(defense)
    }

    /// The fewest shares of a staker in the active part of a pool, unless it has none.
    pub(crate) fn shares_min(&self) -> u128 {
        if self.defends(Defense::SharesMin) { SHARES_MIN } else { 1 }
    }

    /// The most candidates of a target.
    pub(crate) fn candidates_max(&self) -> usize {
        let limited = self.defends(Defense::ClosestOnly);
        let max = if limited { self.params.candidates_per_target } else { u32::MAX };
        usize::try_from(max).unwrap_or(usize::MAX)
    }
}

/// Name, chain id, architecture, operator.
///
/// # Panics
/// If `state` is not one that genesis or blocks produced.
#[expect(clippy::expect_used, reason = "every state since genesis has one")]
pub fn network(state: &dyn StateRead) -> Network {
    load(state, &Key::network()).expect("every state since genesis has a network")
}

/// The parameters in force.
///
/// # Panics
/// If `state` is not one that genesis or blocks produced.
#[expect(clippy::expect_used, reason = "every state since genesis has them")]
pub fn params(state: &dyn StateRead) -> Params {
    load(state, &Key::params()).expect("every state since genesis has parameters")
}

/// The version of the rules that the next block follows, and the one that is scheduled.
///
/// # Panics
/// If `state` is not one that genesis or blocks produced.
#[expect(clippy::expect_used, reason = "every state since genesis has them")]
pub fn rules(state: &dyn StateRead) -> RulesInForce {
    load(state, &Key::rules()).expect("every state since genesis has a version of the rules")
}

/// Epoch and phase.
///
/// # Panics
/// If `state` is not one that genesis or blocks produced.
#[expect(clippy::expect_used, reason = "every state since genesis has one")]
pub fn clock(state: &dyn StateRead) -> Clock {
    load(state, &Key::clock()).expect("every state since genesis has a clock")
}

/// The reserve, and what is burned.
///
/// # Panics
/// If `state` is not one that genesis or blocks produced.
#[expect(clippy::expect_used, reason = "every state since genesis has one")]
pub fn supply(state: &dyn StateRead) -> Supply {
    load(state, &Key::supply()).expect("every state since genesis has a supply")
}

/// An account; one that nobody has used is empty.
pub fn account(state: &dyn StateRead, address: &Address) -> Account {
    load(state, &Key::account(address)).unwrap_or_default()
}

/// The documents that an account has fixed.
pub fn corpus(state: &dyn StateRead, address: &Address) -> Option<Corpus> {
    load(state, &Key::corpus(address))
}

/// What `staker` has in a pool.
pub fn share(state: &dyn StateRead, pool: PoolId, staker: &Address) -> Share {
    load(state, &Key::share(pool, staker)).unwrap_or_default()
}

/// The number of pools in which `staker` has something.
pub fn stake_count(state: &dyn StateRead, staker: &Address) -> u32 {
    load::<StakeCount>(state, &Key::stake_count(staker)).map_or(0, |count| count.0)
}

/// One of them, by its place in the staker's list.
pub fn staked_pool(state: &dyn StateRead, staker: &Address, place: u32) -> Option<PoolId> {
    load::<StakedPool>(state, &Key::staked_pool(staker, place)).map(|pool| pool.0)
}

/// What changes for a staker of a pool as `epoch` begins.
pub fn stake_change(
    state: &dyn StateRead,
    epoch: Epoch,
    pool: PoolId,
    staker: &Address,
) -> Option<StakeChange> {
    load(state, &Key::stake_change(epoch, pool, staker))
}

/// The migration to another architecture, if one is under way.
pub fn migration(state: &dyn StateRead) -> Option<Migration> {
    load(state, &Key::migration())
}

/// Number of the architecture in force; that of genesis is 1.
pub fn architecture_number(state: &dyn StateRead) -> u32 {
    network(state).architecture_number
}

/// Numbers of the architectures for which weights may be committed: the one in force, then the one
/// to which models migrate.
pub fn open_architectures(state: &dyn StateRead) -> impl Iterator<Item = u32> + Clone + use<> {
    let next = migration(state).map(|migration| migration.number);
    std::iter::once(architecture_number(state)).chain(next)
}

/// The architecture with this number, whether current, upcoming or past.
pub fn architecture(state: &dyn StateRead, number: u32) -> Option<Architecture> {
    let network = network(state);
    if network.architecture_number == number {
        return Some(network.architecture);
    }
    let next = migration(state).filter(|migration| migration.number == number);
    next.map(|migration| migration.architecture)
        .or_else(|| load(state, &Key::architecture(number)).map(|PastArchitecture(spec)| spec))
}

/// Number of models ever registered; their ids are 1 to this.
pub fn model_count(state: &dyn StateRead) -> u32 {
    load(state, &Key::model_count()).map_or(0, |ModelCount(count)| count)
}

/// Ids of all models ever registered.
pub fn model_ids(state: &dyn StateRead) -> impl Iterator<Item = ModelId> + use<> {
    (1..=model_count(state)).map(ModelId)
}

/// Number of living models: those that are not retired.
pub fn living_count(state: &dyn StateRead) -> u32 {
    load(state, &Key::living_count()).map_or(0, |LivingCount(count)| count)
}

/// The living model at a place of their list.
pub fn living_model(state: &dyn StateRead, place: u32) -> Option<ModelId> {
    load(state, &Key::living_model(place)).map(|LivingModel(id)| id)
}

/// The living models, in the order of their list.
pub fn living_models(state: &dyn StateRead) -> impl Iterator<Item = Model> + '_ {
    let ids = (0..living_count(state)).filter_map(|place| living_model(state, place));
    ids.filter_map(|id| model(state, id))
}

/// A model.
pub fn model(state: &dyn StateRead, id: ModelId) -> Option<Model> {
    load(state, &Key::model(id))
}

/// All models with ids in a range, in order.
pub fn models(
    state: &dyn StateRead,
    ids: std::ops::RangeInclusive<u32>,
) -> impl Iterator<Item = Model> + '_ {
    let last = model_count(state).min(*ids.end());
    (*ids.start()..=last).filter_map(move |id| model(state, ModelId(id)))
}

/// A model's specialization for the architecture in force: what targets are routed by.
pub fn specialization(state: &dyn StateRead, id: ModelId) -> Option<Vec<i16>> {
    load(state, &Key::specialization(id, architecture_number(state)))
        .map(|Specialization(components)| components)
}

/// The specialization that a model had when it was routed to a target of an epoch, the running one
/// or the one before: data is seen from it, whatever the model reveals later.
pub fn drawn_specialization(state: &dyn StateRead, epoch: Epoch, id: ModelId) -> Option<Vec<i16>> {
    load(state, &Key::drawn_specialization(epoch, id)).map(|Specialization(components)| components)
}

/// Weights that a model has revealed.
pub fn weights(state: &dyn StateRead, id: ModelId, weights_hash: &Hash) -> Option<Weights> {
    load(state, &Key::weights(id, weights_hash))
}

/// The encrypted file with which a model competes for a target of the running epoch or the one
/// before: whatever the model reveals later, its scores for the target stay the same.
pub fn routed_file(
    state: &dyn StateRead,
    target: &Target,
    routed: &Routed,
) -> Option<RevealedFile> {
    weights(state, routed.model, &routed.weights_hash).map(|weights| weights.file_for(target.epoch))
}

/// The weights of a model for an architecture, current or upcoming, once revealed.
pub fn weights_for(state: &dyn StateRead, model: &Model, architecture: u32) -> Option<Weights> {
    let next = model.next.filter(|next| next.architecture == architecture);
    let hash = match next {
        Some(next) => next.weights,
        None if architecture == model.architecture => model.weights?,
        None => return None,
    };
    weights(state, model.id, &hash)
}

/// A model's commit for an epoch, for the architecture in force.
pub fn commit(state: &dyn StateRead, id: ModelId, epoch: Epoch) -> Option<WeightsCommit> {
    load(state, &Key::commit(id, epoch, architecture_number(state)))
}

/// A model's commits for an epoch: for the architecture in force, then for the upcoming one.
pub fn commits_of(state: &dyn StateRead, id: ModelId, epoch: Epoch) -> Vec<WeightsCommit> {
    open_architectures(state)
        .filter_map(|number| load(state, &Key::commit(id, epoch, number)))
        .collect()
}

/// Commits of all living models for an epoch, in the order of their list.
pub fn commits(state: &dyn StateRead, epoch: Epoch) -> Vec<(ModelId, WeightsCommit)> {
    (0..living_count(state))
        .filter_map(|place| living_model(state, place))
        .flat_map(|id| {
            let commits = commits_of(state, id, epoch).into_iter();
            commits.map(move |commit| (id, commit))
        })
        .collect()
}

/// Prepaid rent for a model's file for the architecture in force.
pub fn rent(state: &dyn StateRead, id: ModelId) -> Option<Rent> {
    load(state, &Key::rent(id, architecture_number(state)))
}

/// Prepaid rent for a model's files for the architectures for which weights may be committed.
pub fn rents(state: &dyn StateRead, id: ModelId) -> Vec<Rent> {
    open_architectures(state).filter_map(|number| load(state, &Key::rent(id, number))).collect()
}

/// Price of keeping one MiB for one epoch: the stake-weighted median of the validators' votes.
pub fn rent_price(state: &dyn StateRead) -> Amount {
    load(state, &Key::rent_price()).map_or(Amount::ZERO, |RentPrice(price)| price)
}

/// Validators that have answered an epoch's storage challenge.
pub fn challenge_answers(state: &dyn StateRead, epoch: Epoch) -> Vec<Address> {
    load(state, &Key::answers(epoch)).map_or(Vec::new(), |ChallengeAnswers(list)| list)
}

/// The committee that was decided last.
///
/// # Panics
/// If `state` is not one that genesis or blocks produced.
#[expect(clippy::expect_used, reason = "every state since genesis has one")]
pub fn committee(state: &dyn StateRead) -> Committee {
    let last: Option<LastCommittee> = load(state, &Key::last_committee());
    last.and_then(|last| load(state, &Key::committee(last.0)))
        .expect("every state since genesis has a committee")
}

/// The committee with this number. All are kept, so that a node that joins later can verify each
/// handover.
pub fn committee_by_number(state: &dyn StateRead, number: u32) -> Option<Committee> {
    load(state, &Key::committee(number))
}

/// The last committee decided by a block up to `height`.
pub fn committee_at(state: &dyn StateRead, height: u64) -> Option<Committee> {
    let LastCommittee(last) = load(state, &Key::last_committee())?;
    (0..=last)
        .rev()
        .filter_map(|number| committee_by_number(state, number))
        .find(|committee| committee.height <= height)
}

/// A validator, including one that has left.
pub fn validator(state: &dyn StateRead, address: &Address) -> Option<Validator> {
    load(state, &Key::validator(address))
}

/// The registered validators in their fixed order, with or without a seat.
pub fn validators(state: &dyn StateRead) -> Vec<Validator> {
    let Validators(addresses) = load(state, &Key::validators()).unwrap_or_default();
    addresses.iter().filter_map(|address| validator(state, address)).collect()
}

/// The committee that served in an epoch, with the stake that each seat counted then.
pub fn committee_in(state: &dyn StateRead, epoch: Epoch) -> Option<Committee> {
    let LastCommittee(last) = load(state, &Key::last_committee())?;
    let mut committees = (0..=last).rev().filter_map(|number| committee_by_number(state, number));
    committees.find(|committee| committee.epoch <= epoch)
}

/// The validator that has or had a consensus key.
pub fn key_holder(state: &dyn StateRead, key: &ConsensusKey) -> Option<Address> {
    load(state, &Key::key_holder(key)).map(|KeyHolder(address)| address)
}

/// The validator whose duty key this is.
pub fn duty_key_holder(state: &dyn StateRead, key: &Address) -> Option<Address> {
    load(state, &Key::duty_key_holder(key)).map(|DutyKeyHolder(address)| address)
}

/// Where a validator's node is reached; `None` if it has not said so.
pub fn endpoints(state: &dyn StateRead, validator: &Address) -> Option<EndpointsRecord> {
    load(state, &Key::endpoints(validator))
}

/// The account whose duties a key may send: the validator that has named it, or its own.
pub fn acts_for(state: &dyn StateRead, key: &Address) -> Address {
    duty_key_holder(state, key).unwrap_or(*key)
}

/// A validator's contribution to an epoch's randomness.
pub fn beacon_commit(
    state: &dyn StateRead,
    epoch: Epoch,
    validator: &Address,
) -> Option<BeaconCommit> {
    load(state, &Key::beacon(epoch, validator))
}

/// The tasks that wait, in the order in which they run.
pub fn tasks(state: &dyn StateRead) -> Tasks {
    load(state, &Key::tasks()).unwrap_or_default()
}

/// What an epoch fixed when its targets were drawn; `None` before.
pub fn epoch(state: &dyn StateRead, epoch: Epoch) -> Option<EpochRecord> {
    load(state, &Key::epoch(epoch))
}

/// A target.
pub fn target(state: &dyn StateRead, id: TargetId) -> Option<Target> {
    load(state, &Key::target(id))
}

/// The targets of an epoch in order of id; none before they are drawn.
pub fn targets(state: &dyn StateRead, id: Epoch) -> Vec<Target> {
    epoch(state, id)
        .iter()
        .flat_map(EpochRecord::target_ids)
        .filter_map(|id| target(state, id))
        .collect()
}

/// How many targets of an epoch a model was routed to; `None` once they are settled.
pub fn routes(state: &dyn StateRead, epoch: Epoch, model: ModelId) -> Option<Routes> {
    load(state, &Key::routes(epoch, model))
}

/// Bytes of the files that validators are asked to keep: of each model the longest.
pub fn file_room(state: &dyn StateRead) -> u64 {
    load(state, &Key::file_room()).map_or(0, |FileRoom(bytes)| bytes)
}

/// A target's candidates, closest first; none once it is settled.
pub fn candidates(state: &dyn StateRead, id: TargetId) -> Vec<Candidate> {
    load(state, &Key::candidates(id)).map_or(Vec::new(), |Candidates(list)| list)
}

/// Data published for a target; `None` before publication and once the target is settled.
pub fn publication(state: &dyn StateRead, id: TargetId) -> Option<Publication> {
    load(state, &Key::publication(id))
}

/// Where a piece of data won first, by its hash.
pub fn piece(state: &dyn StateRead, hash: u64) -> Option<Piece> {
    load(state, &Key::piece(hash))
}

/// A validator's verdict on a target, committed or revealed; none once the target is settled.
pub fn verdict(state: &dyn StateRead, id: TargetId, validator: &Address) -> Option<VerdictCommit> {
    load(state, &Key::verdict(id, validator))
}

/// The verdicts on a target, in the order of their validators' seats; none once it is settled. Only
/// the committee of the epoch after the target's gives any.
pub fn verdicts(state: &dyn StateRead, target: &Target) -> Vec<VerdictCommit> {
    let committee = committee_in(state, target.epoch.next());
    let auditors = committee.into_iter().flat_map(|committee| committee.seats);
    auditors.filter_map(|seat| verdict(state, target.id, &seat.validator)).collect()
}

/// A proposal.
pub fn proposal(state: &dyn StateRead, id: ProposalId) -> Option<Proposal> {
    load(state, &Key::proposal(id))
}

/// Number of proposals ever made; their ids are 1 to this.
pub fn proposal_count(state: &dyn StateRead) -> u32 {
    load(state, &Key::proposal_count()).map_or(0, |ProposalCount(count)| count)
}

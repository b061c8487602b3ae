//! Typed reads of a state, for APIs and commands. They say what is there and change nothing.

use serde::{Deserialize, Serialize};

use crate::actions::left_over;
use crate::apply::{self, clock};
use crate::architecture::ArchitectureSpec;
use crate::id::ProposalId;
use crate::params::Params;
use crate::pool::{PoolId, Share};
use crate::proposal::{Migration, Proposal, ProposalCount};
use crate::record::{
    Account, BeaconCommit, Candidate, Clock, Commit, Embedding, EpochRecord, Model, ModelCount,
    Publication, Rent, Supply, Target, Verdicts, Weights, load,
};
use crate::state::{Key, Read};
use crate::validator::{self as validators, Validator};
use crate::{
    Address, Amount, ConsensusKey, Epoch, Hash, ModelId, Network, TargetId, balance, epoch,
    governance, migration, rent as rents, seats, targets,
};

/// What to know of a chain at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Name, id, architecture, operator.
    pub network: Network,
    /// Its parameters.
    pub params: Params,
    /// Epoch and phase.
    pub clock: Clock,
    /// Block time from which the phase may end, ms since 1970; `None` if only the operator ends it.
    #[serde(with = "optional_decimal")]
    pub deadline_ms: Option<u64>,
    /// Reserve and what is burned.
    pub supply: Supply,
    /// Number of models ever registered.
    pub models: u32,
}

mod optional_decimal {
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[expect(clippy::ref_option, reason = "serde passes it so")]
    pub(super) fn serialize<S: Serializer>(
        value: &Option<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|value| value.to_string()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<u64>, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?;
        text.map(|text| text.parse().map_err(D::Error::custom))
            .transpose()
    }
}

/// The chain as a whole.
pub fn chain(state: &dyn Read) -> Chain {
    let (clock, params) = (clock(state), apply::params(state));
    Chain {
        network: apply::network(state),
        deadline_ms: epoch::deadline_ms(&clock, &params),
        params,
        clock,
        supply: supply(state),
        models: model_count(state),
    }
}

/// An account; one that nobody has used is empty.
pub fn account(state: &dyn Read, address: &Address) -> Account {
    balance::account(state, address)
}

/// Reserve and what is burned.
pub fn supply(state: &dyn Read) -> Supply {
    apply::supply(state)
}

/// Number of models ever registered; their ids are 1 to this.
pub fn model_count(state: &dyn Read) -> u32 {
    load(state, &Key::model_count()).map_or(0, |ModelCount(count)| count)
}

/// A model.
pub fn model(state: &dyn Read, id: ModelId) -> Option<Model> {
    load(state, &Key::model(id))
}

/// All models with ids in a range, in their order.
pub fn models(
    state: &dyn Read,
    ids: std::ops::RangeInclusive<u32>,
) -> impl Iterator<Item = Model> + '_ {
    let last = model_count(state).min(*ids.end());
    (*ids.start()..=last).filter_map(move |id| model(state, ModelId(id)))
}

/// A model's specialization.
pub fn embedding(state: &dyn Read, id: ModelId) -> Option<Vec<i16>> {
    load(state, &Key::embedding(id, migration::current(state)))
        .map(|Embedding(embedding)| embedding)
}

/// Weights that a model has revealed.
pub fn weights(state: &dyn Read, id: ModelId, weights_hash: &Hash) -> Option<Weights> {
    load(state, &Key::weights(id, weights_hash))
}

/// A model's commit for an epoch, for the architecture in force.
pub fn commit(state: &dyn Read, id: ModelId, epoch: Epoch) -> Option<Commit> {
    load(state, &Key::commit(id, epoch, migration::current(state)))
}

/// A model's commits for an epoch: for the architecture in force, then for the one to come.
pub fn commits_of(state: &dyn Read, id: ModelId, epoch: Epoch) -> Vec<Commit> {
    migration::numbers(state)
        .filter_map(|number| load(state, &Key::commit(id, epoch, number)))
        .collect()
}

/// Commits of all models for an epoch, in the order of ids.
pub fn commits(state: &dyn Read, epoch: Epoch) -> Vec<(ModelId, Commit)> {
    (1..=model_count(state))
        .map(ModelId)
        .flat_map(|id| {
            let commits = commits_of(state, id, epoch).into_iter();
            commits.map(move |commit| (id, commit))
        })
        .collect()
}

/// Rent paid ahead for a model's file of the architecture in force.
pub fn rent(state: &dyn Read, id: ModelId) -> Option<Rent> {
    load(state, &Key::rent(id, migration::current(state)))
}

/// What committing a file of `size_bytes` for the next epoch would cost: the rent that is due, and
/// what of it the owner would pay now.
pub fn commit_cost(
    state: &dyn Read,
    id: ModelId,
    architecture: u32,
    size_bytes: u64,
) -> (Amount, Amount) {
    let next = clock(state).epoch.next();
    let due = rents::due(size_bytes, next, rents::price(state), &apply::params(state));
    (due, due.less(left_over(state, id, architecture)))
}

/// The validators with a seat, in the order of seats: those whose stake votes and audits.
pub fn seated(state: &dyn Read) -> Vec<Validator> {
    validators::seated(state)
}

/// The registered validators in their order, with a seat or without.
pub fn registered(state: &dyn Read) -> Vec<Validator> {
    validators::registered(state)
}

/// A validator, also one that has left.
pub fn validator(state: &dyn Read, address: &Address) -> Option<Validator> {
    validators::validator(state, address)
}

/// Whose consensus key it is or was, if anybody's.
pub fn key_holder(state: &dyn Read, key: &ConsensusKey) -> Option<Address> {
    seats::key_holder(state, key)
}

/// Validators that have answered an epoch's storage challenge.
pub fn answers(state: &dyn Read, epoch: Epoch) -> Vec<Address> {
    load(state, &Key::answers(epoch)).map_or(Vec::new(), |crate::record::Answers(list)| list)
}

/// Price of keeping one MiB for one epoch: the median by stake of the validators' votes.
pub fn rent_price(state: &dyn Read) -> Amount {
    rents::price(state)
}

/// An architecture by its number: in force, to come, or past.
pub fn architecture(state: &dyn Read, number: u32) -> Option<ArchitectureSpec> {
    migration::architecture(state, number)
}

/// Public weights of a model for an architecture, in force or to come.
pub fn weights_for(state: &dyn Read, model: &Model, architecture: u32) -> Option<Weights> {
    migration::weights(state, model, architecture)
}

/// The migration to another architecture, if one is under way.
pub fn migration(state: &dyn Read) -> Option<Migration> {
    load(state, &Key::migration())
}

/// A proposal.
pub fn proposal(state: &dyn Read, id: ProposalId) -> Option<Proposal> {
    load(state, &Key::proposal(id))
}

/// How many proposals have ever been made; their ids are 1 to this.
pub fn proposal_count(state: &dyn Read) -> u32 {
    load(state, &Key::proposal_count()).map_or(0, |ProposalCount(count)| count)
}

/// The seated stake that approves a proposal now, and all seated stake.
pub fn approval(state: &dyn Read, proposal: &Proposal) -> (Amount, Amount) {
    governance::stakes(state, proposal)
}

/// What somebody has in a pool.
pub fn share(state: &dyn Read, pool: PoolId, staker: &Address) -> Share {
    crate::pool::share(state, pool, staker)
}

/// A validator's randomness for an epoch.
pub fn beacon(state: &dyn Read, epoch: Epoch, validator: &Address) -> Option<BeaconCommit> {
    load(state, &Key::beacon(epoch, validator))
}

/// What an epoch fixed when its targets were drawn; `None` before.
pub fn epoch(state: &dyn Read, epoch: Epoch) -> Option<EpochRecord> {
    load(state, &Key::epoch(epoch))
}

/// A target.
pub fn target(state: &dyn Read, id: TargetId) -> Option<Target> {
    load(state, &Key::target(id))
}

/// The targets of an epoch in the order of ids; none before they are drawn.
pub fn targets(state: &dyn Read, id: Epoch) -> Vec<Target> {
    epoch(state, id)
        .iter()
        .flat_map(EpochRecord::target_ids)
        .filter_map(|id| target(state, id))
        .collect()
}

/// A target's direction.
pub fn direction(state: &dyn Read, target: &Target) -> Option<Vec<i16>> {
    let record = epoch(state, target.epoch)?;
    let dim = architecture(state, record.architecture)?.dim;
    Some(targets::direction(&record.beacon, target.id, dim))
}

/// A target's candidates, closest first; none once it is settled.
pub fn candidates(state: &dyn Read, id: TargetId) -> Vec<Candidate> {
    load(state, &Key::candidates(id)).map_or(Vec::new(), |crate::record::Candidates(list)| list)
}

/// Data published for a target; `None` before, and once it is settled.
pub fn publication(state: &dyn Read, id: TargetId) -> Option<Publication> {
    load(state, &Key::publication(id))
}

/// Verdicts on a target; none once it is settled.
pub fn verdicts(state: &dyn Read, id: TargetId) -> Verdicts {
    load(state, &Key::verdicts(id)).unwrap_or_default()
}

//! Computed answers about a state, for APIs and commands. The rules never use them.

use serde::{Deserialize, Serialize};

use crate::epoch::seat_stake::Needed;
use crate::epoch::{seats, targets};
use crate::governance::vote;
use crate::money::rent;
use crate::record::{Clock, Network, Params, Proposal, Supply, Target, ValidatorStatus};
use crate::state::StateRead;
use crate::{Amount, ConsensusKey, Hash, ModelId, TargetId, epoch, read};

/// Summary of a chain.
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
    /// Reserve and burned money.
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
        text.map(|text| text.parse().map_err(D::Error::custom)).transpose()
    }
}

/// Summary of the chain.
pub fn chain(state: &dyn StateRead) -> Chain {
    Chain {
        network: read::network(state),
        deadline_ms: deadline_ms(state),
        params: read::params(state),
        clock: read::clock(state),
        supply: read::supply(state),
        models: read::model_count(state),
    }
}

/// What committing a file of `size_bytes` for the next epoch would cost: the rent that is due, and
/// what the owner would pay now: the rest of it, and for new room. `None` if there is none.
pub fn commit_cost(
    state: &dyn StateRead,
    id: ModelId,
    architecture: u32,
    size_bytes: u64,
) -> Option<(Amount, Amount)> {
    let (next, params) = (read::clock(state).epoch.next(), read::params(state));
    let due = rent::due(size_bytes, next, read::rent_price(state), &params);
    let premium = rent::premium_of(state, &params, id, architecture, size_bytes).ok()?;
    Some((due, due.less(rent::carried_over(state, id, architecture)).plus(premium)))
}

/// The seated stake that approves a proposal now, and all seated stake.
pub fn approval(state: &dyn StateRead, proposal: &Proposal) -> (Amount, Amount) {
    vote::stakes(state, proposal)
}

/// The stake that a seat needs at present: what the next election would demand of a validator with
/// and without one.
pub fn seat_needs(state: &dyn StateRead) -> Needed {
    seats::needed(&read::validators(state), &read::params(state))
}

/// The direction of a target of the epoch with this beacon, which its architecture's `dim` is for:
/// whoever knows these needs to ask nobody for it.
pub fn target_direction(beacon: &Hash, target: TargetId, dim: u32) -> Vec<i16> {
    targets::direction(beacon, target, dim)
}

/// A target's direction.
pub fn direction(state: &dyn StateRead, target: &Target) -> Option<Vec<i16>> {
    let record = read::epoch(state, target.epoch)?;
    let dim = read::architecture(state, record.architecture)?.dim;
    Some(targets::direction(&record.beacon, target.id, dim))
}

/// Block time from which the next block has something to do even without transactions: the running
/// phase may end, or a task waits, and then the time is already past. `None` if only the operator
/// ends phases.
///
/// # Panics
/// If `state` is not a state produced by genesis or blocks.
pub fn deadline_ms(state: &dyn StateRead) -> Option<u64> {
    let clock = read::clock(state);
    if !read::tasks(state).0.is_empty() {
        return Some(clock.block_ms);
    }
    epoch::deadline_ms(&clock, &read::params(state))
}

/// Whether evidence against a consensus key can be reported: its validator is not expelled yet.
pub fn is_reportable(state: &dyn StateRead, key: &ConsensusKey) -> bool {
    read::key_holder(state, key)
        .and_then(|holder| read::validator(state, &holder))
        .is_some_and(|validator| validator.status != ValidatorStatus::Expelled)
}

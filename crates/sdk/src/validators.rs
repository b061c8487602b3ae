//! Validators, stakes and votes in the JSON of the HTTP API: the types, and how they are read from a
//! state. As in [`types`](crate::types), fields are added and never changed.

use serde::{Deserialize, Serialize};
use soma_protocol::proposal::{self, Change, ProposalStatus as Fate};
use soma_protocol::validator::{self, ValidatorStatus as Standing};
use soma_protocol::{Address, ModelId, PoolId, ProposalId, Read, view};

use crate::text::{AddressText, HashText, Text, U64};

/// Whether a validator wants a seat and may have one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ValidatorStatus {
    /// It has a seat, or gets one when one is free.
    Ready,
    /// It was absent; it may return later.
    Jailed,
    /// It is giving up its seat.
    Leaving,
    /// It has left.
    Left,
    /// It has signed two histories.
    Expelled,
}

/// A validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Validator {
    /// Its account.
    pub address: AddressText,
    /// Its key in consensus.
    pub consensus_key: HashText,
    /// The key that takes its place.
    pub next_key: Option<HashText>,
    /// Its place in the committee, from 0; none without a seat.
    pub seat: Option<u32>,
    /// Whether it wants a seat and may have one.
    pub status: ValidatorStatus,
    /// While it is jailed: the epoch from which it may return.
    pub jailed_until: Option<u32>,
    /// What stands behind it, in base units.
    pub stake: U64,
    /// What is being withdrawn and can still be slashed, in base units.
    pub leaving: U64,
    /// The operator's share of what it earns.
    pub commission_bps: u16,
    /// A commission that was announced, and the epoch that begins with it.
    pub next_commission: Option<NextCommission>,
    /// Epochs in a row in which it has not opened its randomness.
    pub missed: u32,
    /// Its vote on the price of keeping one MiB for one epoch, in base units.
    pub rent_price: Option<U64>,
}

/// A commission that will change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NextCommission {
    /// The new one.
    pub bps: u16,
    /// The epoch that begins with it.
    pub epoch: u32,
}

/// What an account has behind one model or validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stake {
    /// `model:NUMBER` or `validator:ADDRESS`.
    pub pool: String,
    /// What stands, in base units.
    pub stake: U64,
    /// What is being withdrawn, in base units, as slashes have left it so far.
    pub leaving: U64,
    /// All that stands behind it, in base units.
    pub pool_stake: U64,
    /// The share of the owner or operator in what it earns.
    pub commission_bps: u16,
}

/// Where a proposal stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProposalStatus {
    /// Validators vote.
    Open,
    /// It took effect.
    Passed,
    /// It did not.
    Lapsed,
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proposal {
    /// Its number, from 1.
    pub id: u32,
    /// Who made it.
    pub proposer: AddressText,
    /// What it would change: `change` is `parameter` or `architecture`, its particulars beside it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub change: Change,
    /// Where it stands.
    pub status: ProposalStatus,
    /// The epoch whose beginning decided it; none while it is open.
    pub decided_epoch: Option<u32>,
    /// The epoch whose beginning ends the vote.
    pub ends_epoch: u32,
    /// Seated stake that approves now, in base units.
    pub approved: U64,
    /// All seated stake; more than two thirds of it must approve.
    pub total: U64,
    /// What its maker gets back if it passes, in base units.
    pub deposit: U64,
}

/// A migration to another architecture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Migration {
    /// Number of the architecture.
    pub number: u32,
    /// The architecture.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub architecture: soma_protocol::ArchitectureSpec,
    /// The epoch whose beginning switches, if enough models are ready.
    pub ends_epoch: u32,
    /// Models that have revealed weights for it.
    pub ready: Vec<u32>,
    /// Models that must be ready.
    pub needed: u32,
}

/// What validators decide together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Governance {
    /// Number of the architecture in force.
    pub architecture: u32,
    /// The migration under way, if there is one.
    pub migration: Option<Migration>,
    /// Price of keeping one MiB for one epoch, in base units.
    pub rent_price: U64,
    /// All proposals, in their order.
    pub proposals: Vec<Proposal>,
}

/// What keeps a model's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rent {
    /// Paid ahead, in base units.
    pub prepaid: U64,
    /// Epochs that it is for.
    pub epochs_left: u32,
    /// What a commit of a file of this size would pay now, in base units, after what is left is credited.
    pub refresh_cost: U64,
    /// Validators that hold the file.
    pub holders: Vec<AddressText>,
}

impl Validator {
    /// All registered validators, in their order.
    pub fn read_all(state: &dyn Read) -> Vec<Self> {
        let seats = soma_protocol::committee(state).seats;
        let all = view::registered(state);
        all.iter().map(|one| Self::new(one, &seats)).collect()
    }

    fn new(one: &validator::Validator, seats: &[soma_protocol::Seat]) -> Self {
        let seat = seats.iter().position(|seat| seat.validator == one.address);
        let (status, jailed_until) = match one.status {
            Standing::Ready => (ValidatorStatus::Ready, None),
            Standing::Jailed { until } => (ValidatorStatus::Jailed, Some(until.0)),
            Standing::Leaving => (ValidatorStatus::Leaving, None),
            Standing::Left => (ValidatorStatus::Left, None),
            Standing::Expelled => (ValidatorStatus::Expelled, None),
        };
        let key = |key: soma_protocol::ConsensusKey| Text(soma_protocol::Hash(key.0));
        Self {
            address: Text(one.address),
            consensus_key: key(one.consensus_key),
            next_key: one.next_key.map(key),
            seat: seat.and_then(|seat| u32::try_from(seat).ok()),
            status,
            jailed_until,
            stake: one.pool.stake.into(),
            leaving: one.pool.leaving.into(),
            commission_bps: one.commission_bps,
            next_commission: one.next_commission.map(NextCommission::from),
            missed: one.missed,
            rent_price: one.rent_price.map(Into::into),
        }
    }
}

impl From<soma_protocol::pool::NextCommission> for NextCommission {
    fn from(next: soma_protocol::pool::NextCommission) -> Self {
        Self {
            bps: next.bps,
            epoch: next.epoch.0,
        }
    }
}

impl Stake {
    /// All that an account has behind models and validators.
    pub fn read_all(state: &dyn Read, staker: &Address) -> Vec<Self> {
        let models = view::models(state, 1..=u32::MAX)
            .map(|model| (PoolId::Model(model.id), model.pool, model.commission_bps));
        let validators = view::registered(state)
            .into_iter()
            .map(|one| (PoolId::Validator(one.address), one.pool, one.commission_bps));
        models
            .chain(validators)
            .filter_map(|(id, pool, commission_bps)| {
                let share = view::share(state, id, staker);
                let anything = share.shares > 0 || share.leaving_shares > 0;
                anything.then(|| Self {
                    pool: id.to_string(),
                    stake: pool.value(share.shares).into(),
                    leaving: pool.leaving_value(share.leaving_shares).into(),
                    pool_stake: pool.stake.into(),
                    commission_bps,
                })
            })
            .collect()
    }
}

impl Proposal {
    fn new(state: &dyn Read, one: proposal::Proposal) -> Self {
        let (approved, total) = view::approval(state, &one);
        let (status, decided) = match one.status {
            Fate::Open => (ProposalStatus::Open, None),
            Fate::Passed { epoch } => (ProposalStatus::Passed, Some(epoch.0)),
            Fate::Lapsed { epoch } => (ProposalStatus::Lapsed, Some(epoch.0)),
        };
        Self {
            id: one.id.0,
            proposer: Text(one.proposer),
            change: one.change,
            status,
            decided_epoch: decided,
            ends_epoch: one.ends.0,
            approved: approved.into(),
            total: total.into(),
            deposit: one.deposit.into(),
        }
    }
}

impl Governance {
    /// What validators decide together, as it stands.
    pub fn read(state: &dyn Read) -> Self {
        let chain = view::chain(state);
        let migration = view::migration(state).map(|one| {
            let ready = view::models(state, 1..=u32::MAX)
                .filter(|model| model.is_ready_for(one.number))
                .map(|model| model.id.0);
            Migration {
                ready: ready.collect(),
                needed: chain.params.models_per_target,
                number: one.number,
                ends_epoch: one.ends.0,
                architecture: one.architecture,
            }
        });
        let proposals = (1..=view::proposal_count(state)).map(ProposalId);
        Self {
            architecture: chain.network.architecture_number,
            migration,
            rent_price: view::rent_price(state).into(),
            proposals: proposals
                .filter_map(|id| view::proposal(state, id))
                .map(|one| Proposal::new(state, one))
                .collect(),
        }
    }
}

impl Rent {
    /// What keeps a model's file of the architecture in force; none without a file.
    pub fn read(state: &dyn Read, id: ModelId, size_bytes: u64) -> Option<Self> {
        let rent = view::rent(state, id)?;
        let number = view::chain(state).network.architecture_number;
        let (_, cost) = view::commit_cost(state, id, number, size_bytes);
        Some(Self {
            prepaid: rent.prepaid.into(),
            epochs_left: rent.epochs_left,
            refresh_cost: cost.into(),
            holders: rent.holders.into_iter().map(Text).collect(),
        })
    }
}

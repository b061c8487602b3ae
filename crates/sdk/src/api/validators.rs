//! Validators, stakes and votes in the JSON of the HTTP API. As in [`types`](crate::types), fields
//! are added and never changed.

use serde::{Deserialize, Serialize};
use soma_protocol::record::Change;

use crate::api::text::{AddressText, HashText, U64};

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
    pub architecture: soma_protocol::Architecture,
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

//! Validators, stakes and votes in the JSON of the HTTP API. As everywhere in it, fields are added
//! and never changed.

use serde::{Deserialize, Serialize};
use soma_protocol::record::Change;

use crate::NextRules;
use crate::text::{AddressText, HashText, U64};

/// The state of a validator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ValidatorStatus {
    /// Seated, or a candidate for a seat.
    Ready,
    /// Absent for too long; it may return later.
    Jailed,
    /// Giving up its seat when the epoch ends.
    Leaving,
    /// Without a seat, by its own choice or for lack of stake.
    Left,
    /// Signed conflicting votes; never seated again.
    Expelled,
}

/// A validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Validator {
    /// Its account.
    pub address: AddressText,
    /// Its consensus key.
    pub consensus_key: HashText,
    /// The key that replaces it.
    pub next_key: Option<HashText>,
    /// The key that may send its duties, besides its account's.
    pub duty_key: Option<AddressText>,
    /// Where other nodes connect to its node, as it says; null if it connects to them.
    pub p2p: Option<String>,
    /// The URL of its node's API, as it says.
    pub url: Option<String>,
    /// Its seat in the committee, from 0; null without a seat.
    pub seat: Option<u32>,
    /// The stake that its seat counts in this epoch, in base units; null without a seat.
    pub seat_stake: Option<U64>,
    /// Its state.
    pub status: ValidatorStatus,
    /// While it is jailed: the epoch from which it may return.
    pub jailed_until: Option<u32>,
    /// Its stake, in base units.
    pub stake: U64,
    /// Stake that is being withdrawn and can still be slashed, in base units.
    pub leaving: U64,
    /// Added stake that is not active yet but can be slashed, in base units.
    pub joining: U64,
    /// The operator's share of its earnings.
    pub commission_bps: u16,
    /// A commission that was announced, and the first epoch in which it applies.
    pub next_commission: Option<NextCommission>,
    /// Epochs in a row in which it did not reveal its beacon.
    pub missed: u32,
    /// Its vote on the rent price of one MiB for one epoch, in base units.
    pub rent_price: Option<U64>,
}

/// An announced commission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NextCommission {
    /// The new commission.
    pub bps: u16,
    /// The first epoch in which it applies.
    pub epoch: u32,
}

/// An account's stake in one model or validator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Stake {
    /// `model:NUMBER` or `validator:ADDRESS`.
    pub pool: String,
    /// The stake, in base units.
    pub stake: U64,
    /// Stake that is being withdrawn, in base units, after slashes so far.
    pub leaving: U64,
    /// Added stake that is not active yet, in base units, after slashes so far.
    pub joining: U64,
    /// When joining stake becomes active and leaving stake is paid out, at most 64 epochs ahead.
    #[serde(default)]
    pub changes: Vec<StakeChange>,
    /// The whole stake of the pool, in base units.
    pub pool_stake: U64,
    /// The owner's or operator's share of its earnings.
    pub commission_bps: u16,
}

/// What changes of an account's stake in one model or validator as an epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StakeChange {
    /// The epoch.
    pub epoch: u32,
    /// Stake that becomes active, in base units, after slashes so far.
    pub joining: U64,
    /// Stake that is paid out, in base units, after slashes so far.
    pub leaving: U64,
}

/// The state of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ProposalStatus {
    /// Validators vote on it.
    Open,
    /// It took effect.
    Passed,
    /// It did not pass.
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
    /// What it would change: `change` is `parameter`, `architecture` or `rules`, with its fields
    /// beside it.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub change: Change,
    /// Its state.
    pub status: ProposalStatus,
    /// The epoch whose beginning decided it; null while it is open.
    pub decided_epoch: Option<u32>,
    /// The epoch whose beginning ends the vote.
    pub ends_epoch: u32,
    /// Seated stake that approves it now, in base units.
    pub approved: U64,
    /// All seated stake, in base units; more than two thirds must approve.
    pub total: U64,
    /// Deposit, in base units; returned to the proposer if it passes.
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

/// What validators decide by vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Governance {
    /// Number of the architecture in force.
    pub architecture: u32,
    /// The running migration, if there is one.
    pub migration: Option<Migration>,
    /// The version of the rules in force.
    pub rules: u16,
    /// The version that is scheduled, if there is one.
    pub next_rules: Option<NextRules>,
    /// Rent price of one MiB for one epoch, in base units.
    pub rent_price: U64,
    /// Bytes of the files of all models: of each the longest, in use or committed.
    pub files_bytes: U64,
    /// The stake with which a validator would get a seat if an epoch began now, in base units.
    pub seat_to_take: U64,
    /// The stake with which a seated validator would keep its seat, in base units.
    pub seat_to_keep: U64,
    /// The last proposals, by id, or those before `after`.
    pub proposals: Vec<Proposal>,
    /// The `after` of the page of those before them; null if there are none.
    pub next: Option<String>,
}

/// The rent of a model's file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rent {
    /// Paid ahead, in base units.
    pub prepaid: U64,
    /// Epochs that it covers.
    pub epochs_left: u32,
    /// Cost of a commit of a file of this size now, in base units, after crediting what is left.
    pub refresh_cost: U64,
    /// Validators that hold the file.
    pub holders: Vec<AddressText>,
}

//! The chain as a whole: its network, its clock, its money and its accounts.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Address, Amount, Architecture, Epoch, Hash, Phase, TargetId, decimal};

/// Name, id and architecture of the network.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Network {
    /// Name of the network.
    pub chain: String,
    /// Hash of its genesis.
    pub chain_id: Hash,
    /// The architecture of its models.
    pub architecture: Architecture,
    /// How many architectures the network has had, this one included.
    pub architecture_number: u32,
    /// Who may end phases by command.
    pub operator: Option<Address>,
}

/// The version of the rules that blocks follow.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct RulesInForce {
    /// The version that the next block follows.
    pub version: u16,
    /// The version that follows it, if one is scheduled.
    pub next: Option<NextRules>,
}

/// A version of the rules that is scheduled.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct NextRules {
    /// The version.
    pub version: u16,
    /// The epoch from which on blocks follow it. The block with which that epoch begins is the
    /// last of the version before.
    pub from: Epoch,
}

/// Epoch and phase.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Clock {
    /// The running epoch.
    pub epoch: Epoch,
    /// Its phase.
    pub phase: Phase,
    /// Block time at which the phase began, ms since 1970.
    #[serde(with = "decimal")]
    pub phase_started_ms: u64,
    /// Time of the last block, ms since 1970; not updated where phases end by command.
    #[serde(with = "decimal")]
    pub block_ms: u64,
    /// Id of the next target to be drawn.
    pub next_target: TargetId,
}

/// Money that nobody holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Supply {
    /// Money not yet minted, or returned.
    pub reserve: Amount,
    /// Money burned permanently.
    pub burned: Amount,
}

/// An account.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Account {
    /// Money that can be spent now.
    pub balance: Amount,
    /// Nonce of the account's next transaction.
    #[serde(with = "decimal")]
    pub nonce: u64,
}

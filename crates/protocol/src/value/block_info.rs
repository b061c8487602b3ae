//! The part of a block that consensus decides besides its transactions.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::{Address, decimal};

/// Height, time and proposer of a block.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct BlockInfo {
    /// Its height; genesis is 0.
    #[serde(with = "decimal")]
    pub height: u64,
    /// Its time, ms since 1970; never before its parent's.
    #[serde(with = "decimal")]
    pub timestamp_ms: u64,
    /// The validator that proposed it.
    pub proposer: Address,
}

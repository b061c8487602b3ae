//! Epochs: their randomness and what they fix when their targets are drawn.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Address, Amount, Epoch, Hash, TargetId, decimal};

/// A validator's contribution to an epoch's beacon.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct BeaconCommit {
    /// The commitment to the value; see [`crate::commitment::beacon`].
    pub commitment: Hash,
    /// The value, once revealed.
    pub value: Option<Hash>,
}

/// What an epoch fixed when its targets were drawn.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch.
    pub epoch: Epoch,
    /// Number of the architecture of its models.
    pub architecture: u32,
    /// Its randomness, the seed of its targets and of the scores' directions.
    pub beacon: Hash,
    /// Id of its first target.
    pub first_target: TargetId,
    /// Number of its targets.
    pub targets: u32,
    /// Reward of each target.
    pub target_reward: Amount,
    /// The total that its validators can earn; zero once paid.
    pub validator_pot: Amount,
    /// Validators that revealed their part of the beacon.
    pub revealed: Vec<Address>,
    /// Number of living models as the beacon was drawn; storage challenges choose among them.
    pub living: u32,
    /// The margin by which its claims are made and judged, in 2^-32 nat.
    #[serde(with = "decimal")]
    pub loss_margin_q32: u64,
    /// The least gain of a claim for its targets, in 2^-32 nat; 0 if there is none.
    #[serde(with = "decimal")]
    pub gain_min_q32: u64,
}

impl EpochRecord {
    /// Ids of its targets.
    pub fn target_ids(&self) -> impl Iterator<Item = TargetId> + use<> {
        let first = self.first_target.0;
        (first..first.saturating_add(self.targets)).map(TargetId)
    }
}

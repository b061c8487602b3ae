//! Models: their owner, stake, status and weights.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::record::{NextCommission, Pool};
use crate::{Address, Amount, Epoch, Hash, ModelId};

/// Status of a model. (A pending commit is a record of its own.)
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ModelStatus {
    /// It has no weights yet.
    Registered,
    /// It may be routed.
    Active,
    /// Its weights were not refreshed in time; a reveal brings it back.
    Inactive,
    /// Its owner has retired it; its stake is released at the beginning of `release`.
    Retiring {
        /// The epoch at whose beginning the stake is returned.
        release: Epoch,
    },
    /// Permanently retired; its stake has been returned.
    Retired,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Model {
    /// Its id.
    pub id: ModelId,
    /// The account that registered it.
    pub owner: Address,
    /// Its name; names need not be unique.
    pub name: String,
    /// The owner's share of its stake's earnings, in ten-thousandths.
    pub commission_bps: u16,
    /// The commission that applies from a later epoch on.
    pub next_commission: Option<NextCommission>,
    /// Its stake.
    pub pool: Pool,
    /// Its status.
    pub status: ModelStatus,
    /// Hash of its current weights.
    pub weights: Option<Hash>,
    /// Weights that it has revealed for the upcoming architecture.
    pub next: Option<NextWeights>,
    /// Epoch in which the current weights were last revealed.
    pub revealed: Epoch,
    /// Epoch since which it has been active without interruption.
    pub activated: Epoch,
    /// Epoch of the last targets for which its file was found to be broken; 0 for none.
    pub broken: Epoch,
    /// Number of targets that it has won.
    pub wins: u32,
    /// Everything that it has earned, commission included.
    pub earned: Amount,
    /// Number of the architecture of its current weights.
    pub architecture: u32,
    /// Its place in the list of living models, until it is retired.
    pub place: u32,
}

/// Weights for the architecture to which the network is migrating.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct NextWeights {
    /// Number of the architecture.
    pub architecture: u32,
    /// BLAKE3 of the weights file.
    pub weights: Hash,
    /// Epoch in which they were last revealed.
    pub revealed: Epoch,
}

impl Model {
    /// A model as registered, without weights.
    pub(crate) const fn new(
        id: ModelId,
        owner: Address,
        name: String,
        commission_bps: u16,
        pool: Pool,
        architecture: u32,
    ) -> Self {
        Self {
            id,
            owner,
            name,
            commission_bps,
            next_commission: None,
            pool,
            status: ModelStatus::Registered,
            weights: None,
            next: None,
            revealed: Epoch(0),
            activated: Epoch(0),
            broken: Epoch(0),
            wins: 0,
            earned: Amount::ZERO,
            architecture,
            place: 0,
        }
    }

    /// The first epoch in which it is inactive unless it reveals again.
    pub fn refresh_due(&self, refresh_epochs: u32) -> Epoch {
        self.revealed.after(refresh_epochs)
    }

    /// Whether it has revealed weights for an upcoming architecture.
    pub fn is_ready_for(&self, architecture: u32) -> bool {
        self.next.is_some_and(|next| next.architecture == architecture)
    }
}

/// How many models have been registered; their ids are 1 to this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ModelCount(pub u32);

/// Number of living models: those that are not retired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LivingCount(pub u32);

/// The living model at a place of their list, which has no gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LivingModel(pub ModelId);

/// A model's specialization: components of the mean of its embeddings, which is at most 32767 long.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Specialization(pub Vec<i16>);

//! Targets, the submissions for them, and pieces of the data that won.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::record::WeightsAge;
use crate::{Address, Amount, Epoch, Hash, ModelId, TargetId, decimal, hex};

/// A target. Its direction follows from its epoch's beacon: [`crate::query::direction`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// Its epoch.
    pub epoch: Epoch,
    /// The reward for winning it: half to the submitter, half to the model.
    pub reward: Amount,
    /// The models that compete for it, nearest first.
    pub routed: Vec<Routed>,
    /// Its status.
    pub status: TargetStatus,
}

/// A model that competes for a target, and the weights it competes with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Routed {
    /// The model.
    pub model: ModelId,
    /// BLAKE3 of its weights file.
    pub weights_hash: Hash,
    /// How old the weights are.
    pub age: WeightsAge,
}

/// How many targets of an epoch a model was routed to. Deleted when they are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Routes {
    /// All of them.
    pub targets: u32,
    /// Those that are not settled.
    pub left: u32,
}

/// Status of a target.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum TargetStatus {
    /// Open for submissions, then for publication.
    Open,
    /// A candidate has published its data; validators audit it.
    Published {
        /// Rank of the candidate, from 0.
        rank: u32,
    },
    /// Won and paid.
    Settled {
        /// The model that predicted the data best.
        model: ModelId,
        /// The submitter.
        submitter: Address,
        /// Squared distance from the data's direction to the target's.
        #[serde(with = "decimal")]
        distance: u64,
        /// BLAKE3 of the data.
        data_hash: Hash,
        /// Paid to the submitter, without the bond.
        paid_submitter: Amount,
        /// Paid to the model, commission included.
        paid_model: Amount,
    },
    /// Not won: the reward went back to the reserve.
    Returned {
        /// The reason.
        reason: ReturnReason,
    },
}

/// Why a target's reward went back to the reserve.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ReturnReason {
    /// Nobody published data for it.
    Unclaimed,
    /// Validators found the claim wrong; its bond is burned.
    Invalid,
    /// Validators did not decide. What the bond lost depends on the verdicts that there are.
    NoQuorum,
}

/// A submission among the closest to its target.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Candidate {
    /// The submitter.
    pub submitter: Address,
    /// The model that predicts the data best.
    pub model: ModelId,
    /// Its loss, in 2^-32 nat.
    #[serde(with = "decimal")]
    pub loss_q32: i64,
    /// How much better it predicts the data than counting does, in 2^-32 nat.
    #[serde(with = "decimal")]
    pub gain_q32: i64,
    /// Squared distance from the data's direction to the target's.
    #[serde(with = "decimal")]
    pub distance: u64,
    /// Length of the data.
    pub size_bytes: u32,
    /// The commitment to the data; see [`crate::commitment::data`].
    pub commitment: Hash,
    /// Root of the submitter's corpus that counted; the data is one of its documents.
    pub corpus_root: Hash,
    /// Number of documents of that corpus.
    pub corpus_leaves: u32,
    /// Bond; zero once returned or burned.
    pub bond: Amount,
}

/// The submissions closest to a target, closest first.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Candidates(pub Vec<Candidate>);

impl Candidates {
    /// The candidate with this rank, from 0.
    pub(crate) fn of_rank(&self, rank: u32) -> Option<&Candidate> {
        self.0.get(usize::try_from(rank).ok()?)
    }
}

/// Data published for a target. Deleted when the target is settled.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Publication {
    /// Rank of the candidate that published, from 0.
    pub rank: u32,
    /// BLAKE3 of the data.
    pub data_hash: Hash,
    /// The data.
    #[serde(with = "hex")]
    pub data: Vec<u8>,
    /// The data's [sketch](crate::sketch).
    pub pieces: Vec<u64>,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication")
            .field("rank", &self.rank)
            .field("data_hash", &self.data_hash)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .finish_non_exhaustive()
    }
}

/// Bytes of a [`Piece`] in the state, its tag included.
pub(crate) const PIECE_RECORD_BYTES: usize = 1 + size_of::<Piece>();

/// A piece of data that won: where it won first. Whatever has half of its pieces from one winner of
/// an earlier epoch, or three quarters from several, does not win again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Piece {
    /// The first target that was won with it.
    pub winner: TargetId,
    /// That target's epoch.
    pub epoch: Epoch,
}

//! What a transaction can do. One variant, one file in `actions/`.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
use crate::id::ProposalId;
use crate::phase::Phase;
use crate::proposal::Change;
use crate::{Address, Amount, ConsensusKey, Epoch, Hash, ModelId, PoolId, TargetId, decimal, hex};

/// Longest list of held files in one transaction.
pub const HELD_MAX: usize = 1_024;

/// Whether a claim is true.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Loss, winner and distance are as claimed.
    Valid,
    /// At least one of them is not.
    Invalid,
}

/// What an auditor found.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Finding {
    /// Whether the claim is true.
    pub verdict: Verdict,
    /// [`crate::commitment::trace`] of the routed models' scores: proof that they were run.
    pub trace: Hash,
    /// Routed models whose published file is not what was revealed or not a model, in routed order.
    pub broken: Vec<ModelId>,
}

/// A file that a validator holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Held {
    /// The model.
    pub model: ModelId,
    /// BLAKE3 of the encrypted file that its commit names.
    pub ciphertext_hash: Hash,
}

/// What a transaction does. `epoch` is always the epoch that the action is *for*.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Sends money.
    Transfer {
        /// Recipient.
        to: Address,
        /// How much.
        amount: Amount,
    },
    /// Registers a model.
    RegisterModel {
        /// 1 to 64 bytes of printable ASCII without a space at either end.
        name: String,
        /// The owner's share of what the stake earns.
        commission_bps: u16,
        /// Locked until the model is retired.
        stake: Amount,
    },
    /// Registers a validator.
    RegisterValidator {
        /// Its key in consensus, which no other validator has ever had.
        consensus_key: ConsensusKey,
        /// [`crate::SecretKey::prove_possession`] with that key.
        #[serde(with = "hex::array")]
        proof: [u8; 64],
        /// The operator's share of what the stake earns.
        commission_bps: u16,
        /// Its stake.
        stake: Amount,
    },
    /// A validator changes its key in consensus.
    RotateKey {
        /// The new key.
        consensus_key: ConsensusKey,
        /// [`crate::SecretKey::prove_possession`] with the new key.
        #[serde(with = "hex::array")]
        proof: [u8; 64],
    },
    /// A validator gives up its seat.
    LeaveValidator {},
    /// A validator that was jailed, or is leaving, wants a seat again. Free.
    ReturnValidator {},
    /// Proves that a validator signed two histories. Anyone may.
    ReportEquivocation {
        /// The two votes.
        evidence: Evidence,
    },
    /// Puts money behind a model or validator.
    AddStake {
        /// Behind which.
        pool: PoolId,
        /// How much.
        amount: Amount,
    },
    /// Takes money from behind a model or validator; it is paid out `unbonding_epochs` later.
    WithdrawStake {
        /// From behind which.
        pool: PoolId,
        /// How much; everything, if it is more than that.
        amount: Amount,
    },
    /// Changes a commission; it takes effect `unbonding_epochs` later.
    SetCommission {
        /// The sender's model, or the sender itself as a validator.
        pool: PoolId,
        /// The new share of the owner or operator.
        commission_bps: u16,
    },
    /// Commits a model to weights that will be revealed in the next epoch.
    CommitWeights {
        /// The model; the sender owns it.
        model: ModelId,
        /// Number of the architecture that they are for: in force, or to come.
        architecture: u32,
        /// The epoch of the reveal: the next one.
        epoch: Epoch,
        /// [`crate::commitment::weights`].
        commitment: Hash,
        /// BLAKE3 of the encrypted file.
        ciphertext_hash: Hash,
        /// Its length in bytes.
        #[serde(with = "decimal")]
        size_bytes: u64,
    },
    /// A validator says which committed files it holds. Free.
    HoldWeights {
        /// The epoch of the reveals: the next one.
        epoch: Epoch,
        /// The files; at most [`HELD_MAX`].
        held: Vec<Held>,
    },
    /// A validator shows the chunk that the epoch asks of it. Free.
    AnswerChallenge {
        /// The running epoch.
        epoch: Epoch,
        /// The chunk.
        #[serde(with = "hex")]
        chunk: Vec<u8>,
        /// The other half of the file's tree at every level, from the top down.
        path: Vec<Hash>,
    },
    /// A validator proposes a change.
    Propose {
        /// What would change.
        #[serde(flatten)]
        change: Change,
    },
    /// A validator votes on a proposal.
    Vote {
        /// The proposal.
        proposal: ProposalId,
        /// Whether it approves.
        approve: bool,
    },
    /// A validator's standing vote on the price of keeping one MiB for one epoch.
    VoteRentPrice {
        /// The price.
        price: Amount,
    },
    /// Reveals what a model was committed to. Anyone may carry it.
    RevealWeights {
        /// The model.
        model: ModelId,
        /// Key of the encrypted file.
        #[serde(with = "hex::array")]
        key: [u8; 32],
        /// BLAKE3 of the weights file.
        weights_hash: Hash,
        /// Specialization: exactly `dim` components, length 32767 within rounding.
        embedding: Vec<i16>,
    },
    /// Retires a model; its stake returns after `unbonding_epochs`.
    RetireModel {
        /// The model; the sender owns it.
        model: ModelId,
    },
    /// A validator commits to its randomness for the next epoch. Free.
    CommitBeacon {
        /// The next epoch.
        epoch: Epoch,
        /// [`crate::commitment::beacon`].
        commitment: Hash,
    },
    /// A validator opens its randomness. Free.
    OpenBeacon {
        /// The running epoch.
        epoch: Epoch,
        /// The value that was committed to.
        value: Hash,
    },
    /// Claims a target without showing the data.
    Submit {
        /// The target.
        target: TargetId,
        /// The routed model with the lowest loss.
        model: ModelId,
        /// Its loss, in 2^-32 nat.
        #[serde(with = "decimal")]
        loss_q32: i64,
        /// Squared distance of its embedding of the data to the target.
        #[serde(with = "decimal")]
        distance: u64,
        /// Length of the data.
        size_bytes: u32,
        /// [`crate::commitment::data`].
        commitment: Hash,
    },
    /// Shows the data of a candidate.
    PublishData {
        /// The target.
        target: TargetId,
        /// The data.
        #[serde(with = "hex")]
        data: Vec<u8>,
        /// Salt of the commitment.
        #[serde(with = "hex::array")]
        salt: [u8; 32],
    },
    /// A validator commits to its finding on a published claim. Free.
    CommitVerdict {
        /// The target.
        target: TargetId,
        /// [`crate::commitment::verdict`].
        commitment: Hash,
    },
    /// A validator shows the finding that it committed to. Free.
    OpenVerdict {
        /// The target.
        target: TargetId,
        /// The finding.
        finding: Finding,
    },
    /// The operator of a local network ends a phase. Free; harmless if the phase has ended.
    EndPhase {
        /// The running epoch.
        epoch: Epoch,
        /// Its phase.
        phase: Phase,
    },
}

impl Action {
    /// Name of the action, as in JSON.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Transfer { .. } => "transfer",
            Self::RegisterModel { .. } => "register_model",
            Self::RegisterValidator { .. } => "register_validator",
            Self::RotateKey { .. } => "rotate_key",
            Self::LeaveValidator {} => "leave_validator",
            Self::ReturnValidator {} => "return_validator",
            Self::ReportEquivocation { .. } => "report_equivocation",
            Self::AddStake { .. } => "add_stake",
            Self::WithdrawStake { .. } => "withdraw_stake",
            Self::SetCommission { .. } => "set_commission",
            Self::CommitWeights { .. } => "commit_weights",
            Self::HoldWeights { .. } => "hold_weights",
            Self::AnswerChallenge { .. } => "answer_challenge",
            Self::Propose { .. } => "propose",
            Self::Vote { .. } => "vote",
            Self::VoteRentPrice { .. } => "vote_rent_price",
            Self::RevealWeights { .. } => "reveal_weights",
            Self::RetireModel { .. } => "retire_model",
            Self::CommitBeacon { .. } => "commit_beacon",
            Self::OpenBeacon { .. } => "open_beacon",
            Self::Submit { .. } => "submit",
            Self::PublishData { .. } => "publish_data",
            Self::CommitVerdict { .. } => "commit_verdict",
            Self::OpenVerdict { .. } => "open_verdict",
            Self::EndPhase { .. } => "end_phase",
        }
    }

    /// Whether it costs no fee: the duties of validators, and the operator's command.
    pub const fn is_free(&self) -> bool {
        matches!(
            self,
            Self::HoldWeights { .. }
                | Self::ReturnValidator {}
                | Self::ReportEquivocation { .. }
                | Self::AnswerChallenge { .. }
                | Self::CommitBeacon { .. }
                | Self::OpenBeacon { .. }
                | Self::CommitVerdict { .. }
                | Self::OpenVerdict { .. }
                | Self::EndPhase { .. }
        )
    }
}

impl fmt::Debug for Action {
    /// The name alone: some actions hold kilobytes, some hold keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

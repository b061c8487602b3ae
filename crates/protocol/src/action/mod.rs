//! What a transaction can do. One variant, one file.

mod add_stake;
mod answer_challenge;
mod commit_beacon;
mod commit_verdict;
mod commit_weights;
mod context;
mod end_phase;
mod hold_weights;
mod leave_validator;
mod propose;
mod publish_data;
pub(crate) mod register_model;
mod register_validator;
mod report_equivocation;
mod retire_model;
mod return_validator;
mod reveal_beacon;
mod reveal_verdict;
pub(crate) mod reveal_weights;
mod rotate_key;
mod set_commission;
mod submit;
mod transfer;
mod vote;
mod vote_rent_price;
mod withdraw_stake;

pub(crate) use context::Context;
use context::check_epoch;

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::proof::evidence::Evidence;
use crate::record::{Change, Verdict};
use crate::{
    Address, Amount, ConsensusKey, Epoch, Hash, ModelId, Phase, PoolId, ProposalId, Rejection,
    TargetId, decimal, hex,
};

/// Longest list of held files in one transaction.
pub const HELD_FILES_MAX: usize = 1_024;

/// A file that a validator holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct HeldFile {
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
        /// The files; at most [`HELD_FILES_MAX`].
        held: Vec<HeldFile>,
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
    RevealBeacon {
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
    /// A validator commits to its verdict on a published claim. Free.
    CommitVerdict {
        /// The target.
        target: TargetId,
        /// [`crate::commitment::verdict`].
        commitment: Hash,
    },
    /// A validator shows the verdict that it committed to. Free.
    RevealVerdict {
        /// The target.
        target: TargetId,
        /// The verdict.
        verdict: Verdict,
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
            Self::RevealBeacon { .. } => "reveal_beacon",
            Self::Submit { .. } => "submit",
            Self::PublishData { .. } => "publish_data",
            Self::CommitVerdict { .. } => "commit_verdict",
            Self::RevealVerdict { .. } => "reveal_verdict",
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
                | Self::RevealBeacon { .. }
                | Self::CommitVerdict { .. }
                | Self::RevealVerdict { .. }
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

/// Applies an action, or says why not. What it wrote before a rejection is thrown away.
#[expect(
    clippy::too_many_lines,
    reason = "a table with one row for each action"
)]
pub(crate) fn apply(context: &mut Context<'_>, action: &Action) -> Result<(), Rejection> {
    match action {
        Action::Transfer { to, amount } => transfer::apply(context, to, *amount),
        Action::RegisterModel {
            name,
            commission_bps,
            stake,
        } => register_model::apply(context, name, *commission_bps, *stake),
        Action::RegisterValidator {
            consensus_key,
            proof,
            commission_bps,
            stake,
        } => {
            let terms = register_validator::Terms {
                consensus_key: *consensus_key,
                proof,
                commission_bps: *commission_bps,
                stake: *stake,
            };
            register_validator::apply(context, &terms)
        }
        Action::RotateKey {
            consensus_key,
            proof,
        } => rotate_key::apply(context, *consensus_key, proof),
        Action::LeaveValidator {} => leave_validator::apply(context),
        Action::ReturnValidator {} => return_validator::apply(context),
        Action::ReportEquivocation { evidence } => report_equivocation::apply(context, evidence),
        Action::AddStake { pool, amount } => add_stake::apply(context, *pool, *amount),
        Action::WithdrawStake { pool, amount } => withdraw_stake::apply(context, *pool, *amount),
        Action::SetCommission {
            pool,
            commission_bps,
        } => set_commission::apply(context, *pool, *commission_bps),
        Action::CommitWeights {
            model,
            architecture,
            epoch,
            commitment,
            ciphertext_hash,
            size_bytes,
        } => {
            let file = commit_weights::File {
                architecture: *architecture,
                ciphertext_hash: *ciphertext_hash,
                size_bytes: *size_bytes,
            };
            commit_weights::apply(context, *model, *epoch, *commitment, &file)
        }
        Action::HoldWeights { epoch, held } => hold_weights::apply(context, *epoch, held),
        Action::AnswerChallenge { epoch, chunk, path } => {
            answer_challenge::apply(context, *epoch, chunk, path)
        }
        Action::Propose { change } => propose::apply(context, change),
        Action::Vote { proposal, approve } => vote::apply(context, *proposal, *approve),
        Action::VoteRentPrice { price } => vote_rent_price::apply(context, *price),
        Action::RevealWeights {
            model,
            key,
            weights_hash,
            embedding,
        } => {
            let content = reveal_weights::Content {
                key,
                weights_hash,
                embedding,
            };
            reveal_weights::apply(context, *model, &content)
        }
        Action::RetireModel { model } => retire_model::apply(context, *model),
        Action::CommitBeacon { epoch, commitment } => {
            commit_beacon::apply(context, *epoch, *commitment)
        }
        Action::RevealBeacon { epoch, value } => reveal_beacon::apply(context, *epoch, *value),
        Action::Submit {
            target,
            model,
            loss_q32,
            distance,
            size_bytes,
            commitment,
        } => {
            let claim = submit::Claim {
                model: *model,
                loss_q32: *loss_q32,
                distance: *distance,
                size_bytes: *size_bytes,
                commitment: *commitment,
            };
            submit::apply(context, *target, &claim)
        }
        Action::PublishData { target, data, salt } => {
            publish_data::apply(context, *target, data, salt)
        }
        Action::CommitVerdict { target, commitment } => {
            commit_verdict::apply(context, *target, *commitment)
        }
        Action::RevealVerdict { target, verdict } => {
            reveal_verdict::apply(context, *target, verdict)
        }
        Action::EndPhase { epoch, phase } => end_phase::apply(context, *epoch, *phase),
    }
}

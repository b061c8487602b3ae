//! Proposals: what validators can change by vote, and the votes so far.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Address, Amount, Architecture, Epoch, ProposalId, decimal};

/// Maximum number of open proposals.
pub const OPEN_MAX: usize = 64;

/// What a proposal would change.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "change")]
pub enum Change {
    /// A parameter, within its bounds.
    Parameter {
        /// Its name.
        name: String,
        /// Its new value; amounts in base units.
        #[serde(with = "decimal")]
        value: u64,
    },
    /// The architecture of all models, changed after a migration period.
    Architecture {
        /// The new architecture.
        architecture: Architecture,
    },
}

/// Status of a proposal.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum ProposalStatus {
    /// Validators are voting.
    Open,
    /// More than two thirds of the stake approved.
    Passed {
        /// The epoch at whose beginning it took effect.
        epoch: Epoch,
    },
    /// It did not pass in time, or could no longer be carried out.
    Lapsed {
        /// The epoch at whose beginning it lapsed.
        epoch: Epoch,
    },
}

/// A validator's vote on a proposal.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct CastVote {
    /// The validator.
    pub validator: Address,
    /// Whether it approves.
    pub approve: bool,
}

/// A proposal.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Proposal {
    /// Its number, from 1.
    pub id: ProposalId,
    /// Its proposer.
    pub proposer: Address,
    /// What it would change.
    pub change: Change,
    /// Returned to the proposer if it passes; zero once decided.
    pub deposit: Amount,
    /// The epoch in which it was made.
    pub made: Epoch,
    /// The epoch whose beginning ends the vote.
    pub ends: Epoch,
    /// Votes, in the order of the first vote of each validator.
    pub votes: Vec<CastVote>,
    /// Its status.
    pub status: ProposalStatus,
}

/// How many proposals have ever been made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ProposalCount(pub u32);

/// Proposals that are open, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenProposals(pub Vec<ProposalId>);

/// A migration to another architecture, under way.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Migration {
    /// Number of the architecture.
    pub number: u32,
    /// The architecture.
    pub architecture: Architecture,
    /// The proposal that began it.
    pub proposal: ProposalId,
    /// The epoch at whose beginning the network switches, if enough models are ready.
    pub ends: Epoch,
    /// Number of living models with weights for it that are not retiring.
    pub ready: u32,
}

/// An architecture that was in force, kept for the targets that were drawn under it.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct PastArchitecture(pub Architecture);

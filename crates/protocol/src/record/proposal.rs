//! Proposals: what validators can change by vote, and the votes so far.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::{Committee, SEATS_MAX};
use crate::{Address, Amount, Architecture, Epoch, ProposalId, Rejection, decimal};

/// How many open proposals seated validators may have together: one of each of the most seats.
const OPEN_SEATED_MAX: usize = SEATS_MAX as usize;

/// How many open proposals there may be of proposers without a seat, one of each.
const OPEN_UNSEATED_MAX: usize = 32;

/// Maximum number of open proposals.
pub const OPEN_MAX: usize = OPEN_SEATED_MAX + OPEN_UNSEATED_MAX;

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
    /// The version of the rules, changed after a notice: the one after the version in force; or,
    /// while that is scheduled, the one in force, which cancels it.
    Rules {
        /// The version.
        version: u16,
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

/// A proposal that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenProposal {
    /// The proposal.
    pub id: ProposalId,
    /// Its proposer.
    pub proposer: Address,
}

/// Proposals that are open, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenProposals(pub Vec<OpenProposal>);

impl OpenProposals {
    /// Checks that there is a place for another proposal. Places of seats and of others are apart,
    /// and each seat has an equal part of its kind: nobody keeps votes from being held.
    pub(crate) fn check_place(
        &self,
        proposer: &Address,
        committee: &Committee,
    ) -> Result<(), Rejection> {
        let is_seated = |open: &&OpenProposal| committee.seats_validator(&open.proposer);
        let own = self.0.iter().filter(|open| open.proposer == *proposer).count();
        let (open, max) = if committee.seats_validator(proposer) {
            let each = OPEN_SEATED_MAX.checked_div(committee.seats.len()).unwrap_or(1);
            (own, each.max(1))
        } else {
            (own, 1)
        };
        if open >= max {
            let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
            return Err(Rejection::ProposalsOpen { open: count(open), max: count(max) });
        }
        let unseated = self.0.len().saturating_sub(self.0.iter().filter(is_seated).count());
        if !committee.seats_validator(proposer) && unseated >= OPEN_UNSEATED_MAX {
            return Err(Rejection::Full);
        }
        Ok(())
    }
}

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

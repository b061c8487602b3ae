//! A validator votes on a proposal. Only its last vote counts, with the stake that it has when
//! votes are counted.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::record::{CastVote, ProposalStatus, VALIDATORS_MAX};
use crate::state::{Key, StateRead};
use crate::{Event, ProposalId, Rejection, read};

/// A validator votes on a proposal.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Vote {
    /// The proposal.
    pub proposal: ProposalId,
    /// Whether the validator approves.
    pub approve: bool,
}

impl Apply for Vote {
    // The list of votes is rewritten.
    fn work(&self) -> u64 {
        100
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let (id, approve) = (self.proposal, self.approve);
        let validator = context.validator()?.address;
        let proposal = read::proposal(&context.state, id);
        let mut proposal = proposal.ok_or(Rejection::ProposalNotFound { proposal: id })?;
        if proposal.status != ProposalStatus::Open {
            return Err(Rejection::ProposalDecided { proposal: id });
        }
        let vote = CastVote { validator, approve };
        let mut votes = proposal.votes.iter_mut();
        if let Some(earlier) = votes.find(|vote| vote.validator == validator) {
            *earlier = vote;
        } else {
            make_room(&context.state, &mut proposal.votes);
            proposal.votes.push(vote);
        }
        context.state.save(Key::proposal(id), &proposal);
        context.events.push(Event::VoteCast { proposal: id, validator, approve });
        Ok(())
    }
}

/// Drops the votes of validators that are gone when the list is full. At most [`VALIDATORS_MAX`]
/// are registered, the one that votes now included, so there is room then.
fn make_room(state: &dyn StateRead, votes: &mut Vec<CastVote>) {
    if votes.len() >= VALIDATORS_MAX {
        votes.retain(|vote| {
            read::validator(state, &vote.validator).is_some_and(|one| one.is_registered())
        });
    }
}

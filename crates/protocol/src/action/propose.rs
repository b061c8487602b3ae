//! A validator proposes a change. The deposit is returned if the proposal passes. Proposals have
//! places: most for seated validators, in equal parts, the rest for one of each of the others.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::governance::vote;
use crate::money::debit;
use crate::record::{
    Change, OPEN_MAX, OpenProposal, OpenProposals, Proposal, ProposalCount, ProposalStatus,
};
use crate::state::{Key, load};
use crate::{Defense, Event, ProposalId, Rejection, read};

/// A validator proposes a change.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Propose {
    /// The proposed change.
    #[serde(flatten)]
    pub change: Change,
}

impl Apply for Propose {
    // The list of open proposals is rewritten, and the committee is read.
    fn work(&self) -> u64 {
        100
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let proposer = context.validator()?.address;
        vote::check(&context.state, &self.change)?;
        let open: Option<OpenProposals> = load(&context.state, &Key::open_proposals());
        let mut open = open.unwrap_or_default();
        if context.config.defends(Defense::ProposalPlaces) {
            open.check_place(&proposer, &read::committee(&context.state))?;
        }
        if open.0.len() >= OPEN_MAX {
            return Err(Rejection::Full);
        }
        let count = read::proposal_count(&context.state);
        let count = count.checked_add(1).ok_or(Rejection::Full)?;
        let deposit = context.config.params.proposal_deposit;
        debit(&mut context.state, &proposer, deposit)?;
        let (id, made) = (ProposalId(count), context.clock.epoch);
        let ends = made.after(context.config.params.voting_epochs);
        let proposal = Proposal {
            id,
            proposer,
            change: self.change.clone(),
            deposit,
            made,
            ends,
            votes: Vec::new(),
            status: ProposalStatus::Open,
        };
        open.0.push(OpenProposal { id, proposer });
        let state = &mut context.state;
        state.save(Key::proposal(id), &proposal);
        state.save(Key::proposal_count(), &ProposalCount(count));
        state.save(Key::open_proposals(), &open);
        context.events.push(Event::ProposalMade { proposal: id, proposer, ends });
        Ok(())
    }
}

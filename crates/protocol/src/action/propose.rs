//! A validator proposes a change. The deposit returns if it passes.

use crate::action::Context;
use crate::governance::vote;
use crate::money::debit;
use crate::record::{Change, OPEN_MAX, OpenProposals, Proposal, ProposalCount, ProposalStatus};
use crate::state::{Key, load};
use crate::{Event, ProposalId, Rejection};

pub(crate) fn apply(context: &mut Context<'_>, change: &Change) -> Result<(), Rejection> {
    let proposer = context.validator()?.address;
    vote::check(&context.state, change)?;
    let OpenProposals(mut open) = load(&context.state, &Key::open_proposals()).unwrap_or_default();
    if open.len() >= OPEN_MAX {
        return Err(Rejection::Full);
    }
    let ProposalCount(count) = load(&context.state, &Key::proposal_count()).unwrap_or_default();
    let count = count.checked_add(1).ok_or(Rejection::Full)?;
    let deposit = context.config.params.proposal_deposit;
    debit(&mut context.state, &proposer, deposit)?;
    let made = context.clock.epoch;
    let proposal = Proposal {
        id: ProposalId(count),
        proposer,
        change: change.clone(),
        deposit,
        made,
        ends: made.after(context.config.params.voting_epochs),
        votes: Vec::new(),
        status: ProposalStatus::Open,
    };
    open.push(proposal.id);
    context.state.save(Key::proposal(proposal.id), &proposal);
    context
        .state
        .save(Key::proposal_count(), &ProposalCount(count));
    context
        .state
        .save(Key::open_proposals(), &OpenProposals(open));
    context.events.push(Event::ProposalMade {
        proposal: proposal.id,
        proposer,
        ends: proposal.ends,
    });
    Ok(())
}

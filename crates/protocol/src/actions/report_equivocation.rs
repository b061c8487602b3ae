//! Showing that a validator signed two histories: its stake and all that is leaving it are slashed,
//! and it never has a seat again.

use crate::apply::{Context, supply};
use crate::evidence::Evidence;
use crate::seats::key_holder;
use crate::state::Key;
use crate::validator::{ValidatorStatus, validator};
use crate::{Event, Rejection};

pub(crate) fn apply(context: &mut Context<'_>, evidence: &Evidence) -> Result<(), Rejection> {
    let holder = key_holder(&context.state, &evidence.consensus_key);
    let offender = holder.and_then(|address| validator(&context.state, &address));
    let mut offender = offender.ok_or(Rejection::NoSuchKey)?;
    if offender.status == ValidatorStatus::Expelled {
        return Err(Rejection::Expelled);
    }
    if !evidence.proves(&context.rules.network.chain_id) {
        return Err(Rejection::BadEvidence);
    }
    let amount = offender
        .pool
        .slash(context.rules.params.equivocation_slash_bps);
    let mut supply = supply(&context.state);
    supply.burned = supply.burned.plus(amount);
    context.state.save(Key::supply(), &supply);
    offender.status = ValidatorStatus::Expelled;
    context
        .state
        .save(Key::validator(&offender.address), &offender);
    context.events.push(Event::ValidatorExpelled {
        validator: offender.address,
        amount,
    });
    Ok(())
}

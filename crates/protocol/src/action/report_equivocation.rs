//! Showing that a validator signed two histories: its stake and all that is leaving it are slashed,
//! and it never has a seat again.

use crate::action::Context;
use crate::proof::evidence::Evidence;
use crate::record::ValidatorStatus;
use crate::state::Key;
use crate::{Event, Rejection, read};

pub(crate) fn apply(context: &mut Context<'_>, evidence: &Evidence) -> Result<(), Rejection> {
    let holder = read::key_holder(&context.state, &evidence.consensus_key);
    let offender = holder.and_then(|address| read::validator(&context.state, &address));
    let mut offender = offender.ok_or(Rejection::NoSuchKey)?;
    if offender.status == ValidatorStatus::Expelled {
        return Err(Rejection::Expelled);
    }
    if !evidence.proves(&context.config.network.chain_id) {
        return Err(Rejection::BadEvidence);
    }
    let amount = offender
        .pool
        .slash(context.config.params.equivocation_slash_bps);
    let mut supply = read::supply(&context.state);
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

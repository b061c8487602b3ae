//! A validator's verdict on a published claim. It is final; stake is counted when the target is settled.

use crate::action::Verdict;
use crate::apply::Context;
use crate::record::{Attestation, TargetStatus};
use crate::state::Key;
use crate::{Event, Hash, Rejection, TargetId, view};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: TargetId,
    verdict: Verdict,
    trace: Hash,
) -> Result<(), Rejection> {
    let validator = context.seated()?;
    let target = context.target_of(id, context.clock.epoch.previous())?;
    if !matches!(target.status, TargetStatus::Published { .. }) {
        return Err(Rejection::NotPublished { target: id });
    }
    let mut verdicts = view::verdicts(&context.state, id);
    if verdicts.0.iter().any(|one| one.validator == validator) {
        return Err(Rejection::AlreadyAttested { target: id });
    }
    verdicts.0.push(Attestation {
        validator,
        verdict,
        trace,
    });
    context.state.save(Key::verdicts(id), &verdicts);
    context.events.push(Event::Attested {
        target: id,
        validator,
        verdict,
        trace,
    });
    Ok(())
}

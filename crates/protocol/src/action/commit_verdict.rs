//! A validator commits to its verdict on a published claim, so that nobody can copy it. It is final.

use crate::action::Context;
use crate::record::{TargetStatus, VerdictCommit};
use crate::state::Key;
use crate::{Event, Hash, Phase, Rejection, TargetId, read};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: TargetId,
    commitment: Hash,
) -> Result<(), Rejection> {
    let validator = context.seated()?;
    if context.clock.phase == Phase::Attest {
        return Err(Rejection::WrongPhase {
            phase: context.clock.phase,
        });
    }
    let target = context.target_of(id, context.clock.epoch.previous())?;
    if !matches!(target.status, TargetStatus::Published { .. }) {
        return Err(Rejection::NotPublished { target: id });
    }
    let mut verdicts = read::verdicts(&context.state, id);
    if verdicts.0.iter().any(|one| one.validator == validator) {
        return Err(Rejection::AlreadyAttested { target: id });
    }
    verdicts.0.push(VerdictCommit {
        validator,
        commitment,
        verdict: None,
    });
    context.state.save(Key::verdicts(id), &verdicts);
    context.events.push(Event::VerdictCommitted {
        target: id,
        validator,
    });
    Ok(())
}

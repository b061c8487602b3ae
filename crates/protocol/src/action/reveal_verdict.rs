//! A validator shows its verdict, in the last part of the epoch, when no more can be committed.
//! Stake is counted when the target is settled.

use crate::action::Context;
use crate::proof::commitment;
use crate::record::Verdict;
use crate::state::Key;
use crate::{Event, Phase, Rejection, TargetId, read};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: TargetId,
    verdict: &Verdict,
) -> Result<(), Rejection> {
    let validator = context.seated()?;
    if context.clock.phase != Phase::Attest {
        return Err(Rejection::WrongPhase {
            phase: context.clock.phase,
        });
    }
    context.target_of(id, context.clock.epoch.previous())?;
    let mut verdicts = read::verdicts(&context.state, id);
    let ours = verdicts
        .0
        .iter_mut()
        .find(|one| one.validator == validator)
        .ok_or(Rejection::VerdictNotCommitted { target: id })?;
    if ours.verdict.is_some() {
        return Err(Rejection::AlreadyAttested { target: id });
    }
    let chain = &context.config.network.chain_id;
    if commitment::verdict(chain, &validator, id, verdict) != ours.commitment {
        return Err(Rejection::CommitmentMismatch);
    }
    ours.verdict = Some(verdict.clone());
    context.state.save(Key::verdicts(id), &verdicts);
    context.events.push(Event::VerdictRevealed {
        target: id,
        validator,
        validity: verdict.validity,
        trace: verdict.trace,
    });
    Ok(())
}

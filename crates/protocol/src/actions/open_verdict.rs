//! A validator shows its finding, in the last part of the epoch, when no more can be committed.
//! Stake is counted when the target is settled.

use crate::action::Finding;
use crate::apply::Context;
use crate::commitment;
use crate::phase::Phase;
use crate::state::Key;
use crate::{Event, Rejection, TargetId, view};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: TargetId,
    finding: &Finding,
) -> Result<(), Rejection> {
    let validator = context.seated()?;
    if context.clock.phase != Phase::Attest {
        return Err(Rejection::WrongPhase {
            phase: context.clock.phase,
        });
    }
    context.target_of(id, context.clock.epoch.previous())?;
    let mut verdicts = view::verdicts(&context.state, id);
    let ours = verdicts
        .0
        .iter_mut()
        .find(|one| one.validator == validator)
        .ok_or(Rejection::VerdictNotCommitted { target: id })?;
    if ours.finding.is_some() {
        return Err(Rejection::AlreadyAttested { target: id });
    }
    let chain = &context.rules.network.chain_id;
    if commitment::verdict(chain, &validator, id, finding) != ours.commitment {
        return Err(Rejection::CommitmentMismatch);
    }
    ours.finding = Some(finding.clone());
    context.state.save(Key::verdicts(id), &verdicts);
    context.events.push(Event::Attested {
        target: id,
        validator,
        verdict: finding.verdict,
        trace: finding.trace,
    });
    Ok(())
}

//! Claiming a target. The claim shows neither data nor embedding, so that losers give nothing
//! away, and carries a bond, so that a claim which cannot be honoured costs its maker.

use soma_architecture::embedding::distance_squared_max;

use crate::action::Context;
use crate::money::{credit, debit};
use crate::record::{Candidate, Candidates, Target};
use crate::state::Key;
use crate::{Event, Hash, ModelId, Rejection, TargetId, read};

/// Losses from here on are errors of the scorer: 2^20 nats.
const LOSS_Q32_END: i64 = 1 << 52;

/// What the submitter claims.
pub(crate) struct Claim {
    pub(crate) model: ModelId,
    pub(crate) loss_q32: i64,
    pub(crate) distance: u64,
    pub(crate) size_bytes: u32,
    pub(crate) commitment: Hash,
}

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: TargetId,
    claim: &Claim,
) -> Result<(), Rejection> {
    if !context.clock.phase.submits() {
        return Err(Rejection::WrongPhase {
            phase: context.clock.phase,
        });
    }
    let target = context.target_of(id, context.clock.epoch)?;
    check(context, &target, claim)?;
    let bond = target.reward.bps(context.config.params.bond_bps);
    let submitter = context.sender;
    let candidate = Candidate {
        submitter,
        model: claim.model,
        loss_q32: claim.loss_q32,
        distance: claim.distance,
        size_bytes: claim.size_bytes,
        commitment: claim.commitment,
        bond,
    };
    let mut candidates = Candidates(read::candidates(&context.state, id));
    if candidates
        .0
        .iter()
        .any(|other| other.commitment == claim.commitment)
    {
        return Err(Rejection::DuplicateSubmission { target: id });
    }
    let at = candidates
        .0
        .partition_point(|other| other.distance <= claim.distance);
    let limit = usize::try_from(context.config.params.candidates_per_target).unwrap_or(usize::MAX);
    if at >= limit {
        return Err(Rejection::NotAmongClosest { target: id });
    }
    debit(&mut context.state, &submitter, bond)?;
    candidates.0.insert(at, candidate);
    context.events.push(Event::SubmissionAccepted {
        target: id,
        rank: u32::try_from(at).unwrap_or(u32::MAX),
        submitter,
        model: claim.model,
        loss_q32: claim.loss_q32,
        distance: claim.distance,
        bond,
    });
    for Candidate {
        submitter, bond, ..
    } in candidates.0.drain(limit.min(candidates.0.len())..)
    {
        credit(&mut context.state, &submitter, bond);
        context.events.push(Event::SubmissionDisplaced {
            target: id,
            submitter,
            bond,
        });
    }
    context.state.save(Key::candidates(id), &candidates);
    Ok(())
}

fn check(context: &Context<'_>, target: &Target, claim: &Claim) -> Result<(), Rejection> {
    let Claim {
        model,
        loss_q32,
        distance,
        size_bytes,
        ..
    } = *claim;
    if !target.routed.iter().any(|routed| routed.model == model) {
        return Err(Rejection::ModelNotRouted {
            model,
            target: target.id,
        });
    }
    if !(0..LOSS_Q32_END).contains(&loss_q32) {
        return Err(Rejection::BadLoss { loss_q32 });
    }
    let architecture = &context.config.network.architecture;
    if distance > distance_squared_max(architecture.dim) {
        return Err(Rejection::BadDistance { distance });
    }
    let (min, max) = (
        architecture.data_bytes_min(),
        context.config.params.data_bytes_max,
    );
    if size_bytes < min || size_bytes > max {
        return Err(Rejection::BadDataSize {
            size_bytes,
            min,
            max,
        });
    }
    Ok(())
}

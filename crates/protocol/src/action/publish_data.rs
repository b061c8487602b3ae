//! Showing a candidate's data, when it is its rank's turn. From then on the claim can be audited,
//! and no other candidate of the target can win.

use crate::action::Context;
use crate::epoch::settlement;
use crate::proof::commitment;
use crate::record::{Candidates, Publication, TargetStatus, WinningData};
use crate::state::{Key, load};
use crate::{Event, Hash, Rejection, TargetId, read};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: TargetId,
    data: &[u8],
    salt: &[u8; 32],
) -> Result<(), Rejection> {
    let phase = context.clock.phase;
    let rank = phase
        .publishing_rank()
        .ok_or(Rejection::WrongPhase { phase })?;
    let mut target = context.target_of(id, context.clock.epoch.previous())?;
    if target.status != TargetStatus::Open {
        return Err(Rejection::AlreadyPublished { target: id });
    }
    let mut candidates = Candidates(read::candidates(&context.state, id));
    let candidate = usize::try_from(rank)
        .ok()
        .and_then(|at| candidates.0.get(at));
    let submitter = context.sender;
    let candidate = candidate.filter(|candidate| candidate.submitter == submitter);
    let candidate = candidate.ok_or(Rejection::NotPublisher { target: id })?;
    let data_hash = Hash::of_bytes(data);
    let size_bytes = u32::try_from(data.len()).unwrap_or(u32::MAX);
    let chain = &context.config.network.chain_id;
    let revealed = commitment::data(chain, &submitter, id, &data_hash, size_bytes, salt);
    if revealed != candidate.commitment || size_bytes != candidate.size_bytes {
        return Err(Rejection::CommitmentMismatch);
    }
    // Wins of the target's own epoch were not known when it was submitted.
    if let Some(WinningData(epoch)) = load(&context.state, &Key::won(&data_hash))
        && epoch < target.epoch
    {
        return Err(Rejection::DataAlreadyWon { epoch });
    }
    settlement::release_others(
        &mut context.state,
        &mut context.events,
        id,
        &mut candidates,
        Some(rank),
    );
    context.state.save(Key::candidates(id), &candidates);
    target.status = TargetStatus::Published { rank };
    context.state.save(Key::target(id), &target);
    let publication = Publication {
        rank,
        data_hash,
        data: data.to_vec(),
    };
    context.state.save(Key::publication(id), &publication);
    context.events.push(Event::DataPublished {
        target: id,
        rank,
        submitter,
        data_hash,
        size_bytes,
    });
    Ok(())
}

//! A validator opens its part of the running epoch's randomness, in any block of the reveal phase.

use crate::action::{Context, check_epoch};
use crate::proof::commitment;
use crate::record::BeaconCommit;
use crate::state::{Key, load};
use crate::{Epoch, Event, Hash, Rejection};

pub(crate) fn apply(context: &mut Context<'_>, epoch: Epoch, value: Hash) -> Result<(), Rejection> {
    let validator = context.validator()?.address;
    check_epoch(epoch, context.clock.epoch)?;
    if !context.clock.phase.reveals() {
        return Err(Rejection::WrongPhase {
            phase: context.clock.phase,
        });
    }
    let key = Key::beacon(epoch, &validator);
    let commit: Option<BeaconCommit> = load(&context.state, &key);
    let mut commit = commit.ok_or(Rejection::BeaconNotCommitted { epoch })?;
    if commit.value.is_some() {
        return Err(Rejection::BeaconAlreadyRevealed { epoch });
    }
    let revealed = commitment::beacon(&context.config.network.chain_id, &validator, epoch, &value);
    if revealed != commit.commitment {
        return Err(Rejection::CommitmentMismatch);
    }
    commit.value = Some(value);
    context.state.save(key, &commit);
    context
        .events
        .push(Event::BeaconRevealed { epoch, validator });
    Ok(())
}

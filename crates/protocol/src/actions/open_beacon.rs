//! A validator opens its part of the running epoch's randomness, in any block of the reveal phase.

use crate::apply::Context;
use crate::commitment;
use crate::record::{BeaconCommit, load};
use crate::state::Key;
use crate::{Epoch, Event, Hash, Rejection};

use super::check_epoch;

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
    let opened = commitment::beacon(&context.rules.network.chain_id, &validator, epoch, &value);
    if opened != commit.commitment {
        return Err(Rejection::CommitmentMismatch);
    }
    commit.value = Some(value);
    context.state.save(key, &commit);
    context
        .events
        .push(Event::BeaconOpened { epoch, validator });
    Ok(())
}

//! A validator's word that it holds committed files. A commit needs the word of more than a third
//! of the stake, so of one honest holder at least, before its epoch begins.

use crate::action::{HELD_MAX, Held};
use crate::apply::Context;
use crate::record::{Commit, load};
use crate::state::Key;
use crate::{Epoch, Event, Rejection};

use super::check_epoch;

pub(crate) fn apply(
    context: &mut Context<'_>,
    epoch: Epoch,
    held: &[Held],
) -> Result<(), Rejection> {
    let validator = context.seated()?;
    check_epoch(epoch, context.clock.epoch.next())?;
    if held.is_empty() || held.len() > HELD_MAX {
        let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
        return Err(Rejection::BadHeldList {
            found: count(held.len()),
            max: count(HELD_MAX),
        });
    }
    for &Held {
        model,
        ciphertext_hash,
    } in held
    {
        let key = Key::commit(model, epoch);
        let commit: Option<Commit> = load(&context.state, &key);
        let mut commit = commit.ok_or(Rejection::CommitNotFound { model, epoch })?;
        if commit.ciphertext_hash != ciphertext_hash {
            return Err(Rejection::OtherFileCommitted { model });
        }
        if commit.holders.contains(&validator) {
            return Err(Rejection::AlreadyHeld { model });
        }
        commit.holders.push(validator);
        context.state.save(key, &commit);
        context.events.push(Event::WeightsHeld {
            model,
            epoch,
            validator,
        });
    }
    Ok(())
}

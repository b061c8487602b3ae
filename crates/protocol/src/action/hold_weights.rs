//! A validator's word that it holds committed files. A commit needs the word of more than a third
//! of the stake, so of one honest holder at least, before its epoch begins. Who comes later says the
//! same of files in use, and is paid rent from then on.

use crate::action::{Context, HELD_FILES_MAX, HeldFile, check_epoch};
use crate::record::Rent;
use crate::state::{Key, load};
use crate::{Address, Epoch, Event, Hash, ModelId, Rejection, read};

pub(crate) fn apply(
    context: &mut Context<'_>,
    epoch: Epoch,
    held: &[HeldFile],
) -> Result<(), Rejection> {
    let validator = context.seated()?;
    check_epoch(epoch, context.clock.epoch.next())?;
    if held.is_empty() || held.len() > HELD_FILES_MAX {
        let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
        return Err(Rejection::BadHeldList {
            found: count(held.len()),
            max: count(HELD_FILES_MAX),
        });
    }
    for &HeldFile {
        model,
        ciphertext_hash,
    } in held
    {
        hold(context, model, epoch, &ciphertext_hash, validator)?;
        context.events.push(Event::WeightsHeld {
            model,
            epoch,
            validator,
        });
    }
    Ok(())
}

/// Adds the validator to the holders of a committed file, or of the file that is in use.
fn hold(
    context: &mut Context<'_>,
    model: ModelId,
    epoch: Epoch,
    file: &Hash,
    validator: Address,
) -> Result<(), Rejection> {
    let commits = read::commits_of(&context.state, model, epoch);
    let meant = commits.iter().find(|one| one.ciphertext_hash == *file);
    if let Some(mut commit) = meant.cloned() {
        join(&mut commit.holders, model, validator)?;
        let key = Key::commit(model, epoch, commit.architecture);
        context.state.save(key, &commit);
        return Ok(());
    }
    let record = read::model(&context.state, model);
    let is_in_use = |number: &u32| {
        let weights = record
            .as_ref()
            .and_then(|record| read::weights_for(&context.state, record, *number));
        weights.is_some_and(|weights| weights.ciphertext_hash == *file)
    };
    let number = read::open_architectures(&context.state).find(is_in_use);
    let key = number.map(|number| Key::rent(model, number));
    let rent = key.and_then(|key| Some((key, load::<Rent>(&context.state, &key)?)));
    let Some((key, mut rent)) = rent else {
        return Err(if commits.is_empty() {
            Rejection::CommitNotFound { model, epoch }
        } else {
            Rejection::OtherFileCommitted { model }
        });
    };
    join(&mut rent.holders, model, validator)?;
    context.state.save(key, &rent);
    Ok(())
}

fn join(holders: &mut Vec<Address>, model: ModelId, validator: Address) -> Result<(), Rejection> {
    if holders.contains(&validator) {
        return Err(Rejection::AlreadyHeld { model });
    }
    holders.push(validator);
    Ok(())
}

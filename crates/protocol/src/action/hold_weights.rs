//! A validator attests that it holds committed files. A commit needs attestations from more than a
//! third of the stake, hence from at least one honest holder, before its epoch begins. A validator
//! may also attest to files already in use, and is paid rent from then on.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context, check_epoch};
use crate::record::Rent;
use crate::state::{Key, load};
use crate::{Address, Epoch, Event, Hash, ModelId, Rejection, read};

/// Maximum number of held files in one transaction.
pub const HELD_FILES_MAX: usize = 1_024;

/// A file that a validator holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct HeldFile {
    /// The model.
    pub model: ModelId,
    /// BLAKE3 of the encrypted file that its commit names.
    pub ciphertext_hash: Hash,
}

/// A validator attests that it holds committed files. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct HoldWeights {
    /// The epoch of the reveals, which is the next one.
    pub epoch: Epoch,
    /// The files, at most [`HELD_FILES_MAX`].
    pub held: Vec<HeldFile>,
}

impl Apply for HoldWeights {
    const DUTY: bool = true;

    // Looking up and rewriting the holders of each file.
    fn work(&self) -> u64 {
        u64::try_from(self.held.len()).unwrap_or(u64::MAX).saturating_mul(60)
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let epoch = self.epoch;
        let validator = context.seated()?;
        check_epoch(epoch, context.clock.epoch.next())?;
        if self.held.is_empty() || self.held.len() > HELD_FILES_MAX {
            let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
            return Err(Rejection::BadHeldList {
                found: count(self.held.len()),
                max: count(HELD_FILES_MAX),
            });
        }
        for file in &self.held {
            hold(context, file, epoch, validator)?;
            context.events.push(Event::WeightsHeld { model: file.model, epoch, validator });
        }
        Ok(())
    }
}

/// Adds the validator to the holders of a committed file, or of the file in use.
fn hold(
    context: &mut Context<'_>,
    file: &HeldFile,
    epoch: Epoch,
    validator: Address,
) -> Result<(), Rejection> {
    let HeldFile { model, ciphertext_hash } = *file;
    let commits = read::commits_of(&context.state, model, epoch);
    let has_file = |hash: &Hash| *hash == ciphertext_hash;
    let commit = commits.iter().find(|commit| has_file(&commit.ciphertext_hash));
    if let Some(mut commit) = commit.cloned() {
        add_holder(&mut commit.holders, model, validator)?;
        let key = Key::commit(model, epoch, commit.architecture);
        context.state.save(key, &commit);
        return Ok(());
    }
    let record = read::model(&context.state, model);
    let is_in_use = |number: &u32| {
        let weights =
            record.as_ref().and_then(|record| read::weights_for(&context.state, record, *number));
        weights.is_some_and(|weights| has_file(&weights.ciphertext_hash))
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
    add_holder(&mut rent.holders, model, validator)?;
    context.state.save(key, &rent);
    Ok(())
}

fn add_holder(
    holders: &mut Vec<Address>,
    model: ModelId,
    validator: Address,
) -> Result<(), Rejection> {
    if holders.contains(&validator) {
        return Err(Rejection::AlreadyHeld { model });
    }
    holders.push(validator);
    Ok(())
}

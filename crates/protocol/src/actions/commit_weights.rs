//! Committing a model to weights that nobody sees before the next epoch, and paying for their keep.

use crate::apply::{Context, clock};
use crate::balance::{credit, debit};
use crate::record::{Commit, Rent, load};
use crate::state::{Key, Read};
use crate::{Amount, Epoch, Event, Hash, ModelId, Rejection, migration, rent};

use super::check_epoch;

/// The encrypted file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct File {
    /// Number of the architecture that it is for.
    pub(crate) architecture: u32,
    pub(crate) ciphertext_hash: Hash,
    pub(crate) size_bytes: u64,
}

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: ModelId,
    epoch: Epoch,
    commitment: Hash,
    file: &File,
) -> Result<(), Rejection> {
    let model = context.own_model(id)?;
    check_epoch(epoch, context.clock.epoch.next())?;
    let number = file.architecture;
    let spec = migration::numbers(&context.state)
        .find(|one| *one == number)
        .and_then(|number| migration::architecture(&context.state, number));
    let spec = spec.ok_or(Rejection::NoSuchArchitecture {
        architecture: number,
    })?;
    let max = spec.weights_bytes_max();
    let size_bytes = file.size_bytes;
    if size_bytes == 0 || size_bytes > max {
        return Err(Rejection::BadWeightsSize { size_bytes, max });
    }
    let key = Key::commit(id, epoch, number);
    let replaced: Option<Commit> = load(&context.state, &key);
    if let Some(replaced) = &replaced {
        credit(&mut context.state, &model.owner, replaced.paid);
    }
    let price = rent::price(&context.state);
    let rent = rent::due(size_bytes, epoch, price, &context.rules.params);
    let paid = rent.less(left_over(&context.state, id, number));
    debit(&mut context.state, &model.owner, paid)?;
    let same_file = |commit: &Commit| {
        *file
            == File {
                architecture: commit.architecture,
                ciphertext_hash: commit.ciphertext_hash,
                size_bytes: commit.size_bytes,
            }
    };
    let commit = Commit {
        epoch,
        architecture: number,
        commitment,
        ciphertext_hash: file.ciphertext_hash,
        size_bytes,
        rent,
        paid,
        height: context.block.height,
        index: context.index,
        holders: replaced
            .filter(same_file)
            .map_or(Vec::new(), |commit| commit.holders),
    };
    context.state.save(key, &commit);
    let ciphertext_hash = file.ciphertext_hash;
    context.events.push(Event::WeightsCommitted {
        model: id,
        epoch,
        ciphertext_hash,
        size_bytes,
        rent,
        paid,
    });
    Ok(())
}

/// Rent of the present file that will be left when a commit replaces it. While a commit for the
/// running epoch waits for its reveal, that one has the claim on it: nothing is credited twice.
pub(crate) fn left_over(state: &dyn Read, id: ModelId, number: u32) -> Amount {
    if load::<Commit>(state, &Key::commit(id, clock(state).epoch, number)).is_some() {
        return Amount::ZERO;
    }
    load::<Rent>(state, &Key::rent(id, number)).map_or(Amount::ZERO, |rent| rent::left_over(&rent))
}

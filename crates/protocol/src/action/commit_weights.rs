//! Committing a model to weights that nobody sees before the next epoch, and paying for their keep.

use crate::action::{Context, check_epoch};
use crate::money::{credit, debit, rent};
use crate::record::WeightsCommit;
use crate::state::{Key, load};
use crate::{Epoch, Event, Hash, ModelId, Rejection, read};

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
    let spec = read::open_architectures(&context.state)
        .find(|one| *one == number)
        .and_then(|number| read::architecture(&context.state, number));
    let spec = spec.ok_or(Rejection::NoSuchArchitecture {
        architecture: number,
    })?;
    let max = spec.weights_bytes_max();
    let size_bytes = file.size_bytes;
    if size_bytes == 0 || size_bytes > max {
        return Err(Rejection::BadWeightsSize { size_bytes, max });
    }
    let key = Key::commit(id, epoch, number);
    let replaced: Option<WeightsCommit> = load(&context.state, &key);
    if let Some(replaced) = &replaced {
        credit(&mut context.state, &model.owner, replaced.paid);
    }
    let price = read::rent_price(&context.state);
    let rent = rent::due(size_bytes, epoch, price, &context.config.params);
    let paid = rent.less(rent::carried_over(&context.state, id, number));
    debit(&mut context.state, &model.owner, paid)?;
    let same_file = |commit: &WeightsCommit| {
        *file
            == File {
                architecture: commit.architecture,
                ciphertext_hash: commit.ciphertext_hash,
                size_bytes: commit.size_bytes,
            }
    };
    let commit = WeightsCommit {
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

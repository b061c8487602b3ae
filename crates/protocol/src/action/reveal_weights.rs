//! Revealing what a model was committed to. Anyone may carry it: only the commitment counts.

use soma_architecture::embedding::{is_unit_length, length_squared};

use crate::action::Context;
use crate::money::credit;
use crate::proof::commitment;
use crate::proof::commitment::CommittedWeights;
use crate::record::{
    Embedding, Model, ModelStatus, NextWeights, Rent, Weights, WeightsAge, WeightsCommit,
};
use crate::state::{Key, load};
use crate::{Amount, Event, Hash, ModelId, Rejection, read};

/// Whether an embedding has exactly `dim` components and unit length within rounding.
pub(crate) fn check_embedding(embedding: &[i16], dim: u32) -> Result<(), Rejection> {
    let found = u32::try_from(embedding.len()).unwrap_or(u32::MAX);
    if found != dim {
        return Err(Rejection::BadEmbeddingDimension {
            found,
            expected: dim,
        });
    }
    let norm_squared = length_squared(embedding);
    if !is_unit_length(norm_squared, dim) {
        return Err(Rejection::BadEmbeddingLength { norm_squared });
    }
    Ok(())
}

/// What a reveal shows.
pub(crate) struct Content<'a> {
    pub(crate) key: &'a [u8; 32],
    pub(crate) weights_hash: &'a Hash,
    pub(crate) embedding: &'a [i16],
}

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: ModelId,
    content: &Content<'_>,
) -> Result<(), Rejection> {
    let mut model = context.standing_model(id)?;
    let epoch = context.clock.epoch;
    if !context.clock.phase.reveals() {
        return Err(Rejection::WrongPhase {
            phase: context.clock.phase,
        });
    }
    let committed = CommittedWeights {
        model: id,
        owner: &model.owner,
        epoch,
        weights_hash: content.weights_hash,
        key: content.key,
        embedding: content.embedding,
    };
    let revealed = commitment::weights(&context.config.network.chain_id, &committed);
    let commits = read::commits_of(&context.state, id, epoch);
    let meant = commits.iter().find(|commit| commit.commitment == revealed);
    let commit = meant.or(commits.first()).cloned();
    let commit = commit.ok_or(Rejection::CommitNotFound { model: id, epoch })?;
    let number = commit.architecture;
    let dim = read::architecture(&context.state, number).map_or(0, |spec| spec.dim);
    check_embedding(content.embedding, dim)?;
    if commit.commitment != revealed {
        return Err(Rejection::CommitmentMismatch);
    }
    let key = Key::commit(id, epoch, number);
    context.state.delete(key);
    context.state.save(
        Key::embedding(id, number),
        &Embedding(content.embedding.to_vec()),
    );
    save_weights(context, id, content, &commit);
    replace_rent(context, &model, commit);
    if number == context.config.network.architecture_number {
        if matches!(
            model.status,
            ModelStatus::Registered | ModelStatus::Inactive
        ) {
            model.status = ModelStatus::Active;
            model.activated = epoch;
        }
        model.weights = Some(*content.weights_hash);
        model.revealed = epoch;
    } else {
        model.next = Some(NextWeights {
            architecture: number,
            weights: *content.weights_hash,
            revealed: epoch,
        });
    }
    context.state.save(Key::model(id), &model);
    let weights_hash = *content.weights_hash;
    context.events.push(Event::WeightsRevealed {
        model: id,
        epoch,
        weights_hash,
        architecture: number,
    });
    Ok(())
}

/// Weights keep the age of their first reveal by this model, whatever it revealed in between.
fn save_weights(
    context: &mut Context<'_>,
    id: ModelId,
    content: &Content<'_>,
    commit: &WeightsCommit,
) {
    let key = Key::weights(id, content.weights_hash);
    let first = WeightsAge {
        epoch: commit.epoch,
        height: commit.height,
        index: commit.index,
    };
    let age = load::<Weights>(&context.state, &key).map_or(first, |known| known.age);
    let weights = Weights {
        weights_hash: *content.weights_hash,
        ciphertext_hash: commit.ciphertext_hash,
        size_bytes: commit.size_bytes,
        key: *content.key,
        age,
    };
    context.state.save(key, &weights);
}

/// The new file's rent: what is left of the old file's, and what the commit paid. What exceeds the
/// rent that is due returns to the owner.
fn replace_rent(context: &mut Context<'_>, model: &Model, commit: WeightsCommit) {
    let key = Key::rent(model.id, commit.architecture);
    let old = load::<Rent>(&context.state, &key).map_or(Amount::ZERO, |rent| rent.prepaid);
    let available = old.plus(commit.paid);
    let rent = Rent {
        prepaid: available.min(commit.rent),
        epochs_left: context.config.params.refresh_epochs,
        holders: commit.holders,
    };
    context.state.save(key, &rent);
    credit(
        &mut context.state,
        &model.owner,
        available.less(rent.prepaid),
    );
}

#[cfg(test)]
mod tests {
    use super::{check_embedding, is_unit_length};
    use crate::Rejection;

    #[test]
    fn an_embedding_has_exactly_the_components_of_the_architecture() {
        for found in [0, 7, 9] {
            let expected = Rejection::BadEmbeddingDimension { found, expected: 8 };
            assert_eq!(check_embedding(&vec![0; found as usize], 8), Err(expected));
        }
    }

    #[test]
    fn an_embedding_shorter_or_longer_than_rounding_allows_is_refused() {
        let axis = |component: i16| [component, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(check_embedding(&axis(32_767), 8), Ok(()));
        assert_eq!(check_embedding(&axis(32_766), 8), Ok(()));
        for component in [0, 1, 26_000, 32_700, i16::MIN] {
            let squared = i64::from(component).pow(2).unsigned_abs();
            let within = is_unit_length(squared, 8);
            assert_eq!(
                check_embedding(&axis(component), 8).is_ok(),
                within,
                "{component}"
            );
        }
        assert!(check_embedding(&axis(1), 8).is_err());
        assert!(check_embedding(&[32_767; 8], 8).is_err());
    }
}

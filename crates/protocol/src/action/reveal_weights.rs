//! Revealing the weights that a model was committed to. Anyone may send the reveal: only the
//! commitment counts.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use soma_architecture::embedding::{is_mean_length, length_squared};

use super::context::{Apply, Context};
use crate::money::{credit, rent};
use crate::proof::commitment::{self, CommittedWeights};
use crate::record::{
    Model, ModelStatus, NextWeights, Rent, RevealedFile, Specialization, Weights, WeightsAge,
    WeightsCommit,
};
use crate::state::{Key, load};
use crate::{Amount, Event, Hash, ModelId, Rejection, hex, living, read};

/// Reveals the weights that a model was committed to. Anyone may send this.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RevealWeights {
    /// The model.
    pub model: ModelId,
    /// Key of the encrypted file.
    #[serde(with = "hex::array")]
    pub key: [u8; 32],
    /// BLAKE3 of the weights file.
    pub weights_hash: Hash,
    /// The specialization: exactly `dim` components, not all 0, at most 32767 long within rounding.
    pub specialization: Vec<i16>,
}

/// Checks that a specialization has exactly `dim` components and the length of a mean of
/// embeddings, which is not zero: a zero vector has no direction.
pub(crate) fn check_specialization(components: &[i16], dim: u32) -> Result<(), Rejection> {
    let found = u32::try_from(components.len()).unwrap_or(u32::MAX);
    if found != dim {
        return Err(Rejection::BadSpecializationDimension { found, expected: dim });
    }
    let norm_squared = length_squared(components);
    if !is_mean_length(norm_squared, dim) {
        return Err(Rejection::BadSpecializationLength { norm_squared });
    }
    Ok(())
}

impl RevealWeights {
    /// The commit that this reveals.
    fn commit(&self, context: &Context<'_>, model: &Model) -> Result<WeightsCommit, Rejection> {
        let epoch = context.clock.epoch;
        let reveals = |commit: &WeightsCommit| {
            let committed = CommittedWeights {
                model: model.id,
                owner: &model.owner,
                epoch,
                weights_hash: &self.weights_hash,
                ciphertext_hash: &commit.ciphertext_hash,
                size_bytes: commit.size_bytes,
                key: &self.key,
                specialization: &self.specialization,
            };
            let chain = &context.config.network.chain_id;
            commitment::weights(chain, &committed) == commit.commitment
        };
        let commits = read::commits_of(&context.state, model.id, epoch);
        let revealed = commits.iter().find(|commit| reveals(commit));
        let commit = revealed.or(commits.first()).cloned();
        let commit = commit.ok_or(Rejection::CommitNotFound { model: model.id, epoch })?;
        let architecture = read::architecture(&context.state, commit.architecture);
        check_specialization(&self.specialization, architecture.map_or(0, |spec| spec.dim))?;
        if revealed.is_none() {
            return Err(Rejection::CommitmentMismatch);
        }
        if !commit.available {
            return Err(Rejection::NotAvailable { model: model.id });
        }
        Ok(commit)
    }

    /// Saves the weights, which keep the age of their first reveal by this model. If they come in
    /// another file than before, that one stays with the targets drawn under it.
    fn save_weights(&self, context: &mut Context<'_>, commit: &WeightsCommit) {
        let earlier = read::weights(&context.state, self.model, &self.weights_hash);
        let file = RevealedFile {
            ciphertext_hash: commit.ciphertext_hash,
            size_bytes: commit.size_bytes,
            key: self.key,
        };
        let replaced =
            earlier.as_ref().and_then(|earlier| earlier.replaced_by(&file, commit.epoch));
        let weights = Weights {
            weights_hash: self.weights_hash,
            ciphertext_hash: file.ciphertext_hash,
            size_bytes: file.size_bytes,
            key: file.key,
            age: earlier.map_or_else(|| WeightsAge::of(commit), |earlier| earlier.age),
            replaced,
        };
        let key = Key::weights(self.model, &self.weights_hash);
        context.state.save(key, &weights);
    }
}

impl Apply for RevealWeights {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let (id, weights_hash) = (self.model, self.weights_hash);
        let mut model = context.staked_model(id)?;
        let (epoch, phase) = (context.clock.epoch, context.clock.phase);
        if !phase.reveals() {
            return Err(Rejection::WrongPhase { phase });
        }
        context.check_visited(&model)?;
        let commit = self.commit(context, &model)?;
        let number = commit.architecture;
        let specialization = Specialization(self.specialization.clone());
        context.state.save(Key::specialization(id, number), &specialization);
        self.save_weights(context, &commit);
        replace_rent(context, &model, commit);
        let before = model.clone();
        if number == context.config.network.architecture_number {
            if matches!(model.status, ModelStatus::Registered | ModelStatus::Inactive) {
                model.status = ModelStatus::Active;
                model.activated = epoch;
            }
            model.weights = Some(weights_hash);
            model.revealed = epoch;
        } else {
            model.next =
                Some(NextWeights { architecture: number, weights: weights_hash, revealed: epoch });
        }
        living::count_ready(&mut context.state, &before, &model);
        context.state.save(Key::model(id), &model);
        context.events.push(Event::WeightsRevealed {
            model: id,
            epoch,
            weights_hash,
            architecture: number,
        });
        Ok(())
    }
}

/// Puts the new file in the place of the old one. Its rent is what is left of the old file's, plus
/// what the commit paid; anything beyond the rent due is returned to the owner.
fn replace_rent(context: &mut Context<'_>, model: &Model, commit: WeightsCommit) {
    let (id, number) = (model.id, commit.architecture);
    let [rented, committed] = [Key::rent(id, number), Key::commit(id, commit.epoch, number)];
    let old: Option<Rent> = load(&context.state, &rented);
    let old = old.map_or(Amount::ZERO, |rent| rent.prepaid);
    let available = old.plus(commit.paid);
    let rent = Rent {
        prepaid: available.min(commit.rent),
        epochs_left: context.config.params.refresh_epochs,
        size_bytes: commit.size_bytes,
        holders: commit.holders,
    };
    rent::change_files(&mut context.state, id, number, |state| {
        state.delete(committed);
        state.save(rented, &rent);
    });
    let excess = available.less(rent.prepaid);
    credit(&mut context.state, &model.owner, excess);
}

#[cfg(test)]
mod tests {
    use super::check_specialization;
    use crate::Rejection;

    #[test]
    fn a_specialization_has_exactly_the_components_of_the_architecture() {
        for found in [0, 7, 9] {
            let expected = Rejection::BadSpecializationDimension { found, expected: 8 };
            assert_eq!(check_specialization(&vec![0; found as usize], 8), Err(expected));
        }
    }

    #[test]
    fn a_specialization_is_as_long_as_a_mean_can_be_and_not_zero() {
        let axis = |component: i16| [component, 0, 0, 0, 0, 0, 0, 0];
        for component in [1, -1, 26_000, 32_766, i16::MAX, i16::MIN] {
            assert_eq!(check_specialization(&axis(component), 8), Ok(()), "{component}");
        }
        for components in [[0; 8], [32_767; 8], [12_000; 8], [i16::MIN; 8]] {
            let rejection = check_specialization(&components, 8).unwrap_err();
            assert!(matches!(rejection, Rejection::BadSpecializationLength { .. }));
        }
        assert_eq!(check_specialization(&[11_585; 8], 8), Ok(()), "of length 32767");
    }
}

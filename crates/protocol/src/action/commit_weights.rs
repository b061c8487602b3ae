//! Committing a model to weights that stay secret until the next epoch, and paying the rent of
//! their file, and for the room that its model does not have yet.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context, check_epoch};
use crate::money::{burn, credit, debit, rent};
use crate::record::WeightsCommit;
use crate::state::{Key, load};
use crate::{Amount, Defense, Epoch, Event, Hash, ModelId, Rejection, decimal, read};

/// Commits a model to weights that will be revealed in the next epoch.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CommitWeights {
    /// The model; the sender owns it.
    pub model: ModelId,
    /// Number of the architecture that the weights are for, current or upcoming.
    pub architecture: u32,
    /// The epoch of the reveal, which is the next one.
    pub epoch: Epoch,
    /// [`crate::commitment::weights`].
    pub commitment: Hash,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: Hash,
    /// Length of the encrypted file in bytes.
    #[serde(with = "decimal")]
    pub size_bytes: u64,
}

impl CommitWeights {
    fn check(&self, context: &Context<'_>) -> Result<(), Rejection> {
        check_epoch(self.epoch, context.clock.epoch.next())?;
        let architecture = self.architecture;
        let spec = read::open_architectures(&context.state)
            .find(|number| *number == architecture)
            .and_then(|number| read::architecture(&context.state, number));
        let spec = spec.ok_or(Rejection::NoSuchArchitecture { architecture })?;
        let (size_bytes, max) = (self.size_bytes, spec.weights_bytes_max());
        if size_bytes == 0 || size_bytes > max {
            return Err(Rejection::BadWeightsSize { size_bytes, max });
        }
        Ok(())
    }

    /// What the file's new room costs besides its rent. It is burned and never returned.
    fn premium(&self, context: &Context<'_>) -> Result<Amount, Rejection> {
        if !context.config.defends(Defense::FileRoom) {
            return Ok(Amount::ZERO);
        }
        let Self { model, architecture, size_bytes, .. } = *self;
        rent::premium_of(&context.state, &context.config.params, model, architecture, size_bytes)
    }

    /// Whether a commit is for the same file, in which case its holders hold this one too.
    fn has_file_of(&self, commit: &WeightsCommit) -> bool {
        (self.architecture, self.ciphertext_hash, self.size_bytes)
            == (commit.architecture, commit.ciphertext_hash, commit.size_bytes)
    }
}

impl Apply for CommitWeights {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let model = context.own_model(self.model)?;
        self.check(context)?;
        context.check_visited(&model)?;
        let key = Key::commit(model.id, self.epoch, self.architecture);
        let replaced: Option<WeightsCommit> = load(&context.state, &key);
        if let Some(replaced) = &replaced {
            credit(&mut context.state, &model.owner, replaced.paid);
        }
        let price = read::rent_price(&context.state);
        let rent = rent::due(self.size_bytes, self.epoch, price, &context.config.params);
        let carried_over = rent::carried_over(&context.state, model.id, self.architecture);
        let paid = rent.less(carried_over);
        let premium = self.premium(context)?;
        debit(&mut context.state, &model.owner, paid.plus(premium))?;
        burn(&mut context.state, premium);
        let kept = replaced.filter(|commit| self.has_file_of(commit));
        let commit = WeightsCommit {
            epoch: self.epoch,
            architecture: self.architecture,
            commitment: self.commitment,
            ciphertext_hash: self.ciphertext_hash,
            size_bytes: self.size_bytes,
            rent,
            paid,
            height: context.block.height,
            index: context.index,
            available: kept.as_ref().is_some_and(|commit| commit.available),
            holders: kept.map_or(Vec::new(), |commit| commit.holders),
        };
        rent::change_files(&mut context.state, model.id, self.architecture, |state| {
            state.save(key, &commit);
        });
        context.events.push(Event::WeightsCommitted {
            model: model.id,
            epoch: self.epoch,
            ciphertext_hash: self.ciphertext_hash,
            size_bytes: self.size_bytes,
            rent,
            paid,
            premium,
        });
        Ok(())
    }
}

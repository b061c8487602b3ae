//! Which files some rule needs now, read from the state.

use std::collections::{BTreeMap, BTreeSet};

use soma_protocol::record::{ModelStatus, Weights};
use soma_protocol::{Address, Epoch, Hash, ModelId, StateRead, read};

/// Weights that a model has revealed: a ciphertext and the key that decrypts it.
#[derive(Clone, Copy)]
pub(super) struct Revealed {
    pub(super) ciphertext_hash: Hash,
    pub(super) key: [u8; 32],
}

/// A ciphertext that the chain needs.
#[derive(Debug, Default)]
pub(super) struct Ciphertext {
    pub(super) size_bytes: u64,
    /// Owners of its models: they may upload it.
    pub(super) owners: BTreeSet<Address>,
}

/// The files that some rule needs.
#[derive(Default)]
pub(super) struct Needed {
    /// Ciphertexts, by their hash.
    pub(super) files: BTreeMap<Hash, Ciphertext>,
    /// Revealed weights, by their hash.
    pub(super) revealed: BTreeMap<Hash, Revealed>,
}

impl Needed {
    /// The files of commits that may still be revealed, of models that may be routed, and of the
    /// targets of this epoch and the last, which are scored with the weights fixed for them.
    pub(super) fn of(state: &dyn StateRead) -> Self {
        let mut needed = Self::default();
        let Epoch(epoch) = read::clock(state).epoch;
        for epoch in [epoch, epoch.saturating_add(1)] {
            for (model, commit) in read::commits(state, Epoch(epoch)) {
                needed.file(state, model, commit.ciphertext_hash, commit.size_bytes);
            }
        }
        for model in read::models(state, 1..=u32::MAX) {
            if model.status == ModelStatus::Active {
                needed.reveal(state, model.id, model.weights.as_ref());
            }
            let next = model.next.map(|next| next.weights);
            needed.reveal(state, model.id, next.as_ref());
        }
        for epoch in [epoch.saturating_sub(1), epoch] {
            for target in read::targets(state, Epoch(epoch)) {
                for routed in &target.routed {
                    needed.reveal(state, routed.model, Some(&routed.weights_hash));
                }
            }
        }
        needed
    }

    fn file(&mut self, state: &dyn StateRead, model: ModelId, hash: Hash, size_bytes: u64) {
        let file = self.files.entry(hash).or_default();
        file.size_bytes = size_bytes;
        file.owners.extend(read::model(state, model).map(|model| model.owner));
    }

    fn reveal(&mut self, state: &dyn StateRead, model: ModelId, weights_hash: Option<&Hash>) {
        let weights = weights_hash.and_then(|hash| read::weights(state, model, hash));
        if let Some(Weights { weights_hash, ciphertext_hash, size_bytes, key, .. }) = weights {
            self.file(state, model, ciphertext_hash, size_bytes);
            self.revealed.insert(weights_hash, Revealed { ciphertext_hash, key });
        }
    }
}

//! Which files some rule needs now, read from the state.
//!
//! A file is known by its hash and size together, and revealed weights by their own file: what one
//! model commits or reveals never changes what is kept, served or run for another.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use soma_protocol::record::{Model, ModelStatus, RevealedFile, WeightsCommit};
use soma_protocol::storage::Challenge;
use soma_protocol::{Address, Epoch, Hash, HeldFile, ModelId, StateRead, read};
use soma_sdk::Secret;

use crate::error::NodeError;

/// A ciphertext. A hash named with a size that its file does not have is a file that nobody holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ciphertext {
    pub(crate) hash: Hash,
    pub(crate) size_bytes: u64,
}

impl From<&WeightsCommit> for Ciphertext {
    fn from(commit: &WeightsCommit) -> Self {
        Self { hash: commit.ciphertext_hash, size_bytes: commit.size_bytes }
    }
}

impl From<&RevealedFile> for Ciphertext {
    fn from(file: &RevealedFile) -> Self {
        Self { hash: file.ciphertext_hash, size_bytes: file.size_bytes }
    }
}

impl From<&Challenge> for Ciphertext {
    fn from(challenge: &Challenge) -> Self {
        Self { hash: challenge.ciphertext_hash, size_bytes: challenge.size_bytes }
    }
}

impl Ciphertext {
    /// The word of a validator that holds it for a model.
    pub(crate) fn held_for(self, model: ModelId) -> HeldFile {
        HeldFile { model, ciphertext_hash: self.hash, size_bytes: self.size_bytes }
    }
}

impl fmt::Display for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.size_bytes)
    }
}

impl Ciphertext {
    /// The error for a file that the chain does not need.
    pub(super) fn not_found(&self) -> NodeError {
        let Self { hash, size_bytes } = *self;
        NodeError::CommitNotFound { hash, size_bytes }
    }
}

/// Who names a ciphertext.
#[derive(Clone, Debug, Default)]
pub(crate) struct Named {
    /// The models and their owners, who may upload it.
    pub(super) models: BTreeMap<ModelId, Address>,
    /// Whether it is revealed. Commits alone count towards a model's quota.
    pub(super) is_revealed: bool,
}

/// Weights that a model has revealed: a file, and what it must decrypt to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Revealed {
    pub(crate) weights_hash: Hash,
    pub(crate) file: RevealedFile,
}

impl Revealed {
    pub(crate) fn ciphertext(&self) -> Ciphertext {
        Ciphertext::from(&self.file)
    }

    pub(super) fn key(&self) -> Secret {
        Secret::from_bytes(self.file.key)
    }

    /// Names the file together with its key and what it must decrypt to: whether it does depends on
    /// nothing else.
    pub(crate) fn id(&self) -> Hash {
        let RevealedFile { ciphertext_hash, size_bytes, key } = &self.file;
        let size_bytes = size_bytes.to_le_bytes();
        let parts: [&[u8]; 4] = [&self.weights_hash.0, &ciphertext_hash.0, &size_bytes, key];
        Hash::of_parts("soma revealed file", &parts)
    }
}

/// The files that some rule needs.
#[derive(Default)]
pub(crate) struct Needed {
    /// Ciphertexts, and who names them.
    pub(super) files: BTreeMap<Ciphertext, Named>,
    /// Revealed weights by their hash, then by their [`Revealed::id`].
    pub(super) revealed: BTreeMap<Hash, BTreeMap<Hash, Revealed>>,
    /// Ciphertexts that audits of this epoch and of the next may run.
    pub(super) audited: BTreeSet<Ciphertext>,
    /// The current epoch.
    pub(super) epoch: Epoch,
    /// Length in bytes of the longest file that a model may commit to.
    pub(super) bytes_max: u64,
}

impl Needed {
    /// The files of commits that may still be revealed, of models that may be routed, and of the
    /// targets of this epoch and the last, which are scored with the files fixed for them; `living`
    /// are all living models.
    pub(crate) fn of(state: &dyn StateRead, living: &[Model]) -> Self {
        let Epoch(epoch) = read::clock(state).epoch;
        let bytes_max = read::open_architectures(state)
            .filter_map(|number| read::architecture(state, number))
            .map(|architecture| architecture.weights_bytes_max())
            .max();
        let bytes_max = bytes_max.unwrap_or(0);
        let mut needed = Self { epoch: Epoch(epoch), bytes_max, ..Self::default() };
        for model in living {
            for epoch in [epoch, epoch.saturating_add(1)] {
                for commit in read::commits_of(state, model.id, Epoch(epoch)) {
                    needed.file(model, Ciphertext::from(&commit));
                }
            }
            let current = model.weights.filter(|_| model.status == ModelStatus::Active);
            let next = model.next.map(|next| next.weights);
            for weights_hash in current.into_iter().chain(next) {
                let weights = read::weights(state, model.id, &weights_hash);
                needed.reveal(model, weights_hash, weights.map(|weights| weights.file()));
            }
        }
        for epoch in [epoch.saturating_sub(1), epoch] {
            for target in read::targets(state, Epoch(epoch)) {
                for routed in &target.routed {
                    let file = read::routed_file(state, &target, routed);
                    needed.audited.extend(file.as_ref().map(Ciphertext::from));
                    if let Some(model) = read::model(state, routed.model) {
                        needed.reveal(&model, routed.weights_hash, file);
                    }
                }
            }
        }
        needed
    }

    fn file(&mut self, model: &Model, file: Ciphertext) -> &mut Named {
        let named = self.files.entry(file).or_default();
        named.models.insert(model.id, model.owner);
        named
    }

    fn reveal(&mut self, model: &Model, weights_hash: Hash, file: Option<RevealedFile>) {
        if let Some(file) = file {
            let revealed = Revealed { weights_hash, file };
            self.file(model, revealed.ciphertext()).is_revealed = true;
            self.revealed.entry(weights_hash).or_default().insert(revealed.id(), revealed);
        }
    }

    /// The [`Revealed::id`]s of all revealed weights.
    pub(super) fn ids(&self) -> BTreeSet<Hash> {
        self.revealed.values().flat_map(BTreeMap::keys).copied().collect()
    }
}

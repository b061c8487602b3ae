//! Weights that are public, and the encrypted files that hold them.

use std::collections::BTreeMap;

use blake3::hazmat::HasherExt as _;
use soma_protocol::record::ModelStatus;
use soma_protocol::storage::{self, CHUNK_BYTES, Challenge};
use soma_protocol::{Action, Epoch, Hash, MemoryState, ModelId, action, read};

use crate::quality::Quality;

/// Length of an encrypted file here. The price of rent is scaled to the full architecture's.
pub const FILE_BYTES: u64 = 1 << 20;

/// All weights that have ever been public.
#[derive(Debug, Default)]
pub struct Library(BTreeMap<Hash, Weights>);

/// Weights as they are shown.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Their hash.
    pub hash: Hash,
    /// What they can do.
    pub quality: Quality,
    /// The specialization that is claimed for them.
    pub claimed: Vec<f64>,
}

impl Library {
    /// Makes weights public.
    pub fn add(&mut self, weights: Weights) {
        self.0.entry(weights.hash).or_insert(weights);
    }

    /// What public weights can do.
    pub fn get(&self, weights: &Hash) -> Option<&Quality> {
        self.0.get(weights).map(|one| &one.quality)
    }

    /// The best weights that an active model competes with.
    pub fn best(&self, state: &MemoryState) -> Option<&Weights> {
        let models = read::models(state, 1..=u32::MAX);
        let active = models.filter(|one| one.status == ModelStatus::Active);
        active
            .filter_map(|model| self.0.get(&model.weights?))
            .max_by(|one, other| one.quality.effort.total_cmp(&other.quality.effort))
    }
}

/// An encrypted file: its bytes follow from the model and its weights.
#[derive(Clone, Copy, Debug)]
pub struct File(Hash);

impl File {
    /// The file of a model with these weights.
    pub fn new(model: ModelId, weights: &Hash) -> Self {
        let parts: [&[u8]; 2] = [&model.0.to_le_bytes(), &weights.0];
        Self(Hash::of_parts("economy file", &parts))
    }

    /// BLAKE3 of its bytes.
    pub fn hash(&self) -> Hash {
        Hash::of_bytes(&self.part(0, FILE_BYTES))
    }

    fn part(&self, offset: u64, length: u64) -> Vec<u8> {
        let [skip, length] = [offset % 32, length].map(|one| usize::try_from(one).unwrap_or(0));
        let mut bytes = self.0.0.repeat((skip + length).div_ceil(32));
        bytes.drain(..skip);
        bytes.truncate(length);
        bytes
    }

    /// The answer to a storage challenge.
    pub fn answer(&self, epoch: Epoch, asked: &Challenge) -> Option<Action> {
        let start = asked.chunk * CHUNK_BYTES;
        let length = CHUNK_BYTES.min(asked.size_bytes.saturating_sub(start));
        let subtree = |offset, length| {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(offset);
            hasher.update(&self.part(offset, length));
            Ok::<_, std::convert::Infallible>(hasher.finalize_non_root())
        };
        let path = storage::path(asked.size_bytes, asked.chunk, subtree).ok()?;
        Some(Action::AnswerChallenge(action::AnswerChallenge {
            epoch,
            chunk: self.part(start, length),
            path,
        }))
    }
}

/// The file of a model that a challenge is about.
pub fn file_in_use(state: &MemoryState, model: ModelId) -> Option<File> {
    Some(File::new(model, &read::model(state, model)?.weights?))
}

//! Public weights, and the encrypted files that hold them.

use std::collections::BTreeMap;

use blake3::hazmat::HasherExt as _;
use soma_protocol::record::ModelStatus;
use soma_protocol::storage::{self, CHUNK_BYTES, Challenge};
use soma_protocol::{Action, Epoch, Hash, MemoryState, ModelId, action, read};

use crate::quality::Quality;

/// Size of an encrypted file. The price of rent is scaled to match the full architecture.
pub const FILE_BYTES: u64 = 1 << 20;

/// All weights that were ever public, by hash.
#[derive(Debug, Default)]
pub struct Library(BTreeMap<Hash, Weights>);

/// Published weights.
#[derive(Clone, Debug)]
pub struct Weights {
    /// Their hash.
    pub hash: Hash,
    /// How well they predict.
    pub quality: Quality,
    /// The specialization that their owner claims.
    pub claimed: Vec<f64>,
}

impl Library {
    /// Adds weights.
    pub fn add(&mut self, weights: Weights) {
        self.0.entry(weights.hash).or_insert(weights);
    }

    /// How well the weights with this hash predict.
    pub fn get(&self, weights: &Hash) -> Option<&Quality> {
        self.0.get(weights).map(|weights| &weights.quality)
    }

    /// The best weights of an active model.
    pub fn best(&self, state: &MemoryState) -> Option<&Weights> {
        let models = read::living_models(state);
        let active = models.filter(|model| model.status == ModelStatus::Active);
        active
            .filter_map(|model| self.0.get(&model.weights?))
            .max_by(|a, b| a.quality.effort.total_cmp(&b.quality.effort))
    }
}

/// An encrypted weights file. Its bytes are derived from the model and its weights.
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
        let [skip, length] = [offset % 32, length].map(|bytes| usize::try_from(bytes).unwrap_or(0));
        let mut bytes = self.0.0.repeat((skip + length).div_ceil(32));
        bytes.drain(..skip);
        bytes.truncate(length);
        bytes
    }

    /// The answer to a storage challenge.
    pub fn answer(&self, epoch: Epoch, challenge: &Challenge) -> Option<Action> {
        let start = challenge.chunk * CHUNK_BYTES;
        let length = CHUNK_BYTES.min(challenge.size_bytes.saturating_sub(start));
        let subtree = |offset, length| {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(offset);
            hasher.update(&self.part(offset, length));
            Ok::<_, std::convert::Infallible>(hasher.finalize_non_root())
        };
        let path = storage::path(challenge.size_bytes, challenge.chunk, subtree).ok()?;
        Some(Action::AnswerChallenge(action::AnswerChallenge {
            epoch,
            chunk: self.part(start, length),
            path,
        }))
    }
}

/// The file of a model's current weights, which storage challenges are about.
pub fn current_file(state: &MemoryState, model: ModelId) -> Option<File> {
    Some(File::new(model, &read::model(state, model)?.weights?))
}

//! A training run on disk: resuming from it changes nothing. It never holds anything specific to
//! this machine.
//!
//! The file: a line that names the format; the length of the state in JSON as 8 bytes, and that
//! JSON; the weights, the first and the second moments as float32, each in the order of a weights
//! file; BLAKE3 of all that. Numbers are little-endian.

use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use soma_architecture::Configuration;
use soma_os::file;

use super::adamw::AdamW;
use super::layout::Layout;
use super::{Corpus, Recipe, State, Trainer};
use crate::error::{CheckpointFault, Error};
use crate::kernels::Engine;
use crate::simd::operand;

/// States what the file is and which version of training it belongs to.
const FORMAT: &[u8] = b"soma checkpoint 2\n";

/// Steps and epochs stay below this, so that counting on from a checkpoint cannot overflow.
const COUNT_MAX: u64 = 1 << 48;

/// What determines the rest of a run besides the numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    architecture: Configuration,
    recipe: Recipe,
    step: u64,
    epoch: u64,
    cursor: usize,
    corpus: String,
}

impl<'e> Trainer<'e> {
    /// Writes the state of the run; the write is atomic.
    ///
    /// # Errors
    /// [`Error::Io`] if it cannot be written.
    pub fn save_checkpoint(&self, path: &Path) -> Result<(), Error> {
        let (epoch, cursor) = self.order.place();
        let header = serde_json::json!(Header {
            architecture: Configuration::from(&self.architecture),
            recipe: self.recipe.clone(),
            step: self.step,
            epoch,
            cursor,
            corpus: self.order.corpus_hash().to_string(),
        })
        .to_string();
        let mut content = FORMAT.to_vec();
        content.extend((header.len() as u64).to_le_bytes());
        content.extend(header.as_bytes());
        for list in [&self.values, &self.adamw.first_moments, &self.adamw.second_moments] {
            content.extend(list.iter().flat_map(|number| number.to_le_bytes()));
        }
        let hash = blake3::hash(&content);
        content.extend(hash.as_bytes());
        file::write(path, &content).map_err(|source| io_error(path, source))
    }

    /// Resumes a run exactly where [`Self::save_checkpoint`] left it, on the same data.
    ///
    /// # Errors
    /// [`Error::Io`] if the file cannot be read, [`Error::Checkpoint`] if it is not a checkpoint of
    /// this data.
    pub fn resume(engine: &'e Engine, path: &Path, corpus: Corpus) -> Result<Self, Error> {
        let file = fs::read(path).map_err(|source| io_error(path, source))?;
        let fault = |fault| Error::Checkpoint { path: path.to_owned(), fault };
        let (header, lists) = read(&file).map_err(fault)?;
        let architecture = header.architecture.architecture()?;
        header.recipe.check()?;
        if header.corpus != corpus.hash().to_string() {
            return Err(fault(CheckpointFault::OtherData));
        }
        let parameters = Layout::new(&architecture).len();
        let (numbers, rest) = lists.as_chunks();
        if parameters == 0 || numbers.len() != 3 * parameters || !rest.is_empty() {
            return Err(fault(CheckpointFault::Length));
        }
        let mut lists = numbers.chunks_exact(parameters);
        let mut list = || -> Vec<f32> {
            lists.next().into_iter().flatten().copied().map(f32::from_le_bytes).collect()
        };
        let Header { recipe, step, epoch, cursor, .. } = header;
        // Ours are operands already; others must not make training differ from a score.
        let values = list().into_iter().map(operand).collect();
        let adamw = AdamW::resume(list(), list(), step, &recipe);
        let state = State { step, place: (epoch, cursor), values, adamw };
        Self::assemble(engine, architecture, recipe, corpus, state)
    }
}

/// The state and the bytes of the three lists.
fn read(file: &[u8]) -> Result<(Header, &[u8]), CheckpointFault> {
    let (content, hash) = file.split_last_chunk::<32>().ok_or(CheckpointFault::Damaged)?;
    let rest = content.strip_prefix(FORMAT).ok_or(CheckpointFault::Format)?;
    if blake3::hash(content) != *hash {
        return Err(CheckpointFault::Damaged);
    }
    let (length, rest) = rest.split_first_chunk().ok_or(CheckpointFault::Damaged)?;
    let length =
        usize::try_from(u64::from_le_bytes(*length)).map_err(|_| CheckpointFault::Damaged)?;
    let (header, lists) = rest.split_at_checked(length).ok_or(CheckpointFault::Damaged)?;
    let header: Header = serde_json::from_slice(header)?;
    if header.step > COUNT_MAX || header.epoch > COUNT_MAX {
        return Err(CheckpointFault::Count);
    }
    Ok((header, lists))
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

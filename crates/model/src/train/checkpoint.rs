//! A training run on disk: resuming from it changes nothing. It never holds anything specific to
//! this machine.
//!
//! The file: a line that names the format; the length of the state in JSON as 8 bytes, and that
//! JSON; the weights, the first and the second moments as float32, each in the order of a weights
//! file; BLAKE3 of all that. Numbers are little-endian.

use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use soma_architecture::{Architecture, Configuration};
use soma_os::file::AtomicFile;

use super::adamw::AdamW;
use super::layout::Layout;
use super::{Corpus, Recipe, State, Trainer};
use crate::error::{CheckpointFault, Error};
use crate::kernels::Engine;
use crate::look::{LOOKED_AT, Look};
use crate::simd::operand;
use crate::weights::{open_regular, write_floats};

/// States what the file is and which version of training it belongs to.
const FORMAT: &[u8] = b"soma checkpoint 2\n";

/// Bytes of the longest state.
const HEADER_BYTES_MAX: usize = 1 << 20;

/// Bytes that are read at a time.
const READ_BLOCK: usize = 1 << 18;

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
    /// Writes the state of the run; the write is atomic, and nothing is copied for it.
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
        let write = || {
            let mut out = Hashed::new(AtomicFile::create(path)?);
            out.write_all(FORMAT)?;
            out.write_all(&(header.len() as u64).to_le_bytes())?;
            out.write_all(header.as_bytes())?;
            for list in [&self.values, &self.adamw.first_moments, &self.adamw.second_moments] {
                write_floats(&mut out, list)?;
            }
            let (mut file, hash) = out.finish();
            file.write_all(hash.as_bytes())?;
            file.commit()
        };
        write().map_err(|source| io_error(path, source))
    }

    /// Resumes a run exactly where [`Self::save_checkpoint`] left it, on the same data.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::NotAFile`] if the file cannot be read, [`Error::Checkpoint`] if
    /// it is not a checkpoint of this data.
    pub fn resume(engine: &'e Engine, path: &Path, corpus: Corpus) -> Result<Self, Error> {
        let Content { header, architecture, lists } = read(path)?;
        header.recipe.check()?;
        if header.corpus != corpus.hash().to_string() {
            return Err(fault(path, CheckpointFault::OtherData));
        }
        let Header { recipe, step, epoch, cursor, .. } = header;
        let [mut values, first, second] = lists;
        // Ours are operands already; others must not make training differ from a score.
        for value in &mut values {
            *value = operand(*value);
        }
        let adamw = AdamW::resume(first, second, step, &recipe);
        let state = State { step, place: (epoch, cursor), values, adamw };
        Self::assemble(engine, architecture, recipe, corpus, state)
    }
}

/// A checkpoint as it was read.
struct Content {
    header: Header,
    architecture: Architecture,
    lists: [Vec<f32>; 3],
}

/// Everything in a checkpoint. Whatever is wrong with it, damage is named before anything else.
fn read(path: &Path) -> Result<Content, Error> {
    let io = |source| io_error(path, source);
    let mut file = open_regular(path)?;
    let length = file.metadata().map_err(io)?.len();
    let Some(length) = length.checked_sub(blake3::OUT_LEN as u64) else {
        return Err(fault(path, CheckpointFault::Damaged));
    };
    let source = BufReader::with_capacity(READ_BLOCK, (&mut file).take(length));
    let mut source = Hashed::new(source);
    let content = parse(path, &mut source, length);
    if matches!(content, Err(Error::Io { .. })) {
        return content;
    }
    io::copy(&mut source, &mut io::sink()).map_err(io)?;
    let (_, expected) = source.finish();
    let mut hash = [0; blake3::OUT_LEN];
    file.read_exact(&mut hash).map_err(io)?;
    match content {
        Err(Error::Checkpoint { fault: CheckpointFault::Format { .. }, .. }) => content,
        _ if expected != hash => Err(fault(path, CheckpointFault::Damaged)),
        content => content,
    }
}

/// Everything in a checkpoint of `length` bytes before its hash.
fn parse(path: &Path, source: &mut impl Read, length: u64) -> Result<Content, Error> {
    let io = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => fault(path, CheckpointFault::Damaged),
        _ => io_error(path, error),
    };
    let mut start = Vec::new();
    source.take(FORMAT.len() as u64).read_to_end(&mut start).map_err(io)?;
    if start != FORMAT {
        source.take(LOOKED_AT as u64).read_to_end(&mut start).map_err(io)?;
        let look = Look::of_no_checkpoint(&start);
        let cut = FORMAT.starts_with(&start);
        let what = if cut { CheckpointFault::Damaged } else { CheckpointFault::Format { look } };
        return Err(fault(path, what));
    }
    let mut bytes = [0; 8];
    source.read_exact(&mut bytes).map_err(io)?;
    let text_length = usize::try_from(u64::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    if text_length > HEADER_BYTES_MAX {
        return Err(fault(path, CheckpointFault::Damaged));
    }
    let mut text = vec![0; text_length];
    source.read_exact(&mut text).map_err(io)?;
    let header: Header =
        serde_json::from_slice(&text).map_err(|error| fault(path, error.into()))?;
    if header.step > COUNT_MAX || header.epoch > COUNT_MAX {
        return Err(fault(path, CheckpointFault::Count));
    }
    let architecture = header.architecture.architecture()?;
    let parameters = Layout::new(&architecture).len();
    let rest = length - (FORMAT.len() + bytes.len() + text_length) as u64;
    // Memory is taken only for numbers that are there.
    if parameters == 0 || rest != 12 * parameters as u64 {
        return Err(fault(path, CheckpointFault::Length));
    }
    let mut list = || read_floats(source, parameters).map_err(io);
    let lists = [list()?, list()?, list()?];
    Ok(Content { header, architecture, lists })
}

fn read_floats(source: &mut impl Read, count: usize) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(count);
    let mut block = vec![0; READ_BLOCK];
    while values.len() < count {
        let bytes = &mut block[..READ_BLOCK.min((count - values.len()) * 4)];
        source.read_exact(bytes)?;
        values.extend(bytes.as_chunks().0.iter().copied().map(f32::from_le_bytes));
    }
    Ok(values)
}

/// A reader or writer and the hash of what passes through it.
pub(super) struct Hashed<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashed<T> {
    pub(super) fn new(inner: T) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    pub(super) fn finish(self) -> (T, blake3::Hash) {
        (self.inner, self.hasher.finalize())
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.hasher.update(&bytes[..read]);
        Ok(read)
    }
}

fn fault(path: &Path, fault: CheckpointFault) -> Error {
    Error::Checkpoint { path: path.to_owned(), fault }
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

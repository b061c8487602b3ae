//! Files as the competition sees them: documents within the size bounds.

use std::borrow::Cow;
use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use soma_codes::{Code, Coded as _};
use soma_os::data::{self, Found};
use soma_protocol::Hash;

use crate::error::{CompeteError, Result};
use crate::observer::{Level, Observer};

/// A file, or a piece of a large one, known by its hash. Its content is in memory, or read when it
/// is needed.
#[derive(Clone, Debug)]
pub struct Document {
    path: String,
    hash: Hash,
    size_bytes: usize,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Held(Vec<u8>),
    OnDisk { file: PathBuf, offset: u64 },
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Held(_) => write!(f, "in memory"),
            Self::OnDisk { file, offset } => write!(f, "{} from byte {offset}", file.display()),
        }
    }
}

impl Document {
    /// A document in memory.
    pub fn new(path: String, bytes: Vec<u8>) -> Self {
        let (hash, size_bytes) = (Hash::of_bytes(&bytes), bytes.len());
        Self { path, hash, size_bytes, content: Content::Held(bytes) }
    }

    /// The piece of a file that begins at `offset`, whose hash and size are known.
    pub(crate) fn on_disk(
        path: String,
        file: PathBuf,
        offset: u64,
        hash: Hash,
        size_bytes: usize,
    ) -> Self {
        Self { path, hash, size_bytes, content: Content::OnDisk { file, offset } }
    }

    /// The file's path; its second piece has `#2` appended.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// BLAKE3 of its bytes, by which the chain identifies it.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Number of its bytes.
    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Its bytes.
    ///
    /// # Errors
    /// [`CompeteError::Modified`] if they are others by now; [`CompeteError::File`].
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let (file, offset) = match &self.content {
            Content::Held(bytes) => return Ok(Cow::Borrowed(bytes)),
            Content::OnDisk { file, offset } => (file, *offset),
        };
        let bytes = data::read_part(file, offset, self.size_bytes)
            .map_err(CompeteError::file(file, "read"))?;
        if Hash::of_bytes(&bytes) == self.hash {
            Ok(Cow::Owned(bytes))
        } else {
            Err(CompeteError::Modified { path: file.clone() })
        }
    }
}

/// Reads a file as documents of at most `bytes_max`; their paths begin with `name`.
///
/// # Errors
/// [`CompeteError::File`].
pub fn read(file: &Path, name: &Path, bytes_max: usize) -> Result<Vec<Document>> {
    let bytes = data::read(file).map_err(CompeteError::file(file, "read"))?;
    Ok(pieces(name, &bytes, bytes_max).collect())
}

/// The content of a file as documents of at most `bytes_max`; their paths begin with `name`.
pub fn pieces(name: &Path, content: &[u8], bytes_max: usize) -> impl Iterator<Item = Document> {
    let whole = content.len() <= bytes_max;
    let pieces = content.chunks(bytes_max.max(1)).enumerate();
    pieces
        .map(move |(index, bytes)| Document::new(piece_name(name, index, whole), bytes.to_owned()))
}

/// What the piece of this index is called, or the whole file.
pub(crate) fn piece_name(name: &Path, index: usize, whole: bool) -> String {
    let name = name.to_string_lossy();
    if whole { name.into_owned() } else { format!("{name}#{}", index + 1) }
}

/// Files and folders that cannot be used, of which each is told; of more, their number.
const FAILURES_TOLD: usize = 20;

/// The files that `paths` stand for, by the rule of [`soma_os::data`]. What is left out is told,
/// but not what alone is why there are none: that is the error of whoever asked.
pub fn find(paths: &[PathBuf], observer: &dyn Observer) -> Found {
    let found = data::find(paths);
    if !found.files.is_empty() || found.failures().nth(1).is_some() {
        for (level, line) in told(&found) {
            observer.notice(level, &line);
        }
    }
    found
}

/// What to tell about what was left out, line by line.
pub(crate) fn told(found: &Found) -> Vec<(Level, String)> {
    let mut lines = Vec::new();
    for (path, error) in found.failures().take(FAILURES_TOLD) {
        lines.push((Level::Warning, left_out(path, error)));
    }
    let more = found.failures().count().saturating_sub(FAILURES_TOLD);
    if more > 0 {
        lines.push((Level::Warning, format!("{more} more cannot be used, and are left out")));
    }
    if let Some(counts) = found.by_rule() {
        lines.push((Level::Info, format!("left out: {counts}")));
    }
    lines
}

/// A file, a piece of one, or a folder that was asked for and could not be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its path.
    pub path: String,
    /// The code of the error.
    pub code: Code,
    /// The error, in one line.
    pub message: String,
}

impl Unusable {
    pub(crate) fn new(path: &str, error: &CompeteError) -> Self {
        Self { path: path.to_owned(), code: error.code(), message: error.to_string() }
    }

    /// What could not be read.
    pub(crate) fn unread(path: &Path, error: &io::Error) -> Self {
        let message = format!("cannot read {}: {error}", path.display());
        Self { path: path.display().to_string(), code: Code::of_io(error), message }
    }
}

/// Says that a file is left out.
pub fn left_out(path: &Path, reason: impl Display) -> String {
    format!("{} is left out: {reason}", path.display())
}

//! Files as the competition sees them: documents within the size bounds.

use std::borrow::Cow;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use soma_protocol::Hash;

use crate::error::{CompeteError, Result};

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
        let mut bytes = Vec::with_capacity(self.size_bytes);
        File::open(file)
            .and_then(|mut opened| {
                opened.seek(SeekFrom::Start(offset))?;
                opened.take(self.size_bytes as u64).read_to_end(&mut bytes)
            })
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
    let bytes = std::fs::read(file).map_err(CompeteError::file(file, "read"))?;
    let pieces = bytes.chunks(bytes_max.max(1)).enumerate();
    let whole = bytes.len() <= bytes_max;
    let document = |(index, bytes): (usize, &[u8])| {
        Document::new(piece_name(name, index, whole), bytes.to_owned())
    };
    Ok(pieces.map(document).collect())
}

/// What the piece of this index is called, or the whole file.
pub(crate) fn piece_name(name: &Path, index: usize, whole: bool) -> String {
    let name = name.to_string_lossy();
    if whole { name.into_owned() } else { format!("{name}#{}", index + 1) }
}

/// Reads files, and all files below folders, as documents of at most `bytes_max`.
///
/// # Errors
/// [`CompeteError::File`]; [`CompeteError::List`].
pub fn read_all(paths: &[PathBuf], bytes_max: usize) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    for path in paths {
        for file in files_below(path)? {
            documents.extend(read(&file, &file, bytes_max)?);
        }
    }
    Ok(documents)
}

/// The file itself, or the regular files below a folder in order of path, without hidden and
/// ignored ones.
///
/// # Errors
/// [`CompeteError::File`]; [`CompeteError::List`].
pub fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let kind = std::fs::metadata(path).map_err(CompeteError::file(path, "read"))?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    let walk = ignore::WalkBuilder::new(path).sort_by_file_path(Ord::cmp).build();
    for entry in walk {
        let entry = entry.map_err(|source| CompeteError::List { path: path.to_owned(), source })?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

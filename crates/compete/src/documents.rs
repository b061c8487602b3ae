//! Files as the competition sees them: documents within the size bounds.

use std::path::{Path, PathBuf};

use soma_protocol::Hash;

use crate::error::{CompeteError, Result};

/// A file, or a piece of a large one.
#[derive(Clone, Debug)]
pub struct Document {
    /// The file's path; its second piece has `#2` appended.
    pub path: String,
    /// The content.
    pub bytes: Vec<u8>,
}

impl Document {
    /// BLAKE3 of its bytes, by which the chain identifies it.
    pub fn hash(&self) -> Hash {
        Hash::of_bytes(&self.bytes)
    }
}

/// Reads a file as documents of at most `bytes_max`; their paths begin with `name`.
///
/// # Errors
/// [`CompeteError::File`].
pub fn read(file: &Path, name: &Path, bytes_max: usize) -> Result<Vec<Document>> {
    let bytes = std::fs::read(file).map_err(CompeteError::file(file, "read"))?;
    let name = name.to_string_lossy();
    let whole = bytes.len() <= bytes_max;
    let pieces = bytes.chunks(bytes_max.max(1)).enumerate();
    let document = |(index, bytes): (usize, &[u8])| Document {
        path: if whole { name.to_string() } else { format!("{name}#{}", index + 1) },
        bytes: bytes.to_owned(),
    };
    Ok(pieces.map(document).collect())
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

//! Files as the competition sees them: documents within the bounds of size.

use std::path::{Path, PathBuf};

use soma_codes::Code;
use soma_protocol::Hash;

use crate::error::{Error, Result};

/// A file, or a piece of a large one.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// The file, with `#2` behind it for its second piece.
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
}

impl Document {
    /// BLAKE3 of its bytes: the name by which the chain knows it.
    pub(crate) fn hash(&self) -> Hash {
        Hash::of_bytes(&self.bytes)
    }
}

/// Reads a file as documents of at most `bytes_max`; `name` is what people know it by.
pub(crate) fn read(file: &Path, name: &Path, bytes_max: usize) -> Result<Vec<Document>> {
    let bytes = std::fs::read(file).map_err(|error| Error::file(file, "read", &error))?;
    let name = name.to_string_lossy();
    let whole = bytes.len() <= bytes_max;
    let pieces = bytes
        .chunks(bytes_max.max(1))
        .enumerate()
        .map(|(index, bytes)| Document {
            path: if whole {
                name.to_string()
            } else {
                format!("{name}#{}", index + 1)
            },
            bytes: bytes.to_owned(),
        });
    Ok(pieces.collect())
}

/// The file itself, or the regular files below a folder in the order of their paths; hidden and
/// ignored ones are left out.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>> {
    let kind = std::fs::metadata(path).map_err(|error| Error::file(path, "read", &error))?;
    if !kind.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in ignore::WalkBuilder::new(path)
        .sort_by_file_path(Ord::cmp)
        .build()
    {
        let entry = entry.map_err(|error| {
            let message = format!("cannot list {}: {error}", path.display());
            Error::new(Code::FileError, message)
        })?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

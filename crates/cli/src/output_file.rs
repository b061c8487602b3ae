//! Files that a command writes: where they may go, and what becomes of what lies there. One rule
//! for all commands (`docs/reference/files.md`), applied before the work that makes a file.

use std::path::{Path, PathBuf};

use soma_codes::Code;
use soma_os::file::check_output;

use crate::error::{Error, Result};

/// What becomes of a file that lies where a command writes. A device or a pipe is never replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    /// It is replaced: the user named it.
    Replaced,
    /// It stays, and the command fails: the command chose the name, or the file may be the only
    /// copy of what cannot be made again.
    Kept,
}

/// Checks that a file can be written to `path`.
///
/// # Errors
/// [`Code::FileExists`] if something is there that must be kept; why it cannot be written.
pub(crate) fn check(path: &Path, existing: Existing) -> Result {
    let found = path.symlink_metadata().is_ok_and(|found| !found.is_dir());
    if existing == Existing::Kept && found {
        return Err(Error::new(Code::FileExists, format!("{} already exists", path.display())));
    }
    check_output(path).map_err(|error| Error::file(path, "write", &error))
}

/// The file that a command writes: the named one, or a new one of this name in the current folder.
///
/// # Errors
/// Those of [`check`].
pub(crate) fn named_or_new(named: Option<PathBuf>, name: String) -> Result<PathBuf> {
    let (path, existing) = match named {
        Some(path) => (path, Existing::Replaced),
        None => (PathBuf::from(name), Existing::Kept),
    };
    check(&path, existing)?;
    Ok(path)
}

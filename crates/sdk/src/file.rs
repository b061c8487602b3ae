//! Files that are either whole or not there, also when the power goes. Nothing is overwritten in
//! place.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::error::SdkError;

/// A file being written beside its target; dropped without [`Part::keep`], it disappears.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) file: File,
    path: PathBuf,
    target: PathBuf,
}

impl Part {
    /// A new, empty file that only this user can read, on its way to `target`.
    pub(crate) fn create(target: &Path) -> Result<Self, SdkError> {
        let path = beside(target, &format!("{}.tmp", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let file = private(&mut options)
            .open(&path)
            .map_err(SdkError::io(&path))?;
        Ok(Self {
            file,
            path,
            target: target.to_owned(),
        })
    }

    /// Puts the file in its target's place, once it is on disk.
    pub(crate) fn keep(self) -> Result<(), SdkError> {
        self.file.sync_all().map_err(SdkError::io(&self.path))?;
        settle(&self.path, &self.target)
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After `keep` nothing is left to remove; elsewhere a failure leaves a file to no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Writes `bytes` to `target`, all or nothing, for this user's eyes only.
pub(crate) fn write(target: &Path, bytes: &[u8]) -> Result<(), SdkError> {
    let mut part = Part::create(target)?;
    part.file.write_all(bytes).map_err(SdkError::io(target))?;
    part.keep()
}

/// Moves the file `from`, already on disk, to `to`, and makes the move itself durable.
pub(crate) fn settle(from: &Path, to: &Path) -> Result<(), SdkError> {
    std::fs::rename(from, to).map_err(SdkError::io(to))?;
    sync_folder(to)
}

/// Makes the creation, renaming or removal of `path` durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), SdkError> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if cfg!(unix) {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(SdkError::io(folder))?;
    }
    Ok(())
}

/// `path` with `.ending` after its full name, in the same folder.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Files created with these options can be read by this user alone.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Creates the folder, for this user alone, if it is not there.
pub(crate) fn private_folder(path: &Path) -> Result<(), SdkError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(SdkError::io(path))
}

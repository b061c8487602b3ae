//! Files and folders that only this user can read, and names of partial files.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use crate::error::SdkError;

/// `path` with `.` and `ending` appended to its full name, in the same folder.
pub(crate) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Makes files created with these options readable by this user only.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Creates the folder, for this user only, unless it exists.
///
/// # Errors
/// [`SdkError::FolderMode`] if it exists and other users may use it: what it holds is secret, and
/// must not be replaced by others.
pub(crate) fn private_folder(path: &Path) -> Result<(), SdkError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(SdkError::io(path))?;
    match mode_for_others(path)? {
        Some(mode) => Err(SdkError::FolderMode { path: path.to_owned(), mode }),
        None => Ok(()),
    }
}

/// The permission bits of a file or folder if they let other users do anything with it.
pub(crate) fn mode_for_others(path: &Path) -> Result<Option<u32>, SdkError> {
    #[cfg(unix)]
    {
        let metadata = std::fs::metadata(path).map_err(SdkError::io(path))?;
        let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
        Ok((mode & 0o077 != 0).then_some(mode))
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        Ok(None)
    }
}

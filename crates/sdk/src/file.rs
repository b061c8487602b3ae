//! Files and folders that only this user can read, and the names of partial files.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use crate::error::SdkError;

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

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
pub(crate) fn private_folder(path: &Path) -> Result<(), SdkError> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(SdkError::io(path))
}

//! Tests whether a disk accepts data. Decisions rest on an error's kind, never on its text.

use std::{
    io::{self, Write as _},
    path::Path,
};

/// Space on the disk of a folder that this user can fill, in bytes; `None` where the system does
/// not tell.
///
/// # Errors
/// If the folder does not exist or its file system cannot be asked.
pub fn free_bytes(folder: &Path) -> io::Result<Option<u64>> {
    #[cfg(unix)]
    {
        let space = rustix::fs::statvfs(folder)?;
        Ok(Some(space.f_bavail.saturating_mul(space.f_frsize)))
    }
    #[cfg(not(unix))]
    {
        folder.metadata().map(|_| None)
    }
}

/// Tests whether a folder's disk accepts data: writes a file of `bytes` bytes, syncs it, deletes
/// it.
///
/// # Errors
/// The error from the first step that fails.
pub fn check_writable(folder: &Path, bytes: usize) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(folder)?;
    file.write_all(&vec![0; bytes])?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::{check_writable, free_bytes};

    #[test]
    fn the_free_space_of_a_folder_is_known_and_of_a_missing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap().is_none_or(|bytes| bytes > 0));
        assert!(free_bytes(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_writable_folder_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        check_writable(folder.path(), 1 << 16).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = check_writable(&folder.path().join("missing"), 1).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}

//! Tests whether a disk accepts data. Decisions rest on an error's kind, never on its text.

use std::{
    io::{self, Write as _},
    path::Path,
};

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

    use super::check_writable;

    #[test]
    fn a_writable_folder_is_left_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        check_writable(folder.path(), 1 << 16).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let missing = check_writable(&folder.path().join("missing"), 1).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }
}

//! Files that are complete or absent, even after a crash or power loss. Nothing here overwrites a
//! file in place.
//!
//! Data goes to a temporary file in the target's folder, `NAME.XXXXXX.tmp`, with a random part so
//! that two processes never write to the same one. [`AtomicFile::commit`] syncs it, renames it over
//! the target, and syncs the folder. A process killed before then leaves the temporary file behind.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

/// A file not yet at its final path; dropping it without [`AtomicFile::commit`] deletes it.
#[derive(Debug)]
pub struct AtomicFile {
    temporary: NamedTempFile,
    target: PathBuf,
}

impl AtomicFile {
    /// Starts an empty file with the default permissions of this user.
    ///
    /// # Errors
    /// If the temporary file cannot be created beside `target`.
    pub fn create(target: &Path) -> io::Result<Self> {
        Self::create_with_mode(target, 0o666)
    }

    /// Starts an empty file that only this user can read.
    ///
    /// # Errors
    /// Same as [`AtomicFile::create`].
    pub fn create_private(target: &Path) -> io::Result<Self> {
        Self::create_with_mode(target, 0o600)
    }

    /// `mode` is reduced by the process's umask; it has no effect outside Unix.
    fn create_with_mode(target: &Path, mode: u32) -> io::Result<Self> {
        let mut prefix = target.file_name().unwrap_or_default().to_owned();
        prefix.push(".");
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        #[cfg(not(unix))]
        let _ = mode;
        Ok(Self { temporary: builder.tempfile_in(folder_of(target))?, target: target.to_owned() })
    }

    /// Makes the content durable, then visible under the target's path.
    ///
    /// # Errors
    /// If syncing or renaming fails. If the rename or an earlier step fails, the target is
    /// unchanged.
    pub fn commit(self) -> io::Result<()> {
        self.temporary.as_file().sync_all()?;
        self.temporary.persist(&self.target)?;
        sync_parent(&self.target)
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.temporary.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.temporary.as_file_mut().flush()
    }
}

/// Replaces `target` with a file of these bytes and this user's default permissions; durable on
/// return.
///
/// # Errors
/// Same as [`AtomicFile::create`] and [`AtomicFile::commit`].
pub fn write(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create(target)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Like [`write()`], but only this user can read the file.
///
/// # Errors
/// Same as [`write()`].
pub fn write_private(target: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = AtomicFile::create_private(target)?;
    file.write_all(bytes)?;
    file.commit()
}

/// Opens a file that this user can keep writing, or creates an empty one, for reading and writing
/// from its start. A name that can be guessed is no danger then: it never opens a link, nor
/// anything but a regular file that belongs to this user and has no other name.
///
/// # Errors
/// [`io::ErrorKind::PermissionDenied`] for anything else of that name; other file errors.
pub fn open_own(path: &Path) -> io::Result<File> {
    match File::options().read(true).write(true).create_new(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open_existing(path),
        created => created,
    }
}

fn open_existing(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true);
    #[cfg(unix)]
    {
        // Without waiting, should it be a pipe.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags.bits().cast_signed());
    }
    let file = match options.open(path) {
        Err(_) if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) => {
            return Err(not_own("it is a link"));
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(not_own("it is not a regular file"));
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        // A new file shows who this user is on this file system.
        if metadata.uid() != tempfile::tempfile_in(folder_of(path))?.metadata()?.uid() {
            return Err(not_own("it belongs to another user"));
        }
        if metadata.nlink() > 1 {
            return Err(not_own("it has another name"));
        }
    }
    Ok(file)
}

fn not_own(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, reason)
}

/// Renames within one file system and makes the rename durable. The caller must already have synced
/// the content of `from`.
///
/// # Errors
/// If renaming or syncing the folder fails.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_parent(to)
}

/// Makes the creation, renaming or removal of `path` durable.
///
/// # Errors
/// Same as [`sync_dir`].
pub fn sync_parent(path: &Path) -> io::Result<()> {
    sync_dir(folder_of(path))
}

/// Makes the names in a folder durable. Only Unix can sync a folder; other systems journal renames
/// themselves.
///
/// # Errors
/// If the folder cannot be opened or synced.
pub fn sync_dir(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::{AtomicFile, open_own, write, write_private};

    #[test]
    fn a_target_holds_its_old_or_its_new_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        write(&path, b"old").unwrap();
        let mut file = AtomicFile::create(&path).unwrap();
        file.write_all(b"ne").unwrap();
        drop(file);
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file remains");
    }

    #[test]
    fn a_file_of_this_user_is_continued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.part");
        open_own(&path).unwrap().write_all(b"half").unwrap();
        assert_eq!(std::io::read_to_string(open_own(&path).unwrap()).unwrap(), "half");
    }

    #[cfg(unix)]
    #[test]
    fn a_guessed_name_leads_to_no_other_file() {
        let folder = tempfile::tempdir().unwrap();
        let [precious, path] = ["precious", "x.part"].map(|name| folder.path().join(name));
        fs::write(&precious, b"mine").unwrap();
        let refused = || {
            let refusal = open_own(&path).unwrap_err();
            fs::remove_file(&path).unwrap();
            assert_eq!(refusal.kind(), std::io::ErrorKind::PermissionDenied, "{refusal}");
        };
        std::os::unix::fs::symlink(&precious, &path).unwrap();
        refused();
        std::os::unix::fs::symlink(folder.path().join("missing"), &path).unwrap();
        refused();
        fs::hard_link(&precious, &path).unwrap();
        refused();
        assert_eq!(fs::read(&precious).unwrap(), b"mine");
        assert!(!folder.path().join("missing").exists());
        fs::create_dir(&path).unwrap();
        assert!(open_own(&path).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_can_read_a_private_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let mode = |name: &str| {
            let path = folder.path().join(name);
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        write_private(&folder.path().join("key"), b"secret").unwrap();
        assert_eq!(mode("key"), 0o600);
        write(&folder.path().join("public"), b"text").unwrap();
        fs::write(folder.path().join("plain"), b"text").unwrap();
        assert_eq!(mode("public"), mode("plain"), "the umask decides");
    }
}

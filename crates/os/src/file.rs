//! Files that are complete or absent, even after a crash or power loss. Nothing here overwrites a
//! file in place.
//!
//! Data goes to a temporary file in the target's folder, `NAME.XXXXXX.tmp`, with a random part so
//! that two processes never write to the same one. [`AtomicFile::commit`] syncs it, renames it over
//! the target, and syncs the folder. A process killed before then leaves the temporary file behind.
//!
//! Only a regular file is ever replaced ([`destination`]): a link stays and the file that it names
//! is replaced; a device or a pipe stays and receives the bytes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{Builder, NamedTempFile};

use crate::disk::free_bytes;

/// Where an output of some name goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// A regular file, or nothing yet, at this path: the one that a link names, if it is one.
    File(PathBuf),
    /// A device, a pipe or a socket. It is never replaced.
    Stream(PathBuf),
}

/// Links that are followed before they count as a circle.
const LINKS_MAX: usize = 40;

/// Where an output goes that is named `path`.
///
/// # Errors
/// [`io::ErrorKind::IsADirectory`] for a folder; [`io::ErrorKind::InvalidInput`] without a name or
/// for a circle of links; other file errors.
pub fn destination(path: &Path) -> io::Result<Destination> {
    let mut place = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::metadata(&place) {
            Ok(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(found) if !found.is_file() => return Ok(Destination::Stream(place)),
            // The system follows the link first, so that its own rules about links hold.
            Ok(_) if is_link(&place) => return fs::canonicalize(place).map(Destination::File),
            Ok(_) => return Ok(Destination::File(place)),
            // A link to a file that is not there yet.
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_link(&place) => {
                place = folder_of(&place).join(fs::read_link(&place)?);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return match place.file_name() {
                    Some(_) => Ok(Destination::File(place)),
                    None => Err(invalid("it has no name")),
                };
            }
            Err(error) => return Err(error),
        }
    }
    Err(invalid("its links form a circle"))
}

/// Tries whether an output of this name can be written, before the work that makes it. Nothing is
/// left behind, and a device or a pipe is not opened.
///
/// # Errors
/// Those of [`destination`] and [`AtomicFile::create`].
pub fn check_output(path: &Path) -> io::Result<()> {
    match destination(path)? {
        Destination::File(_) => AtomicFile::create(path).map(drop),
        #[cfg(unix)]
        Destination::Stream(stream) => {
            Ok(rustix::fs::access(&stream, rustix::fs::Access::WRITE_OK)?)
        }
        #[cfg(not(unix))]
        Destination::Stream(_) => Ok(()),
    }
}

/// Space on the disk where an output of this name is written, in bytes; `None` for a device or a
/// pipe, and where the system does not tell.
///
/// # Errors
/// Those of [`destination`] and [`free_bytes`].
pub fn room(path: &Path) -> io::Result<Option<u64>> {
    match destination(path)? {
        Destination::File(target) => free_bytes(folder_of(&target)),
        Destination::Stream(_) => Ok(None),
    }
}

fn is_link(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink())
}

/// A file not yet at its final path; dropping it without [`AtomicFile::commit`] deletes it. Bytes
/// for a device or a pipe go there at once.
#[derive(Debug)]
pub struct AtomicFile(Output);

#[derive(Debug)]
enum Output {
    Temporary { temporary: NamedTempFile, target: PathBuf },
    Stream(File),
}

impl AtomicFile {
    /// Starts an empty file with the default permissions of this user.
    ///
    /// # Errors
    /// Those of [`destination`]; if the temporary file cannot be created beside the target.
    pub fn create(target: &Path) -> io::Result<Self> {
        match destination(target)? {
            Destination::File(target) => Self::create_with_mode(target, 0o666),
            Destination::Stream(stream) => {
                Ok(Self(Output::Stream(File::options().write(true).open(stream)?)))
            }
        }
    }

    /// Starts an empty file that only this user can read.
    ///
    /// # Errors
    /// [`io::ErrorKind::PermissionDenied`] if the target is a link, a device or a pipe, which could
    /// lead a secret elsewhere; same as [`AtomicFile::create`].
    pub fn create_private(target: &Path) -> io::Result<Self> {
        match destination(target)? {
            _ if is_link(target) => Err(not_own("it is a link")),
            Destination::Stream(_) => Err(not_own("it is not a regular file")),
            Destination::File(target) => Self::create_with_mode(target, 0o600),
        }
    }

    /// `mode` is reduced by the process's umask; it has no effect outside Unix.
    fn create_with_mode(target: PathBuf, mode: u32) -> io::Result<Self> {
        let mut prefix = target.file_name().unwrap_or_default().to_owned();
        prefix.push(".");
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".tmp");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(mode));
        #[cfg(not(unix))]
        let _ = mode;
        let temporary = builder.tempfile_in(folder_of(&target))?;
        Ok(Self(Output::Temporary { temporary, target }))
    }

    /// Makes the content durable, then visible under the target's path.
    ///
    /// # Errors
    /// If syncing or renaming fails. If the rename or an earlier step fails, the target is
    /// unchanged.
    pub fn commit(self) -> io::Result<()> {
        match self.0 {
            Output::Temporary { temporary, target } => {
                temporary.as_file().sync_all()?;
                temporary.persist(&target)?;
                sync_parent(&target)
            }
            // What was written is beyond recall, and most devices cannot be synced.
            Output::Stream(_) => Ok(()),
        }
    }

    fn file(&mut self) -> &mut File {
        match &mut self.0 {
            Output::Temporary { temporary, .. } => temporary.as_file_mut(),
            Output::Stream(file) => file,
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file().flush()
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

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

/// Removes a file, unless another process has done so.
///
/// # Errors
/// If removing fails.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Renames within one file system and makes the rename durable. The caller must already have synced
/// the content of `from`.
///
/// # Errors
/// [`io::ErrorKind::InvalidInput`] if `to` is a device or a pipe, which is never replaced; if
/// renaming or syncing the folder fails.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let special = fs::symlink_metadata(to).is_ok_and(|found| {
        let kind = found.file_type();
        !kind.is_file() && !kind.is_dir() && !kind.is_symlink()
    });
    if special {
        return Err(invalid("it is not a regular file"));
    }
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
    use std::io::{ErrorKind, Write};

    use super::{AtomicFile, check_output, open_own, rename, write, write_private};

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
    fn an_output_is_tried_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        check_output(&path).unwrap();
        fs::write(&path, b"old").unwrap();
        check_output(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        let kind = |path: &std::path::Path| check_output(path).unwrap_err().kind();
        assert_eq!(kind(folder.path()), ErrorKind::IsADirectory);
        assert_eq!(kind(&folder.path().join("missing/weights")), ErrorKind::NotFound);
        assert_eq!(kind(std::path::Path::new("")), ErrorKind::InvalidInput);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_the_file_that_it_names_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [real, link, dangling, circle] =
            ["real", "link", "dangling", "circle"].map(|name| folder.path().join(name));
        fs::create_dir(folder.path().join("inner")).unwrap();
        fs::write(&real, b"old").unwrap();
        for (link, to) in [(&link, "real"), (&dangling, "inner/new"), (&circle, "circle")] {
            std::os::unix::fs::symlink(to, link).unwrap();
        }
        for (link, to) in [(&link, real), (&dangling, folder.path().join("inner/new"))] {
            check_output(link).unwrap();
            write(link, b"through").unwrap();
            assert!(fs::symlink_metadata(link).unwrap().is_symlink());
            assert_eq!(fs::read(to).unwrap(), b"through");
            assert_eq!(write_private(link, b"").unwrap_err().kind(), ErrorKind::PermissionDenied);
        }
        assert!(write(&circle, b"").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_receives_the_bytes_and_is_never_replaced() {
        use std::os::unix::fs::FileTypeExt;
        let folder = tempfile::tempdir().unwrap();
        let [pipe, file] = ["pipe", "file"].map(|name| folder.path().join(name));
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RWXU).unwrap();
        check_output(&pipe).unwrap();
        let read = std::thread::spawn({
            let pipe = pipe.clone();
            move || fs::read(pipe).unwrap()
        });
        write(&pipe, b"weights").unwrap();
        assert_eq!(read.join().unwrap(), b"weights");
        fs::write(&file, b"other").unwrap();
        assert_eq!(rename(&file, &pipe).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(write_private(&pipe, b"").unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        write(std::path::Path::new("/dev/null"), b"nothing").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
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

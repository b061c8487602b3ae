//! Data that a person names: which files a path stands for, and how such a file is read.
//!
//! A path stands for itself if it is a file. A folder stands for the files below it, in the order
//! of their paths, compared name by name as bytes:
//! - links are followed: to files, which count under each of their names, and to folders, of which
//!   each is read once, under the first of its paths;
//! - names that begin with a dot are hidden, and left out with all that is below them;
//! - empty files are left out, and so is what is neither a file nor a folder;
//! - nothing else matters: no ignore files, no endings, no content.
//!
//! What cannot be read is left out, too, and never ends the search. Nothing is left out in silence:
//! [`Found`] lists it all. Devices and pipes are never opened: they may have no end.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, FileType, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::memory::available_bytes;

/// A file of data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataFile {
    /// Its path: the one that was named, or the folder's with the names below it.
    pub path: PathBuf,
    /// Its size when it was found.
    pub size_bytes: u64,
}

/// What named paths stand for.
#[derive(Debug, Default)]
pub struct Found {
    /// The files, in order.
    pub files: Vec<DataFile>,
    /// What was found and left out.
    pub left_out: Vec<LeftOut>,
}

/// A file or folder that was left out.
#[derive(Debug)]
pub struct LeftOut {
    /// Its path.
    pub path: PathBuf,
    /// Why.
    pub reason: Reason,
}

/// Why a file or folder was left out.
#[derive(Debug)]
pub enum Reason {
    /// Its name begins with a dot.
    Hidden,
    /// A file without a byte.
    Empty,
    /// A device, a pipe or a socket in a folder.
    Special,
    /// A link to a folder that was read already.
    ReadAlready,
    /// It was asked for and cannot be used.
    Failed(io::Error),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hidden => f.write_str("hidden"),
            Self::Empty => f.write_str("empty"),
            Self::Special => f.write_str("a device, a pipe or a socket"),
            Self::ReadAlready => f.write_str("a link to a folder that was read already"),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

impl LeftOut {
    /// Why it cannot be used, if it was asked for; `None` if the rule leaves it out.
    pub fn failure(&self) -> Option<&io::Error> {
        match &self.reason {
            Reason::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// The files that `paths` stand for, in their order. A device or a pipe that was named itself was
/// asked for, so that it is a failure.
pub fn find(paths: &[PathBuf]) -> Found {
    let mut found = Found::default();
    for path in paths {
        match fs::metadata(path).and_then(|metadata| {
            if metadata.is_dir() { Ok(None) } else { usable(&metadata).map(|()| Some(metadata)) }
        }) {
            Ok(None) => Walk { found: &mut found, folders: HashSet::new() }.folder(path.clone()),
            Ok(Some(metadata)) => found.add(path.clone(), metadata.len()),
            Err(error) => found.leave_out(path.clone(), Reason::Failed(error)),
        }
    }
    found
}

impl Found {
    /// What was asked for and cannot be used.
    pub fn failures(&self) -> impl Iterator<Item = (&Path, &io::Error)> {
        self.left_out.iter().filter_map(|entry| Some((&*entry.path, entry.failure()?)))
    }

    /// The first path that was asked for and cannot be used, and why.
    pub fn into_failure(self) -> Option<(PathBuf, io::Error)> {
        self.left_out.into_iter().find_map(|entry| match entry.reason {
            Reason::Failed(error) => Some((entry.path, error)),
            _ => None,
        })
    }

    /// How many files and folders the rule leaves out, such as `20 empty, 30 hidden`; `None` if
    /// there are none.
    pub fn by_rule(&self) -> Option<String> {
        let names = [
            (Reason::Empty, "empty"),
            (Reason::Hidden, "hidden"),
            (Reason::Special, "devices, pipes or sockets"),
            (Reason::ReadAlready, "links to folders that were read already"),
        ];
        let count = |reason: &Reason| {
            let kind = std::mem::discriminant(reason);
            self.left_out.iter().filter(|it| std::mem::discriminant(&it.reason) == kind).count()
        };
        let counts = names.iter().map(|(reason, name)| (count(reason), name));
        let parts: Vec<String> =
            counts.filter(|(count, _)| *count > 0).map(|(n, name)| format!("{n} {name}")).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }

    fn add(&mut self, path: PathBuf, size_bytes: u64) {
        if size_bytes == 0 {
            self.leave_out(path, Reason::Empty);
        } else {
            self.files.push(DataFile { path, size_bytes });
        }
    }

    fn leave_out(&mut self, path: PathBuf, reason: Reason) {
        self.left_out.push(LeftOut { path, reason });
    }
}

/// A walk through a folder.
struct Walk<'a> {
    found: &'a mut Found,
    /// The real paths of folders that were entered: links can form circles, and so many ways to
    /// one folder that a walk through all of them would never end.
    folders: HashSet<PathBuf>,
}

impl Walk<'_> {
    fn folder(&mut self, path: PathBuf) {
        let listed = fs::canonicalize(&path).and_then(|real| {
            if self.folders.insert(real) { names(&path).map(Some) } else { Ok(None) }
        });
        match listed {
            Ok(Some((names, failure))) => {
                for name in names {
                    self.entry(path.join(&name), &name);
                }
                if let Some(error) = failure {
                    self.found.leave_out(path, Reason::Failed(error));
                }
            }
            Ok(None) => self.found.leave_out(path, Reason::ReadAlready),
            Err(error) => self.found.leave_out(path, Reason::Failed(error)),
        }
    }

    fn entry(&mut self, path: PathBuf, name: &OsString) {
        if name.as_encoded_bytes().starts_with(b".") {
            return self.found.leave_out(path, Reason::Hidden);
        }
        match fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => self.folder(path),
            Ok(metadata) if !metadata.is_file() => self.found.leave_out(path, Reason::Special),
            Ok(metadata) => self.found.add(path, metadata.len()),
            Err(error) => self.found.leave_out(path, Reason::Failed(error)),
        }
    }
}

/// The names in a folder, in order, and what ended the list if it did not end by itself.
fn names(folder: &Path) -> io::Result<(Vec<OsString>, Option<io::Error>)> {
    let (mut names, mut failure) = (Vec::new(), None);
    for entry in fs::read_dir(folder)? {
        match entry {
            Ok(entry) => names.push(entry.file_name()),
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    names.sort_unstable_by(|a, b| a.as_encoded_bytes().cmp(b.as_encoded_bytes()));
    Ok((names, failure))
}

/// What kind of thing this is, unless it is a regular file.
pub fn kind_of(found: FileType) -> Option<&'static str> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::FileTypeExt;
        if found.is_fifo() {
            return Some("a pipe");
        }
        if found.is_socket() {
            return Some("a socket");
        }
    }
    match () {
        () if found.is_file() => None,
        () if found.is_dir() => Some("a folder"),
        () => Some("a device"),
    }
}

/// # Errors
/// [`io::ErrorKind::IsADirectory`] for a folder, [`io::ErrorKind::NotSeekable`] for a device, a
/// pipe or a socket.
fn usable(found: &Metadata) -> io::Result<()> {
    let Some(kind) = kind_of(found.file_type()) else {
        return Ok(());
    };
    let error =
        if found.is_dir() { io::ErrorKind::IsADirectory } else { io::ErrorKind::NotSeekable };
    Err(io::Error::new(error, format!("it is {kind}, not a file")))
}

/// Opens a regular file for reading, and nothing else: a pipe would wait, a device may never end.
///
/// # Errors
/// [`io::ErrorKind::IsADirectory`] for a folder, [`io::ErrorKind::NotSeekable`] for a device, a
/// pipe or a socket; other file errors.
pub fn open(path: &Path) -> io::Result<File> {
    usable(&fs::metadata(path)?)?;
    let file = File::open(path)?;
    // Another file may have this name by now.
    usable(&file.metadata()?)?;
    Ok(file)
}

/// The content of a file, as long as it was when it was opened.
///
/// # Errors
/// Those of [`open`]; [`io::ErrorKind::OutOfMemory`] if it does not fit into the memory that is
/// free.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let size_bytes = file.metadata()?.len();
    check_memory(size_bytes)?;
    let mut bytes = Vec::new();
    let expected = usize::try_from(size_bytes).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(expected).map_err(|_| out_of_memory(size_bytes, None))?;
    file.take(size_bytes).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A part of a file: at most `length` bytes from `offset` on.
///
/// # Errors
/// Those of [`open`].
pub fn read_part(path: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(length as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A text that a person wrote ([`text`]). Also from a pipe or a device, because at most `bytes_max`
/// are read.
///
/// # Errors
/// [`io::ErrorKind::IsADirectory`] for a folder; [`io::ErrorKind::FileTooLarge`] for more bytes;
/// those of [`text`]; other file errors.
pub fn read_text(path: &Path, bytes_max: usize) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        let message = format!("it has more than {bytes_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    text(&bytes)
}

/// The text in the bytes of a file, as its writer sees it: without the byte order mark that some
/// editors put before it, which also tells UTF-16 from UTF-8.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for bytes that are not text.
pub fn text(bytes: &[u8]) -> io::Result<String> {
    let text = match bytes {
        [0xef, 0xbb, 0xbf, rest @ ..] => str::from_utf8(rest).ok().map(str::to_owned),
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        bytes => str::from_utf8(bytes).ok().map(str::to_owned),
    };
    text.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is not text in UTF-8"))
}

fn utf_16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (units, []) = bytes.as_chunks::<2>() else {
        return None;
    };
    // Enough room for any text: a buffer that grows leaves copies of a secret behind.
    let mut text = String::with_capacity(bytes.len() * 2);
    for c in char::decode_utf16(units.iter().map(|bytes| unit(*bytes))) {
        text.push(c.ok()?);
    }
    Some(text)
}

/// Fails if this many bytes do not fit into the memory that is free, before any are read: the
/// system may end a process that takes too much instead of refusing it.
///
/// # Errors
/// [`io::ErrorKind::OutOfMemory`].
pub fn check_memory(size_bytes: u64) -> io::Result<()> {
    match available_bytes() {
        Some(free) if size_bytes > free / 10 * 9 => Err(out_of_memory(size_bytes, Some(free))),
        _ => Ok(()),
    }
}

fn out_of_memory(size_bytes: u64, free: Option<u64>) -> io::Error {
    let free = free.map_or_else(String::new, |free| format!(", of which {free} are free"));
    let message = format!("it needs {size_bytes} bytes of memory{free}");
    io::Error::new(io::ErrorKind::OutOfMemory, message)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::ErrorKind;
    use std::path::{Path, PathBuf};

    use super::{Found, Reason, check_memory, find, read, read_part, read_text, text};

    /// The names of the files below `root`, and of what was left out with the reasons.
    fn names(root: &Path, found: &Found) -> (Vec<String>, Vec<(String, String)>) {
        let name = |path: &Path| {
            path.strip_prefix(root).unwrap().as_os_str().to_string_lossy().into_owned()
        };
        let files = found.files.iter().map(|file| name(&file.path)).collect();
        let reason = |reason: &Reason| match reason {
            Reason::Failed(error) => format!("{:?}", error.kind()),
            reason => reason.to_string(),
        };
        let left_out = found.left_out.iter();
        (files, left_out.map(|it| (name(&it.path), reason(&it.reason))).collect())
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn a_folder_stands_for_its_files_in_order_whatever_ignore_files_say() {
        let files = [("b", "1"), ("a.txt", "2"), ("a/z", "3"), ("a/B", "4"), (".git/x", "5")];
        let root = folder(&[&files[..], &[(".gitignore", "*"), ("void", "")]].concat());
        let found = find(&[root.path().to_owned()]);
        let (names, left_out) = names(root.path(), &found);
        assert_eq!(names, ["a/B", "a/z", "a.txt", "b"]);
        let pair = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());
        let expected =
            [pair(".git", "hidden"), pair(".gitignore", "hidden"), pair("void", "empty")];
        assert_eq!(left_out, expected);
        assert_eq!(found.by_rule().unwrap(), "1 empty, 2 hidden");
        assert_eq!(found.failures().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_and_circles_end() {
        use std::os::unix::fs::symlink;
        let root = folder(&[("data/a", "1"), ("data/b", "2")]);
        let links = root.path().join("links");
        fs::create_dir(&links).unwrap();
        for (name, to) in [("a", "../data/a"), ("b", "../data/b"), ("c", "nowhere"), ("d", ".")] {
            symlink(to, links.join(name)).unwrap();
        }
        // Two ways to each of twenty folders, which would be a million ways to the last one.
        let mut below = root.path().join("data");
        for name in 0..20 {
            for way in ["x", "y"] {
                symlink(root.path().join("data"), below.join(way)).unwrap();
            }
            below.push(format!("f{name}"));
            fs::create_dir(&below).unwrap();
        }
        let (files, left_out) = names(&links, &find(std::slice::from_ref(&links)));
        assert_eq!(files, ["a", "b"]);
        let kinds: Vec<&str> = left_out.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(kinds, ["NotFound", "a link to a folder that was read already"]);
        let found = find(&[root.path().join("data")]);
        assert_eq!(found.files.len(), 2);
        assert_eq!(found.left_out.len(), 40);
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_used_is_left_out_and_the_rest_is_found() {
        let root = folder(&[("a", "1"), ("void", "")]);
        let pipe = root.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let named: Vec<PathBuf> =
            ["none", "pipe", "void", "a", ""].map(|name| root.path().join(name)).into();
        let found = find(&named);
        let (files, left_out) = names(root.path(), &found);
        assert_eq!(files, ["a", "a"]);
        let left_out: Vec<&str> = left_out.iter().map(|(_, reason)| reason.as_str()).collect();
        // In a folder, nobody asked for what is no data.
        let special = "a device, a pipe or a socket";
        assert_eq!(left_out, ["NotFound", "NotSeekable", "empty", special, "empty"]);
        assert_eq!(found.failures().count(), 2);
        for device in ["/dev/zero", "/dev/null"] {
            assert_eq!(read(Path::new(device)).unwrap_err().kind(), ErrorKind::NotSeekable);
        }
        assert_eq!(read(&pipe).unwrap_err().to_string(), "it is a pipe, not a file");
    }

    #[test]
    fn reading_is_bounded() {
        let root = folder(&[("a", "0123456789")]);
        let path = root.path().join("a");
        assert_eq!(read(&path).unwrap(), b"0123456789");
        assert_eq!(read_part(&path, 4, 3).unwrap(), b"456");
        assert_eq!(read_part(&path, 8, 3).unwrap(), b"89");
        assert_eq!(read_text(&path, 10).unwrap(), "0123456789");
        assert_eq!(read_text(&path, 9).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(read(root.path()).unwrap_err().kind(), ErrorKind::IsADirectory);
        if cfg!(target_os = "linux") {
            assert_eq!(check_memory(1 << 60).unwrap_err().kind(), ErrorKind::OutOfMemory);
            // A file of any size is refused before it is read.
            fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
            assert_eq!(read(&path).unwrap_err().kind(), ErrorKind::OutOfMemory);
            assert_eq!(read_part(&path, 1 << 41, 3).unwrap(), [0; 3]);
        }
    }

    #[test]
    fn a_text_is_what_its_writer_sees() {
        let root = folder(&[("marked", "\u{feff}text\r\n")]);
        assert_eq!(read_text(&root.path().join("marked"), 99).unwrap(), "text\r\n");
        let units = |write: fn(u16) -> [u8; 2]| {
            "\u{feff}t\u{1f511}".encode_utf16().flat_map(write).collect::<Vec<u8>>()
        };
        for bytes in [units(u16::to_le_bytes), units(u16::to_be_bytes)] {
            assert_eq!(text(&bytes).unwrap(), "t\u{1f511}");
            assert!(text(&bytes[..5]).is_err(), "half a character");
        }
        fs::write(root.path().join("bytes"), [0xff]).unwrap();
        let error = read_text(&root.path().join("bytes"), 99).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
    }
}

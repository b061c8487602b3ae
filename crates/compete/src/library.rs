//! The documents on this disk, by hash. A file that has not changed since it was last seen is not
//! read again: it is known by path, size and time of modification.
//!
//! What is remembered only saves time. A document is submitted only if its bytes, when they are
//! read, have the hash by which it is known; and a damaged memory is an empty one.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use soma_os::data::{self, DataFile};
use soma_protocol::Hash;

use crate::documents::{Document, Unusable, left_out, piece_name, told};
use crate::error::{CompeteError, Result};
use crate::observer::{Level, Observer};

/// A file that was modified this short a time before it was read may change again without another
/// time of modification, so it is not remembered.
const SETTLED: Duration = Duration::from_secs(2);
/// The most pieces that are remembered: those of the last search, when there are more.
const PIECES_MAX: usize = 1 << 21;

/// Hashes of the pieces of files, by all that names their content.
type Known = BTreeMap<Hash, Vec<Hash>>;

/// Finds documents, and remembers them.
#[derive(Debug)]
pub struct Library {
    /// Where the memory is, if it outlives this process.
    path: Option<PathBuf>,
    known: Known,
    /// What was told of the last search, which is not told again.
    told: BTreeSet<String>,
    /// What the last search could not use.
    unusable: Vec<Unusable>,
}

impl Library {
    /// A library whose memory is in the file `path`, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        let known = load(&path).unwrap_or_default();
        Self { known, path: Some(path), ..Self::in_memory() }
    }

    /// A library that forgets when it is dropped.
    pub fn in_memory() -> Self {
        Self { path: None, known: Known::new(), told: BTreeSet::new(), unusable: Vec::new() }
    }

    /// What the last search could not use.
    pub fn unusable(&self) -> &[Unusable] {
        &self.unusable
    }

    /// The documents of at most `bytes_max` in what `paths` stand for, each content once: the first
    /// of its copies. What cannot be read is left out and told, once until that changes.
    ///
    /// # Errors
    /// [`CompeteError::File`], if there is no document and something could not be read.
    pub fn find(
        &mut self,
        paths: &[PathBuf],
        bytes_max: usize,
        observer: &dyn Observer,
    ) -> Result<Vec<Document>> {
        let found = data::find(paths);
        let mut lines = told(&found);
        let (mut documents, mut done) = (Vec::new(), 0);
        let (mut seen, mut hashes, mut failures) = (Known::new(), BTreeSet::new(), Vec::new());
        let mut advance = observer.start("looking for documents", None);
        for DataFile { path, size_bytes } in &found.files {
            match self.pieces(path, bytes_max, &mut seen) {
                Ok((pieces, size_bytes)) => {
                    let all = documents_of(path, &pieces, size_bytes, bytes_max);
                    documents.extend(all.filter(|document| hashes.insert(document.hash())));
                }
                Err(error) => {
                    lines.push((Level::Warning, left_out(path, &error)));
                    failures.push((path.clone(), error));
                }
            }
            done += size_bytes;
            advance(done);
        }
        drop(advance);
        self.tell(lines, observer);
        let failed = failures.iter().map(|(path, error)| (path.as_path(), error));
        let failed = found.failures().chain(failed);
        self.unusable = failed.map(|(path, error)| Unusable::unread(path, error)).collect();
        if seen.keys().any(|name| !self.known.contains_key(name)) {
            self.remember(seen);
        }
        match found.into_failure().or(failures.into_iter().next()) {
            Some((path, error)) if documents.is_empty() => {
                Err(CompeteError::file(&path, "read")(error))
            }
            _ => Ok(documents),
        }
    }

    /// Hashes of a file's pieces, and its size. What names its content is added to `seen`.
    fn pieces(
        &self,
        file: &Path,
        bytes_max: usize,
        seen: &mut Known,
    ) -> io::Result<(Vec<Hash>, u64)> {
        let metadata = std::fs::metadata(file)?;
        let name = name_of(file, &metadata, bytes_max);
        if let Some((name, pieces)) = name.and_then(|name| Some((name, self.known.get(&name)?))) {
            seen.insert(name, pieces.clone());
            return Ok((pieces.clone(), metadata.len()));
        }
        let (pieces, size_bytes) = hash_pieces(file, bytes_max)?;
        if let Some(name) = name.filter(|_| size_bytes == metadata.len()) {
            seen.insert(name, pieces.clone());
        }
        Ok((pieces, size_bytes))
    }

    /// Tells what was not told of the last search.
    fn tell(&mut self, lines: Vec<(Level, String)>, observer: &dyn Observer) {
        for (level, line) in lines.iter().filter(|(_, line)| !self.told.contains(line)) {
            observer.notice(*level, line);
        }
        self.told = lines.into_iter().map(|(_, line)| line).collect();
    }

    /// Remembers what was seen, with what was known, if there is room for both.
    fn remember(&mut self, seen: Known) {
        let pieces = |known: &Known| known.values().map(|pieces| pieces.len() + 1).sum::<usize>();
        if pieces(&self.known) + pieces(&seen) > PIECES_MAX {
            self.known.clear();
        }
        self.known.extend(seen);
        if let Some(path) = &self.path {
            // A failure to store (a full disk, say) only costs time later.
            let _ = store(path, &self.known);
        }
    }
}

/// Names the content of a file without reading it; `None` if that is not certain enough.
fn name_of(file: &Path, metadata: &Metadata, bytes_max: usize) -> Option<Hash> {
    let modified = metadata.modified().ok()?;
    let age = SystemTime::now().duration_since(modified).ok()?;
    if age < SETTLED {
        return None;
    }
    let modified_ns = modified.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_nanos();
    let file = std::path::absolute(file).ok()?;
    let sizes = [metadata.len(), bytes_max as u64].map(u64::to_le_bytes).concat();
    let modified = modified_ns.to_le_bytes();
    let parts: [&[u8]; 3] = [file.as_os_str().as_encoded_bytes(), &sizes, &modified];
    Some(Hash::of_parts("soma file", &parts))
}

/// Reads a file piece by piece: the hash of each, and the size of all.
fn hash_pieces(path: &Path, bytes_max: usize) -> io::Result<(Vec<Hash>, u64)> {
    let file = data::open(path)?;
    let (mut pieces, mut size_bytes) = (Vec::new(), 0);
    let mut piece = Vec::new();
    loop {
        piece.clear();
        let limit = bytes_max.max(1) as u64;
        (&file).take(limit).read_to_end(&mut piece)?;
        if !piece.is_empty() {
            pieces.push(Hash::of_bytes(&piece));
            size_bytes += piece.len() as u64;
        }
        if (piece.len() as u64) < limit {
            return Ok((pieces, size_bytes));
        }
    }
}

fn documents_of(
    file: &Path,
    pieces: &[Hash],
    size_bytes: u64,
    bytes_max: usize,
) -> impl Iterator<Item = Document> {
    let whole = pieces.len() == 1;
    pieces.iter().enumerate().map(move |(index, hash)| {
        let offset = index as u64 * bytes_max as u64;
        let left = size_bytes.saturating_sub(offset);
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(bytes_max);
        let name = piece_name(file, index, whole);
        Document::on_disk(name, file.to_owned(), offset, *hash, length)
    })
}

/// Begins the file of a memory: a hash of the rest follows.
const MAGIC: &[u8; 16] = b"soma library 1\0\0";

/// A memory on disk, if it is one and intact.
fn load(path: &Path) -> Option<Known> {
    let bytes = std::fs::read(path).ok()?;
    let (check, mut rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk::<32>()?;
    if Hash::of_bytes(rest).0 != *check {
        return None;
    }
    let mut known = Known::new();
    while let Some((name, after)) = rest.split_first_chunk::<32>() {
        let (count, after) = after.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(32)?;
        let (pieces, after) = after.split_at_checked(length)?;
        let pieces = pieces.as_chunks::<32>().0.iter().copied().map(Hash).collect();
        known.insert(Hash(*name), pieces);
        rest = after;
    }
    rest.is_empty().then_some(known)
}

fn store(path: &Path, known: &Known) -> std::io::Result<()> {
    let mut rest = Vec::new();
    for (name, pieces) in known {
        rest.extend(name.0);
        rest.extend(u32::try_from(pieces.len()).unwrap_or(u32::MAX).to_le_bytes());
        rest.extend(pieces.iter().flat_map(|piece| piece.0));
    }
    let bytes = [&MAGIC[..], &Hash::of_bytes(&rest).0, &rest].concat();
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    soma_os::file::write_private(path, &bytes)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, SystemTime};

    use super::{Library, load};
    use crate::documents::Document;
    use crate::error::CompeteError;
    use crate::observer::{Advance, Level, Observer};

    struct Silent;

    impl Observer for Silent {
        fn start(&self, _: &str, _: Option<u64>) -> Advance {
            Box::new(|_| ())
        }

        fn notice(&self, _: Level, _: &dyn std::fmt::Display) {}
    }

    fn write(folder: &Path, name: &str, content: &str, seconds_ago: u64) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, content).unwrap();
        let then = SystemTime::now() - Duration::from_secs(seconds_ago);
        File::options().append(true).open(&path).unwrap().set_modified(then).unwrap();
        path
    }

    fn find(library: &mut Library, folder: &Path) -> Vec<Document> {
        library.find(&[folder.to_owned()], 4, &Silent).unwrap()
    }

    fn contents(documents: &[Document]) -> Vec<String> {
        let text = |document: &Document| {
            String::from_utf8(document.bytes().unwrap().into_owned()).unwrap()
        };
        documents.iter().map(text).collect()
    }

    #[test]
    fn a_file_that_has_not_changed_is_not_read_again_even_by_another_process() {
        let home = tempfile::tempdir().unwrap();
        let (folder, memory) = (home.path().join("data"), home.path().join("cache/library"));
        fs::create_dir(&folder).unwrap();
        let path = write(&folder, "a", "0123456789", 60);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let mut library = Library::new(memory.clone());
        let first = find(&mut library, &folder);
        assert_eq!(contents(&first), ["0123", "4567", "89"]);
        assert!(first[1].path().ends_with("a#2") && first[2].size_bytes() == 2);

        // Under the same size and time, other content is not even noticed.
        fs::write(&path, "9876543210").unwrap();
        File::options().append(true).open(&path).unwrap().set_modified(modified).unwrap();
        let known = find(&mut Library::new(memory.clone()), &folder);
        assert_eq!(known[0].hash(), first[0].hash());
        // But it is never mistaken for what it was.
        assert!(matches!(known[0].bytes(), Err(CompeteError::Modified { .. })));
        write(&folder, "a", "9876543210", 30);
        assert_eq!(contents(&find(&mut library, &folder)), ["9876", "5432", "10"]);
    }

    #[test]
    fn a_file_that_was_just_modified_is_read_every_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut library = Library::in_memory();
        for content in ["one", "two"] {
            write(folder.path(), "a", content, 0);
            assert_eq!(contents(&find(&mut library, folder.path())), [content]);
        }
        assert!(library.known.is_empty());
    }

    #[test]
    fn copies_are_one_document_and_an_empty_file_is_none() {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("a", "same"), ("b", "same"), ("c", ""), ("d", "samesame")] {
            write(folder.path(), name, content, 60);
        }
        let documents = find(&mut Library::in_memory(), folder.path());
        assert_eq!(contents(&documents), ["same"]);
        assert!(documents[0].path().ends_with('a'));
    }

    /// Keeps what it is told.
    #[derive(Default)]
    struct Listening(std::sync::Mutex<Vec<String>>);

    impl Observer for Listening {
        fn start(&self, _: &str, _: Option<u64>) -> Advance {
            Box::new(|_| ())
        }

        fn notice(&self, _: Level, message: &dyn std::fmt::Display) {
            self.0.lock().unwrap().push(message.to_string());
        }
    }

    #[test]
    fn what_cannot_be_used_is_told_once_and_the_rest_is_found() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "a", "good", 60);
        write(folder.path(), "void", "", 60);
        let paths = [folder.path().to_owned(), folder.path().join("gone")];
        let (mut library, observer) = (Library::in_memory(), Listening::default());
        let mut find = || {
            let documents = library.find(&paths, 4, &observer).unwrap();
            (documents.len(), std::mem::take(&mut *observer.0.lock().unwrap()))
        };
        let (documents, told) = find();
        assert_eq!(documents, 1);
        assert!(told[0].contains("gone is left out"), "{told:?}");
        assert_eq!(told[1], "left out: 1 empty");
        assert_eq!(find(), (1, Vec::new()));
        write(folder.path(), "gone", "come", 60);
        assert_eq!(find(), (2, Vec::new()));
        fs::remove_dir_all(folder.path()).unwrap();
        let nothing = library.find(&paths, 4, &observer).unwrap_err();
        assert_eq!(soma_codes::Coded::code(&nothing).as_str(), "file_not_found");
    }

    #[test]
    fn a_damaged_memory_is_an_empty_one() {
        let home = tempfile::tempdir().unwrap();
        let memory = home.path().join("library");
        write(home.path(), "a", "text", 60);
        find(&mut Library::new(memory.clone()), &home.path().join("a"));
        let whole = fs::read(&memory).unwrap();
        assert_eq!(load(&memory).unwrap().len(), 1);
        for at in [0, 20, 50, whole.len() - 1] {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&memory, &damaged).unwrap();
            assert!(load(&memory).is_none(), "byte {at}");
            fs::write(&memory, &whole[..at]).unwrap();
            assert!(load(&memory).is_none(), "cut at {at}");
        }
    }
}

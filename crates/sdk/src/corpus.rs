//! The corpus of an account on one chain: the documents that it may submit, as an append-only list
//! on disk, and the Merkle tree over them, whose root the account commits to the chain.
//!
//! Nothing is ever removed or reordered, so the first `n` documents say what any earlier root
//! covered, and a path under it can be made as long as the list exists. The list holds hashes, not
//! data, and a secret that salts the leaves, so that nobody can tell from a root or a path whether
//! a certain document is in it. Several processes may append: each locks the file while it does. A
//! process that is killed while it appends leaves a torn end, which the next one removes.

mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use soma_protocol::{Hash, corpus};
use zeroize::Zeroizing;

use crate::error::SdkError;
use crate::file;
use crate::secret::Secret;
use tree::Tree;

/// Begins the file; the digit is the version of its format.
const MAGIC: &[u8; 16] = b"soma corpus 1\0\0\0";
/// The magic and the secret.
const HEADER_BYTES: usize = MAGIC.len() + 32;
/// BLAKE3 of the data, its size as u32, and four bytes that detect damage.
const ENTRY_BYTES: usize = 32 + 4 + 4;
/// Entries that are read at once.
const READ_ENTRIES: usize = 4_096;

/// A document as a corpus lists it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// BLAKE3 of its data.
    pub data_hash: Hash,
    /// Bytes of its data.
    pub size_bytes: u32,
}

/// What proves that a document was in a corpus when its root was committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The document's place in the list, from 0.
    pub index: u32,
    /// Salt of its leaf.
    pub leaf_salt: Secret,
    /// What [`corpus::verifies`] checks the leaf with.
    pub path: Vec<Hash>,
}

/// How an append ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// Documents that were not in the list and are now.
    pub new: u32,
    /// Documents that are not in the list, because it has reached its greatest length.
    pub beyond: u32,
}

/// A corpus on disk.
pub struct Corpus {
    path: PathBuf,
    /// The most that it may have.
    documents_max: u32,
    state: Mutex<State>,
}

/// What has been read of the file.
struct State {
    file: File,
    secret: Secret,
    /// Where each document is in the list.
    places: BTreeMap<Hash, u32>,
    tree: Tree,
}

impl std::fmt::Debug for Corpus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Corpus({} documents in {})", self.len(), self.path.display())
    }
}

impl Corpus {
    /// Opens the corpus in the file `path`. If there is none, creates an empty one with a new
    /// secret, and its folder for this user only.
    ///
    /// # Errors
    /// [`SdkError::CorpusDamaged`]; [`SdkError::FolderMode`]; [`SdkError::Randomness`];
    /// [`SdkError::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, SdkError> {
        Self::open_limited(path.into(), corpus::LEAVES_MAX)
    }

    fn open_limited(path: PathBuf, documents_max: u32) -> Result<Self, SdkError> {
        if let Some(folder) = path.parent() {
            file::private_folder(folder)?;
        }
        let mut options = OpenOptions::new();
        let options = file::private(options.read(true).write(true).create(true).truncate(false));
        let mut file = options.open(&path).map_err(SdkError::io(&path))?;
        file.lock().map_err(SdkError::io(&path))?;
        let secret = secret_of(&mut file, &path);
        file.unlock().map_err(SdkError::io(&path))?;
        let state = State { file, secret: secret?, places: BTreeMap::new(), tree: Tree::default() };
        let corpus = Self { path, documents_max, state: Mutex::new(state) };
        corpus.refresh()?;
        Ok(corpus)
    }

    /// Number of documents that this process knows of.
    pub fn len(&self) -> u32 {
        u32::try_from(self.state().tree.len()).unwrap_or(u32::MAX)
    }

    /// Whether it has no document.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the documents that are not in the list yet; they are on disk when this returns. Also
    /// learns what other processes have appended.
    ///
    /// # Errors
    /// [`SdkError::Io`]: then none of them is in the list. [`SdkError::CorpusDamaged`].
    pub fn add(&self, documents: impl IntoIterator<Item = Listed>) -> Result<Added, SdkError> {
        self.locked(|state, path| {
            let (mut added, mut fresh) = (Added::default(), BTreeSet::new());
            let mut entries = Vec::new();
            for document in documents {
                let Listed { data_hash, .. } = document;
                if state.places.contains_key(&data_hash) || fresh.contains(&data_hash) {
                    continue;
                }
                let place = state.tree.len() + fresh.len();
                match u32::try_from(place).ok().filter(|place| *place < self.documents_max) {
                    Some(place) => {
                        entries.push((place, document));
                        fresh.insert(data_hash);
                        added.new += 1;
                    }
                    None => added.beyond += 1,
                }
            }
            state.append(&entries).map_err(SdkError::io(path))?;
            Ok(added)
        })
    }

    /// Learns what other processes have appended.
    ///
    /// # Errors
    /// [`SdkError::Io`]; [`SdkError::CorpusDamaged`].
    pub fn refresh(&self) -> Result<(), SdkError> {
        self.locked(|_, _| Ok(()))
    }

    /// The root over the first `leaves` documents; `None` for none, or more than there are.
    pub fn root(&self, leaves: u32) -> Option<Hash> {
        self.state().tree.root(usize::try_from(leaves).ok()?)
    }

    /// Where a document is in the list, from 0.
    pub fn place(&self, data_hash: &Hash) -> Option<u32> {
        self.state().places.get(data_hash).copied()
    }

    /// Proves that a document is among the first `leaves`; `None` if it is not.
    pub fn proof(&self, leaves: u32, data_hash: &Hash) -> Option<Proof> {
        let state = self.state();
        let index = *state.places.get(data_hash)?;
        let path = state.tree.path(usize::try_from(index).ok()?, usize::try_from(leaves).ok()?)?;
        let leaf_salt = Secret::from_bytes(salt(&state.secret, data_hash));
        Some(Proof { index, leaf_salt, path })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A state is changed only once its change is on disk, so that no panic leaves half of one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `with` with all that is on disk, while no other process can append.
    fn locked<T>(
        &self,
        with: impl FnOnce(&mut State, &Path) -> Result<T, SdkError>,
    ) -> Result<T, SdkError> {
        let mut state = self.state();
        state.file.lock().map_err(SdkError::io(&self.path))?;
        let result = state.catch_up(&self.path).and_then(|()| with(&mut state, &self.path));
        let unlocked = state.file.unlock().map_err(SdkError::io(&self.path));
        let result = result?;
        unlocked.map(|()| result)
    }
}

impl State {
    /// Reads what was appended since the last time, and removes a torn end.
    fn catch_up(&mut self, path: &Path) -> Result<(), SdkError> {
        let io = |error| SdkError::io(path)(error);
        self.file.seek(SeekFrom::Start(offset(self.tree.len()))).map_err(io)?;
        let (mut torn, mut place) = (false, self.tree.len());
        let mut buffer = vec![0; READ_ENTRIES * ENTRY_BYTES];
        loop {
            let mut length = 0;
            while length < buffer.len() {
                match self.file.read(&mut buffer[length..]).map_err(io)? {
                    0 => break,
                    more => length += more,
                }
            }
            for bytes in buffer[..length].chunks(ENTRY_BYTES) {
                match decode(place, bytes) {
                    Some(document) if !torn => self.insert(document),
                    // An end that was torn off has nothing whole behind it.
                    Some(_) => return Err(SdkError::CorpusDamaged { path: path.to_owned() }),
                    None => torn = true,
                }
                place += 1;
            }
            if length < buffer.len() {
                break;
            }
        }
        if torn {
            let whole = offset(self.tree.len());
            self.file.set_len(whole).and_then(|()| self.file.sync_all()).map_err(io)?;
        }
        Ok(())
    }

    /// Appends entries to the file, then to the list; on an error, to neither.
    fn append(&mut self, entries: &[(u32, Listed)]) -> std::io::Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let whole = offset(self.tree.len());
        let bytes: Vec<u8> =
            entries.iter().flat_map(|(place, document)| encode(*place, document)).collect();
        let written = self
            .file
            .seek(SeekFrom::Start(whole))
            .and_then(|_| self.file.write_all(&bytes))
            .and_then(|()| self.file.sync_all());
        if let Err(error) = written {
            // If this fails as well, the entries that are whole stay: they were to be added anyway.
            let _ = self.file.set_len(whole);
            return Err(error);
        }
        for (_, document) in entries {
            self.insert(*document);
        }
        Ok(())
    }

    fn insert(&mut self, document: Listed) {
        let Listed { data_hash, size_bytes } = document;
        let place = u32::try_from(self.tree.len()).unwrap_or(u32::MAX);
        self.places.insert(data_hash, place);
        let salt = salt(&self.secret, &data_hash);
        self.tree.push(corpus::leaf(&data_hash, size_bytes, &salt));
    }
}

/// The secret at the beginning of the file, which is written first if the file is new, or if
/// whoever created it was killed before it was written: no leaf has been salted with it then.
fn secret_of(file: &mut File, path: &Path) -> Result<Secret, SdkError> {
    let io = |error| SdkError::io(path)(error);
    let mut header = Zeroizing::new([0; HEADER_BYTES]);
    let length = file.metadata().map_err(io)?.len();
    if length >= offset(0) {
        file.read_exact(header.as_mut()).map_err(io)?;
        if let Some(secret) = header.strip_prefix(MAGIC).and_then(|bytes| bytes.try_into().ok()) {
            return Ok(Secret::from_bytes(secret));
        }
        if length > offset(0) {
            return Err(SdkError::CorpusDamaged { path: path.to_owned() });
        }
    }
    let secret = Secret::generate()?;
    header[..MAGIC.len()].copy_from_slice(MAGIC);
    header[MAGIC.len()..].copy_from_slice(secret.bytes());
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.write_all(header.as_ref()))
        .and_then(|()| file.sync_all())
        .and_then(|()| soma_os::file::sync_parent(path))
        .map_err(io)?;
    Ok(secret)
}

/// Where the entry of this place begins.
fn offset(place: usize) -> u64 {
    (HEADER_BYTES + place * ENTRY_BYTES) as u64
}

fn encode(place: u32, document: &Listed) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    entry[..32].copy_from_slice(&document.data_hash.0);
    entry[32..36].copy_from_slice(&document.size_bytes.to_le_bytes());
    let check = check(place, &entry);
    entry[36..].copy_from_slice(&check);
    entry
}

fn decode(place: usize, bytes: &[u8]) -> Option<Listed> {
    let entry: &[u8; ENTRY_BYTES] = bytes.try_into().ok()?;
    let (data_hash, rest) = entry.split_first_chunk::<32>()?;
    let (size, found) = rest.split_first_chunk::<4>()?;
    let intact = found == check(u32::try_from(place).ok()?, entry);
    let size_bytes = u32::from_le_bytes(*size);
    intact.then_some(Listed { data_hash: Hash(*data_hash), size_bytes })
}

/// Four bytes that an entry has in this place only.
fn check(place: u32, entry: &[u8; ENTRY_BYTES]) -> [u8; 4] {
    let parts: [&[u8]; 2] = [&place.to_le_bytes(), &entry[..36]];
    let hash = Hash::of_parts("soma corpus entry", &parts);
    let [a, b, c, d, ..] = hash.0;
    [a, b, c, d]
}

/// The salt of a document's leaf. It tells nothing about the salts of others.
fn salt(secret: &Secret, data_hash: &Hash) -> [u8; 32] {
    *blake3::keyed_hash(secret.bytes(), &data_hash.0).as_bytes()
}

#[cfg(test)]
mod tests {
    use soma_protocol::Hash;

    use super::{Added, Corpus, Listed};

    #[test]
    fn a_full_corpus_says_how_much_is_left_out_and_still_shows_what_it_has() {
        let home = tempfile::tempdir().unwrap();
        let corpus = Corpus::open_limited(home.path().join("corpus/account"), 9).unwrap();
        let listed = |byte| Listed { data_hash: Hash([byte; 32]), size_bytes: 1 };
        assert_eq!(corpus.add((0..7).map(listed)).unwrap(), Added { new: 7, beyond: 0 });
        assert_eq!(corpus.add((5..12).map(listed)).unwrap(), Added { new: 2, beyond: 3 });
        assert_eq!(corpus.add((8..10).map(listed)).unwrap(), Added { new: 0, beyond: 1 });
        assert!(corpus.proof(9, &Hash([8; 32])).is_some());
        assert!(corpus.place(&Hash([9; 32])).is_none());
    }
}

//! Weights files on disk: which are held, how they are read, and when they are removed.
//!
//! `ciphertexts/` holds complete files, verified by BLAKE3, synced and renamed into place;
//! `partial/` holds uploads and downloads that can resume; `plain/` caches decrypted files that the
//! auditor maps into memory. Plaintext is never stored for serving: revealed weights are ciphertext
//! plus a key from the chain, and ranges are decrypted as they are read. With a cold store, `cold/`
//! has a record of each file in it: such a file is held, too.
//!
//! Whether a file decrypts to what was revealed is a question about one [`Revealed`], key included.
//! It must never be answered from the file of another model, which names the same weights.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blake3::hazmat::HasherExt as _;
use parking_lot::{Mutex, RwLock};
use soma_protocol::{Address, Hash, hex};
use soma_sdk::{SdkError, Secret, cipher};
use tokio::sync::{Notify, watch};

use super::cold::{Cold, ColdFile};
use super::needed::{Ciphertext, Needed, Revealed};
use super::quota::Quota;
use crate::error::NodeError;
use crate::settings::WeightsSettings;

/// Bytes read at a time when a file is hashed, decrypted or served.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// The folder of weights of one node. All methods block; call them from a blocking thread.
pub(crate) struct WeightsStore {
    pub(super) dir: PathBuf,
    pub(super) limits: WeightsSettings,
    cold: Option<Arc<Cold>>,
    /// Running uploads, at most one for each file and account, and the bytes that they may still
    /// write.
    pub(super) uploads: Mutex<BTreeMap<(Ciphertext, Address), u64>>,
    pub(super) needed: RwLock<Needed>,
    /// Height of the state that `needed` was read from.
    listed: watch::Sender<u64>,
    /// Whether a file that was needed is not anymore, and no sweep has removed it yet.
    unswept: AtomicBool,
    pub(super) quota: Mutex<Quota>,
    /// The hash of what revealed files decrypt to, by [`Revealed::id`]: a file is read for it once.
    decrypted: Mutex<BTreeMap<Hash, Hash>>,
    /// Held by whoever serves weights that are not checked yet.
    checking: Arc<tokio::sync::Mutex<()>>,
    /// Notified when a file is complete.
    completed: Arc<Notify>,
}

impl std::fmt::Debug for WeightsStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("WeightsStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl WeightsStore {
    /// Opens or creates the folder, beside a cold store if there is one; `completed` is notified
    /// when a file is complete.
    ///
    /// # Errors
    /// When the folder cannot be created or read.
    pub(crate) fn open(
        dir: &Path,
        limits: WeightsSettings,
        cold: Option<Arc<Cold>>,
        completed: Arc<Notify>,
    ) -> Result<Self, NodeError> {
        for part in ["partial", "ciphertexts", "plain"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(|error| NodeError::io(&path, error))?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            limits,
            cold,
            uploads: Mutex::default(),
            needed: RwLock::default(),
            listed: watch::Sender::new(0),
            unswept: AtomicBool::default(),
            quota: Mutex::default(),
            decrypted: Mutex::default(),
            checking: Arc::default(),
            completed,
        })
    }

    pub(super) fn path(&self, part: &str, hash: &Hash) -> PathBuf {
        self.dir.join(part).join(hash.to_string())
    }

    /// What one account has uploaded so far: each account has its own file.
    pub(super) fn partial(&self, file: &Ciphertext, uploader: &Address) -> PathBuf {
        self.dir.join("partial").join(format!("{file}-{}", hex::encode(&uploader.0)))
    }

    pub(super) fn listed(&self, part: &str) -> Result<Vec<Hash>, NodeError> {
        let files = self.files(part)?;
        Ok(files.into_iter().map(|(hash, _)| hash).collect())
    }

    /// The files in one part of the folder, each with the hash that it is named after.
    pub(super) fn files(&self, part: &str) -> Result<Vec<(Hash, PathBuf)>, NodeError> {
        let dir = self.dir.join(part);
        let entries = fs::read_dir(&dir).map_err(|error| NodeError::io(&dir, error))?;
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| NodeError::io(&dir, error))?;
            let name = entry.file_name();
            let hash = name.to_str().and_then(|name| name.split('-').next());
            let hash = hash.and_then(|hash| Hash::from_str(hash).ok());
            files.extend(hash.map(|hash| (hash, entry.path())));
        }
        Ok(files)
    }

    /// The length of the complete and verified file with this hash, if it is here.
    fn held_bytes(&self, ciphertext_hash: &Hash) -> Option<u64> {
        let metadata = fs::metadata(self.path("ciphertexts", ciphertext_hash)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// The cold store, if there is one.
    pub(crate) fn cold(&self) -> Option<&Arc<Cold>> {
        self.cold.as_ref()
    }

    /// Whether a file with this hash is complete on this disk.
    pub(super) fn is_here(&self, ciphertext_hash: &Hash) -> bool {
        self.held_bytes(ciphertext_hash).is_some()
    }

    /// Whether the whole ciphertext is here, or in the cold store, and verified.
    pub(crate) fn holds(&self, file: &Ciphertext) -> bool {
        let in_cold = || self.cold.as_ref().and_then(|cold| cold.size_bytes(&file.hash));
        self.held_bytes(&file.hash).or_else(in_cold) == Some(file.size_bytes)
    }

    /// Whether it holds the file, and nothing says that it cannot be read now.
    pub(crate) fn can_show(&self, file: &Ciphertext) -> bool {
        let readable = self.cold.as_ref().filter(|cold| !cold.is_failing());
        let in_cold = || readable.and_then(|cold| cold.size_bytes(&file.hash));
        self.held_bytes(&file.hash).or_else(in_cold) == Some(file.size_bytes)
    }

    /// The files that are needed here but are not. One that is here with another size does not
    /// exist. What the cold store has is needed here if audits run it, or if it cannot be read
    /// there.
    pub(crate) fn missing(&self) -> Vec<Ciphertext> {
        let needed = self.needed.read();
        let rests = |file: &Ciphertext| {
            let cold = self.cold.as_ref().filter(|cold| cold.size_bytes(&file.hash).is_some());
            cold.is_some_and(|cold| !needed.audited.contains(file) && !cold.is_wanted(&file.hash))
        };
        let missing = needed.files.keys().filter(|file| !self.is_here(&file.hash) && !rests(file));
        missing.copied().collect()
    }

    /// Brings a file back from the cold store; false if it is not there, or cannot be read.
    pub(crate) async fn recall(&self, file: &Ciphertext) -> bool {
        let Some(cold) = self.cold.as_ref().filter(|cold| cold.offers(file)) else {
            return false;
        };
        let partial = self.dir.join("partial").join(format!("{file}-recalled"));
        let recalled = cold.fetch(file, &partial).await;
        let kept = recalled.and_then(|()| self.keep(&file.hash, &partial));
        if let Err(error) = &kept {
            tracing::debug!(hash = %file.hash, %error, "not brought back from the cold store");
        }
        kept.is_ok()
    }

    /// Where to download a file from another node.
    pub(crate) fn download_path(&self, file: &Ciphertext) -> PathBuf {
        self.dir.join("partial").join(format!("{file}-fetched"))
    }

    /// Moves a complete file, whose hash was verified, to its place.
    ///
    /// # Errors
    /// A file error.
    pub(crate) fn keep(&self, ciphertext_hash: &Hash, partial: &Path) -> Result<(), NodeError> {
        let path = self.path("ciphertexts", ciphertext_hash);
        soma_os::file::rename(partial, &path).map_err(|error| NodeError::io(&path, error))?;
        self.completed.notify_one();
        Ok(())
    }

    /// Takes over which files are needed after the block at this height. Those that were needed
    /// before stay until [`Self::sweep`].
    pub(crate) fn list(&self, needed: Needed, height: u64) {
        self.set_needed(needed);
        self.listed.send_replace(height);
    }

    /// Returns once the list of needed files is that of this height, or a later one.
    pub(crate) async fn listed_at(&self, height: u64) {
        let mut listed = self.listed.subscribe();
        let _closed = listed.wait_for(|listed| *listed >= height).await;
    }

    pub(super) fn set_needed(&self, needed: Needed) {
        self.quota.lock().begin(needed.epoch);
        let before = std::mem::replace(&mut *self.needed.write(), needed);
        let now = self.needed.read();
        if before.files.keys().any(|file| !now.files.contains_key(file)) {
            self.unswept.store(true, Ordering::SeqCst);
        }
    }

    /// Whether there are files to remove that were needed before.
    pub(crate) fn is_unswept(&self) -> bool {
        self.unswept.load(Ordering::SeqCst)
    }

    /// Checks that the chain needs a ciphertext of this hash and size.
    ///
    /// # Errors
    /// [`NodeError::CommitNotFound`] when it does not.
    pub(crate) fn check_needed(&self, file: &Ciphertext) -> Result<(), NodeError> {
        if self.needs(file) { Ok(()) } else { Err(file.not_found()) }
    }

    pub(super) fn needs(&self, file: &Ciphertext) -> bool {
        self.needed.read().files.contains_key(file)
    }

    /// Whether the chain names this account as an owner of the file.
    pub(crate) fn may_upload(&self, file: &Ciphertext, uploader: &Address) -> bool {
        let needed = self.needed.read();
        let named = needed.files.get(file);
        named.is_some_and(|named| named.models.values().any(|owner| owner == uploader))
    }

    /// Opens a complete ciphertext for reading, here or in the cold store.
    ///
    /// # Errors
    /// [`NodeError::WeightsNotHeld`] when it is in neither; file errors.
    pub(crate) fn ciphertext(&self, ciphertext_hash: &Hash) -> Result<WeightsFile, NodeError> {
        let path = self.path("ciphertexts", ciphertext_hash);
        let hash = *ciphertext_hash;
        match (WeightsFile::open(&path), &self.cold) {
            (Ok(file), _) => Ok(file),
            (Err(error), Some(cold)) if error.kind() == io::ErrorKind::NotFound => {
                Ok(WeightsFile::in_cold_store(cold.file(&hash)?))
            }
            (Err(error), None) if error.kind() == io::ErrorKind::NotFound => {
                Err(NodeError::WeightsNotHeld { hash })
            }
            (Err(error), _) => Err(NodeError::io(&path, error)),
        }
    }

    /// Removes a ciphertext that is not what its name says, and returns that error.
    fn remove_damaged(&self, expected: Hash, found: Hash) -> NodeError {
        let mismatch = NodeError::CiphertextMismatch { expected, found };
        remove(&self.path("ciphertexts", &expected)).err().unwrap_or(mismatch)
    }

    /// Verifies a ciphertext again: one that was damaged on this disk is removed, so that it is
    /// fetched again.
    ///
    /// # Errors
    /// [`NodeError::CiphertextMismatch`] when it was damaged; file errors.
    pub(crate) fn check_ciphertext(&self, expected: &Hash) -> Result<(), NodeError> {
        let path = self.path("ciphertexts", expected);
        let found = hash_file(&path)?;
        if found == *expected { Ok(()) } else { Err(self.remove_damaged(*expected, found)) }
    }

    /// Opens revealed weights for reading; bytes are decrypted as they are read. Several models may
    /// have revealed these weights: the file is one that was checked.
    ///
    /// # Errors
    /// [`NodeError::WeightsNotFound`] when nothing with this hash was revealed,
    /// [`NodeError::WeightsNotHeld`] when the ciphertext is not here,
    /// [`NodeError::WeightsMismatch`] when it does not decrypt to these weights; file errors.
    pub(crate) fn plaintext(&self, weights_hash: &Hash) -> Result<WeightsFile, NodeError> {
        let mut candidates = self.revealed(weights_hash);
        candidates.sort_by_key(|revealed| !self.is_known(revealed));
        let mut refused = NodeError::WeightsNotFound { hash: *weights_hash };
        for revealed in candidates {
            match self.decrypts(&revealed) {
                Ok(found) if found == *weights_hash => {
                    let mut file = self.ciphertext(&revealed.file.ciphertext_hash)?;
                    file.key = Some(revealed.key());
                    return Ok(file);
                }
                Ok(found) => {
                    refused = NodeError::WeightsMismatch { expected: *weights_hash, found }
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Waits for the turn to check weights, if a file of theirs must be read for it. Only one is
    /// checked at a time: whoever asks for many must not occupy the threads that others need.
    pub(crate) async fn turn(
        &self,
        weights_hash: &Hash,
    ) -> Option<tokio::sync::OwnedMutexGuard<()>> {
        let candidates = self.revealed(weights_hash);
        if candidates.is_empty() || candidates.iter().any(|revealed| self.is_known(revealed)) {
            return None;
        }
        Some(Arc::clone(&self.checking).lock_owned().await)
    }

    /// Whether a revealed file is known to decrypt to what was revealed.
    fn is_known(&self, revealed: &Revealed) -> bool {
        let found = self.decrypted.lock().get(&revealed.id()).copied();
        found == Some(revealed.weights_hash) || self.plain_path(revealed).is_file()
    }

    /// The hash of what a revealed file decrypts to. A ciphertext that was damaged on this disk is
    /// removed, so that it is fetched or uploaded again: it says nothing about the model.
    ///
    /// # Errors
    /// [`NodeError::WeightsNotHeld`]; [`NodeError::CiphertextMismatch`] when it was damaged; file
    /// errors.
    fn decrypts(&self, revealed: &Revealed) -> Result<Hash, NodeError> {
        let (id, ciphertext) = (revealed.id(), revealed.ciphertext());
        if !self.holds(&ciphertext) {
            return Err(NodeError::WeightsNotHeld { hash: ciphertext.hash });
        }
        let known = self.decrypted.lock().get(&id).copied();
        if let Some(found) = known {
            return Ok(found);
        }
        if self.plain_path(revealed).is_file() {
            return Ok(revealed.weights_hash);
        }
        let found = if self.is_here(&ciphertext.hash) {
            self.inspect(revealed)?
        } else {
            self.ciphertext(&ciphertext.hash)?.hash_under(revealed.key())?
        };
        self.decrypted.lock().insert(id, found);
        Ok(found)
    }

    /// The hash of what a file on this disk decrypts to.
    fn inspect(&self, revealed: &Revealed) -> Result<Hash, NodeError> {
        let expected = revealed.file.ciphertext_hash;
        let path = self.path("ciphertexts", &expected);
        let file = cipher::inspect(&path, &revealed.key()).map_err(cipher_error)?;
        if file.ciphertext_hash != expected {
            return Err(self.remove_damaged(expected, file.ciphertext_hash));
        }
        Ok(file.weights_hash)
    }

    /// Where the decrypted and verified copy of a revealed file is.
    fn plain_path(&self, revealed: &Revealed) -> PathBuf {
        self.path("plain", &revealed.id())
    }

    /// The path of a decrypted and verified copy, made when it is missing: an audit maps it into
    /// memory. `None` if the model's file does not decrypt to what it revealed, which everyone who
    /// has the file finds.
    ///
    /// # Errors
    /// [`NodeError::WeightsNotHeld`]; [`NodeError::CiphertextMismatch`] when the file was damaged
    /// on this disk; file errors.
    pub(crate) fn plain_file(&self, revealed: &Revealed) -> Result<Option<PathBuf>, NodeError> {
        let path = self.plain_path(revealed);
        if path.is_file() {
            return Ok(Some(path));
        }
        let (expected, hash) = (revealed.weights_hash, revealed.file.ciphertext_hash);
        if let Some(cold) = self.cold.as_ref().filter(|_| !self.is_here(&hash)) {
            // Whoever waits for a slow service would keep other audits waiting.
            cold.want(&hash);
            return Err(NodeError::WeightsNotHeld { hash });
        }
        if self.decrypts(revealed)? != expected {
            return Ok(None);
        }
        self.make_room_for_plain(revealed.file.size_bytes)?;
        let source = self.path("ciphertexts", &revealed.file.ciphertext_hash);
        cipher::decrypt(&source, &path, &revealed.key(), expected, |_| ()).map_err(cipher_error)?;
        Ok(Some(path))
    }

    /// Verifies a decrypted copy again: damage on this disk must not be taken for a fault of the
    /// model's owner. A damaged copy is removed.
    ///
    /// # Errors
    /// [`NodeError::WeightsMismatch`] when it was damaged; file errors.
    pub(crate) fn check_plain(&self, revealed: &Revealed) -> Result<(), NodeError> {
        let found = hash_file(&self.plain_path(revealed))?;
        if found == revealed.weights_hash {
            return Ok(());
        }
        Err(self.remove_plain(revealed, found))
    }

    /// Removes a decrypted copy whose hash is wrong, and returns that error.
    pub(crate) fn remove_plain(&self, revealed: &Revealed, found: Hash) -> NodeError {
        let mismatch = NodeError::WeightsMismatch { expected: revealed.weights_hash, found };
        remove(&self.plain_path(revealed)).err().unwrap_or(mismatch)
    }

    /// Every file that a model has revealed for these weights.
    fn revealed(&self, weights_hash: &Hash) -> Vec<Revealed> {
        let needed = self.needed.read();
        needed.revealed.get(weights_hash).into_iter().flat_map(BTreeMap::values).copied().collect()
    }

    /// Removes every file that no rule needs anymore.
    ///
    /// # Errors
    /// The first file error; the next sweep tries again.
    pub(crate) fn sweep(&self) -> Result<(), NodeError> {
        // Before it begins: what is not needed from here on is left to the next one.
        self.unswept.store(false, Ordering::SeqCst);
        let removed = self.remove_unneeded();
        if removed.is_err() {
            self.unswept.store(true, Ordering::SeqCst);
        }
        removed
    }

    fn remove_unneeded(&self) -> Result<(), NodeError> {
        for hash in self.listed("ciphertexts")? {
            let held = self.held_bytes(&hash).map(|size_bytes| Ciphertext { hash, size_bytes });
            if held.is_some_and(|file| !self.needs(&file)) {
                remove(&self.path("ciphertexts", &hash))?;
            }
        }
        for (hash, path) in self.files("partial")? {
            // A running upload owns its file; once the file is complete, no part of it is needed.
            let runs = self.uploads.lock().keys().any(|(busy, _)| busy.hash == hash);
            let needed = size_in_name(&path)
                .is_some_and(|size_bytes| self.needs(&Ciphertext { hash, size_bytes }));
            if !runs && (!needed || self.held_bytes(&hash).is_some()) {
                remove(&path)?;
            }
        }
        let ids = self.needed.read().ids();
        for id in self.listed("plain")? {
            if !ids.contains(&id) {
                remove(&self.path("plain", &id))?;
            }
        }
        self.decrypted.lock().retain(|id, _| ids.contains(id));
        Ok(())
    }
}

/// The size of the whole file, from the name of a part of it.
fn size_in_name(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.split('-').nth(1)?.parse().ok()
}

fn cipher_error(error: SdkError) -> NodeError {
    match error {
        SdkError::WrongHash { expected, found, .. } => {
            NodeError::WeightsMismatch { expected, found }
        }
        SdkError::Io { path, source } => NodeError::io(&path, source),
        error => error.into(),
    }
}

/// An open weights file, read as it is or decrypted.
pub(crate) struct WeightsFile {
    source: Source,
    size_bytes: u64,
    key: Option<Secret>,
}

/// Where a file is read.
enum Source {
    Disk { file: File, path: PathBuf },
    Cold(ColdFile),
}

impl WeightsFile {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let size_bytes = file.metadata()?.len();
        let source = Source::Disk { file, path: path.to_path_buf() };
        Ok(Self { source, size_bytes, key: None })
    }

    fn in_cold_store(file: ColdFile) -> Self {
        Self { size_bytes: file.size_bytes(), source: Source::Cold(file), key: None }
    }

    /// Length in bytes; the same for ciphertext and plaintext.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// A file error, including when the range exceeds the file; those of the cold store.
    pub(crate) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), NodeError> {
        match &mut self.source {
            Source::Cold(file) => file.read_at(offset, buffer)?,
            Source::Disk { file, path } => file
                .seek(SeekFrom::Start(offset))
                .and_then(|_| file.read_exact(buffer))
                .map_err(|error| NodeError::io(path, error))?,
        }
        match &self.key {
            Some(key) => Ok(cipher::apply(key, offset, buffer)?),
            None => Ok(()),
        }
    }

    /// The chaining value of a part of the file, as it is.
    ///
    /// # Errors
    /// Same as [`Self::read_at`].
    pub(crate) fn subtree(&mut self, offset: u64, length: u64) -> Result<[u8; 32], NodeError> {
        let (file, path) = match &mut self.source {
            Source::Cold(file) => return file.subtree(offset, length),
            Source::Disk { file, path } => (file, path),
        };
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset);
        let hashed = file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| hasher.update_reader(file.take(length)).map(drop));
        hashed.map_err(|error| NodeError::io(path, error))?;
        Ok(hasher.finalize_non_root())
    }

    /// The hash of the whole file under a key.
    fn hash_under(mut self, key: Secret) -> Result<Hash, NodeError> {
        self.key = Some(key);
        let (mut hasher, mut offset) = (blake3::Hasher::new(), 0);
        let mut piece = vec![0; CHUNK_BYTES];
        while offset < self.size_bytes {
            let left = usize::try_from(self.size_bytes - offset).unwrap_or(CHUNK_BYTES);
            let piece = &mut piece[..left.min(CHUNK_BYTES)];
            self.read_at(offset, piece)?;
            hasher.update(piece);
            offset += piece.len() as u64;
        }
        Ok(Hash(*hasher.finalize().as_bytes()))
    }
}

pub(super) fn hash_file(path: &Path) -> Result<Hash, NodeError> {
    let mut hasher = blake3::Hasher::new();
    File::open(path)
        .and_then(|file| hasher.update_reader(file).map(drop))
        .map_err(|error| NodeError::io(path, error))?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

pub(super) fn remove(path: &Path) -> Result<(), NodeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NodeError::io(path, error)),
        _ => Ok(()),
    }
}

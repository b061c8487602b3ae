//! Weights on disk: ciphertexts by their hash, uploaded in pieces, verified before they count.
//!
//! A file is either partial (`partial/`, append only, resumable) or complete (`ciphertexts/`, verified by BLAKE3, synced
//! and renamed into place). Plaintext is never stored for serving: revealed weights are ciphertext plus a key from the
//! chain, and ranges are decrypted as they are read. `plain/` is the auditor's cache of files it maps into memory.
//! This module must never accept a byte that no commitment on chain asks for, nor call a file held that it has not hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use soma_protocol::record::{ModelStatus, Weights};
use soma_protocol::{Address, Epoch, Hash, ModelId, StateRead, hex, read};
use soma_sdk::{SdkError, Secret, cipher};

use crate::error::NodeError;

/// Bytes read at a time when a file is hashed, decrypted or served.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// How much of a ciphertext has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Length of the whole ciphertext in bytes, from the commitment.
    pub(crate) size_bytes: u64,
    /// Bytes held so far: where the next upload goes on.
    pub(crate) received_bytes: u64,
    /// True once the file is whole, verified and durable.
    pub(crate) complete: bool,
}

/// Weights that a model has revealed: a ciphertext and the key that opens it.
#[derive(Clone, Copy)]
struct Revealed {
    ciphertext_hash: Hash,
    key: [u8; 32],
}

/// A ciphertext that the chain needs.
#[derive(Debug, Default)]
struct Ciphertext {
    size_bytes: u64,
    /// Owners of the models that it belongs to: who may upload it.
    owners: BTreeSet<Address>,
}

/// The files that some rule needs, as the state says.
#[derive(Default)]
pub(crate) struct Needed {
    files: BTreeMap<Hash, Ciphertext>,
    revealed: BTreeMap<Hash, Revealed>,
}

impl Needed {
    /// Reads from the state which files are needed: of commits that may still be revealed, of models that may be
    /// routed, and of the targets of this epoch and the last, which are scored with the weights fixed for them.
    pub(crate) fn of(state: &dyn StateRead) -> Self {
        let mut needed = Self::default();
        let Epoch(epoch) = read::clock(state).epoch;
        for epoch in [epoch, epoch.saturating_add(1)] {
            for (model, commit) in read::commits(state, Epoch(epoch)) {
                needed.file(state, model, commit.ciphertext_hash, commit.size_bytes);
            }
        }
        for model in read::models(state, 1..=u32::MAX) {
            if model.status == ModelStatus::Active {
                needed.reveal(state, model.id, model.weights.as_ref());
            }
            let next = model.next.map(|next| next.weights);
            needed.reveal(state, model.id, next.as_ref());
        }
        for epoch in [epoch.saturating_sub(1), epoch] {
            for target in read::targets(state, Epoch(epoch)) {
                for routed in &target.routed {
                    needed.reveal(state, routed.model, Some(&routed.weights_hash));
                }
            }
        }
        needed
    }

    fn file(&mut self, state: &dyn StateRead, model: ModelId, hash: Hash, size_bytes: u64) {
        let file = self.files.entry(hash).or_default();
        file.size_bytes = size_bytes;
        file.owners
            .extend(read::model(state, model).map(|model| model.owner));
    }

    fn reveal(&mut self, state: &dyn StateRead, model: ModelId, weights_hash: Option<&Hash>) {
        let weights = weights_hash.and_then(|hash| read::weights(state, model, hash));
        if let Some(Weights {
            weights_hash,
            ciphertext_hash,
            size_bytes,
            key,
            ..
        }) = weights
        {
            self.file(state, model, ciphertext_hash, size_bytes);
            self.revealed.insert(
                weights_hash,
                Revealed {
                    ciphertext_hash,
                    key,
                },
            );
        }
    }
}

/// The folder of weights of one node. All methods block; call them from a blocking thread.
pub(crate) struct WeightsStore {
    dir: PathBuf,
    busy: Mutex<BTreeSet<(Hash, Address)>>,
    needed: RwLock<Needed>,
}

impl std::fmt::Debug for WeightsStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("WeightsStore")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl WeightsStore {
    /// Opens or creates the folder.
    ///
    /// # Errors
    /// When the folder cannot be created or read.
    pub(crate) fn open(dir: &Path) -> Result<Self, NodeError> {
        for part in ["partial", "ciphertexts", "plain"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(|error| NodeError::io(&path, error))?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            busy: Mutex::default(),
            needed: RwLock::default(),
        })
    }

    fn path(&self, part: &str, hash: &Hash) -> PathBuf {
        self.dir.join(part).join(hash.to_string())
    }

    /// What one account has uploaded so far. Each has a file of its own: nobody can write into another's.
    fn partial(&self, ciphertext_hash: &Hash, uploader: &Address) -> PathBuf {
        let name = format!("{ciphertext_hash}-{}", hex::encode(&uploader.0));
        self.dir.join("partial").join(name)
    }

    fn listed(&self, part: &str) -> Result<Vec<Hash>, NodeError> {
        let files = self.files(part)?;
        Ok(files.into_iter().map(|(hash, _)| hash).collect())
    }

    /// The files of a part of the folder, and the ciphertext each is named after.
    fn files(&self, part: &str) -> Result<Vec<(Hash, PathBuf)>, NodeError> {
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

    /// True when the whole ciphertext is here and has been verified.
    pub(crate) fn holds(&self, ciphertext_hash: &Hash) -> bool {
        self.path("ciphertexts", ciphertext_hash).is_file()
    }

    /// How far an upload of `size_bytes` has come; never fails for a file nobody began.
    pub(crate) fn progress(
        &self,
        ciphertext_hash: &Hash,
        uploader: &Address,
        size_bytes: u64,
    ) -> Progress {
        let complete = self.holds(ciphertext_hash);
        let path = self.partial(ciphertext_hash, uploader);
        let partial = || fs::metadata(path).map_or(0, |file| file.len());
        let received_bytes = if complete {
            size_bytes
        } else {
            partial().min(size_bytes)
        };
        Progress {
            size_bytes,
            received_bytes,
            complete,
        }
    }

    /// How far an upload has come; one that was cut off between its last byte and its end is ended.
    ///
    /// # Errors
    /// As [`Upload::finish`].
    pub(crate) fn settle(
        self: &Arc<Self>,
        ciphertext_hash: Hash,
        uploader: Address,
        size_bytes: u64,
    ) -> Result<Progress, NodeError> {
        let progress = self.progress(&ciphertext_hash, &uploader, size_bytes);
        if progress.complete || progress.received_bytes < size_bytes {
            return Ok(progress);
        }
        match self.upload(ciphertext_hash, uploader, size_bytes, size_bytes) {
            Err(NodeError::UploadBusy { .. }) => Ok(progress),
            upload => upload?.finish(),
        }
    }

    /// Begins or resumes the upload of one ciphertext at `offset`, which must be where the last one stopped.
    ///
    /// # Errors
    /// [`NodeError::UploadBusy`] while another upload of the same file by the same account runs, [`NodeError::UploadOffset`] at any other
    /// offset, or a file error.
    pub(crate) fn upload(
        self: &Arc<Self>,
        ciphertext_hash: Hash,
        uploader: Address,
        size_bytes: u64,
        offset: u64,
    ) -> Result<Upload, NodeError> {
        let slot = Slot::take(self, ciphertext_hash, uploader)?;
        let progress = self.progress(&ciphertext_hash, &uploader, size_bytes);
        let received_bytes = progress.received_bytes;
        if offset != received_bytes {
            return Err(NodeError::UploadOffset { received_bytes });
        }
        let path = self.partial(&ciphertext_hash, &uploader);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(|error| NodeError::io(&path, error))?;
        Ok(Upload {
            slot,
            path,
            file,
            size_bytes,
            received_bytes,
        })
    }

    /// Files that are needed and not here, with their lengths in bytes.
    pub(crate) fn missing(&self) -> Vec<(Hash, u64)> {
        let needed = read(&self.needed);
        let missing = needed.files.iter().filter(|(hash, _)| !self.holds(hash));
        missing
            .map(|(hash, file)| (*hash, file.size_bytes))
            .collect()
    }

    /// Where a file is put that is fetched from another node.
    pub(crate) fn fetched(&self, ciphertext_hash: &Hash) -> PathBuf {
        self.dir
            .join("partial")
            .join(format!("{ciphertext_hash}-fetched"))
    }

    /// Keeps a file whose hash was found right.
    ///
    /// # Errors
    /// A file error.
    pub(crate) fn keep(&self, ciphertext_hash: &Hash, partial: &Path) -> Result<(), NodeError> {
        let path = self.path("ciphertexts", ciphertext_hash);
        soma_os::file::rename(partial, &path).map_err(|error| NodeError::io(&path, error))
    }

    /// Learns which files are needed now. Files that are no longer needed stay until [`Self::sweep`].
    pub(crate) fn follow(&self, needed: Needed) {
        *write(&self.needed) = needed;
    }

    /// The length in bytes of a ciphertext, if it is needed.
    pub(crate) fn size_bytes(&self, ciphertext_hash: &Hash) -> Option<u64> {
        let needed = read(&self.needed);
        Some(needed.files.get(ciphertext_hash)?.size_bytes)
    }

    /// Whether the chain names this account as an owner of the file.
    pub(crate) fn may_upload(&self, ciphertext_hash: &Hash, uploader: &Address) -> bool {
        let needed = read(&self.needed);
        let file = needed.files.get(ciphertext_hash);
        file.is_some_and(|file| file.owners.contains(uploader))
    }

    /// Opens a complete ciphertext for reading.
    ///
    /// # Errors
    /// [`NodeError::WeightsNotHeld`] when it is not here.
    pub(crate) fn ciphertext(&self, ciphertext_hash: &Hash) -> Result<WeightsFile, NodeError> {
        let path = self.path("ciphertexts", ciphertext_hash);
        let open = || -> io::Result<WeightsFile> {
            let file = File::open(&path)?;
            let size_bytes = file.metadata()?.len();
            Ok(WeightsFile {
                file,
                path: path.clone(),
                size_bytes,
                key: None,
            })
        };
        open().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NodeError::WeightsNotHeld {
                hash: *ciphertext_hash,
            },
            _ => NodeError::io(&path, error),
        })
    }

    /// Opens revealed weights for reading; bytes are decrypted as they are read.
    ///
    /// # Errors
    /// [`NodeError::WeightsNotFound`] when nothing with this hash was revealed, [`NodeError::WeightsNotHeld`] when the
    /// ciphertext is not here.
    pub(crate) fn plaintext(&self, weights_hash: &Hash) -> Result<WeightsFile, NodeError> {
        let revealed = self.revealed(weights_hash)?;
        let mut file = self.ciphertext(&revealed.ciphertext_hash)?;
        file.key = Some(Secret::from_bytes(revealed.key));
        Ok(file)
    }

    /// The path of a decrypted and verified copy, made when it is missing: what an audit maps into memory.
    ///
    /// # Errors
    /// [`NodeError::WeightsMismatch`] when the decrypted bytes do not hash to `weights_hash`; file errors otherwise.
    pub(crate) fn plain_file(&self, weights_hash: &Hash) -> Result<PathBuf, NodeError> {
        let path = self.path("plain", weights_hash);
        if path.is_file() {
            return Ok(path);
        }
        let revealed = self.revealed(weights_hash)?;
        let source = self.path("ciphertexts", &revealed.ciphertext_hash);
        if !source.is_file() {
            return Err(NodeError::WeightsNotHeld {
                hash: revealed.ciphertext_hash,
            });
        }
        let key = Secret::from_bytes(revealed.key);
        cipher::decrypt(&source, &path, &key, *weights_hash, |_| ()).map_err(
            |error| match error {
                SdkError::WrongHash {
                    expected, found, ..
                } => NodeError::WeightsMismatch { expected, found },
                SdkError::Io { path, source } => NodeError::io(&path, source),
                error => error.into(),
            },
        )?;
        Ok(path)
    }

    /// Whether the ciphertext of revealed weights is still what was uploaded. A damaged one is dropped, so that it is
    /// fetched or uploaded again.
    ///
    /// # Errors
    /// [`NodeError::CiphertextMismatch`] when it was damaged; file errors.
    pub(crate) fn check_ciphertext(&self, weights_hash: &Hash) -> Result<(), NodeError> {
        let expected = self.revealed(weights_hash)?.ciphertext_hash;
        let path = self.path("ciphertexts", &expected);
        let mut hasher = blake3::Hasher::new();
        let read = File::open(&path).and_then(|file| hasher.update_reader(file).map(drop));
        read.map_err(|error| NodeError::io(&path, error))?;
        let found = Hash(hasher.finalize().into());
        if found == expected {
            return Ok(());
        }
        remove(&path)?;
        Err(NodeError::CiphertextMismatch { expected, found })
    }

    /// Drops a decrypted copy that is not what it should be; says so.
    pub(crate) fn drop_plain(&self, weights_hash: &Hash, found: Hash) -> NodeError {
        let mismatch = NodeError::WeightsMismatch {
            expected: *weights_hash,
            found,
        };
        remove(&self.path("plain", weights_hash))
            .err()
            .unwrap_or(mismatch)
    }

    fn revealed(&self, weights_hash: &Hash) -> Result<Revealed, NodeError> {
        let revealed = read(&self.needed).revealed.get(weights_hash).copied();
        revealed.ok_or(NodeError::WeightsNotFound {
            hash: *weights_hash,
        })
    }

    /// Drops every file that no rule needs any more.
    ///
    /// # Errors
    /// The first file error; what was not dropped is tried again the next time.
    pub(crate) fn sweep(&self) -> Result<(), NodeError> {
        for hash in self.listed("ciphertexts")? {
            if self.size_bytes(&hash).is_none() {
                remove(&self.path("ciphertexts", &hash))?;
            }
        }
        for (hash, path) in self.files("partial")? {
            // A running upload owns its file until it ends; a file that is whole needs no part.
            let runs = lock(&self.busy).iter().any(|(busy, _)| *busy == hash);
            if !runs && (self.size_bytes(&hash).is_none() || self.holds(&hash)) {
                remove(&path)?;
            }
        }
        for hash in self.listed("plain")? {
            if !read(&self.needed).revealed.contains_key(&hash) {
                remove(&self.path("plain", &hash))?;
            }
        }
        Ok(())
    }
}

/// The right to write one partial file; given back when dropped.
struct Slot {
    store: Arc<WeightsStore>,
    hash: Hash,
    uploader: Address,
}

impl Slot {
    fn take(store: &Arc<WeightsStore>, hash: Hash, uploader: Address) -> Result<Self, NodeError> {
        if lock(&store.busy).insert((hash, uploader)) {
            Ok(Self {
                store: Arc::clone(store),
                hash,
                uploader,
            })
        } else {
            Err(NodeError::UploadBusy { hash })
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.store.busy).remove(&(self.hash, self.uploader));
    }
}

/// One running upload: the only writer of its partial file.
pub(crate) struct Upload {
    slot: Slot,
    path: PathBuf,
    file: File,
    size_bytes: u64,
    received_bytes: u64,
}

impl Upload {
    /// Appends a piece.
    ///
    /// # Errors
    /// [`NodeError::UploadTooLong`] beyond the committed length, [`NodeError::DiskFull`] when the disk is full; the
    /// bytes accepted before stay, so the upload can go on later.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), NodeError> {
        let after = self.received_bytes + piece.len() as u64;
        if after > self.size_bytes {
            return Err(NodeError::UploadTooLong {
                size_bytes: self.size_bytes,
            });
        }
        if let Err(error) = self.file.write_all(piece) {
            // A torn piece must not shift what comes after it.
            self.file
                .set_len(self.received_bytes)
                .map_err(|error| NodeError::io(&self.path, error))?;
            return Err(NodeError::io(&self.path, error));
        }
        self.received_bytes = after;
        Ok(())
    }

    /// Ends this upload: verifies and keeps the file if it is whole, keeps the part otherwise.
    ///
    /// # Errors
    /// [`NodeError::CiphertextMismatch`] when the whole file has another hash than committed; it is dropped then.
    pub(crate) fn finish(self) -> Result<Progress, NodeError> {
        let Self {
            slot,
            path,
            file,
            size_bytes,
            received_bytes,
        } = self;
        let complete = received_bytes == size_bytes;
        if complete && !slot.store.holds(&slot.hash) {
            file.sync_all()
                .map_err(|error| NodeError::io(&path, error))?;
            let found = hash_file(&path)?;
            if found != slot.hash {
                remove(&path)?;
                return Err(NodeError::CiphertextMismatch {
                    expected: slot.hash,
                    found,
                });
            }
            slot.store.keep(&slot.hash, &path)?;
        }
        Ok(Progress {
            size_bytes,
            received_bytes,
            complete,
        })
    }
}

/// An open weights file, as ciphertext or decrypted on the fly.
pub(crate) struct WeightsFile {
    pub(crate) file: File,
    pub(crate) path: PathBuf,
    size_bytes: u64,
    key: Option<Secret>,
}

impl WeightsFile {
    /// Length in bytes; the same for ciphertext and plaintext.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// A file error, also when the range leaves the file.
    pub(crate) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<(), NodeError> {
        let mut fill = || -> io::Result<()> {
            self.file.seek(SeekFrom::Start(offset))?;
            self.file.read_exact(buffer)
        };
        fill().map_err(|error| NodeError::io(&self.path, error))?;
        match &self.key {
            Some(key) => Ok(cipher::apply(key, offset, buffer)?),
            None => Ok(()),
        }
    }
}

fn hash_file(path: &Path) -> Result<Hash, NodeError> {
    let mut hasher = blake3::Hasher::new();
    File::open(path)
        .and_then(|file| hasher.update_reader(file).map(|_| ()))
        .map_err(|error| NodeError::io(path, error))?;
    Ok(Hash(*hasher.finalize().as_bytes()))
}

fn remove(path: &Path) -> Result<(), NodeError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NodeError::io(path, error)),
        _ => Ok(()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

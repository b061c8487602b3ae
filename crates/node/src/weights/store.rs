//! Weights files on disk: which are held, how they are read, and when they are removed.
//!
//! `ciphertexts/` holds complete files, verified by BLAKE3, synced and renamed into place;
//! `partial/` holds uploads and downloads that can resume; `plain/` caches decrypted files that the
//! auditor maps into memory. Plaintext is never stored for serving: revealed weights are ciphertext
//! plus a key from the chain, and ranges are decrypted as they are read.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use soma_protocol::{Address, Hash, hex};
use soma_sdk::{SdkError, Secret, cipher};
use tokio::sync::Notify;

use super::needed::{Needed, Revealed};
use crate::chain::Chain;
use crate::error::NodeError;

/// Bytes read at a time when a file is hashed, decrypted or served.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;

/// The folder of weights of one node. All methods block; call them from a blocking thread.
pub(crate) struct WeightsStore {
    dir: PathBuf,
    /// Running uploads: at most one for each file and account.
    pub(super) uploads: Mutex<BTreeSet<(Hash, Address)>>,
    needed: RwLock<Needed>,
    /// Notified when a file is complete.
    completed: Arc<Notify>,
}

impl std::fmt::Debug for WeightsStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("WeightsStore").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl WeightsStore {
    /// Opens or creates the folder; `completed` is notified when a file is complete.
    ///
    /// # Errors
    /// When the folder cannot be created or read.
    pub(crate) fn open(dir: &Path, completed: Arc<Notify>) -> Result<Self, NodeError> {
        for part in ["partial", "ciphertexts", "plain"] {
            let path = dir.join(part);
            fs::create_dir_all(&path).map_err(|error| NodeError::io(&path, error))?;
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            uploads: Mutex::default(),
            needed: RwLock::default(),
            completed,
        })
    }

    pub(super) fn path(&self, part: &str, hash: &Hash) -> PathBuf {
        self.dir.join(part).join(hash.to_string())
    }

    /// What one account has uploaded so far: each account has its own file.
    pub(super) fn partial(&self, ciphertext_hash: &Hash, uploader: &Address) -> PathBuf {
        let name = format!("{ciphertext_hash}-{}", hex::encode(&uploader.0));
        self.dir.join("partial").join(name)
    }

    fn listed(&self, part: &str) -> Result<Vec<Hash>, NodeError> {
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

    /// Whether the whole ciphertext is here and verified.
    pub(crate) fn holds(&self, ciphertext_hash: &Hash) -> bool {
        self.path("ciphertexts", ciphertext_hash).is_file()
    }

    /// Hash and length in bytes of each file that is needed but not here.
    pub(crate) fn missing(&self) -> Vec<(Hash, u64)> {
        let needed = self.needed.read();
        let missing = needed.files.iter().filter(|(hash, _)| !self.holds(hash));
        missing.map(|(hash, file)| (*hash, file.size_bytes)).collect()
    }

    /// Where to download a file from another node.
    pub(crate) fn download_path(&self, ciphertext_hash: &Hash) -> PathBuf {
        self.dir.join("partial").join(format!("{ciphertext_hash}-fetched"))
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

    /// Reads from the state which files are needed now. The others stay until [`Self::sweep`].
    pub(crate) fn refresh(&self, chain: &Chain) {
        self.set_needed(chain.read(|state, _| Needed::of(state)));
    }

    pub(super) fn set_needed(&self, needed: Needed) {
        *self.needed.write() = needed;
    }

    /// The length in bytes of a ciphertext that the chain needs.
    ///
    /// # Errors
    /// [`NodeError::CommitNotFound`] when it needs no such file.
    pub(crate) fn committed_bytes(
        &self,
        chain: &Chain,
        ciphertext_hash: &Hash,
    ) -> Result<u64, NodeError> {
        let listed = self.size_bytes(ciphertext_hash);
        // A commit that was finalized a moment ago may not be in the list yet.
        let size_bytes = listed.or_else(|| {
            self.refresh(chain);
            self.size_bytes(ciphertext_hash)
        });
        size_bytes.ok_or(NodeError::CommitNotFound { hash: *ciphertext_hash })
    }

    fn size_bytes(&self, ciphertext_hash: &Hash) -> Option<u64> {
        let needed = self.needed.read();
        Some(needed.files.get(ciphertext_hash)?.size_bytes)
    }

    /// Whether the chain names this account as an owner of the file.
    pub(crate) fn may_upload(&self, ciphertext_hash: &Hash, uploader: &Address) -> bool {
        let needed = self.needed.read();
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
            Ok(WeightsFile { file, path: path.clone(), size_bytes, key: None })
        };
        open().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => NodeError::WeightsNotHeld { hash: *ciphertext_hash },
            _ => NodeError::io(&path, error),
        })
    }

    /// Opens revealed weights for reading; bytes are decrypted as they are read.
    ///
    /// # Errors
    /// [`NodeError::WeightsNotFound`] when nothing with this hash was revealed,
    /// [`NodeError::WeightsNotHeld`] when the ciphertext is not here.
    pub(crate) fn plaintext(&self, weights_hash: &Hash) -> Result<WeightsFile, NodeError> {
        let revealed = self.revealed(weights_hash)?;
        let mut file = self.ciphertext(&revealed.ciphertext_hash)?;
        file.key = Some(Secret::from_bytes(revealed.key));
        Ok(file)
    }

    /// The path of a decrypted and verified copy, made when it is missing: an audit maps it into
    /// memory.
    ///
    /// # Errors
    /// [`NodeError::WeightsMismatch`] when the decrypted bytes do not hash to `weights_hash`; file
    /// errors.
    pub(crate) fn plain_file(&self, weights_hash: &Hash) -> Result<PathBuf, NodeError> {
        let path = self.path("plain", weights_hash);
        if path.is_file() {
            return Ok(path);
        }
        let revealed = self.revealed(weights_hash)?;
        let source = self.path("ciphertexts", &revealed.ciphertext_hash);
        if !source.is_file() {
            return Err(NodeError::WeightsNotHeld { hash: revealed.ciphertext_hash });
        }
        let key = Secret::from_bytes(revealed.key);
        cipher::decrypt(&source, &path, &key, *weights_hash, |_| ()).map_err(
            |error| match error {
                SdkError::WrongHash { expected, found, .. } => {
                    NodeError::WeightsMismatch { expected, found }
                }
                SdkError::Io { path, source } => NodeError::io(&path, source),
                error => error.into(),
            },
        )?;
        Ok(path)
    }

    /// Verifies the ciphertext of revealed weights again. A damaged one is removed, so that it is
    /// fetched or uploaded again.
    ///
    /// # Errors
    /// [`NodeError::CiphertextMismatch`] when it was damaged; file errors.
    pub(crate) fn check_ciphertext(&self, weights_hash: &Hash) -> Result<(), NodeError> {
        let expected = self.revealed(weights_hash)?.ciphertext_hash;
        let path = self.path("ciphertexts", &expected);
        let found = hash_file(&path)?;
        if found == expected {
            return Ok(());
        }
        remove(&path)?;
        Err(NodeError::CiphertextMismatch { expected, found })
    }

    /// Removes a decrypted copy whose hash is wrong, and returns that error.
    pub(crate) fn remove_plain(&self, weights_hash: &Hash, found: Hash) -> NodeError {
        let mismatch = NodeError::WeightsMismatch { expected: *weights_hash, found };
        remove(&self.path("plain", weights_hash)).err().unwrap_or(mismatch)
    }

    fn revealed(&self, weights_hash: &Hash) -> Result<Revealed, NodeError> {
        let revealed = self.needed.read().revealed.get(weights_hash).copied();
        revealed.ok_or(NodeError::WeightsNotFound { hash: *weights_hash })
    }

    /// Removes every file that no rule needs anymore.
    ///
    /// # Errors
    /// The first file error; the next sweep tries again.
    pub(crate) fn sweep(&self) -> Result<(), NodeError> {
        for hash in self.listed("ciphertexts")? {
            if self.size_bytes(&hash).is_none() {
                remove(&self.path("ciphertexts", &hash))?;
            }
        }
        for (hash, path) in self.files("partial")? {
            // A running upload owns its file; once the file is complete, no part of it is needed.
            let runs = self.uploads.lock().iter().any(|(busy, _)| *busy == hash);
            if !runs && (self.size_bytes(&hash).is_none() || self.holds(&hash)) {
                remove(&path)?;
            }
        }
        for hash in self.listed("plain")? {
            if !self.needed.read().revealed.contains_key(&hash) {
                remove(&self.path("plain", &hash))?;
            }
        }
        Ok(())
    }
}

/// An open weights file, read as it is or decrypted.
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
    /// A file error, including when the range exceeds the file.
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

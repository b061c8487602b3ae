//! The state folder: its lock, its chain, and its layout.
//!
//! Only one process may use it at a time. The operating system holds the lock, so a killed process
//! leaves none behind.

use std::{
    fs::{self, File, TryLockError},
    io::ErrorKind,
    path::{Path, PathBuf},
};

use soma_protocol::Hash;

use crate::StoreError;

const LOCK: &str = "lock";
const CHAIN: &str = "chain";
const CONSENSUS: &str = "consensus";
const HISTORY: &str = "history.redb";

/// A locked state folder; dropping it releases the lock.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    _lock: File,
}

fn names_a_chain(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl StateFolder {
    /// Locks the folder for `chain`, creating it if it does not exist.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process holds it, [`StoreError::OtherChain`] when it
    /// belongs to a different genesis, [`StoreError::Io`] when the disk fails.
    pub fn open(path: &Path, chain: &Hash) -> Result<Self, StoreError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| StoreError::Io { path, source }
        };
        fs::create_dir_all(path).map_err(io(path))?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::InUse { path: path.into() });
            }
            Err(TryLockError::Error(source)) => {
                return Err(StoreError::Io { path: lock_path, source });
            }
        }
        let expected = chain.to_string();
        let chain_path = path.join(CHAIN);
        match fs::read_to_string(&chain_path) {
            Ok(found) if found.trim() == expected => {}
            Ok(found) if !names_a_chain(found.trim()) => {
                let reason = String::from("it names no chain");
                return Err(StoreError::DamagedFile { path: chain_path, reason });
            }
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                let reason = String::from("it is no text");
                return Err(StoreError::DamagedFile { path: chain_path, reason });
            }
            Ok(found) => {
                let found = found.trim().to_owned();
                return Err(StoreError::OtherChain { path: path.into(), expected, found });
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let text = format!("{expected}\n");
                soma_os::file::write(&chain_path, text.as_bytes()).map_err(io(&chain_path))?;
            }
            Err(source) => {
                return Err(StoreError::Io { path: chain_path, source });
            }
        }
        Ok(Self { path: path.into(), _lock: lock })
    }

    /// The folder that holds votes, blocks and the authenticated state.
    pub fn consensus(&self) -> PathBuf {
        self.path.join(CONSENSUS)
    }

    /// The history's file.
    pub fn history(&self) -> PathBuf {
        self.path.join(HISTORY)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

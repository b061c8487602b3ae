//! Which files leave the disk for the cold store: those that audits of the running and of the next
//! epoch do not run, beyond what may stay, the oldest first. A file must never leave before the
//! cold store was made sure of.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use soma_protocol::Hash;

use super::cold::Cold;
use super::needed::Ciphertext;
use super::store::{WeightsStore, remove};
use crate::error::NodeError;

/// The pause between two looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// Moves files to the cold store, forever.
pub(crate) async fn run(weights: Arc<WeightsStore>) {
    let Some(cold) = weights.cold() else {
        return std::future::pending().await;
    };
    loop {
        if let Err(error) = weights.tend(cold, Instant::now()).await {
            tracing::warn!(%error, "a file does not leave the disk, or the cold store, yet");
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

impl WeightsStore {
    /// Compares the cold store with what is needed, and moves files that are not needed here.
    ///
    /// # Errors
    /// The first failure; it does not spoil what can be done beside it, and is tried again.
    pub(super) async fn tend(&self, cold: &Cold, now: Instant) -> Result<(), NodeError> {
        if cold.is_list_due(now) {
            cold.list(now).await?;
        }
        let needed = |file: &Ciphertext| self.needs(file);
        let is_over = |hash: &Hash| self.is_here(hash) || !self.names(hash);
        let unneeded = cold.review(now, needed, is_over);
        let mut done = Ok(());
        // The disk must not fill because an object cannot be deleted.
        for hash in self.leaving()? {
            if cold.is_failing() {
                return done;
            }
            done = done.and(self.leave(cold, &hash).await);
        }
        for hash in unneeded {
            if cold.is_failing() {
                return done;
            }
            done = done.and(cold.delete(&hash).await);
        }
        done
    }

    /// Whether a file with this hash is needed, of whatever size.
    fn names(&self, hash: &Hash) -> bool {
        let of_size = |size_bytes| Ciphertext { hash: *hash, size_bytes };
        self.needed.read().files.range(of_size(0)..=of_size(u64::MAX)).next().is_some()
    }

    /// The files that are to leave the disk: those beyond the room for files that no audit runs.
    fn leaving(&self) -> Result<Vec<Hash>, NodeError> {
        let (mut files, mut bytes) = (Vec::new(), 0_u64);
        for hash in self.listed("ciphertexts")? {
            let path = self.path("ciphertexts", &hash);
            let Ok(metadata) = fs::metadata(path) else { continue };
            let file = Ciphertext { hash, size_bytes: metadata.len() };
            if self.is_idle(&file) {
                bytes = bytes.saturating_add(file.size_bytes);
                files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), file));
            }
        }
        files.sort_unstable();
        let mut leaving = Vec::new();
        for (_, file) in files {
            if bytes <= self.limits.local_bytes_max {
                break;
            }
            bytes = bytes.saturating_sub(file.size_bytes);
            leaving.push(file.hash);
        }
        Ok(leaving)
    }

    /// Whether a file is needed, but not on the disk.
    fn is_idle(&self, file: &Ciphertext) -> bool {
        let needed = self.needed.read();
        needed.files.contains_key(file) && !needed.audited.contains(file)
    }

    async fn leave(&self, cold: &Cold, hash: &Hash) -> Result<(), NodeError> {
        let path = self.path("ciphertexts", hash);
        match cold.secure(hash, &path).await {
            // It was damaged on this disk, and is fetched from other nodes.
            Err(error @ NodeError::CiphertextMismatch { .. }) => {
                remove(&path)?;
                return Err(error);
            }
            secured => secured?,
        }
        remove(&path)?;
        tracing::debug!(%hash, "a file is in the cold store");
        for id in self.ids_of(hash) {
            remove(&self.path("plain", &id))?;
        }
        Ok(())
    }

    /// The names of the decrypted copies of a file.
    fn ids_of(&self, hash: &Hash) -> BTreeSet<Hash> {
        let needed = self.needed.read();
        let revealed = needed.revealed.values().flat_map(|revealed| revealed.iter());
        let of_file = revealed.filter(|(_, revealed)| revealed.file.ciphertext_hash == *hash);
        of_file.map(|(id, _)| *id).collect()
    }
}

//! What may still be brought to this node: within a model's quota, and without taking the space on
//! the disk that the chain needs.

use soma_protocol::{Address, Hash};

use super::needed::Ciphertext;
use super::quota::FILES_PER_EPOCH;
use super::store::{WeightsStore, remove};
use crate::error::NodeError;

impl WeightsStore {
    /// Counts bytes that `uploader` sends of a file towards the quota of one of its models.
    ///
    /// # Errors
    /// [`NodeError::CommitNotFound`] once no commit names the file, [`NodeError::UploadQuota`].
    pub(super) fn count_upload(
        &self,
        file: &Ciphertext,
        uploader: &Address,
        bytes: u64,
    ) -> Result<(), NodeError> {
        let needed = self.needed.read();
        let named = needed.files.get(file).ok_or_else(|| file.not_found())?;
        let of_uploader = named.models.iter().filter(|(_, owner)| *owner == uploader);
        let most = needed.bytes_max.saturating_mul(FILES_PER_EPOCH);
        let models = of_uploader.map(|(model, _)| *model);
        if named.is_revealed || self.quota.lock().take(models, bytes, most) {
            return Ok(());
        }
        Err(NodeError::UploadQuota { bytes: most })
    }

    /// Whether a file may be downloaded from another node now: it is within the quota of a model
    /// that names it, and leaves the chain its space on the disk.
    ///
    /// # Errors
    /// [`NodeError::CommitNotFound`], [`NodeError::UploadQuota`], [`NodeError::DiskReserved`].
    pub(crate) fn may_fetch(&self, file: &Ciphertext) -> Result<(), NodeError> {
        let needed = self.needed.read();
        let named = needed.files.get(file).ok_or_else(|| file.not_found())?;
        self.check_room(file.size_bytes)?;
        let most = needed.bytes_max.saturating_mul(FILES_PER_EPOCH);
        let models = named.models.keys().copied();
        if named.is_revealed || self.quota.lock().take_file(*file, models, most) {
            return Ok(());
        }
        Err(NodeError::UploadQuota { bytes: most })
    }

    /// Checks that `bytes` more, and all that running uploads may still write, leave the chain its
    /// space on the disk.
    ///
    /// # Errors
    /// [`NodeError::DiskReserved`]; a file error.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), NodeError> {
        let free = soma_os::disk::free_bytes(&self.dir);
        let free = free.map_err(|error| NodeError::io(&self.dir, error))?;
        let uploads: u64 = self.uploads.lock().values().sum();
        let reserved = self.limits.free_bytes_min;
        let wanted = reserved.saturating_add(uploads).saturating_add(bytes);
        // A system that does not tell is trusted to refuse in time.
        if free.is_none_or(|free| wanted <= free) {
            return Ok(());
        }
        Err(NodeError::DiskReserved { reserved })
    }

    /// Removes decrypted copies until another of this length leaves the chain its space. What an
    /// audit has read of them is in its memory.
    ///
    /// # Errors
    /// Same as [`Self::check_room`].
    pub(super) fn make_room_for_plain(&self, bytes: u64) -> Result<(), NodeError> {
        let mut copies = self.listed("plain")?.into_iter();
        loop {
            let next: Option<Hash> = copies.next();
            match (self.check_room(bytes), next) {
                (Err(NodeError::DiskReserved { .. }), Some(copy)) => {
                    remove(&self.path("plain", &copy))?;
                }
                (room, _) => return room,
            }
        }
    }
}

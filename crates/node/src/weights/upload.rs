//! Uploads of ciphertexts, in pieces; an interrupted upload resumes where it stopped. An upload
//! must never write a byte beyond the committed length, nor into the file of another account.

use std::collections::btree_map::Entry;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use soma_protocol::Address;

use super::needed::Ciphertext;
use super::store::{WeightsStore, hash_file, remove};
use crate::error::NodeError;

/// How much of a ciphertext has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Length of the whole ciphertext in bytes, from the commitment.
    pub(crate) size_bytes: u64,
    /// Bytes held so far: where the next upload resumes.
    pub(crate) received_bytes: u64,
    /// The file is complete, verified and durable.
    pub(crate) complete: bool,
}

impl WeightsStore {
    /// Progress of an upload, including one that has not begun.
    pub(crate) fn progress(&self, file: &Ciphertext, uploader: &Address) -> Progress {
        let size_bytes = file.size_bytes;
        let complete = self.holds(file);
        let path = self.partial(file, uploader);
        let partial = || fs::metadata(path).map_or(0, |file| file.len());
        let received_bytes = if complete { size_bytes } else { partial().min(size_bytes) };
        Progress { size_bytes, received_bytes, complete }
    }

    /// Progress of an upload; one that was interrupted after its last byte is finished first.
    ///
    /// # Errors
    /// Same as [`Upload::finish`].
    pub(crate) fn finish_upload(
        self: &Arc<Self>,
        ciphertext: Ciphertext,
        uploader: Address,
    ) -> Result<Progress, NodeError> {
        let progress = self.progress(&ciphertext, &uploader);
        if progress.complete || progress.received_bytes < ciphertext.size_bytes {
            return Ok(progress);
        }
        match self.upload(ciphertext, uploader, ciphertext.size_bytes) {
            Err(NodeError::UploadBusy { .. }) => Ok(progress),
            upload => upload?.finish(),
        }
    }

    /// Begins or resumes the upload of one ciphertext at `offset`, where the last one stopped.
    ///
    /// # Errors
    /// [`NodeError::UploadBusy`] while another upload of the same file by the same account runs,
    /// [`NodeError::UploadOffset`] at any other offset, [`NodeError::DiskReserved`] if the file
    /// would take space that the chain needs, or a file error.
    pub(crate) fn upload(
        self: &Arc<Self>,
        ciphertext: Ciphertext,
        uploader: Address,
        offset: u64,
    ) -> Result<Upload, NodeError> {
        let mut slot = Slot::take(self, ciphertext, uploader)?;
        let progress = self.progress(&ciphertext, &uploader);
        let received_bytes = progress.received_bytes;
        if offset != received_bytes {
            return Err(NodeError::UploadOffset { received_bytes });
        }
        slot.reserve(ciphertext.size_bytes.saturating_sub(received_bytes))?;
        let path = self.partial(&ciphertext, &uploader);
        let file = soma_os::file::open_own(&path)
            .and_then(|mut file| file.seek(SeekFrom::End(0)).map(|_| file))
            .map_err(|error| NodeError::io(&path, error))?;
        Ok(Upload { slot, path, file, received_bytes })
    }
}

/// The right to write one partial file; released when dropped.
struct Slot {
    store: Arc<WeightsStore>,
    ciphertext: Ciphertext,
    uploader: Address,
}

impl Slot {
    fn take(
        store: &Arc<WeightsStore>,
        ciphertext: Ciphertext,
        uploader: Address,
    ) -> Result<Self, NodeError> {
        match store.uploads.lock().entry((ciphertext, uploader)) {
            Entry::Vacant(slot) => {
                slot.insert(0);
                Ok(Self { store: Arc::clone(store), ciphertext, uploader })
            }
            Entry::Occupied(_) => Err(NodeError::UploadBusy { hash: ciphertext.hash }),
        }
    }

    /// Reserves space on the disk for this many bytes.
    fn reserve(&mut self, bytes: u64) -> Result<(), NodeError> {
        self.store.check_room(bytes)?;
        self.store.uploads.lock().insert((self.ciphertext, self.uploader), bytes);
        Ok(())
    }

    /// Counts bytes of the upload. If the file is not needed any more, what is here is removed.
    fn count(&self, path: &Path, bytes: u64) -> Result<(), NodeError> {
        let counted = self.store.count_upload(&self.ciphertext, &self.uploader, bytes);
        if matches!(counted, Err(NodeError::CommitNotFound { .. })) {
            remove(path)?;
        }
        counted
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.store.uploads.lock().remove(&(self.ciphertext, self.uploader));
    }
}

/// One running upload: the only writer of its partial file.
pub(crate) struct Upload {
    slot: Slot,
    path: PathBuf,
    file: File,
    received_bytes: u64,
}

impl Upload {
    /// Appends a piece.
    ///
    /// # Errors
    /// [`NodeError::UploadTooLong`] beyond the committed length, [`NodeError::UploadQuota`] beyond
    /// what the uploader's model may bring, [`NodeError::DiskFull`] when the disk is full; the
    /// bytes accepted before stay, so that the upload can resume. [`NodeError::CommitNotFound`]
    /// once the commit is replaced or has lapsed; nothing stays then.
    pub(crate) fn write(&mut self, piece: &[u8]) -> Result<(), NodeError> {
        let after = self.received_bytes + piece.len() as u64;
        let size_bytes = self.slot.ciphertext.size_bytes;
        if after > size_bytes {
            return Err(NodeError::UploadTooLong { size_bytes });
        }
        self.slot.count(&self.path, piece.len() as u64)?;
        if let Err(error) = self.file.write_all(piece) {
            // A partially written piece must not shift what follows.
            self.file
                .set_len(self.received_bytes)
                .map_err(|error| NodeError::io(&self.path, error))?;
            return Err(NodeError::io(&self.path, error));
        }
        self.received_bytes = after;
        Ok(())
    }

    /// Ends this upload: verifies and keeps a complete file, keeps a partial one to resume.
    ///
    /// # Errors
    /// [`NodeError::CiphertextMismatch`] when the complete file does not have the committed hash,
    /// [`NodeError::CommitNotFound`] when no commit names it any more; it is removed then.
    pub(crate) fn finish(self) -> Result<Progress, NodeError> {
        let Self { slot, path, file, received_bytes } = self;
        let Ciphertext { hash, size_bytes } = slot.ciphertext;
        let complete = received_bytes == size_bytes;
        slot.count(&path, 0)?;
        if complete && !slot.store.holds(&slot.ciphertext) {
            file.sync_all().map_err(|error| NodeError::io(&path, error))?;
            let found = hash_file(&path)?;
            if found != hash {
                remove(&path)?;
                return Err(NodeError::CiphertextMismatch { expected: hash, found });
            }
            slot.store.keep(&hash, &path)?;
        }
        Ok(Progress { size_bytes, received_bytes, complete })
    }
}

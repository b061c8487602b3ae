//! Classifies I/O errors by kind, never by their text.

use std::io::{Error, ErrorKind};

/// Whether a write failed for lack of space: the disk is full or a quota is reached. A read-only
/// file system is not full: freeing space does not help.
pub fn is_disk_full(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

//! Turns of processes that share a folder: whoever locks a file has the turn, until it is done or
//! dead.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::patience::Listener;

/// Time between two attempts to lock.
const POLL: Duration = Duration::from_millis(20);

/// The turn of this process, which ends when it is dropped.
#[derive(Debug)]
#[cfg_attr(not(test), expect(dead_code, reason = "the lock ends with the file"))]
pub struct Turn {
    locked: Option<File>,
}

impl Turn {
    /// Waits for the turn at the lock file `path`, and tells `listener` what for. What it orders
    /// must be right without it, too: a process that stands still for `limit`, and a disk that
    /// takes no lock file, must not stop the others.
    pub async fn take(path: &Path, limit: Duration, listener: &Listener, what: &str) -> Self {
        let Ok(file) = soma_os::file::open_own(path) else {
            return Self { locked: None };
        };
        let name = || format!("waiting for another process to {what}");
        let locked = listener.during(name, lock(&file, limit)).await;
        Self { locked: locked.is_ok().then_some(file) }
    }
}

/// Locks the file.
///
/// # Errors
/// If the file cannot be locked at all, or another process still has it after `limit`.
pub(crate) async fn lock(file: &File, limit: Duration) -> std::io::Result<()> {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < limit => sleep(POLL).await,
            locked => return locked.map_err(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Turn;
    use crate::patience::Listener;

    #[tokio::test]
    async fn one_has_the_turn_after_the_other_and_nobody_waits_forever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let take = async |limit| Turn::take(&path, limit, &Listener::default(), "test").await;
        let first = take(Duration::ZERO).await;
        assert!(first.locked.is_some());
        assert!(take(Duration::from_millis(50)).await.locked.is_none());
        drop(first);
        assert!(take(Duration::ZERO).await.locked.is_some());
        let nowhere = folder.path().join("missing/lock");
        let turn = Turn::take(&nowhere, Duration::ZERO, &Listener::default(), "test").await;
        assert!(turn.locked.is_none());
    }
}

//! Why a store operation failed.

use std::path::PathBuf;

use commonware_storage::{mmr, qmdb};

/// Why a store operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// Another process holds the state folder.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The state folder.
        path: PathBuf,
    },
    /// The folder belongs to a chain with a different genesis.
    #[error("{} belongs to chain {found}, not to chain {expected}", path.display())]
    OtherChain {
        /// The state folder.
        path: PathBuf,
        /// The expected chain, in hex.
        expected: String,
        /// The chain that the folder belongs to, in hex.
        found: String,
    },
    /// The authenticated database failed.
    #[error("state database: {0}")]
    Database(#[from] qmdb::Error<mmr::Family>),
    /// Reading or writing the history's file failed.
    #[error("history: {0}")]
    History(#[source] Box<redb::Error>),
    /// A file is damaged that is made again once it is deleted.
    #[error("{} is damaged: {reason}", path.display())]
    DamagedFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A record in the history or the database cannot be decoded.
    #[error("a stored {record} is damaged")]
    Damaged {
        /// The kind of record.
        record: &'static str,
    },
    /// A value is longer than the database reads.
    #[error("a value of {bytes} bytes; the database reads at most {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest that is accepted.
        max: usize,
    },
    /// A block was written out of order.
    #[error("the history ends at block {height}; block {next} does not follow it")]
    Gap {
        /// The last height in the history.
        height: u64,
        /// The height of the block.
        next: u64,
    },
}

macro_rules! history_errors {
    ($($error:ty),*) => {$(
        impl From<$error> for StoreError {
            fn from(error: $error) -> Self {
                Self::History(Box::new(error.into()))
            }
        }
    )*};
}

history_errors!(
    redb::DatabaseError,
    redb::TransactionError,
    redb::TableError,
    redb::StorageError,
    redb::CommitError
);

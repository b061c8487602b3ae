//! Protocol state on the engine's authenticated database, and the read models beside it.
//!
//! Three things live in one state folder: the authenticated database (the truth, `database`), its
//! copy in memory with the effects of blocks that are not final yet (`state`), and a history for
//! questions about the past (`history`), which can be lost and rebuilt. Nothing here decides what a
//! transaction does, and nothing here knows the network.

pub mod database;
mod folder;
pub mod history;
mod state;

use std::path::PathBuf;

pub use folder::StateFolder;
pub use history::History;
pub use state::{State, Tip};

/// What can go wrong between the protocol and the disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A file or folder of the state cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// Another process holds the state folder.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The state folder.
        path: PathBuf,
    },
    /// The folder belongs to a chain with another genesis.
    #[error("{} holds the chain {found}, this is the chain {expected}", path.display())]
    OtherChain {
        /// The state folder.
        path: PathBuf,
        /// The chain that was asked for, in hex.
        expected: String,
        /// The chain the folder was made for, in hex.
        found: String,
    },
    /// The authenticated database refused an operation.
    #[error("state database: {0}")]
    Database(#[from] database::Error),
    /// The history's file refused an operation.
    #[error("history: {0}")]
    History(#[source] Box<redb::Error>),
    /// A record of the history or of the database does not decode.
    #[error("a stored {record} is damaged")]
    Damaged {
        /// What kind of record it is.
        record: &'static str,
    },
    /// A block was handed over out of order.
    #[error("history ends at block {height}, block {next} does not follow")]
    Gap {
        /// The last height the history holds.
        height: u64,
        /// The height that was offered.
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

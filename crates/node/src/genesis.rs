//! The genesis of a network: read from its file, or made by several operators.
//!
//! A [`Plan`] says everything that is not an operator's own: name, start, parameters, allocations.
//! Each operator signs an [`Entry`] with keys that stay with them. [`Plan::assemble`] gives the
//! same genesis for the same plan and entries, in whatever order, so whoever has both can check a
//! genesis by assembling it. It must never write a secret, nor take an entry whose signatures do
//! not hold.

mod entry;
mod plan;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use soma_codes::{Code, Coded};
use soma_protocol::{Address, Amount, Genesis};

pub use entry::{Entry, NamedEntry, read_entries};
pub use plan::{Plan, Preset};

use crate::error::NodeError;

/// What differs between two networks that are equal otherwise.
pub(crate) const GENESIS_TIME: &str = "genesis time";

/// What is wrong with a plan, with entries, or with a genesis made from them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The plan is malformed, or breaks a rule.
    #[error("the plan {}: {reason}", path.display())]
    Plan {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The file is not an entry, or what it says has no form.
    #[error("{} is not an entry: {reason}", path.display())]
    Entry {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No file was named, or a folder without one.
    #[error("there is no entry in {}", path.display())]
    NoEntry {
        /// The folder.
        path: PathBuf,
    },
    /// A signature of the entry does not hold: it was changed, or never signed.
    #[error("{}: the {what} of {address} does not hold", path.display())]
    Unsigned {
        /// The file.
        path: PathBuf,
        /// Which signature.
        what: &'static str,
        /// Whose entry it is.
        address: Address,
    },
    /// The entry was signed for another plan.
    #[error("{} is for another plan: {found}, not {expected}", path.display())]
    OtherPlan {
        /// The file.
        path: PathBuf,
        /// What the entry is for: a network's name and the hash of a plan.
        found: String,
        /// What it should be for.
        expected: String,
    },
    /// Two entries are of one account, or name one consensus key.
    #[error("{} and {} have the same {what}", first.display(), second.display())]
    Twice {
        /// One file.
        first: PathBuf,
        /// The other file.
        second: PathBuf,
        /// What they share.
        what: &'static str,
    },
    /// The stake is outside the bounds of the plan.
    #[error("{}: a stake of {found} SOMA; the plan allows {min} to {max}", path.display())]
    Stake {
        /// The file.
        path: PathBuf,
        /// The stake of the entry.
        found: Amount,
        /// The least that a validator needs.
        min: Amount,
        /// The most that the plan allows.
        max: Amount,
    },
    /// There are too few or too many entries.
    #[error("{found} entries; the plan is for {least} to {most}")]
    Count {
        /// How many there are.
        found: usize,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
    },
    /// The genesis is not what the plan and the entries give.
    #[error("{} does not follow from the plan and the entries: its {what} differs", path.display())]
    Differs {
        /// The genesis file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// The genesis breaks a rule.
    #[error(transparent)]
    Genesis(#[from] soma_protocol::Error),
}

impl Coded for GenesisError {
    fn code(&self) -> Code {
        match self {
            Self::File { source, .. } => Code::of_io(source),
            Self::Plan { .. } => Code::BadPlan,
            Self::Entry { .. } | Self::NoEntry { .. } => Code::BadEntry,
            Self::Unsigned { .. } => Code::EntryNotSigned,
            Self::OtherPlan { .. } => Code::EntryOfOtherPlan,
            Self::Twice { .. } => Code::EntryTwice,
            Self::Stake { .. } => Code::EntryStake,
            Self::Count { .. } => Code::EntryCount,
            Self::Differs { .. } => Code::OtherGenesis,
            Self::Genesis(_) => Code::InvalidGenesis,
        }
    }
}

/// Reads a genesis from a file and checks it.
///
/// # Errors
/// When it cannot be read, is malformed, or breaks its own rules.
pub fn read_genesis(path: &Path) -> Result<Genesis, NodeError> {
    parse_genesis(path, &fs::read(path).map_err(|error| NodeError::io(path, error))?)
}

/// The same from its bytes, which are in the file `path`.
pub(crate) fn parse_genesis(path: &Path, bytes: &[u8]) -> Result<Genesis, NodeError> {
    let genesis: Genesis = serde_json::from_slice(bytes)
        .map_err(|source| NodeError::Malformed { path: path.to_path_buf(), source })?;
    genesis.state()?;
    Ok(genesis)
}

/// The text of a genesis file: the same bytes for the same genesis.
pub fn render(genesis: &Genesis) -> String {
    // Numbers, strings and lists of these always have a JSON form.
    serde_json::to_string_pretty(genesis).unwrap_or_default() + "\n"
}

/// Checks that the genesis in the file `path` is `expected`.
///
/// # Errors
/// [`GenesisError::Differs`].
pub fn check_equal(path: &Path, found: &Genesis, expected: &Genesis) -> Result<(), GenesisError> {
    match difference(found, expected) {
        Some(what) => Err(GenesisError::Differs { path: path.to_owned(), what }),
        None => Ok(()),
    }
}

/// The first difference between two networks; that of their genesis times is the last one.
pub(crate) fn difference(existing: &Genesis, wanted: &Genesis) -> Option<&'static str> {
    [
        ("name", existing.chain != wanted.chain),
        ("number of validators", existing.validators.len() != wanted.validators.len()),
        ("validators", existing.validators != wanted.validators),
        ("operator", existing.operator != wanted.operator),
        ("parameters", existing.params != wanted.params),
        ("architecture", existing.architecture != wanted.architecture),
        ("accounts", existing.accounts != wanted.accounts),
        ("models", existing.models != wanted.models),
        (GENESIS_TIME, existing.timestamp_ms != wanted.timestamp_ms),
    ]
    .into_iter()
    .find_map(|(what, differs)| differs.then_some(what))
}

#[cfg(test)]
mod tests;

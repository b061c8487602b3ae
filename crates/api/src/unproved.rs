//! Why what a node says is not believed. Nothing here decides what to do about it.

use std::path::{Path, PathBuf};

use soma_codes::{Code, Coded};
use soma_protocol::Hash;

/// Why an answer is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unproved {
    /// There is no proof where the node should have one.
    #[error("it answers that it has no proof")]
    Withheld,
    /// Its bytes are malformed, or something is missing.
    #[error("the proof is malformed or incomplete")]
    Malformed,
    /// The proof of a record does not lead to the root of the state.
    #[error("the proof does not show what a record is in the state of block {height}")]
    Record {
        /// The block that it names.
        height: u64,
    },
    /// A record is proved, and of a form that this software does not know.
    #[error("the state of block {height} has records that this version of soma cannot read")]
    Format {
        /// The block.
        height: u64,
    },
    /// The block is not certified by the committee that the handovers lead to.
    #[error("block {height} is not certified by the committee of this chain")]
    Block {
        /// The height that it names.
        height: u64,
    },
    /// A handover does not follow from those before it.
    #[error("a handover to another committee is invalid: {0}")]
    Handover(soma_proof::InvalidHandover),
    /// The block is certified, and of another time.
    #[error(
        "block {height} is {} s {} by this machine's clock",
        .off_ms / 1_000,
        if *.ahead { "ahead" } else { "old" }
    )]
    Time {
        /// The block.
        height: u64,
        /// By how many milliseconds.
        off_ms: u64,
        /// Whether it is in the future.
        ahead: bool,
    },
    /// The answer needs more records than one proof has.
    #[error("an answer needs more records than one proof has")]
    TooMuch,
}

impl Unproved {
    /// The code of the error.
    pub const fn code(&self) -> Code {
        match self {
            Self::Time { .. } => Code::BlockOfAnotherTime,
            Self::Block { .. } | Self::Handover(_) => Code::BlockNotCertified,
            Self::Format { .. } => Code::RulesUnknown,
            Self::Withheld | Self::Malformed | Self::Record { .. } | Self::TooMuch => {
                Code::AnswerUnproved
            }
        }
    }
}

/// Why whoever verifies has no answer.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The node does not prove what it says.
    #[error("{url} does not prove what it says: {reason}")]
    Unproved {
        /// The node.
        url: String,
        /// Why it is not believed.
        reason: Unproved,
    },
    /// The node is one of another chain.
    #[error("{url} is a node of chain {found}, not of {expected}")]
    OtherChain {
        /// The node.
        url: String,
        /// Its chain.
        found: Hash,
        /// The chain that is asked for.
        expected: Hash,
    },
    /// It is proved that there is no such thing.
    #[error("there is nothing at {path}")]
    Missing {
        /// The route that would show it.
        path: String,
        /// What is missing.
        code: Code,
    },
    /// The genesis is another chain's, or breaks its own rules.
    #[error("genesis: {0}")]
    Genesis(String),
    /// The file holds no committees that a verifier has kept.
    #[error("{} is not a checkpoint", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// The checkpoint is one of another chain.
    #[error("{} is a checkpoint of chain {found}, not of {expected}", path.display())]
    CheckpointOfOtherChain {
        /// The file.
        path: PathBuf,
        /// Its chain.
        found: Hash,
        /// The chain that is asked for.
        expected: Hash,
    },
    /// What is kept could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Coded for VerifyError {
    fn code(&self) -> Code {
        match self {
            Self::Unproved { reason, .. } => reason.code(),
            Self::OtherChain { .. } => Code::OtherChain,
            Self::Missing { code, .. } => *code,
            Self::Genesis(_) => Code::InvalidGenesis,
            Self::NotACheckpoint { .. } | Self::CheckpointOfOtherChain { .. } => {
                Code::BadCheckpoint
            }
            Self::Io { source, .. } => Code::of_io(source),
        }
    }
}

impl VerifyError {
    /// The error for an I/O error at `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

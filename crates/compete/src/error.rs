//! What can go wrong, each with a stable code, an exit status and, where one helps, a hint.

use std::io;
use std::path::{Path, PathBuf};

use soma_codes::{Code, Coded, Exit};
use soma_protocol::{Address, Hash, ModelId};
use soma_sdk::SdkError;
use soma_sdk::obligation::Obligation;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompeteError {
    /// The network, a key or the spool.
    #[error(transparent)]
    Sdk(#[from] SdkError),
    /// The model engine.
    #[error(transparent)]
    Model(#[from] soma_model::Error),
    /// The chain's architecture cannot be computed by this software.
    #[error(transparent)]
    Architecture(#[from] soma_architecture::Error),
    /// A weights file that cannot be used.
    #[error("{}: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: soma_model::Error,
    },
    /// A model's file is not what the model revealed; the file itself is the one on chain.
    #[error("the file {ciphertext_hash} does not decrypt to the revealed weights {weights_hash}")]
    BrokenFile {
        /// The encrypted file.
        ciphertext_hash: Hash,
        /// What it should decrypt to.
        weights_hash: Hash,
    },
    /// A file or folder that cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted: `read`, `write`, `create`, `delete`.
        action: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file was modified while it was in use.
    #[error("{} changed while it was being used", path.display())]
    Modified {
        /// The file.
        path: PathBuf,
    },
    /// The signing key does not own the model.
    #[error("model {model} belongs to {owner}, not to {signer}")]
    NotOwner {
        /// The model.
        model: ModelId,
        /// Its owner.
        owner: Address,
        /// The address of the signing key.
        signer: Address,
    },
    /// The node does not list the model that was just registered.
    #[error("the node does not list the model that was registered")]
    NotRegistered,
    /// Too few validators held the file when the epoch began.
    #[error("the commit of model {model} lapsed before enough validators held its file")]
    CommitLapsed {
        /// The model.
        model: ModelId,
    },
    /// A reveal or publication was not sent in its phase.
    #[error("the {obligation} was not sent in time")]
    TooLate {
        /// What was due.
        obligation: Box<Obligation>,
    },
    /// The chain has a root of this account's corpus that is not one of this machine's list.
    #[error(
        "the corpus of {leaves} documents that this account has committed is not the one on this \
         machine (root {root})"
    )]
    CorpusElsewhere {
        /// What was committed.
        root: Hash,
        /// Number of its documents.
        leaves: u32,
    },
    /// The corpus has room for none of the documents.
    #[error("the account's corpus is full: it has {documents} documents")]
    CorpusFull {
        /// How many it has.
        documents: u32,
    },
    /// No document was committed before the epoch began.
    #[error("none of {documents} documents counts before epoch {from}")]
    DocumentsTooNew {
        /// How many there are.
        documents: usize,
        /// The first epoch for whose targets they can be submitted.
        from: u32,
    },
    /// The epoch has no targets at all, or not the one asked for.
    #[error("{}", no_target(*target, *epoch))]
    NoTarget {
        /// The target asked for, if one was.
        target: Option<u32>,
        /// The epoch.
        epoch: u32,
    },
    /// No document is as long as one chunk.
    #[error("none of {documents} documents has {bytes_min} bytes or more")]
    TooLittleData {
        /// Documents that were looked at.
        documents: usize,
        /// The shortest that the network accepts.
        bytes_min: usize,
    },
    /// Another node says something else about what a bond depends on.
    #[error("{url} says something else about {what}")]
    NodesDisagree {
        /// The other node.
        url: String,
        /// What they disagree about.
        what: &'static str,
    },
    /// No model has revealed weights.
    #[error("no model of the network has public weights")]
    NoPublicModel,
    /// A specialization needs at least one document.
    #[error("there is no data to compute the specialization from")]
    EmptyDomain,
}

/// What functions of this crate return.
pub type Result<T = ()> = std::result::Result<T, CompeteError>;

fn no_target(target: Option<u32>, epoch: u32) -> String {
    match target {
        Some(id) => format!("target {id} is not open in epoch {epoch}"),
        None => format!("epoch {epoch} has no targets: no model is active"),
    }
}

impl CompeteError {
    /// A failure to do `action` with the file or folder at `path`.
    pub(crate) fn file(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), action, source }
    }

    /// Whether a model's published file has no score, whoever opens it: it is not a weights file of
    /// the architecture, or not what the model revealed.
    pub fn is_broken_file(&self) -> bool {
        match self {
            Self::Weights { source, .. } => source.exit() == Exit::Verification,
            Self::BrokenFile { .. } => true,
            _ => false,
        }
    }

    /// Whether the same call may succeed later: the network or a file of this machine failed, not
    /// the request. Whoever has something at stake tries again.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Sdk(error) => error.is_passing() || error.exit() == Exit::Network,
            _ => self.is_local(),
        }
    }

    /// Whether a file or disk of this machine failed, which a person may fix.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Sdk(error) => error.is_local(),
            Self::Model(error) | Self::Weights { source: error, .. } => {
                matches!(error.code().exit(), Exit::Failed | Exit::NotFound)
            }
            Self::File { .. } | Self::Modified { .. } => true,
            _ => false,
        }
    }
}

impl Coded for CompeteError {
    fn code(&self) -> Code {
        match self {
            Self::Sdk(error) => error.code(),
            Self::Model(error) | Self::Weights { source: error, .. } => error.code(),
            Self::Architecture(error) => error.code(),
            Self::BrokenFile { .. } => Code::WeightsMismatch,
            Self::File { source, .. } => Code::of_io(source),
            Self::Modified { .. } => Code::WrongHash,
            Self::NotOwner { .. } => Code::NotModelOwner,
            Self::NotRegistered => Code::NotANode,
            Self::CommitLapsed { .. } => Code::CommitLapsed,
            Self::TooLate { .. } => Code::TooLate,
            Self::CorpusElsewhere { .. } => Code::CorpusElsewhere,
            Self::CorpusFull { .. } => Code::CorpusFull,
            Self::DocumentsTooNew { .. } => Code::DocumentsTooNew,
            Self::NoTarget { .. } => Code::NoTarget,
            Self::TooLittleData { .. } => Code::TooLittleData,
            Self::NodesDisagree { .. } => Code::NodesDisagree,
            Self::NoPublicModel => Code::NoWeights,
            Self::EmptyDomain => Code::EmptyData,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Sdk(error) => error.exit(),
            error => error.code().exit(),
        }
    }

    fn hint(&self) -> &str {
        match self {
            Self::Sdk(error) => error.hint(),
            Self::Model(error) | Self::Weights { source: error, .. } => error.hint(),
            Self::EmptyDomain => "name files of the model's domain: --domain DIR",
            error => error.code().hint(),
        }
    }
}

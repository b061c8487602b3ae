//! What can go wrong in a node, each with a stable code.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use soma_codes::{Code, Coded, Exit};
use soma_engine::{EngineError, Remedy};
use soma_protocol::Hash;
use soma_store::StoreError;

use crate::refusal::Refusal;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Another process listens there.
    #[error("port {} of {} is in use", address.port(), address.ip())]
    PortInUse {
        /// The address.
        address: SocketAddr,
    },
    /// Listening failed for another reason.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The operating system's error.
        source: io::Error,
    },
    /// No space is left for this file.
    #[error("the disk is full: {}", path.display())]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
    },
    /// What is left of the disk is for the chain.
    #[error("the last {} MiB of the disk are for the chain", reserved >> 20)]
    DiskReserved {
        /// Free space that weights files leave, in bytes.
        reserved: u64,
    },
    /// A file or folder cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// A file of the state folder is malformed.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The folder does not contain a node.
    #[error("{} does not contain a node", dir.display())]
    NotANode {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder already contains a node.
    #[error("{} already contains a node", dir.display())]
    NodeExists {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder has something in it, so that nothing is written there.
    #[error("{} is not empty", dir.display())]
    NotEmpty {
        /// The folder.
        dir: PathBuf,
    },
    /// The node has moved away from this folder.
    #[error("the node has moved: {} must not run here", dir.display())]
    Moved {
        /// The folder.
        dir: PathBuf,
    },
    /// The node has not moved away from this folder.
    #[error("the node in {} has not moved", dir.display())]
    NotMoved {
        /// The folder.
        dir: PathBuf,
    },
    /// A file is no bundle of a node, or damaged.
    #[error("{}: {reason}", path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The settings are invalid.
    #[error("{}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The cold store of weights files does not do what is asked.
    #[error("the cold store: {reason}")]
    ColdStore {
        /// Why, without anything that a service answered.
        reason: String,
    },
    /// The certificate or the key of the API cannot be used.
    #[error("{}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The folder belongs to another chain.
    #[error("{} contains another network: its {what} differs", dir.display())]
    OtherNetwork {
        /// The state folder.
        dir: PathBuf,
        /// What differs.
        what: &'static str,
    },
    /// Another process uses this state folder.
    #[error("another process uses {}", dir.display())]
    StateInUse {
        /// The state folder.
        dir: PathBuf,
    },
    /// The genesis breaks its own rules.
    #[error(transparent)]
    Genesis(#[from] soma_protocol::Error),
    /// The engine did not start, or stopped.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The history cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system cannot start another thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// A key file or an encrypted file cannot be used.
    #[error(transparent)]
    Sdk(#[from] soma_sdk::SdkError),
    /// The model engine does not run models of this architecture, or not on this machine.
    #[error(transparent)]
    Model(#[from] soma_model::Error),
    /// The architecture is not supported by this software.
    #[error("the chain's architecture: {0}")]
    Architecture(#[from] soma_architecture::Error),
    /// The pool refuses a transaction.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No commit on chain names this file.
    #[error("no commit on chain names the ciphertext {hash} of {size_bytes} bytes")]
    CommitNotFound {
        /// Hash of the ciphertext.
        hash: Hash,
        /// Its length in bytes.
        size_bytes: u64,
    },
    /// The request is not signed by an account whose commit names the file.
    #[error("the upload of {hash} is not signed by an account whose commit names it")]
    UploadNotPermitted {
        /// Hash of the ciphertext.
        hash: Hash,
    },
    /// Another upload of the same file by the same account is running.
    #[error("another upload of {hash} is running")]
    UploadBusy {
        /// Hash of the ciphertext.
        hash: Hash,
    },
    /// The upload does not resume where the last one stopped.
    #[error("the upload must resume at byte {received_bytes}")]
    UploadOffset {
        /// Bytes the node has.
        received_bytes: u64,
    },
    /// More bytes than committed.
    #[error("the upload is longer than the {size_bytes} bytes of the commit")]
    UploadTooLong {
        /// The committed length.
        size_bytes: u64,
    },
    /// The models of the uploader have brought as much as they may in this epoch.
    #[error("the model has brought {bytes} bytes in this epoch, the most before a reveal")]
    UploadQuota {
        /// What a model may bring, in bytes.
        bytes: u64,
    },
    /// The client was silent for too long during an upload.
    #[error("the upload stalled before it was complete")]
    UploadStalled,
    /// The uploaded file is not the committed one.
    #[error("the uploaded file has the hash {found}; the commit names {expected}")]
    CiphertextMismatch {
        /// The hash the commit names.
        expected: Hash,
        /// The hash of what was uploaded.
        found: Hash,
    },
    /// The decrypted file is not the revealed one.
    #[error("the decrypted file has the hash {found}; the reveal names {expected}")]
    WeightsMismatch {
        /// The hash the reveal names.
        expected: Hash,
        /// The hash of the decrypted bytes.
        found: Hash,
    },
    /// No reveal named these weights, or they are no longer needed by any rule.
    #[error("no model has revealed weights {hash}")]
    WeightsNotFound {
        /// Hash of the weights.
        hash: Hash,
    },
    /// The chain names the file, but this node does not hold it.
    #[error("this node does not hold {hash}")]
    WeightsNotHeld {
        /// Hash of the ciphertext.
        hash: Hash,
    },
}

impl NodeError {
    /// The error for a failed file operation.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match Code::of_io(&source) {
            Code::DiskFull => Self::DiskFull { path },
            _ => Self::File { path, source },
        }
    }

    /// The error for an engine that did not start.
    pub(crate) fn engine(error: EngineError) -> Self {
        match error {
            EngineError::Store(StoreError::InUse { path }) => Self::StateInUse { dir: path },
            EngineError::Store(StoreError::OtherChain { path, .. }) => {
                Self::OtherNetwork { dir: path, what: "genesis" }
            }
            EngineError::Store(StoreError::Io { path, source }) => Self::io(&path, source),
            EngineError::Store(error @ StoreError::DamagedFile { .. }) => {
                Self::Engine(error.into())
            }
            EngineError::KeyMoved { path } => {
                Self::Moved { dir: path.parent().map(Path::to_path_buf).unwrap_or_default() }
            }
            EngineError::Store(error) => Self::Store(error),
            EngineError::Listen { address, source }
                if source.kind() == io::ErrorKind::AddrInUse =>
            {
                Self::PortInUse { address }
            }
            error => Self::Engine(error),
        }
    }
}

/// The code of an error of the engine.
pub(crate) fn engine_code(error: &EngineError) -> Code {
    match error {
        EngineError::Store(StoreError::InUse { .. }) => Code::StateInUse,
        EngineError::Store(StoreError::OtherChain { .. }) => Code::OtherNetwork,
        EngineError::Store(StoreError::DamagedFile { .. }) => Code::FileDamaged,
        EngineError::Disk { source } | EngineError::Store(StoreError::Io { source, .. }) => {
            Code::of_io(source)
        }
        EngineError::Store(_) => Code::StoreError,
        EngineError::Genesis(_) | EngineError::NoValidators | EngineError::ValidatorKey { .. } => {
            Code::InvalidGenesis
        }
        EngineError::PeerKey { .. }
        | EngineError::PeerAddress { .. }
        | EngineError::TooManyPeers { .. } => Code::BadSettings,
        EngineError::Listen { source, .. } if source.kind() == io::ErrorKind::AddrInUse => {
            Code::PortInUse
        }
        EngineError::Listen { .. } => Code::CannotListen,
        EngineError::MissingBlock { .. }
        | EngineError::StateMismatch { .. }
        | EngineError::Unlinked { .. }
        | EngineError::Certificate { .. }
        | EngineError::HistoryMismatch { .. } => Code::StoreDamaged,
        EngineError::Damaged { remedy, .. } => match remedy {
            Remedy::Votes => Code::VotesDamaged,
            Remedy::Remade => Code::FileDamaged,
            Remedy::Join => Code::StoreDamaged,
        },
        EngineError::VotesLost(_) => Code::VotesLost,
        EngineError::KeyMoved { .. } => Code::NodeMoved,
        EngineError::NoSnapshot { .. } => Code::NoSnapshot,
        EngineError::TooFarBehind { .. } => Code::TooFarBehind,
        EngineError::OtherRules { version, executed, .. } if *version > executed.max => {
            Code::RulesUnknown
        }
        EngineError::OtherRules { .. } => Code::RulesOutdated,
        // What the engine only reports as text.
        _ => Code::EngineError,
    }
}

impl Coded for NodeError {
    fn code(&self) -> Code {
        match self {
            Self::PortInUse { .. } => Code::PortInUse,
            Self::Listen { .. } => Code::CannotListen,
            Self::DiskFull { .. } | Self::DiskReserved { .. } => Code::DiskFull,
            Self::File { source, .. } => Code::of_io(source),
            Self::Malformed { .. } => Code::MalformedFile,
            Self::NotANode { .. } => Code::NotANodeFolder,
            Self::NodeExists { .. } => Code::NodeExists,
            Self::NotEmpty { .. } => Code::FileExists,
            Self::Moved { .. } => Code::NodeMoved,
            Self::NotMoved { .. } => Code::NodeNotMoved,
            Self::Bundle { .. } => Code::BadBundle,
            Self::Settings { .. } => Code::BadSettings,
            Self::ColdStore { .. } => Code::ColdStore,
            Self::Tls { .. } => Code::BadTlsFiles,
            Self::OtherNetwork { .. } => Code::OtherNetwork,
            Self::StateInUse { .. } => Code::StateInUse,
            Self::Genesis(_) => Code::InvalidGenesis,
            Self::Engine(error) => engine_code(error),
            Self::Store(_) => Code::StoreError,
            Self::Thread(_) => Code::NoThreads,
            Self::Sdk(error) => error.code(),
            Self::Model(error) => error.code(),
            Self::Architecture(error) => error.code(),
            Self::Refused(refusal) => refusal.code(),
            Self::CommitNotFound { .. } => Code::CommitNotFound,
            Self::UploadNotPermitted { .. } => Code::UploadNotPermitted,
            Self::UploadBusy { .. } => Code::UploadBusy,
            Self::UploadOffset { .. } => Code::UploadOffset,
            Self::UploadTooLong { .. } => Code::UploadTooLong,
            Self::UploadStalled => Code::UploadStalled,
            Self::UploadQuota { .. } => Code::UploadQuota,
            Self::CiphertextMismatch { .. } => Code::CiphertextMismatch,
            Self::WeightsMismatch { .. } => Code::WeightsMismatch,
            Self::WeightsNotFound { .. } => Code::WeightsNotFound,
            Self::WeightsNotHeld { .. } => Code::WeightsNotHeld,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Sdk(error) => error.exit(),
            _ => self.code().exit(),
        }
    }

    fn hint(&self) -> &str {
        match self {
            Self::Sdk(error) => error.hint(),
            Self::NotEmpty { .. } => "name a new folder with --dir",
            _ => self.code().hint(),
        }
    }
}

//! What can go wrong in a node, each with a stable code and, where something can be done, a hint.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use soma_engine::EngineError;
use soma_os::disk::is_disk_full;
use soma_protocol::Hash;
use soma_store::StoreError;

use crate::mempool::Refusal;

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// Something else listens there.
    #[error("port {} of {} is in use", address.port(), address.ip())]
    PortInUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// No space is left for this file.
    #[error("the disk is full: {}", path.display())]
    DiskFull {
        /// The file that was being written.
        path: PathBuf,
    },
    /// A file or folder cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file of the state folder does not hold what it should.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The folder holds no node.
    #[error("{} holds no node", dir.display())]
    NotANode {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder holds a node already.
    #[error("{} holds a node already", dir.display())]
    NodeExists {
        /// The folder.
        dir: PathBuf,
    },
    /// The settings make no sense.
    #[error("{}: {reason}", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// The folder belongs to another chain.
    #[error("{} holds another network: its {what} differs", dir.display())]
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
    /// The system does not give the node a thread.
    #[error("no thread can be started: {0}")]
    Thread(#[source] io::Error),
    /// A key file or an encrypted file cannot be used.
    #[error(transparent)]
    Sdk(#[from] soma_sdk::SdkError),
    /// The model engine does not run models of this architecture, or not on this machine.
    #[error(transparent)]
    Model(#[from] soma_model::Error),
    /// The chain's scores are defined by another arithmetic.
    #[error("the chain scores with numerics version {version}, which this software does not know")]
    Numerics {
        /// The chain's version.
        version: u32,
    },
    /// A number of an architecture that the chain cannot state exactly.
    #[error("{field} has more digits than the chain can state")]
    Inexact {
        /// Name in the architecture's JSON.
        field: &'static str,
    },
    /// The pool does not take a transaction.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing on chain asks for this file.
    #[error("no commit on chain names the ciphertext {hash}")]
    CommitNotFound {
        /// Hash of the ciphertext.
        hash: Hash,
    },
    /// The request is not signed by one whose commit names the file.
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
    /// The upload does not go on where the last one stopped.
    #[error("the upload goes on at byte {received_bytes}")]
    UploadOffset {
        /// Bytes the node has.
        received_bytes: u64,
    },
    /// More bytes than committed.
    #[error("the commit names {size_bytes} bytes, and more were sent")]
    UploadTooLong {
        /// The committed length.
        size_bytes: u64,
    },
    /// The sender went silent in the middle of an upload.
    #[error("the upload stopped before its end")]
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
    /// The file is known but not on this node.
    #[error("this node does not hold {hash}")]
    WeightsNotHeld {
        /// Hash of the ciphertext.
        hash: Hash,
    },
}

impl NodeError {
    /// The error for a failed file operation: a full disk has its own.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        if is_disk_full(&source) {
            Self::DiskFull { path }
        } else {
            Self::File { path, source }
        }
    }

    /// The error for an engine that did not start: what has a name here keeps it.
    pub(crate) fn engine(error: EngineError) -> Self {
        match error {
            EngineError::Store(StoreError::InUse { path }) => Self::StateInUse { dir: path },
            EngineError::Store(StoreError::OtherChain { path, .. }) => Self::OtherNetwork {
                dir: path,
                what: "genesis",
            },
            EngineError::Store(error) => Self::Store(error),
            EngineError::Listen { address, source }
                if source.kind() == io::ErrorKind::AddrInUse =>
            {
                Self::PortInUse { address }
            }
            error => Self::Engine(error),
        }
    }

    /// The stable word for this error.
    pub fn code(&self) -> &str {
        match self {
            Self::PortInUse { .. } => "port_in_use",
            Self::Listen { .. } => "cannot_listen",
            Self::DiskFull { .. } => "disk_full",
            Self::File { .. } => "file_error",
            Self::Malformed { .. } => "malformed_file",
            Self::NotANode { .. } => "not_a_node_folder",
            Self::NodeExists { .. } => "node_exists",
            Self::Settings { .. } => "bad_settings",
            Self::OtherNetwork { .. } => "other_network",
            Self::StateInUse { .. } => "state_in_use",
            Self::Genesis(_) => "invalid_genesis",
            Self::Engine(EngineError::NoSnapshot { .. }) => "no_snapshot",
            Self::Engine(EngineError::TooFarBehind { .. }) => "too_far_behind",
            Self::Engine(_) => "engine_error",
            Self::Store(_) => "store_error",
            Self::Thread(_) => "no_thread",
            Self::Sdk(error) => error.code(),
            Self::Model(_) => "model_error",
            Self::Numerics { .. } => "unknown_numerics",
            Self::Inexact { .. } => "inexact_architecture",
            Self::Refused(refusal) => refusal.code(),
            Self::CommitNotFound { .. } => "commit_not_found",
            Self::UploadNotPermitted { .. } => "upload_not_permitted",
            Self::UploadBusy { .. } => "upload_busy",
            Self::UploadOffset { .. } => "upload_offset",
            Self::UploadTooLong { .. } => "upload_too_long",
            Self::UploadStalled => "upload_stalled",
            Self::CiphertextMismatch { .. } => "ciphertext_mismatch",
            Self::WeightsMismatch { .. } => "weights_mismatch",
            Self::WeightsNotFound { .. } => "weights_not_found",
            Self::WeightsNotHeld { .. } => "weights_not_held",
        }
    }

    /// What to do about it, if anything general can be said.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::PortInUse { address } => {
                return Some(format!(
                    "stop what listens on port {}, or choose another with --port",
                    address.port()
                ));
            }
            Self::Refused(refusal) => refusal.hint(),
            Self::Sdk(error) => return error.hint().map(str::to_owned),
            Self::Numerics { .. } => "install a newer version of this software",
            Self::Inexact { .. } => {
                "give sig_reg_t_max at most 3 decimals, sig_reg_coefficient at most 6"
            }
            Self::DiskFull { .. } => "free some space and start again; nothing final is lost",
            Self::OtherNetwork { .. } => {
                "choose another --state folder, or start over with --reset"
            }
            Self::StateInUse { .. } => "stop the other node, or choose another --state folder",
            Self::Engine(EngineError::NoSnapshot { .. }) => {
                "name more peers in config.toml; start again: what has come is kept"
            }
            Self::Engine(EngineError::TooFarBehind { .. }) => {
                "start the node with --join state: it takes over the state of its peers"
            }
            Self::NotANode { .. } => {
                "make one with `soma node init`, or name its folder with --dir"
            }
            Self::NodeExists { .. } => "it is never overwritten: name another folder with --dir",
            Self::Settings { .. } => {
                "mend config.toml; `soma node init` writes one with every setting explained"
            }
            Self::CommitNotFound { .. } => "send the commit first and wait until it is final",
            Self::UploadNotPermitted { .. } => {
                "upload with the key that committed, and check this machine's clock"
            }
            Self::UploadBusy { .. } => "wait for it to end, or go on when it stops",
            Self::UploadOffset { .. } => "ask how far the upload has come and go on from there",
            Self::UploadStalled => "go on where it stopped",
            Self::CiphertextMismatch { .. } => {
                "upload the file that was committed, from its first byte"
            }
            Self::WeightsNotFound { .. } => {
                "weights are public from their reveal until nothing needs them"
            }
            Self::WeightsNotHeld { .. } => {
                "ask another node, or wait until this one has fetched it"
            }
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

//! Everything that can fail, each with its code. No error ever holds a secret.

use std::path::{Path, PathBuf};

use soma_codes::{Code, Coded, Exit};
use soma_protocol::Hash;

use crate::api::text::Text;
use crate::api::unproved::{Unproved, VerifyError};
use crate::api::{ApiError, Rejection};
use crate::handshake::{Handshake, first_cause};

/// Every failure of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SdkError {
    /// The node answered with an error.
    #[error("{}", error.message)]
    Api {
        /// HTTP status.
        status: u16,
        /// Its body.
        error: ApiError,
    },
    /// The transaction is finalized, and the rules rejected it.
    #[error("{}", rejection.message)]
    Rejected {
        /// The transaction.
        hash: Hash,
        /// Why.
        rejection: Rejection,
    },
    /// The transaction was not included before it expired. Nothing was charged.
    #[error("transaction {hash} expired before it was included")]
    Expired {
        /// The transaction.
        hash: Hash,
    },
    /// Another transaction of its sender with the same nonce is finalized. Nothing was charged.
    #[error("transaction {hash} was superseded: another one with its nonce {nonce} is finalized")]
    Superseded {
        /// The transaction.
        hash: Hash,
        /// The nonce of both.
        nonce: u64,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {limit_ms} ms")]
    Timeout {
        /// What was awaited.
        what: &'static str,
        /// How long, in milliseconds.
        limit_ms: u64,
    },
    /// There was no answer, or an interrupted one.
    #[error("no answer from {url}: {}", first_cause(failure))]
    Network {
        /// Where the request went.
        url: String,
        /// Why it failed; the layers above its first cause say nothing more.
        failure: reqwest::Error,
        /// Whether it may have gone through a proxy that the environment names.
        proxied: bool,
    },
    /// There is no TLS connection, or one that is not trusted.
    #[error("{}", failure.at(url))]
    Handshake {
        /// The server.
        url: String,
        /// Why.
        failure: Handshake,
    },
    /// A file of certificates to trust cannot be used.
    #[error("{}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An answer ended before it was complete.
    #[error("the answer of {url} was interrupted")]
    Interrupted {
        /// Where the request went.
        url: String,
    },
    /// The answer is not what the API specifies.
    #[error("{url} does not answer like a soma node")]
    Malformed {
        /// Where the request went.
        url: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The answer exceeds the limit for such answers.
    #[error("the answer of {url} has more than {limit_bytes} bytes")]
    TooLong {
        /// Where the request went.
        url: String,
        /// The limit.
        limit_bytes: u64,
    },
    /// The text is not the address of a node.
    #[error("`{url}` is not the URL of a node")]
    Url {
        /// What was given.
        url: String,
    },
    /// What the node says is not believed, or it is one of another chain.
    #[error(transparent)]
    Verify(VerifyError),
    /// Bytes do not have the expected hash.
    #[error("{what} hashes to {found}, not {expected}")]
    WrongHash {
        /// What was checked.
        what: String,
        /// What it should hash to.
        expected: Hash,
        /// What it hashes to.
        found: Hash,
    },
    /// There are more or fewer bytes than expected.
    #[error("{what} has {found} bytes, not {expected}")]
    WrongSize {
        /// What was checked.
        what: String,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The system's random source cannot be read.
    #[error("cannot read from the system's random source")]
    Randomness,
    /// The file is longer than one key may encrypt.
    #[error("a file of more than {limit_bytes} bytes cannot be encrypted under one key")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// A key name is too long or has characters that are not allowed.
    #[error("`{name}` is not a valid key name")]
    KeyName {
        /// What was given.
        name: String,
    },
    /// A key with this name exists; it is never overwritten.
    #[error("the key `{name}` already exists")]
    KeyExists {
        /// Its name.
        name: String,
    },
    /// No key has this name.
    #[error("there is no key `{name}` in {}", dir.display())]
    KeyMissing {
        /// Its name.
        name: String,
        /// The folder that was searched.
        dir: PathBuf,
    },
    /// Other users can read the key file.
    #[error("{} can be read by other users (mode {mode:04o})", path.display())]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Other users can use a folder of secrets.
    #[error("{} can be used by other users (mode {mode:04o})", path.display())]
    FolderMode {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a key file, or is damaged.
    #[error("{} is not a key file: {reason}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The key is encrypted and no passphrase was given.
    #[error("the key `{name}` needs its passphrase")]
    PassphraseNeeded {
        /// Its name.
        name: String,
    },
    /// The passphrase does not decrypt the key.
    #[error("wrong passphrase for the key `{name}`")]
    PassphraseWrong {
        /// Its name.
        name: String,
    },
    /// The text is not 24 words with their checksum. It is not repeated: it is almost a secret.
    #[error("these are not the 24 words of a key: {reason}")]
    Words {
        /// What is wrong.
        reason: String,
    },
    /// The key was not made from words, so no words give it.
    #[error("the key `{name}` was not made from words")]
    NoWords {
        /// Its name.
        name: String,
    },
    /// The list of an account's documents is damaged; it is never changed or removed.
    #[error("{} is damaged", path.display())]
    CorpusDamaged {
        /// The file.
        path: PathBuf,
    },
    /// A file of the spool is damaged; the obligation in it may still be due.
    #[error("{} is damaged", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl Coded for SdkError {
    fn code(&self) -> Code {
        match self {
            Self::Api { error, .. } => error.code.0,
            Self::Rejected { rejection, .. } => rejection.code.0,
            Self::Expired { .. } => Code::TransactionExpired,
            Self::Superseded { .. } => Code::TransactionSuperseded,
            Self::Timeout { .. } => Code::Timeout,
            Self::Network { .. } | Self::Interrupted { .. } => Code::Network,
            Self::Handshake { failure, .. } => failure.code(),
            Self::CaFile { .. } => Code::BadCaFile,
            Self::Malformed { .. } | Self::TooLong { .. } => Code::NotANode,
            Self::Url { .. } => Code::BadUrl,
            Self::Verify(error) => error.code(),
            Self::WrongHash { .. } => Code::WrongHash,
            Self::WrongSize { .. } => Code::WrongSize,
            Self::Io { source, .. } => Code::of_io(source),
            Self::Randomness => Code::NoRandomness,
            Self::TooLarge { .. } => Code::TooLarge,
            Self::KeyName { .. } => Code::BadKeyName,
            Self::KeyExists { .. } => Code::KeyExists,
            Self::KeyMissing { .. } => Code::KeyMissing,
            Self::KeyMode { .. } => Code::KeyReadableByOthers,
            Self::FolderMode { .. } => Code::FolderOpenToOthers,
            Self::KeyFile { .. } => Code::BadKeyFile,
            Self::PassphraseNeeded { .. } => Code::PassphraseNeeded,
            Self::PassphraseWrong { .. } => Code::PassphraseWrong,
            Self::Words { .. } => Code::BadWords,
            Self::NoWords { .. } => Code::NoWords,
            Self::CorpusDamaged { .. } => Code::CorpusDamaged,
            Self::Spool { .. } => Code::SpoolDamaged,
        }
    }

    /// [`Exit::Rejected`] for a transaction that the protocol rejected, whatever its code.
    fn exit(&self) -> Exit {
        match self {
            Self::Rejected { .. } => Exit::Rejected,
            Self::Api { status, error }
                if matches!(error.code.0, Code::HttpError | Code::UnrecognizedCode) =>
            {
                Exit::of_http(*status)
            }
            _ => self.code().exit(),
        }
    }

    /// The node's own hint, if the answer carries one.
    fn hint(&self) -> &str {
        match self {
            Self::Api { error, .. } => error.hint.as_deref().unwrap_or(error.code.hint()),
            Self::Rejected { rejection, .. } => &rejection.help,
            Self::Network { proxied: true, .. } => {
                "check that the node is running and that the URL is right; a proxy that \
                 http_proxy, https_proxy or all_proxy names may be in between, unless no_proxy \
                 names the host"
            }
            Self::Handshake { failure, .. } => failure.hint(),
            _ => self.code().hint(),
        }
    }
}

impl From<VerifyError> for SdkError {
    /// What is proved to be missing is an answer as nodes give it.
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Missing { code, .. } => {
                let (status, message) = (code.http_status().unwrap_or(404), error.to_string());
                Self::Api { status, error: ApiError { code: Text(code), message, hint: None } }
            }
            VerifyError::Io { path, source } => Self::Io { path, source },
            error => Self::Verify(error),
        }
    }
}

impl SdkError {
    /// Whether the same request may succeed in a moment, because nothing is wrong with it: the
    /// network fails, or something answers in place of a node, such as a proxy.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Api { status, error } => {
                error.code.0 == Code::HttpError || matches!(status, 408 | 425 | 429 | 500..)
            }
            Self::Network { failure, .. } => !failure.is_builder(),
            // It may be a broken answer.
            Self::Handshake { failure, .. } => *failure == Handshake::TlsServer,
            Self::Timeout { .. }
            | Self::Interrupted { .. }
            | Self::Malformed { .. }
            | Self::TooLong { .. } => true,
            _ => false,
        }
    }

    /// Whether it says nothing about what was asked for, so that whoever has something at stake
    /// tries again: it is transient, the node is one of another chain, what arrived is damaged, or
    /// what a person may fix fails: a certificate, a server that sends elsewhere, or a file or disk
    /// of this machine.
    pub fn is_passing(&self) -> bool {
        self.is_transient()
            || self.is_local()
            || match self {
                Self::Api { error, .. } => error.code.0 == Code::RedirectRefused,
                // Another release can read it, and nothing else.
                Self::Verify(VerifyError::Unproved { reason, .. }) => {
                    !matches!(reason, Unproved::Format { .. })
                }
                Self::Verify(VerifyError::OtherChain { .. })
                | Self::Handshake { .. }
                | Self::WrongHash { .. }
                | Self::WrongSize { .. } => true,
                _ => false,
            }
    }

    /// Whether a file or disk of this machine fails.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// Whether the node may have received the request that failed so.
    pub(crate) fn may_have_arrived(&self) -> bool {
        match self {
            Self::Api { error, .. } => {
                matches!(error.code.0, Code::HttpError | Code::RedirectRefused)
            }
            Self::Network { failure, .. } => !failure.is_builder() && !failure.is_connect(),
            _ => self.is_transient(),
        }
    }

    /// The error for an I/O error at `path`.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

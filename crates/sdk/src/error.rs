//! What can go wrong, each with a stable code, a hint and an exit class. No secret enters an error.

use std::path::{Path, PathBuf};

use soma_protocol::Hash;

use crate::types::{ApiError, Rejection};

/// How a command that met this error should exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 1: something failed on this machine.
    Failed,
    /// 2: the request makes no sense.
    Usage,
    /// 3: configuration or keys.
    Configuration,
    /// 4: there is no such thing.
    NotFound,
    /// 5: the rules refused it.
    Rejected,
    /// 6: network or time-out.
    Network,
    /// 7: what arrived is not what was promised.
    Verification,
}

impl Exit {
    /// The process exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Configuration => 3,
            Self::NotFound => 4,
            Self::Rejected => 5,
            Self::Network => 6,
            Self::Verification => 7,
        }
    }
}

/// The codes of errors that arise here, and what to do about each: for `soma explain`.
pub const EXPLANATIONS: &[(&str, &str)] = &[
    ("transaction_expired", "send it again; nothing was charged"),
    (
        "transaction_superseded",
        "does something else send from this account? nothing was charged; send it again if it is still wanted",
    ),
    ("timeout", "the node may be busy or behind: `soma status`"),
    ("network", "is the node running, and is this its URL?"),
    ("not_a_node", "is this the URL of a soma node?"),
    (
        "bad_url",
        "a node's URL looks like http://127.0.0.1:8645; for TLS, go through a local proxy",
    ),
    (
        "wrong_hash",
        "the file was damaged or replaced; it was not kept",
    ),
    (
        "wrong_size",
        "the file was damaged or replaced; it was not kept",
    ),
    ("busy", "wait for the other process, or end it"),
    (
        "io",
        "does the path exist, may you use it, and is there room on the disk?",
    ),
    (
        "no_randomness",
        "the operating system's random generator does not answer",
    ),
    ("too_large", "no weights file of any network is as large"),
    (
        "bad_key_name",
        "use lower-case letters, digits, `-` and `_`, at most 64",
    ),
    (
        "key_exists",
        "choose another name; keys are never overwritten",
    ),
    ("key_missing", "`soma keys list` shows the keys there are"),
    (
        "key_readable_by_others",
        "chmod 600 the file, and think about who may have read it",
    ),
    ("bad_key_file", "restore it from a backup"),
    (
        "passphrase_needed",
        "give the passphrase this key was made with",
    ),
    (
        "passphrase_wrong",
        "passphrases cannot be recovered; try again",
    ),
    (
        "spool_damaged",
        "keep the file: a reveal or publication in it may be due",
    ),
];

/// Everything this crate can fail with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SdkError {
    /// The node answered with an error of its own.
    #[error("{}", error.message)]
    Api {
        /// HTTP status.
        status: u16,
        /// What the node said.
        error: ApiError,
    },
    /// The transaction is final and the rules refused it.
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
    /// Another transaction of its sender with the same nonce is final. Nothing was charged.
    #[error(
        "transaction {hash} can no longer run: another one of its sender with nonce {nonce} is final"
    )]
    Superseded {
        /// The transaction.
        hash: Hash,
        /// The nonce of both.
        nonce: u64,
    },
    /// Something was not there in time.
    #[error("{what} took longer than {limit_ms} ms")]
    Timeout {
        /// What was awaited.
        what: &'static str,
        /// How long, in milliseconds.
        limit_ms: u64,
    },
    /// No answer, or one that broke off.
    #[error("no answer from {url}")]
    Network {
        /// Where the request went.
        url: String,
        /// Why it failed.
        source: reqwest::Error,
    },
    /// An answer ended before it was whole.
    #[error("{url} broke off")]
    Interrupted {
        /// Where the request went.
        url: String,
    },
    /// The answer is not what the API promises.
    #[error("{url} does not answer as a soma node does")]
    Malformed {
        /// Where the request went.
        url: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The answer is larger than any such answer can be.
    #[error("{url} answers with more than {limit_bytes} bytes")]
    TooLong {
        /// Where the request went.
        url: String,
        /// The most that was expected.
        limit_bytes: u64,
    },
    /// Not the address of a node.
    #[error("`{url}` is not the URL of a node")]
    Url {
        /// What was given.
        url: String,
    },
    /// Bytes hash to something else than was promised.
    #[error("{what} hashes to {found}, not {expected}")]
    WrongHash {
        /// What was checked.
        what: String,
        /// What it should hash to.
        expected: Hash,
        /// What it hashes to.
        found: Hash,
    },
    /// More or fewer bytes than were promised.
    #[error("{what} has {found} bytes, not {expected}")]
    WrongSize {
        /// What was checked.
        what: String,
        /// Bytes it should have.
        expected: u64,
        /// Bytes it has.
        found: u64,
    },
    /// Another process is at it.
    #[error("{} is in use by another process", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// A file could not be read or written.
    #[error("{}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The machine gave no randomness.
    #[error("this machine gives no randomness")]
    Randomness,
    /// Longer than one key may encrypt.
    #[error("a file of more than {limit_bytes} bytes cannot be encrypted under one key")]
    TooLarge {
        /// The most it may have.
        limit_bytes: u64,
    },
    /// A key name that is not a plain word.
    #[error("`{name}` cannot name a key")]
    KeyName {
        /// What was given.
        name: String,
    },
    /// There is a key of this name; it is never overwritten.
    #[error("there is a key `{name}` already")]
    KeyExists {
        /// Its name.
        name: String,
    },
    /// There is no key of this name.
    #[error("there is no key `{name}` in {}", dir.display())]
    KeyMissing {
        /// Its name.
        name: String,
        /// Where it was looked for.
        dir: PathBuf,
    },
    /// Others may read the key file.
    #[error("{} can be read by others (mode {mode:04o})", path.display())]
    KeyMode {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a key file, or a damaged one.
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
    /// The passphrase does not open the key.
    #[error("wrong passphrase for the key `{name}`")]
    PassphraseWrong {
        /// Its name.
        name: String,
    },
    /// A file of the spool cannot be read; what it held may be due.
    #[error("{} is damaged", path.display())]
    Spool {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl SdkError {
    /// A stable word for this error, as in `soma explain CODE`.
    pub fn code(&self) -> &str {
        match self {
            Self::Api { error, .. } => &error.code,
            Self::Rejected { rejection, .. } => &rejection.code,
            Self::Expired { .. } => "transaction_expired",
            Self::Superseded { .. } => "transaction_superseded",
            Self::Timeout { .. } => "timeout",
            Self::Network { .. } | Self::Interrupted { .. } => "network",
            Self::Malformed { .. } | Self::TooLong { .. } => "not_a_node",
            Self::Url { .. } => "bad_url",
            Self::WrongHash { .. } => "wrong_hash",
            Self::WrongSize { .. } => "wrong_size",
            Self::Busy { .. } => "busy",
            Self::Io { .. } => "io",
            Self::Randomness => "no_randomness",
            Self::TooLarge { .. } => "too_large",
            Self::KeyName { .. } => "bad_key_name",
            Self::KeyExists { .. } => "key_exists",
            Self::KeyMissing { .. } => "key_missing",
            Self::KeyMode { .. } => "key_readable_by_others",
            Self::KeyFile { .. } => "bad_key_file",
            Self::PassphraseNeeded { .. } => "passphrase_needed",
            Self::PassphraseWrong { .. } => "passphrase_wrong",
            Self::Spool { .. } => "spool_damaged",
        }
    }

    /// What to do about it, if anything is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Api { error, .. } => error.hint.as_deref(),
            Self::Rejected { rejection, .. } => Some(&rejection.help),
            _ => {
                let known = EXPLANATIONS.iter().find(|(code, _)| *code == self.code());
                known.map(|(_, help)| *help)
            }
        }
    }

    /// How a command that met this error should exit.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Api { status, .. } => match status {
                404 | 410 => Exit::NotFound,
                408 | 425 | 429 | 500.. => Exit::Network,
                _ => Exit::Rejected,
            },
            Self::Rejected { .. } | Self::Superseded { .. } => Exit::Rejected,
            Self::Expired { .. }
            | Self::Timeout { .. }
            | Self::Network { .. }
            | Self::Interrupted { .. }
            | Self::Malformed { .. }
            | Self::TooLong { .. } => Exit::Network,
            Self::Url { .. } => Exit::Usage,
            Self::WrongHash { .. } | Self::WrongSize { .. } => Exit::Verification,
            Self::KeyName { .. }
            | Self::KeyExists { .. }
            | Self::KeyMissing { .. }
            | Self::KeyMode { .. }
            | Self::KeyFile { .. }
            | Self::PassphraseNeeded { .. }
            | Self::PassphraseWrong { .. } => Exit::Configuration,
            Self::Busy { .. }
            | Self::Io { .. }
            | Self::Randomness
            | Self::TooLarge { .. }
            | Self::Spool { .. } => Exit::Failed,
        }
    }

    /// The same request may succeed in a moment: nothing about it is wrong.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Api { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            Self::Network { source, .. } => !source.is_builder(),
            Self::Timeout { .. } | Self::Interrupted { .. } => true,
            _ => false,
        }
    }

    /// Turns an I/O error at `path` into ours.
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{EXPLANATIONS, SdkError};
    use soma_protocol::Hash;

    fn one_of_each() -> Vec<SdkError> {
        let (path, name, url) = (PathBuf::from("p"), "n".to_owned(), "u".to_owned());
        let json = || serde_json::from_str::<u8>("x").unwrap_err();
        let (hash, what) = (Hash::default(), String::new());
        vec![
            SdkError::Expired { hash },
            SdkError::Superseded { hash, nonce: 1 },
            SdkError::Timeout {
                what: "w",
                limit_ms: 1,
            },
            SdkError::Interrupted { url: url.clone() },
            SdkError::Malformed {
                url: url.clone(),
                source: json(),
            },
            SdkError::TooLong {
                url: url.clone(),
                limit_bytes: 1,
            },
            SdkError::Url { url },
            SdkError::WrongHash {
                what: what.clone(),
                expected: hash,
                found: hash,
            },
            SdkError::WrongSize {
                what,
                expected: 1,
                found: 2,
            },
            SdkError::Busy { path: path.clone() },
            SdkError::Io {
                path: path.clone(),
                source: std::io::Error::other("e"),
            },
            SdkError::Randomness,
            SdkError::TooLarge { limit_bytes: 1 },
            SdkError::KeyName { name: name.clone() },
            SdkError::KeyExists { name: name.clone() },
            SdkError::KeyMissing {
                name: name.clone(),
                dir: path.clone(),
            },
            SdkError::KeyMode {
                path: path.clone(),
                mode: 0o644,
            },
            SdkError::KeyFile {
                path: path.clone(),
                reason: "r",
            },
            SdkError::PassphraseNeeded { name: name.clone() },
            SdkError::PassphraseWrong { name },
            SdkError::Spool {
                path,
                source: json(),
            },
        ]
    }

    #[test]
    fn every_code_has_an_explanation_and_every_explanation_a_code() {
        let errors = one_of_each();
        for error in &errors {
            assert!(error.hint().is_some(), "{}", error.code());
        }
        for (code, _) in EXPLANATIONS {
            assert!(errors.iter().any(|error| error.code() == *code), "{code}");
        }
    }
}

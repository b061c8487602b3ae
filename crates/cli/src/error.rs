//! One error type for the binary: a code, a message, a hint and an exit status.
//!
//! Every library error becomes one of these at the edge; nothing here looks into message texts.

use std::borrow::Cow;
use std::path::Path;

use soma_model::Error as ModelError;
use soma_node::NodeError;
use soma_sdk::SdkError;

use crate::exit::Exit;

/// What went wrong, in the words of the person who typed the command.
#[derive(Debug)]
pub(crate) struct Error {
    /// Stable, for scripts and `soma explain`.
    pub(crate) code: Cow<'static, str>,
    /// One line.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The status the process ends with.
    pub(crate) exit: Exit,
}

/// What a command returns.
pub(crate) type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// An error without a hint; add one with [`Error::hint`].
    pub(crate) fn new(
        exit: Exit,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
    ) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            hint: None,
            exit,
        }
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The command line makes no sense in a way that its grammar cannot say.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, "usage", message)
    }

    /// A file could not be read, written or created.
    pub(crate) fn file(path: &Path, doing: &str, error: &std::io::Error) -> Self {
        let (exit, code) = match error.kind() {
            std::io::ErrorKind::NotFound => (Exit::NotFound, "file_not_found"),
            std::io::ErrorKind::PermissionDenied => (Exit::Failed, "file_permission"),
            _ if soma_os::disk::is_disk_full(error) => (Exit::Failed, "disk_full"),
            _ => (Exit::Failed, "file_io"),
        };
        let made = Self::new(
            exit,
            code,
            format!("cannot {doing} {}: {error}", path.display()),
        );
        match code {
            "file_not_found" => made.hint("check the path"),
            "file_permission" => made.hint("check the permissions of the file and its folder"),
            "disk_full" => made.hint("free some space and run the same command again"),
            _ => made,
        }
    }
}

impl From<SdkError> for Error {
    fn from(error: SdkError) -> Self {
        let made = Self::new(error.exit().into(), error.code().to_owned(), told(&error));
        match error.hint() {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }
}

impl From<ModelError> for Error {
    fn from(error: ModelError) -> Self {
        let exit = match &error {
            ModelError::Io { path, source } => return Self::file(path, "use", source),
            ModelError::NoArchitecture
            | ModelError::ArchitectureNotJson(_)
            | ModelError::OutOfBounds { .. }
            | ModelError::UnknownKernel { .. }
            | ModelError::Unavailable { .. }
            | ModelError::Recipe { .. } => Exit::Usage,
            ModelError::Unequal { .. }
            | ModelError::NonFinite
            | ModelError::ZeroEmbedding
            | ModelError::Checkpoint { .. } => Exit::Verification,
            malformed if malformed.is_malformed_weights() => Exit::Verification,
            _ => Exit::Failed,
        };
        let made = Self::new(exit, error.code(), told(&error));
        match error {
            ModelError::NoArchitecture => {
                made.hint("name it: --arch nano, --arch v1, or --arch FILE.json")
            }
            ModelError::UnknownKernel { .. } | ModelError::Unavailable { .. } => {
                made.hint("--kernel auto takes the fastest that this machine has")
            }
            ModelError::Unequal { .. } => made.hint("--kernel reference is slow and right"),
            _ => made,
        }
    }
}

impl From<NodeError> for Error {
    fn from(error: NodeError) -> Self {
        let made = Self::new(node_exit(&error), error.code().to_owned(), told(&error));
        match error.hint() {
            Some(hint) => made.hint(hint),
            None => made,
        }
    }
}

fn node_exit(error: &NodeError) -> Exit {
    match error {
        NodeError::Genesis(_) | NodeError::Malformed { .. } | NodeError::OtherNetwork { .. } => {
            Exit::Config
        }
        NodeError::Sdk(error) => error.exit().into(),
        _ => Exit::Failed,
    }
}

/// The error and what caused it, in one line.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

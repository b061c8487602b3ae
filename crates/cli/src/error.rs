//! One error type for the binary: a code, a message, a hint and an exit status.
//!
//! Every library error becomes one of these at the edge; nothing here looks into message texts.

use std::path::Path;

use soma_codes::{Code, Coded, Exit};

/// An error as it is printed.
#[derive(Debug)]
pub(crate) struct Error {
    /// Stable, for scripts and `soma explain`.
    pub(crate) code: Code,
    /// One line.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: String,
    /// The status the process ends with.
    pub(crate) exit: Exit,
}

/// What a command returns.
pub(crate) type Result<T = ()> = std::result::Result<T, Error>;

impl Error {
    /// An error with the hint and the exit status of its code.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: code.hint().to_owned(), exit: code.exit() }
    }

    /// Replaces the code's hint by a more specific one.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Whether the network failed, or something answered in place of a node, whatever its status.
    pub(crate) fn is_of_network(&self) -> bool {
        self.exit == Exit::Network || self.code.exit() == Exit::Network
    }

    /// Invalid arguments that the grammar of the command line cannot describe.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A file could not be read, written or created.
    pub(crate) fn file(path: &Path, action: &str, error: &std::io::Error) -> Self {
        let message = format!("cannot {action} {}: {error}", path.display());
        Self::new(Code::of_io(error), message)
    }
}

impl<E: Coded> From<E> for Error {
    fn from(error: E) -> Self {
        Self {
            code: error.code(),
            message: with_causes(&error),
            hint: error.hint().to_owned(),
            exit: error.exit(),
        }
    }
}

/// The error and its causes, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text = format!("{text}: {message}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use soma_codes::{Code, Exit};
    use soma_sdk::SdkError;
    use soma_sdk::api::{ApiError, text::Text};

    use super::Error;

    #[test]
    fn what_answers_in_place_of_a_node_is_a_fault_of_the_network_whatever_its_status() {
        let answer = |status, code| {
            let error = ApiError { code: Text(code), message: String::new(), hint: None };
            Error::from(SdkError::Api { status, error })
        };
        let page = answer(404, Code::HttpError);
        assert!(page.exit == Exit::NotFound && page.is_of_network());
        assert!(!answer(404, Code::ModelNotFound).is_of_network());
    }
}

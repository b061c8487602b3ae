//! Exit statuses, the part of the interface that scripts see first.

use std::process::ExitCode;

/// Why the process ended. The numbers are a promise; `docs/reference/commands.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Something failed that no other status describes.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// Configuration or keys are missing, unreadable or wrong.
    Config = 3,
    /// What was asked for does not exist.
    NotFound = 4,
    /// The protocol refused; the code says why.
    Rejected = 5,
    /// The node could not be reached, or did not answer in time.
    Network = 6,
    /// A hash, a weights file or a score is not what it claims to be.
    Verification = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<soma_sdk::Exit> for Exit {
    fn from(exit: soma_sdk::Exit) -> Self {
        match exit {
            soma_sdk::Exit::Failed => Self::Failed,
            soma_sdk::Exit::Usage => Self::Usage,
            soma_sdk::Exit::Configuration => Self::Config,
            soma_sdk::Exit::NotFound => Self::NotFound,
            soma_sdk::Exit::Rejected => Self::Rejected,
            soma_sdk::Exit::Network => Self::Network,
            soma_sdk::Exit::Verification => Self::Verification,
        }
    }
}

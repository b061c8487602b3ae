//! Exit statuses: the part of the command line that scripts see first. The numbers never change.

/// Why a process ended. `docs/reference/commands.md` lists the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Exit {
    /// Something failed that no other status describes.
    Failed = 1,
    /// Invalid arguments.
    Usage = 2,
    /// Configuration or keys are missing, unreadable or wrong.
    Config = 3,
    /// What was asked for does not exist.
    NotFound = 4,
    /// Rejected by the protocol or refused by a node.
    Rejected = 5,
    /// The node could not be reached, or did not answer in time.
    Network = 6,
    /// A hash, a weights file, a score or a server's certificate is not what it claims to be.
    Verification = 7,
    /// Another release is needed: this one does not execute the network's rules. Starting it again
    /// changes nothing.
    Upgrade = 8,
}

impl Exit {
    /// The exit status for a response with this HTTP status and none of our codes.
    pub const fn of_http(status: u16) -> Self {
        match status {
            404 | 410 => Self::NotFound,
            300..=399 | 408 | 425 | 429 | 500.. => Self::Network,
            _ => Self::Rejected,
        }
    }

    /// The number.
    pub const fn number(self) -> u8 {
        self as u8
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.number())
    }
}

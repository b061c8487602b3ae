//! Every error code of the protocol, the node, the client and the commands, listed once.
//!
//! A [`Code`] is the word in `error[code]`, in the API's answers and in `soma explain`. Errors name
//! theirs by implementing [`Coded`], so no program can emit a code that is not in the table. This
//! crate never holds a message: the error itself says what is wrong with which value.
//!
//! Reading order: [`Exit`], then the table of codes, which `entry.rs` turns into a type.

#![forbid(unsafe_code)]

mod entry;
mod exit;
mod table;

use std::fmt;
use std::str::FromStr;

pub use exit::Exit;
pub use table::Code;

/// An error with a code.
pub trait Coded: std::error::Error {
    /// Its code.
    fn code(&self) -> Code;

    /// The status with which a command exits on this error.
    fn exit(&self) -> Exit {
        self.code().exit()
    }

    /// What to do about it.
    fn hint(&self) -> &str {
        self.code().hint()
    }
}

impl Code {
    /// The code of a failed file operation. A disk is full when a quota has been reached, too, but
    /// not when it is read-only: freeing space does not help.
    pub fn of_io(error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::NotFound => Self::FileNotFound,
            std::io::ErrorKind::PermissionDenied => Self::FilePermission,
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Self::DiskFull,
            std::io::ErrorKind::OutOfMemory => Self::NoMemory,
            // A folder; a device or a pipe.
            std::io::ErrorKind::IsADirectory | std::io::ErrorKind::NotSeekable => Self::NotAFile,
            std::io::ErrorKind::FileTooLarge => Self::TooLarge,
            _ => Self::FileError,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is not a code of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode;

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown error code")
    }
}

impl std::error::Error for UnknownCode {}

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let mut codes = Self::ALL.iter().copied();
        codes.find(|code| code.as_str() == text).ok_or(UnknownCode)
    }
}

//! Why numbers or text are not an architecture.

use soma_codes::{Code, Coded};

/// Why numbers or text are not an architecture that this software can run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A number is outside its bounds.
    #[error("{field} is {value}, but must be {bounds}")]
    OutOfBounds {
        /// Name of the field, in the form in which it was read.
        field: &'static str,
        /// Its value.
        value: u64,
        /// The values allowed.
        bounds: String,
    },
    /// The scores of such models are defined by an unknown version of the numerics.
    #[error("numerics version {version} is unknown")]
    UnknownNumerics {
        /// The version.
        version: u32,
    },
    /// The text is not the JSON of a configuration.
    #[error("not an architecture in JSON: {reason}")]
    NotJson {
        /// What the JSON parser found.
        reason: String,
    },
    /// A decimal of a configuration is not a whole number of its unit.
    #[error("{field} is {value}, but must be a whole number of {unit}")]
    Inexact {
        /// Name of the field.
        field: &'static str,
        /// The decimal.
        value: String,
        /// Its unit.
        unit: &'static str,
    },
}

impl Coded for Error {
    fn code(&self) -> Code {
        match self {
            Self::OutOfBounds { .. } => Code::ArchitectureOutOfBounds,
            Self::UnknownNumerics { .. } => Code::UnknownNumerics,
            Self::NotJson { .. } => Code::ArchitectureNotJson,
            Self::Inexact { .. } => Code::InexactArchitecture,
        }
    }
}

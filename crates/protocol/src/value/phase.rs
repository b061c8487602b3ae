//! The phases of an epoch, in order.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};

use super::ParseError;
use super::text::json_is_text;

/// A phase of an epoch. Text and JSON: `reveal`, `publish:0` (and so on), `compete`, `attest`.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize,
)]
pub enum Phase {
    /// Models and validators reveal; the closest candidates may already publish.
    Reveal,
    /// Candidates of this rank publish (0 is the closest); reveals are still accepted.
    Publish(u32),
    /// Targets are drawn; submitters compete and validators audit.
    Compete,
    /// Submitters still compete; validators reveal their verdicts.
    Attest,
}

impl Phase {
    /// Whether models may reveal and validators may reveal their beacon.
    pub const fn reveals(self) -> bool {
        matches!(self, Self::Reveal | Self::Publish(_))
    }

    /// Whether submitters may submit data for the epoch's targets.
    pub const fn submits(self) -> bool {
        matches!(self, Self::Compete | Self::Attest)
    }

    /// Rank of the candidates that may publish now.
    pub const fn publishing_rank(self) -> Option<u32> {
        match self {
            Self::Reveal => Some(0),
            Self::Publish(rank) => Some(rank),
            Self::Compete | Self::Attest => None,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reveal => f.pad("reveal"),
            Self::Publish(rank) => f.pad(&format!("publish:{rank}")),
            Self::Compete => f.pad("compete"),
            Self::Attest => f.pad("attest"),
        }
    }
}

impl FromStr for Phase {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        match text {
            "reveal" => Ok(Self::Reveal),
            "compete" => Ok(Self::Compete),
            "attest" => Ok(Self::Attest),
            _ => text
                .strip_prefix("publish:")
                .and_then(|rank| rank.parse().ok())
                .map(Self::Publish)
                .ok_or(ParseError::Phase),
        }
    }
}

json_is_text!(Phase);

//! Sequence numbers of models, targets, proposals and epochs. They start at 1, are short enough
//! to say aloud, and cannot be ground like hashes.

use std::fmt;
use std::str::FromStr;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

macro_rules! sequence_number {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl $name {
            /// The next number, saturating.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0.saturating_add(1))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = std::num::ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

sequence_number! {
    /// A model, whatever its weights, before and after it is retired.
    ModelId
}
sequence_number! {
    /// A target.
    TargetId
}
sequence_number! {
    /// A proposal.
    ProposalId
}
sequence_number! {
    /// A competition epoch.
    Epoch
}

impl Epoch {
    /// The epoch `count` later.
    #[must_use]
    pub const fn after(self, count: u32) -> Self {
        Self(self.0.saturating_add(count))
    }

    /// The previous epoch; saturates at 0, the epoch before the first.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

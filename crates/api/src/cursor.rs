//! A position in the chain's history of events, equal on all nodes, so that a stream can continue
//! at another node. It must never depend on one node's storage.

use std::fmt;
use std::str::FromStr;

/// The `index`-th event of block `height`. A stream continues after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor {
    /// Height of the block.
    pub height: u64,
    /// Index among the block's events, from 0.
    pub index: u32,
}

/// The text is not `HEIGHT-INDEX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is HEIGHT-INDEX, two decimal numbers")]
pub struct CursorError;

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.height, self.index)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (height, index) = text.split_once('-').ok_or(CursorError)?;
        Ok(Self {
            height: height.parse().map_err(|_| CursorError)?,
            index: index.parse().map_err(|_| CursorError)?,
        })
    }
}

//! Terms: fixed ranges of heights, each decided by one committee. Nothing here reads the state.

use std::num::NonZeroU64;

use commonware_consensus::types::FixedEpocher;
use commonware_utils::NZU64;

pub use soma_proof::TERM_BLOCKS;

/// Maps heights to terms. The consensus library calls a term an epoch.
#[derive(Clone, Copy, Debug)]
pub struct Calendar(NonZeroU64);

impl Default for Calendar {
    /// The calendar of every real network.
    fn default() -> Self {
        Self(NZU64!(TERM_BLOCKS))
    }
}

impl Calendar {
    /// Terms of a different length, for simulations: at least two blocks.
    pub const fn of_blocks(length: NonZeroU64) -> Self {
        Self(length)
    }

    pub(crate) fn epocher(self) -> FixedEpocher {
        FixedEpocher::new(self.0)
    }

    /// The length of a term in blocks.
    pub(crate) const fn term_blocks(self) -> u64 {
        self.0.get()
    }

    /// The term of a height; genesis is in term 0.
    pub(crate) const fn term_of(self, height: u64) -> u64 {
        height / self.0.get()
    }

    /// The last height of a term.
    pub(crate) const fn last_of(self, term: u64) -> u64 {
        (term + 1) * self.0.get() - 1
    }

    /// Whether a term ends with this height.
    pub(crate) const fn ends_with(self, height: u64) -> bool {
        self.last_of(self.term_of(height)) == height
    }

    /// The height that a term builds on: the last one of the previous term, or genesis.
    pub(crate) const fn root_of(self, term: u64) -> u64 {
        (term * self.0.get()).saturating_sub(1)
    }

    /// The last height whose decisions count for a term: its committee takes office at the second
    /// boundary after the block that decided it, so that all nodes have one term in which to
    /// connect.
    pub(crate) const fn decided_by(self, term: u64) -> u64 {
        match term {
            0 | 1 => 0,
            later => self.last_of(later - 2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Calendar, TERM_BLOCKS};

    #[test]
    fn a_committee_takes_office_at_the_second_boundary_after_its_block() {
        let calendar = Calendar::default();
        for height in 1..5 * TERM_BLOCKS {
            let deciding = calendar.term_of(height);
            assert!(calendar.decided_by(deciding + 2) >= height);
            assert!(calendar.decided_by(deciding + 1) < height);
            let last = calendar.last_of(deciding);
            assert!(last >= height && last < height + TERM_BLOCKS);
            assert_eq!(calendar.root_of(deciding + 1), last);
            assert_eq!(calendar.ends_with(height), height == last);
        }
    }
}

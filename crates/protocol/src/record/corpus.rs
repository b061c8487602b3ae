//! The documents that an account has fixed: which of its data may be submitted.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Epoch, Hash};

/// The tree over an account's documents, as it was committed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct CorpusRoot {
    /// The epoch in which it was committed; it counts from the next one on.
    pub epoch: Epoch,
    /// Root of the tree; see [`crate::corpus`].
    pub root: Hash,
    /// Number of its leaves.
    pub leaves: u32,
}

/// An account's corpus. Data has to be fixed before the targets that it is submitted for exist, so
/// what an account commits counts from the next epoch on. Until then, what it committed before
/// still counts; no rule ever needs more than these two.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Corpus {
    /// What the account committed last.
    pub latest: CorpusRoot,
    /// What it committed last in an earlier epoch than that.
    pub before: Option<CorpusRoot>,
}

impl Corpus {
    /// The corpus of an account after it has committed `latest`. Whatever it committed earlier in
    /// the same epoch is replaced.
    pub(crate) fn with(earlier: Option<Self>, latest: CorpusRoot) -> Self {
        let before = earlier.and_then(|earlier| earlier.counting_in(latest.epoch));
        Self { latest, before }
    }

    /// What counts for the targets of an epoch, the running one: what was committed before it.
    pub fn counting_in(&self, epoch: Epoch) -> Option<CorpusRoot> {
        let counts = |committed: &CorpusRoot| committed.epoch < epoch;
        Some(self.latest).filter(counts).or_else(|| self.before.filter(counts))
    }

    /// What will count from the epoch after `epoch`, the running one, and does not yet.
    pub fn counting_after(&self, epoch: Epoch) -> Option<CorpusRoot> {
        Some(self.latest).filter(|committed| committed.epoch >= epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::{Corpus, CorpusRoot};
    use crate::{Epoch, Hash};

    fn root(epoch: u32, byte: u8) -> CorpusRoot {
        CorpusRoot { epoch: Epoch(epoch), root: Hash([byte; 32]), leaves: 1 }
    }

    #[test]
    fn a_root_counts_from_the_epoch_after_its_own_and_the_one_before_until_then() {
        let first = Corpus::with(None, root(3, 1));
        assert_eq!(first.counting_in(Epoch(3)), None);
        assert_eq!(first.counting_after(Epoch(3)), Some(root(3, 1)));
        assert_eq!(first.counting_in(Epoch(4)), Some(root(3, 1)));
        assert_eq!(first.counting_after(Epoch(4)), None);
        let second = Corpus::with(Some(first), root(5, 2));
        assert_eq!(second.counting_in(Epoch(5)), Some(root(3, 1)));
        assert_eq!(second.counting_in(Epoch(6)), Some(root(5, 2)));
    }

    #[test]
    fn a_root_replaces_one_of_its_own_epoch_and_not_the_one_that_counts() {
        let first = Corpus::with(None, root(3, 1));
        let replaced = Corpus::with(Some(Corpus::with(Some(first), root(5, 2))), root(5, 3));
        assert_eq!(replaced, Corpus { latest: root(5, 3), before: Some(root(3, 1)) });
        assert_eq!(Corpus::with(Some(root_alone(5, 2)), root(5, 3)).before, None);
    }

    fn root_alone(epoch: u32, byte: u8) -> Corpus {
        Corpus::with(None, root(epoch, byte))
    }
}

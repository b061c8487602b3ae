//! How much each model may bring to this node in an epoch before it reveals it. A commit can be
//! replaced again and again for almost nothing, and each one may name a new file: without a bound,
//! one model would use up the network and the disk of every validator.

use std::collections::{BTreeMap, BTreeSet};

use soma_protocol::{Epoch, ModelId};

use super::needed::Ciphertext;

/// Files of the largest size that a model may bring in an epoch.
pub(super) const FILES_PER_EPOCH: u64 = 4;

/// What models have brought in the current epoch.
#[derive(Debug, Default)]
pub(super) struct Quota {
    epoch: Epoch,
    bytes: BTreeMap<ModelId, u64>,
    /// Files that were counted as a whole.
    whole: BTreeSet<Ciphertext>,
}

impl Quota {
    /// Forgets what earlier epochs brought.
    pub(super) fn begin(&mut self, epoch: Epoch) {
        if self.epoch != epoch {
            *self = Self { epoch, ..Self::default() };
        }
    }

    /// Counts `bytes` for the one of these models that has brought least; false if each has brought
    /// `most`, in which case nothing is counted.
    pub(super) fn take(
        &mut self,
        models: impl IntoIterator<Item = ModelId>,
        bytes: u64,
        most: u64,
    ) -> bool {
        let brought = |model: ModelId| self.bytes.get(&model).copied().unwrap_or(0);
        let least = models.into_iter().map(|model| (brought(model), model)).min();
        let Some((before, model)) = least else {
            return false;
        };
        let after = before.saturating_add(bytes);
        let fits = after <= most;
        if fits {
            self.bytes.insert(model, after);
        }
        fits
    }

    /// Counts a whole file, once in an epoch, as [`Self::take`] does.
    pub(super) fn take_file(
        &mut self,
        file: Ciphertext,
        models: impl IntoIterator<Item = ModelId>,
        most: u64,
    ) -> bool {
        if self.whole.contains(&file) {
            return true;
        }
        let fits = self.take(models, file.size_bytes, most);
        if fits {
            self.whole.insert(file);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::{Epoch, Hash, ModelId};

    use super::{Ciphertext, Quota};

    #[test]
    fn a_model_brings_no_more_than_its_quota_in_an_epoch() {
        let mut quota = Quota::default();
        let (first, second) = (ModelId(1), ModelId(2));
        assert!(quota.take([first], 60, 100) && !quota.take([first], 60, 100));
        assert!(quota.take([first], 40, 100), "what did not fit was not counted");
        assert!(quota.take([first, second], 60, 100), "another model names the file too");
        assert!(!quota.take([first, second], 60, 100) && !quota.take([], 1, 100));
        quota.begin(Epoch(7));
        assert!(quota.take([first], 100, 100));
        quota.begin(Epoch(7));
        assert!(!quota.take([first], 1, 100));
    }

    #[test]
    fn a_file_that_is_fetched_in_several_attempts_counts_once() {
        let mut quota = Quota::default();
        let file = |number| Ciphertext { hash: Hash([number; 32]), size_bytes: 80 };
        assert!(quota.take_file(file(1), [ModelId(1)], 100));
        assert!(quota.take_file(file(1), [ModelId(1)], 100));
        assert!(!quota.take_file(file(2), [ModelId(1)], 100));
    }
}

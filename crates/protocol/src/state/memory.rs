//! A whole state in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::state::{Changes, Key, StateRead};

/// A whole state in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryState(pub BTreeMap<Key, Arc<[u8]>>);

impl MemoryState {
    /// Applies the changes of a block.
    pub fn apply(&mut self, changes: &Changes) {
        for (key, value) in &changes.0 {
            match value {
                Some(value) => self.0.insert(*key, Arc::clone(value)),
                None => self.0.remove(key),
            };
        }
    }

    /// All keys and values, in key order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[u8])> {
        self.0.iter().map(|(key, value)| (key, &**value))
    }
}

impl StateRead for MemoryState {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        self.0.get(key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use crate::state::{Draft, Key, MemoryState, StateRead};

    #[test]
    fn a_draft_shows_its_changes_and_leaves_its_base_alone() {
        let (a, b) = (Key([1; 32]), Key([2; 32]));
        let mut base = MemoryState::default();
        base.0.insert(a, [1].into());
        let mut draft = Draft::new(&base);
        draft.put(b, [2].into());
        draft.delete(a);
        assert_eq!(draft.get(&a), None);
        assert_eq!(draft.get(&b).as_deref(), Some(&[2][..]));
        let changes = draft.into_changes();
        assert_eq!(base.get(&a).as_deref(), Some(&[1][..]));
        base.apply(&changes);
        assert_eq!((base.get(&a), base.0.len()), (None, 1));
    }
}

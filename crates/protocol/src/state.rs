//! State as keys and values: what the rules read and write, whoever stores it.
//! Nothing here knows what a value means; that is `record.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::Hash;
use crate::record::Record;

/// Where a record lies: a hash of its kind and its parts. `Key::account(..)` and the like make them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Key(pub [u8; 32]);

impl Key {
    pub(crate) fn of(kind: &str, parts: &[&[u8]]) -> Self {
        Self(Hash::of_parts(kind, parts).0)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

/// Read access to a state.
pub trait Read: Send + Sync {
    /// The value at `key`, if there is one.
    fn get(&self, key: &Key) -> Option<Arc<[u8]>>;
}

impl<T: Read + ?Sized> Read for &T {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        (**self).get(key)
    }
}

impl<T: Read + ?Sized> Read for Arc<T> {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        (**self).get(key)
    }
}

/// What a block changes, in the order of keys; `None` deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub BTreeMap<Key, Option<Arc<[u8]>>>);

impl Changes {
    /// Lays later changes over these.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

/// A state with changes laid over it.
pub struct Draft<'a> {
    base: &'a dyn Read,
    changes: Changes,
}

impl<'a> Draft<'a> {
    /// A draft over `base` that changes nothing yet.
    pub const fn new(base: &'a dyn Read) -> Self {
        Self {
            base,
            changes: Changes(BTreeMap::new()),
        }
    }

    /// Writes a value.
    pub fn put(&mut self, key: Key, value: Arc<[u8]>) {
        self.changes.0.insert(key, Some(value));
    }

    /// Deletes a value.
    pub fn delete(&mut self, key: Key) {
        self.changes.0.insert(key, None);
    }

    /// Lays changes over what is there.
    pub fn extend(&mut self, later: Changes) {
        self.changes.extend(later);
    }

    /// What has changed so far.
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// What has changed.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    pub(crate) fn save<R: Record>(&mut self, key: Key, record: &R) {
        self.put(key, record.to_bytes().into());
    }
}

impl Read for Draft<'_> {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        match self.changes.0.get(key) {
            Some(value) => value.clone(),
            None => self.base.get(key),
        }
    }
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft")
            .field("changes", &self.changes)
            .finish_non_exhaustive()
    }
}

/// A whole state in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory(pub BTreeMap<Key, Arc<[u8]>>);

impl Memory {
    /// Makes the changes of a block.
    pub fn apply(&mut self, changes: &Changes) {
        for (key, value) in &changes.0 {
            match value {
                Some(value) => self.0.insert(*key, Arc::clone(value)),
                None => self.0.remove(key),
            };
        }
    }

    /// All keys and values in the order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &[u8])> {
        self.0.iter().map(|(key, value)| (key, &**value))
    }
}

impl Read for Memory {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        self.0.get(key).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Draft, Key, Memory, Read};

    #[test]
    fn a_draft_shows_its_changes_and_leaves_its_base_alone() {
        let (a, b) = (Key([1; 32]), Key([2; 32]));
        let mut base = Memory::default();
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

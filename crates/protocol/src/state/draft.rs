//! Uncommitted changes on top of a state: what the rules write to.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::state::{Key, Record, StateRead, VALUE_BYTES_MAX};

/// What a block changes, in key order; `None` deletes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub BTreeMap<Key, Option<Arc<[u8]>>>);

impl Changes {
    /// Applies later changes on top of these.
    pub fn extend(&mut self, later: Self) {
        self.0.extend(later.0);
    }
}

/// A state with uncommitted changes on top.
pub struct Draft<'a> {
    base: &'a dyn StateRead,
    changes: Changes,
}

impl<'a> Draft<'a> {
    /// A draft over `base` that changes nothing yet.
    pub const fn new(base: &'a dyn StateRead) -> Self {
        Self { base, changes: Changes(BTreeMap::new()) }
    }

    /// Whether there is a value at `key`.
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.get(key).is_some()
    }

    /// Writes a value.
    pub fn put(&mut self, key: Key, value: Arc<[u8]>) {
        self.changes.0.insert(key, Some(value));
    }

    /// Deletes a value.
    pub fn delete(&mut self, key: Key) {
        self.changes.0.insert(key, None);
    }

    /// Applies changes on top of those made so far.
    pub fn extend(&mut self, later: Changes) {
        self.changes.extend(later);
    }

    /// The changes so far.
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// The changes.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// Whether a value is too long to be stored: it must not leave the draft.
    pub(crate) fn is_too_long(&self) -> bool {
        self.changes.0.values().flatten().any(|value| value.len() > VALUE_BYTES_MAX)
    }

    pub(crate) fn save<R: Record>(&mut self, key: Key, record: &R) {
        self.put(key, record.to_bytes().into());
    }
}

impl StateRead for Draft<'_> {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        match self.changes.0.get(key) {
            Some(value) => value.clone(),
            None => self.base.get(key),
        }
    }
}

impl std::fmt::Debug for Draft<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Draft").field("changes", &self.changes).finish_non_exhaustive()
    }
}

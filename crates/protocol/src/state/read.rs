//! Read access to a state, independent of how it is stored.

use std::sync::Arc;

use crate::state::Key;

/// Read access to a state.
pub trait StateRead: Send + Sync {
    /// The value at `key`, if there is one.
    fn get(&self, key: &Key) -> Option<Arc<[u8]>>;
}

impl<T: StateRead + ?Sized> StateRead for &T {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        (**self).get(key)
    }
}

impl<T: StateRead + ?Sized> StateRead for Arc<T> {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        (**self).get(key)
    }
}

//! The protocol's state in memory: the finalized copy, and on top of it what blocks that are not
//! final yet would change.
//!
//! Blocks that are not final are kept as their changes only, keyed by block digest, and form a
//! tree rooted at the finalized block. Finalizing one folds its changes into the copy and drops
//! everything that does not descend from it, so memory is bounded by the views in flight. This
//! never touches a disk.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use soma_protocol::{Changes, Hash, Key, Memory, Outcome, Read};

/// The last finalized block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height; 0 is genesis.
    pub height: u64,
    /// Its digest.
    pub digest: Hash,
}

/// What one block that is not final yet did.
struct Pending {
    parent: Hash,
    height: u64,
    outcome: Arc<Outcome>,
}

struct Inner {
    finalized: Memory,
    tip: Tip,
    pending: HashMap<Hash, Pending>,
}

/// The finalized state and the tree of blocks on top of it. Shared by reference; every method takes
/// the lock for as long as it runs, so what is passed in must be short and must not call back.
pub struct State {
    inner: RwLock<Inner>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("tip", &self.tip())
            .finish_non_exhaustive()
    }
}

/// The state after one block: its own changes first, then its ancestors', then the finalized copy.
struct View<'a> {
    finalized: &'a Memory,
    newest_first: Vec<&'a Changes>,
}

impl Read for View<'_> {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        for changes in &self.newest_first {
            if let Some(change) = changes.0.get(key) {
                return change.clone();
            }
        }
        self.finalized.get(key)
    }
}

impl Inner {
    /// The state after `block`, or `None` when the block does not descend from the finalized one.
    fn after(&self, block: &Hash) -> Option<View<'_>> {
        let mut newest_first = Vec::new();
        let mut at = *block;
        while at != self.tip.digest {
            let pending = self.pending.get(&at)?;
            newest_first.push(&pending.outcome.changes);
            at = pending.parent;
        }
        Some(View {
            finalized: &self.finalized,
            newest_first,
        })
    }
}

impl State {
    /// Starts from a finalized copy.
    pub fn new(finalized: Memory, tip: Tip) -> Self {
        Self {
            inner: RwLock::new(Inner {
                finalized,
                tip,
                pending: HashMap::new(),
            }),
        }
    }

    // A panic while the lock is held comes from a reader's closure; the data is whole.
    fn shared(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last finalized block.
    pub fn tip(&self) -> Tip {
        self.shared().tip
    }

    /// Reads the finalized state.
    pub fn read<T>(&self, f: impl FnOnce(&Memory, Tip) -> T) -> T {
        let inner = self.shared();
        f(&inner.finalized, inner.tip)
    }

    /// Reads the state after `block`, final or not; `None` when the block is unknown or lost the
    /// race against a finalized one.
    pub fn after<T>(&self, block: &Hash, f: impl FnOnce(&dyn Read) -> T) -> Option<T> {
        let inner = self.shared();
        inner.after(block).map(|view| f(&view))
    }

    /// Keeps what `block` did until it is final or cannot become so. Keeping it twice is harmless.
    pub fn keep(&self, block: Hash, parent: Hash, height: u64, outcome: Arc<Outcome>) {
        let mut inner = self.exclusive();
        if height > inner.tip.height {
            inner.pending.insert(
                block,
                Pending {
                    parent,
                    height,
                    outcome,
                },
            );
        }
    }

    /// Makes `block` final and returns what it did; `None`, changing nothing, when it is unknown or
    /// does not extend the finalized block.
    pub fn finalize(&self, block: &Hash) -> Option<Arc<Outcome>> {
        let mut inner = self.exclusive();
        if inner.pending.get(block)?.parent != inner.tip.digest {
            return None;
        }
        let Pending {
            height, outcome, ..
        } = inner.pending.remove(block)?;
        inner.finalized.apply(&outcome.changes);
        inner.tip = Tip {
            height,
            digest: *block,
        };
        // Whatever is at this height lost; whatever is above it and hangs on a loser is dropped
        // when its own height becomes final.
        inner.pending.retain(|_, pending| pending.height > height);
        Some(outcome)
    }

    /// Whether the finalized copy is exactly `memory`.
    pub fn equals(&self, memory: &Memory) -> bool {
        self.shared().finalized == *memory
    }

    /// How many blocks wait for finality.
    pub fn waiting(&self) -> usize {
        self.shared().pending.len()
    }
}

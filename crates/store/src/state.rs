//! The protocol's state in memory: the finalized copy, and the changes of pending blocks, which are
//! executed but not finalized.
//!
//! Pending blocks form a tree rooted at the finalized block. Finalizing one applies its changes to
//! the copy and drops blocks that can no longer be finalized, so memory is bounded by the views in
//! flight. Nothing here touches a disk.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use soma_proof::RecordProof;
use soma_protocol::{Amount, Changes, Hash, Key, MemoryState, Outcome, StateRead, tally::Tally};

use crate::Tree;

/// The last finalized block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its height; 0 is genesis.
    pub height: u64,
    /// Its digest.
    pub digest: Hash,
}

/// A pending block.
struct Pending {
    parent: Hash,
    height: u64,
    outcome: Arc<Outcome>,
    tree: Tree,
}

struct Inner {
    finalized: MemoryState,
    /// The tree over its records.
    tree: Tree,
    /// What the finalized state holds.
    tally: Tally,
    tip: Tip,
    pending: HashMap<Hash, Pending>,
}

/// The finalized state and the tree of pending blocks. Every method holds the lock while it runs,
/// so closures must be short and must not call other methods.
pub struct State {
    inner: RwLock<Inner>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("tip", &self.tip()).finish_non_exhaustive()
    }
}

/// The state after one block: its own changes first, then its ancestors', then the finalized copy.
struct View<'a> {
    finalized: &'a MemoryState,
    newest_first: Vec<&'a Changes>,
}

impl StateRead for View<'_> {
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
    /// The state after `block`; `None` if the block does not descend from the finalized one.
    fn after(&self, block: &Hash) -> Option<View<'_>> {
        let mut newest_first = Vec::new();
        let mut at = *block;
        while at != self.tip.digest {
            let pending = self.pending.get(&at)?;
            newest_first.push(&pending.outcome.changes);
            at = pending.parent;
        }
        Some(View { finalized: &self.finalized, newest_first })
    }
}

impl State {
    /// Starts from a finalized state.
    pub fn new(finalized: MemoryState, tip: Tip) -> Self {
        let (tree, tally) = (Tree::of(&finalized), Tally::of(&finalized));
        let pending = HashMap::new();
        Self { inner: RwLock::new(Inner { finalized, tree, tally, tip, pending }) }
    }

    // A panic while the lock is held comes from a reader's closure; the data is consistent.
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
    pub fn read<T>(&self, f: impl FnOnce(&MemoryState, Tip) -> T) -> T {
        let inner = self.shared();
        f(&inner.finalized, inner.tip)
    }

    /// Reads the finalized state, with the money that its records hold.
    pub fn read_held<T>(&self, f: impl FnOnce(&MemoryState, Tip, Amount) -> T) -> T {
        let inner = self.shared();
        f(&inner.finalized, inner.tip, inner.tally.held(&inner.finalized))
    }

    /// Reads the state after `block`, finalized or pending; `None` if the block is unknown or does
    /// not descend from the finalized one.
    pub fn after<T>(&self, block: &Hash, f: impl FnOnce(&dyn StateRead) -> T) -> Option<T> {
        let inner = self.shared();
        inner.after(block).map(|view| f(&view))
    }

    /// The tree over the records after `block`, finalized or pending; `None` if the block is
    /// unknown.
    pub fn tree_after(&self, block: &Hash) -> Option<Tree> {
        let inner = self.shared();
        if *block == inner.tip.digest {
            return Some(inner.tree.clone());
        }
        inner.pending.get(block).map(|pending| pending.tree.clone())
    }

    /// The root of the finalized state.
    pub fn root(&self) -> Hash {
        self.shared().tree.root()
    }

    /// What the records of these keys are in the finalized state, one proof for each until they are
    /// longer than `bytes_max` together.
    pub fn prove(&self, keys: &[Key], bytes_max: usize) -> (Tip, Vec<RecordProof>) {
        let inner = self.shared();
        let (mut proofs, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        for key in keys {
            let proof = inner.tree.prove(&inner.finalized, key);
            bytes += proof.encode().len();
            proofs.push(proof);
            if bytes > bytes_max {
                break;
            }
        }
        (inner.tip, proofs)
    }

    /// Keeps the outcome of `block`, and the tree that it leads to, until it is finalized or no
    /// longer can be. Keeping it twice is harmless.
    pub fn keep(&self, block: Hash, parent: Hash, height: u64, outcome: Arc<Outcome>, tree: Tree) {
        let mut inner = self.exclusive();
        if height > inner.tip.height {
            inner.pending.insert(block, Pending { parent, height, outcome, tree });
        }
    }

    /// Finalizes `block` and returns its outcome; `None`, without effect, if it is unknown or is
    /// not a child of the finalized block.
    pub fn finalize(&self, block: &Hash) -> Option<Arc<Outcome>> {
        let mut inner = self.exclusive();
        if inner.pending.get(block)?.parent != inner.tip.digest {
            return None;
        }
        let Pending { height, outcome, tree, .. } = inner.pending.remove(block)?;
        let Inner { finalized, tally, .. } = &mut *inner;
        tally.apply(finalized, &outcome.changes);
        finalized.apply(&outcome.changes);
        let before = std::mem::replace(&mut inner.tree, tree);
        inner.tip = Tip { height, digest: *block };
        // Other blocks at this height are dropped now; their descendants go when their own height
        // is finalized.
        let lost: Vec<_> =
            inner.pending.extract_if(|_, pending| pending.height <= height).collect();
        // What only they have may be large: readers do not wait for it.
        drop(inner);
        drop((before, lost));
        Some(outcome)
    }

    /// Whether the finalized state equals `memory`.
    pub fn equals(&self, memory: &MemoryState) -> bool {
        self.shared().finalized == *memory
    }

    /// The number of pending blocks.
    pub fn pending(&self) -> usize {
        self.shared().pending.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use soma_protocol::{Changes, Hash, Key, MemoryState, Outcome};

    use super::{State, Tip};
    use crate::Tree;

    const GENESIS: Hash = Hash([0; 32]);
    const KEYS: u8 = 4;

    type Writes = Vec<(u8, Option<u8>)>;

    fn digest(block: usize) -> Hash {
        Hash([u8::try_from(block + 1).expect("few blocks"); 32])
    }

    fn outcome(writes: &[(u8, Option<u8>)]) -> Outcome {
        let mut changes = Changes::default();
        for (key, value) in writes {
            let value = value.map(|value| Arc::from([value]));
            changes.0.insert(Key([*key; 32]), value);
        }
        Outcome { changes, ..Outcome::default() }
    }

    /// A tree of blocks: each has a parent (any earlier block, or genesis) and its writes.
    fn blocks() -> impl Strategy<Value = Vec<(usize, Writes)>> {
        let writes = prop::collection::vec((0..KEYS, prop::option::of(any::<u8>())), 0..4);
        prop::collection::vec((any::<prop::sample::Index>(), writes), 1..30).prop_map(|blocks| {
            let parent = |(at, (parent, writes)): (usize, (prop::sample::Index, _))| {
                (parent.index(at + 1), writes)
            };
            blocks.into_iter().enumerate().map(parent).collect()
        })
    }

    proptest! {
        #[test]
        fn every_block_sees_its_own_ancestors_and_nothing_else(blocks in blocks()) {
            let state = State::new(MemoryState::default(), Tip { height: 0, digest: GENESIS });
            // Index 0 is genesis; block `i` is index `i + 1`.
            let mut expected = vec![(0u64, GENESIS, MemoryState::default())];
            for (at, (parent, writes)) in blocks.iter().enumerate() {
                let (height, below, mut memory) = expected[*parent].clone();
                let outcome = outcome(writes);
                memory.apply(&outcome.changes);
                let tree = state.tree_after(&below).unwrap().after(&outcome.changes);
                prop_assert_eq!(tree.root(), Tree::of(&memory).root(), "block {}", at);
                state.keep(digest(at), below, height + 1, Arc::new(outcome), tree);
                expected.push((height + 1, digest(at), memory));
            }
            let reads = |block: &Hash| {
                let keys = (0..KEYS).map(|key| Key([key; 32]));
                state.after(block, |view| keys.map(|key| view.get(&key)).collect::<Vec<_>>())
            };
            for (_, block, memory) in &expected {
                let written = (0..KEYS).map(|key| memory.0.get(&Key([key; 32])).cloned()).collect();
                prop_assert_eq!(reads(block), Some(written));
            }

            // Finalize the path to the last block: its descendants stay, all other blocks are
            // dropped.
            let mut path = Vec::new();
            let mut at = blocks.len();
            while at != 0 {
                path.push(at);
                at = blocks[at - 1].0;
            }
            for at in path.iter().rev() {
                prop_assert!(state.finalize(&expected[*at].1).is_some());
                prop_assert!(state.equals(&expected[*at].2));
                prop_assert_eq!(state.root(), Tree::of(&expected[*at].2).root());
                let (height, digest, _) = expected[*at];
                prop_assert_eq!(state.tip(), Tip { height, digest });
            }
            for (at, (height, block, _)) in expected.iter().enumerate() {
                let is_finalized = at == blocks.len();
                prop_assert_eq!(reads(block).is_some(), is_finalized, "block {} at {}", at, height);
            }
        }
    }

    #[test]
    fn only_one_block_of_a_height_is_finalized() {
        let state = State::new(MemoryState::default(), Tip { height: 0, digest: GENESIS });
        let (won, lost) = (digest(0), digest(1));
        let tree = Tree::default;
        state.keep(won, GENESIS, 1, Arc::new(outcome(&[(0, Some(1))])), tree());
        state.keep(lost, GENESIS, 1, Arc::new(outcome(&[(0, Some(2))])), tree());
        assert!(state.finalize(&won).is_some());
        assert!(state.finalize(&lost).is_none());
        assert_eq!(state.pending(), 0);
        state.keep(lost, GENESIS, 1, Arc::new(outcome(&[])), tree());
        assert_eq!(state.pending(), 0, "its height is finalized");
    }
}

//! The tree over all records, whose root a header carries and against which records are proved.
//!
//! It is persistent: a block's tree shares with its parent's all that the block leaves as it is, so
//! every pending block has a tree of its own. It is in memory, as the state is, and made again from
//! the state when a node starts. [`soma_proof`] defines the hashes, and verifies what is proved.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
};

use soma_proof::{
    BUCKET_RECORDS_MAX, EMPTY, Entry, RecordProof, branch_hash, bucket_hash, is_right,
};
use soma_protocol::{Changes, Hash, Key, MemoryState, Outcome, StateRead as _};

/// From this many changes on, a thread works on them while the log is merkleized.
const ASIDE_FROM: usize = 1_024;

/// A subtree with at least one record.
#[derive(Debug)]
enum Node {
    /// At most [`BUCKET_RECORDS_MAX`] records, in the order of their keys.
    Bucket { hash: Hash, entries: Box<[Entry]> },
    /// More than that.
    Branch { hash: Hash, left: Subtree, right: Subtree },
}

/// A subtree; `None` if it has no records.
type Subtree = Option<Arc<Node>>;

/// A record that is written, by the hash of its value, or deleted.
type Write = (Key, Option<Hash>);

/// The tree over the records of one state.
#[derive(Clone, Debug, Default)]
pub struct Tree(Subtree);

/// A tree that is computed, perhaps by a thread of its own.
#[derive(Debug)]
pub enum Growing {
    /// It is done.
    Done(Tree),
    /// A thread works on it.
    Aside(JoinHandle<Tree>),
}

impl Growing {
    /// Waits until it is done.
    pub fn done(self) -> Tree {
        match self {
            Self::Done(tree) => tree,
            // A thread that panics has no tree to return: so does this one.
            Self::Aside(thread) => {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
        }
    }
}

impl Tree {
    /// The tree over all records of a state.
    pub fn of(state: &MemoryState) -> Self {
        // They are in the order of their keys.
        let entries: Vec<Entry> =
            state.0.iter().map(|(key, value)| (*key, Hash::of_bytes(value))).collect();
        Self(build(&entries, 0))
    }

    /// The root, which identifies the records: [`EMPTY`] if there are none.
    pub fn root(&self) -> Hash {
        hash_of(&self.0)
    }

    /// The tree once a block has made its changes.
    #[must_use]
    pub fn after(&self, changes: &Changes) -> Self {
        // Changes are in the order of their keys.
        let write = |(key, value): (&Key, &Option<Arc<[u8]>>)| {
            (*key, value.as_ref().map(|value| Hash::of_bytes(value)))
        };
        let writes: Vec<Write> = changes.0.iter().map(write).collect();
        Self(update(&self.0, &writes, 0))
    }

    /// Begins with the tree once a block has had its outcome.
    pub fn grow(self, outcome: &Arc<Outcome>) -> Growing {
        if outcome.changes.0.len() < ASIDE_FROM {
            return Growing::Done(self.after(&outcome.changes));
        }
        let (tree, shared) = (self.clone(), Arc::clone(outcome));
        let name = "soma-tree".to_owned();
        let thread = thread::Builder::new().name(name).spawn(move || tree.after(&shared.changes));
        thread.map_or_else(|_| Growing::Done(self.after(&outcome.changes)), Growing::Aside)
    }

    /// Shows what the record of a key is in `state`, whose tree this is.
    pub fn prove(&self, state: &MemoryState, key: &Key) -> RecordProof {
        let mut siblings = Vec::new();
        let mut at = &self.0;
        while let Some(node) = at
            && let Node::Branch { left, right, .. } = &**node
        {
            let (next, sibling) =
                if is_right(key, siblings.len()) { (right, left) } else { (left, right) };
            siblings.push(hash_of(sibling));
            at = next;
        }
        let bucket = at.as_ref().map_or(&[][..], |node| entries_of(node)).to_vec();
        RecordProof { value: state.get(key).map(|value| value.to_vec()), bucket, siblings }
    }
}

fn hash_of(subtree: &Subtree) -> Hash {
    match subtree.as_deref() {
        None => EMPTY,
        Some(Node::Bucket { hash, .. } | Node::Branch { hash, .. }) => *hash,
    }
}

/// The records of a bucket; none of a branch.
fn entries_of(node: &Node) -> &[Entry] {
    match node {
        Node::Bucket { entries, .. } => entries,
        Node::Branch { .. } => &[],
    }
}

/// The subtree at this depth with these records, in the order of their keys.
fn build(entries: &[Entry], depth: usize) -> Subtree {
    if entries.is_empty() {
        return None;
    }
    if entries.len() <= BUCKET_RECORDS_MAX {
        let hash = bucket_hash(entries);
        return Some(Arc::new(Node::Bucket { hash, entries: entries.into() }));
    }
    let (left, right) = entries.split_at(entries.partition_point(|(key, _)| !is_right(key, depth)));
    Some(branch(build(left, depth + 1), build(right, depth + 1)))
}

fn branch(left: Subtree, right: Subtree) -> Arc<Node> {
    let hash = branch_hash(&hash_of(&left), &hash_of(&right));
    Arc::new(Node::Branch { hash, left, right })
}

/// A subtree at this depth once its records are written, which are in the order of their keys.
fn update(subtree: &Subtree, writes: &[Write], depth: usize) -> Subtree {
    if writes.is_empty() {
        return subtree.clone();
    }
    let Some(Node::Branch { left, right, .. }) = subtree.as_deref() else {
        let old = subtree.as_deref().map_or(&[][..], entries_of);
        return build(&merge(old, writes), depth);
    };
    let (lower, upper) = writes.split_at(writes.partition_point(|(key, _)| !is_right(key, depth)));
    joined(update(left, lower, depth + 1), update(right, upper, depth + 1))
}

/// The subtree with these halves: a bucket if they have few records together.
fn joined(left: Subtree, right: Subtree) -> Subtree {
    let few = |half: &Subtree| half.as_deref().is_none_or(|node| !entries_of(node).is_empty());
    if few(&left) && few(&right) {
        let halves = [&left, &right].map(|half| half.as_deref().map_or(&[][..], entries_of));
        if halves[0].len() + halves[1].len() <= BUCKET_RECORDS_MAX {
            // Below the depth does not matter: a bucket has no bits.
            return build(&halves.concat(), 0);
        }
    }
    Some(branch(left, right))
}

/// Records in the order of their keys, once others are written over them.
fn merge(old: &[Entry], writes: &[Write]) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(old.len() + writes.len());
    let (mut old, mut writes) = (old.iter().peekable(), writes.iter().peekable());
    loop {
        match (old.peek(), writes.peek()) {
            (Some((key, _)), Some((written, _))) if key < written => merged.extend(old.next()),
            (Some((key, _)), Some((written, _))) if key == written => {
                old.next();
            }
            (_, Some(_)) => {
                let write = writes.next();
                merged.extend(write.and_then(|(key, value)| Some((*key, (*value)?))));
            }
            (Some(_), None) => merged.extend(old.next()),
            (None, None) => return merged,
        }
    }
}

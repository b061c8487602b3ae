//! The BLAKE3 tree of a file above groups of 256 KiB: with it, any part of the file can be verified
//! after reading the groups that it lies in, and any path in the tree after reading one of them. It
//! has 32 bytes for each group, and must never be believed before its root was compared.

use std::ops::Range;

use blake3::hazmat::{HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root};
use borsh::{BorshDeserialize, BorshSerialize};
use soma_protocol::Hash;

/// Bytes of a group: a power of two, so that each group is a subtree.
pub(crate) const GROUP_BYTES: u64 = 256 << 10;

/// Hashes a file from its beginning.
pub(super) struct TreeHasher {
    groups: Vec<[u8; 32]>,
    hasher: blake3::Hasher,
    /// How many bytes of the last group were hashed.
    filled: u64,
    size_bytes: u64,
}

impl TreeHasher {
    pub(super) fn new() -> Self {
        Self { groups: Vec::new(), hasher: blake3::Hasher::new(), filled: 0, size_bytes: 0 }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filled == GROUP_BYTES {
                self.groups.push(self.hasher.finalize_non_root());
                self.hasher = blake3::Hasher::new();
                self.hasher.set_input_offset(self.size_bytes);
                self.filled = 0;
            }
            let room = usize::try_from(GROUP_BYTES - self.filled).unwrap_or(usize::MAX);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.hasher.update(now);
            self.filled += now.len() as u64;
            self.size_bytes += now.len() as u64;
            bytes = later;
        }
    }

    /// The hash of the file, and its tree.
    pub(super) fn finish(mut self) -> (Hash, Tree) {
        let alone = self.groups.is_empty().then(|| Hash(*self.hasher.finalize().as_bytes()));
        if self.filled > 0 {
            self.groups.push(self.hasher.finalize_non_root());
        }
        let tree = Tree { size_bytes: self.size_bytes, groups: self.groups };
        (alone.unwrap_or_else(|| tree.root()), tree)
    }
}

/// The tree of a file whose hash was compared.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Tree {
    pub(super) size_bytes: u64,
    /// The chaining value of each group.
    groups: Vec<[u8; 32]>,
}

impl Tree {
    /// Whether this can be the tree of the file with this hash. Of a file of a single group, the
    /// group itself must be compared.
    pub(super) fn is_of(&self, hash: &Hash) -> bool {
        let groups = self.groups.len() as u64;
        groups == self.size_bytes.div_ceil(GROUP_BYTES) && (groups < 2 || self.root() == *hash)
    }

    /// How many groups the file has.
    pub(super) fn len(&self) -> u64 {
        self.groups.len() as u64
    }

    /// Where groups lie in the file.
    pub(super) fn bytes_of(&self, groups: &Range<u64>) -> Range<u64> {
        groups.start * GROUP_BYTES..self.size_bytes.min(groups.end * GROUP_BYTES)
    }

    fn root(&self) -> Hash {
        let (left, right) = halves(&self.groups);
        Hash(*merge_subtrees_root(&merged(left), &merged(right), Mode::Hash).as_bytes())
    }

    /// Whether these bytes, whole groups but for the last of the file, are those of the file with
    /// this hash from the group `first` on.
    pub(super) fn verifies(&self, hash: &Hash, first: u64, bytes: &[u8]) -> bool {
        let offset = first * GROUP_BYTES;
        let end = offset + bytes.len() as u64;
        if bytes.is_empty() || end > self.size_bytes {
            return false;
        }
        if self.groups.len() == 1 {
            return end == self.size_bytes && Hash::of_bytes(bytes) == *hash;
        }
        let is_whole = end == self.size_bytes || end.is_multiple_of(GROUP_BYTES);
        let group = usize::try_from(GROUP_BYTES).unwrap_or(usize::MAX);
        let known = self.groups.iter().skip(usize::try_from(first).unwrap_or(usize::MAX));
        is_whole
            && bytes
                .chunks(group)
                .zip(known)
                .zip(first..)
                .all(|((bytes, known), number)| subtree_of(number * GROUP_BYTES, bytes) == *known)
    }

    /// The chaining value of a part of the file that is made of whole groups; `None` of one within
    /// a group.
    pub(super) fn subtree(&self, offset: u64, length: u64) -> Option<[u8; 32]> {
        let end = offset.checked_add(length).filter(|end| *end <= self.size_bytes)?;
        let is_whole = end == self.size_bytes || end.is_multiple_of(GROUP_BYTES);
        if !is_whole || !offset.is_multiple_of(GROUP_BYTES) || length == 0 {
            return None;
        }
        let place = |at: u64| usize::try_from(at).ok();
        let groups = place(offset / GROUP_BYTES)?..place(end.div_ceil(GROUP_BYTES))?;
        self.groups.get(groups).map(merged)
    }
}

/// The chaining value of bytes that lie at `offset` in their file, as one subtree.
pub(super) fn subtree_of(offset: u64, bytes: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(bytes);
    hasher.finalize_non_root()
}

/// The left half of several groups has the largest power of two of them that leaves one.
fn halves(groups: &[[u8; 32]]) -> (&[[u8; 32]], &[[u8; 32]]) {
    groups.split_at(groups.len().next_power_of_two() / 2)
}

fn merged(groups: &[[u8; 32]]) -> [u8; 32] {
    match groups {
        [] => [0; 32],
        [group] => *group,
        _ => {
            let (left, right) = halves(groups);
            merge_subtrees_non_root(&merged(left), &merged(right), Mode::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::Hash;

    use super::{GROUP_BYTES, Tree, TreeHasher, subtree_of};

    const GROUP: usize = 256 << 10;

    fn file(size: usize) -> (Vec<u8>, Hash, Tree) {
        let mut bytes = vec![0; size];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        let mut hasher = TreeHasher::new();
        bytes.chunks(100_001).for_each(|piece| hasher.update(piece));
        let (hash, tree) = hasher.finish();
        (bytes, hash, tree)
    }

    #[test]
    fn a_file_hashed_in_groups_has_the_hash_of_the_whole_and_each_group_is_verified_alone() {
        for size in [1, 1_024, GROUP - 1, GROUP, GROUP + 1, 2 * GROUP, 3 * GROUP, 5 * GROUP + 77] {
            let (mut bytes, hash, tree) = file(size);
            assert_eq!(hash, Hash::of_bytes(&bytes), "{size}");
            assert!(tree.is_of(&hash));
            assert!(tree.len() == 1 || !tree.is_of(&Hash([1; 32])));
            assert!(tree.verifies(&hash, 0, &bytes), "{size}");
            for (at, group) in bytes.chunks(GROUP).enumerate() {
                assert!(tree.verifies(&hash, at as u64, group), "{size} {at}");
                assert!(!tree.verifies(&hash, at as u64 + 1, group), "{size} {at}");
                assert!(!tree.verifies(&hash, at as u64, &group[..group.len() - 1]));
            }
            bytes[size - 1] ^= 1;
            assert!(!tree.verifies(&hash, 0, &bytes), "{size}");
        }
    }

    #[test]
    fn the_tree_knows_the_value_of_any_run_of_whole_groups_that_is_a_subtree() {
        let (bytes, _, tree) = file(5 * GROUP + 77);
        for (from, to) in [(0, 4), (0, 2), (2, 4), (1, 2), (4, 5)] {
            let (from, to) = (from * GROUP, to * GROUP);
            let expected = subtree_of(from as u64, &bytes[from..to]);
            assert_eq!(tree.subtree(from as u64, (to - from) as u64), Some(expected));
        }
        let last = subtree_of(5 * GROUP_BYTES, &bytes[5 * GROUP..]);
        assert_eq!(tree.subtree(5 * GROUP_BYTES, 77), Some(last));
        assert_eq!(tree.subtree(5 * GROUP_BYTES, 64), None, "it is within a group");
        assert_eq!(tree.subtree(1_024, GROUP_BYTES), None);
        assert_eq!(tree.subtree(0, 6 * GROUP_BYTES), None);
    }
}

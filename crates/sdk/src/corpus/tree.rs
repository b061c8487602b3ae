//! The Merkle tree over a growing list of leaves. It keeps the hash of every complete subtree, so
//! that a new leaf costs about one hash, and the root or a path of any earlier length a few.

use soma_protocol::{Hash, corpus};

/// Complete subtrees by height: `levels[h][i]` is over the `2^h` leaves from `i * 2^h` on.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Number of leaves.
    pub(super) fn len(&self) -> usize {
        self.levels.first().map_or(0, Vec::len)
    }

    /// Appends a leaf, and every subtree that it completes.
    pub(super) fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for height in 0.. {
            if self.levels.len() == height {
                self.levels.push(Vec::new());
            }
            let level = &mut self.levels[height];
            level.push(hash);
            match level.as_slice() {
                [.., left, right] if level.len().is_multiple_of(2) => {
                    hash = corpus::node(left, right);
                }
                _ => return,
            }
        }
    }

    /// The root over the first `count` leaves; `None` for none, or more than there are.
    pub(super) fn root(&self, count: usize) -> Option<Hash> {
        (count > 0 && count <= self.len()).then(|| self.over(0, count)).flatten()
    }

    /// The path of a leaf under the root over the first `count` leaves, from the leaf up.
    pub(super) fn path(&self, index: usize, count: usize) -> Option<Vec<Hash>> {
        if index >= count || count > self.len() {
            return None;
        }
        let (mut start, mut count, mut path) = (0, count, Vec::new());
        while count > 1 {
            let left = split(count);
            if index < start + left {
                path.push(self.over(start + left, count - left)?);
                count = left;
            } else {
                path.push(self.over(start, left)?);
                (start, count) = (start + left, count - left);
            }
        }
        path.reverse();
        Some(path)
    }

    /// The hash over `count` leaves from `start` on, which is a subtree of the list: it begins
    /// where a complete subtree of at least this size does.
    fn over(&self, start: usize, count: usize) -> Option<Hash> {
        if count.is_power_of_two() {
            let height = count.trailing_zeros();
            return self.levels.get(usize::try_from(height).ok()?)?.get(start >> height).copied();
        }
        let left = split(count);
        let (left, right) = (self.over(start, left)?, self.over(start + left, count - left)?);
        Some(corpus::node(&left, &right))
    }
}

/// The largest power of two below `count`, which is at least 2: how many leaves are on the left.
const fn split(count: usize) -> usize {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use soma_protocol::{Hash, corpus};

    use super::Tree;

    #[test]
    fn every_length_that_a_growing_tree_had_has_the_root_and_the_paths_of_the_rules() {
        let leaves: Vec<Hash> = (0..70).map(|byte| Hash([byte; 32])).collect();
        let mut tree = Tree::default();
        for leaf in &leaves {
            tree.push(*leaf);
        }
        assert_eq!((tree.root(0), tree.root(71), tree.path(70, 71)), (None, None, None));
        for count in 1..=70 {
            let root = tree.root(count).unwrap();
            assert_eq!(Some(root), corpus::root(&leaves[..count]), "{count}");
            assert_eq!(tree.path(count, count), None);
            for index in 0..count {
                let path = tree.path(index, count).unwrap();
                let at = u32::try_from(index).unwrap();
                assert_eq!(Some(&path), corpus::path(&leaves[..count], at).as_ref());
                let count = u32::try_from(count).unwrap();
                assert!(corpus::verifies(&root, count, at, &leaves[index], &path));
            }
        }
    }
}

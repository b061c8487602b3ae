//! A corpus: the Merkle tree over the documents that an account may submit. Its root is committed
//! before targets exist, and a publication shows that its data is one of the leaves. A leaf covers
//! a salt, so the tree says nothing about documents that are never published.
//!
//! A tree of n leaves has its first 2^k leaves on the left, where 2^k is the largest power of two
//! below n (RFC 6962, section 2.1). So a leaf that is appended changes only the right edge.

use crate::Hash;

/// The most leaves of a tree.
pub const LEAVES_MAX: u32 = 1 << 20;

/// Hashes in the longest path: the depth of a tree of [`LEAVES_MAX`] leaves.
pub const PATH_MAX: usize = 20;

/// The leaf of a document: `data_hash` is BLAKE3 of the data. The salt must be secret and its own
/// for each document, or whoever knows the document can recognize its leaf.
pub fn leaf(data_hash: &Hash, size_bytes: u32, salt: &[u8; 32]) -> Hash {
    Hash::of_parts("soma corpus leaf", &[&data_hash.0, &size_bytes.to_le_bytes(), salt])
}

/// The node above two subtrees.
pub fn node(left: &Hash, right: &Hash) -> Hash {
    Hash::of_parts("soma corpus node", &[&left.0, &right.0])
}

/// The root of a tree; `None` of none, or of more than [`LEAVES_MAX`] leaves.
pub fn root(leaves: &[Hash]) -> Option<Hash> {
    is_legal(leaves).then(|| subtree(leaves))?
}

/// The path of a leaf: at every level, from the leaf up, the subtree beside the one that holds it.
/// `None` if there is no such leaf.
pub fn path(leaves: &[Hash], index: u32) -> Option<Vec<Hash>> {
    let mut at = usize::try_from(index).ok()?;
    if !is_legal(leaves) || at >= leaves.len() {
        return None;
    }
    let (mut rest, mut path) = (leaves, Vec::new());
    while let Some((left, right)) = halves(rest) {
        let (inside, outside) = match at.checked_sub(left.len()) {
            None => (left, right),
            Some(further) => {
                at = further;
                (right, left)
            }
        };
        path.push(subtree(outside)?);
        rest = inside;
    }
    path.reverse();
    Some(path)
}

/// Whether `leaf` is the one at `index` in the tree of `count` leaves with this root.
pub fn verifies(root: &Hash, count: u32, index: u32, leaf: &Hash, path: &[Hash]) -> bool {
    if index >= count || count > LEAVES_MAX || path.len() > PATH_MAX {
        return false;
    }
    let (mut index, mut count) = (index, count);
    // On which side of each node above it the leaf is, from the root down.
    let mut is_right = Vec::new();
    while let Some(left) = left_leaves(count) {
        let right = index.checked_sub(left);
        is_right.push(right.is_some());
        (index, count) = right.map_or((index, left), |further| (further, count.wrapping_sub(left)));
    }
    if is_right.len() != path.len() {
        return false;
    }
    let above = |below: Hash, (sibling, is_right): (&Hash, bool)| {
        if is_right { node(sibling, &below) } else { node(&below, sibling) }
    };
    path.iter().zip(is_right.into_iter().rev()).fold(*leaf, above) == *root
}

fn is_legal(leaves: &[Hash]) -> bool {
    u32::try_from(leaves.len()).is_ok_and(|count| (1..=LEAVES_MAX).contains(&count))
}

/// How many of `count` leaves are on the left; `None` of a leaf alone.
fn left_leaves(count: u32) -> Option<u32> {
    let last = count.checked_sub(1)?.checked_ilog2()?;
    1_u32.checked_shl(last)
}

fn halves(leaves: &[Hash]) -> Option<(&[Hash], &[Hash])> {
    let left = left_leaves(u32::try_from(leaves.len()).ok()?)?;
    leaves.split_at_checked(usize::try_from(left).ok()?)
}

/// The root of a tree of at least one leaf; the depth is at most [`PATH_MAX`].
fn subtree(leaves: &[Hash]) -> Option<Hash> {
    match halves(leaves) {
        None => leaves.first().copied(),
        Some((left, right)) => Some(node(&subtree(left)?, &subtree(right)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u32) -> Vec<Hash> {
        (0..count).map(|at| leaf(&Hash::of_bytes(&at.to_le_bytes()), at, &[7; 32])).collect()
    }

    #[test]
    fn every_leaf_of_every_tree_can_be_shown_at_its_place_and_nowhere_else() {
        let all = leaves(300);
        for count in 1..=300_u32 {
            let leaves = &all[..count as usize];
            let root = root(leaves).unwrap();
            for index in 0..count {
                let path = path(leaves, index).unwrap();
                let leaf = &leaves[index as usize];
                assert!(path.len() <= PATH_MAX);
                assert!(verifies(&root, count, index, leaf, &path), "{index} of {count}");
                for other in [index.wrapping_sub(1), index + 1, index ^ 4, count, u32::MAX] {
                    assert!(!verifies(&root, count, other, leaf, &path), "{other} of {count}");
                }
                assert!(!verifies(&root, count, index, &Hash([1; 32]), &path));
                let longer = [&path[..], &[Hash([0; 32])]].concat();
                assert!(!verifies(&root, count, index, leaf, &longer));
                if let Some((first, rest)) = path.split_first() {
                    assert!(!verifies(&root, count, index, leaf, rest));
                    let shorter = &path[..path.len() - 1];
                    assert!(!verifies(&root, count, index, leaf, shorter));
                    let node = node(leaf, first);
                    assert!(!verifies(&root, count, index / 2, &node, rest), "a node is no leaf");
                    let changed = [&[Hash([0; 32])], rest].concat();
                    assert!(!verifies(&root, count, index, leaf, &changed));
                }
            }
        }
    }

    #[test]
    fn a_path_is_for_one_tree_and_its_number_of_leaves_alone() {
        let leaves = leaves(7);
        let roots: Vec<Hash> = (1..=7).map(|count| root(&leaves[..count]).unwrap()).collect();
        let path = path(&leaves, 2).unwrap();
        for (at, root) in roots.iter().enumerate() {
            let shown = verifies(root, 7, 2, &leaves[2], &path);
            assert_eq!(shown, at == 6);
        }
        assert!(!verifies(&roots[6], 4, 2, &leaves[2], &path));
        assert!(!verifies(&roots[6], 9, 2, &leaves[2], &path));
    }

    #[test]
    fn the_tree_is_that_of_rfc_6962() {
        let [a, b, c, d, e] = leaves(5).try_into().unwrap();
        let four = node(&node(&a, &b), &node(&c, &d));
        assert_eq!(root(&[a]), Some(a));
        assert_eq!(root(&[a, b, c]), Some(node(&node(&a, &b), &c)));
        assert_eq!(root(&[a, b, c, d, e]), Some(node(&four, &e)));
        assert_eq!(path(&[a, b, c, d, e], 4), Some(vec![four]));
        assert_eq!(path(&[a, b, c, d, e], 1), Some(vec![a, node(&c, &d), e]));
    }

    #[test]
    fn there_is_no_tree_of_nothing_and_none_of_too_much() {
        assert_eq!(root(&[]), None);
        assert_eq!(path(&leaves(3), 3), None);
        assert!(!verifies(&Hash([0; 32]), 0, 0, &Hash([0; 32]), &[]));
        let many = vec![Hash([1; 32]); LEAVES_MAX as usize];
        let full = root(&many).unwrap();
        let longest = path(&many, LEAVES_MAX - 1).unwrap();
        assert_eq!(longest.len(), PATH_MAX);
        assert!(verifies(&full, LEAVES_MAX, LEAVES_MAX - 1, &many[0], &longest));
        assert_eq!(root(&[&many[..], &many[..1]].concat()), None);
        assert!(!verifies(&full, LEAVES_MAX + 1, 0, &many[0], &longest));
    }
}

//! What a record of the state is, or that there is none, shown against the root of the state.
//!
//! The records are the leaves of a binary tree, by the bits of their keys from the highest on. A
//! subtree with at most [`BUCKET_RECORDS_MAX`] records is a bucket, the list of its keys with the
//! hashes of their values; one with more is split by the next bit. So one state has one tree and
//! one root, whatever led to it.

use borsh::{BorshDeserialize, BorshSerialize};
use soma_protocol::{Hash, Key, VALUE_BYTES_MAX};

/// The most records of a bucket.
pub const BUCKET_RECORDS_MAX: usize = 8;
/// The most levels above a bucket: the bits of a key.
const DEPTH_MAX: usize = 256;
/// What the bytes of a bucket begin with. Those of a branch are 64, and those of a bucket never.
const BUCKET: u8 = 0;
/// The root of a state without records.
pub const EMPTY: Hash = Hash([0; 32]);
/// The longest proof.
pub const PROOF_BYTES_MAX: usize = VALUE_BYTES_MAX + 32 * DEPTH_MAX + 64 * BUCKET_RECORDS_MAX + 64;

/// A key and the hash of its record.
pub type Entry = (Key, Hash);

/// The hash of a bucket of these records, in the order of their keys.
pub fn bucket_hash(entries: &[Entry]) -> Hash {
    if entries.is_empty() {
        return EMPTY;
    }
    let mut bytes = [0; 1 + 64 * BUCKET_RECORDS_MAX];
    bytes[0] = BUCKET;
    let mut end = 1;
    for (key, value) in entries.iter().take(BUCKET_RECORDS_MAX) {
        bytes[end..end + 32].copy_from_slice(&key.0);
        bytes[end + 32..end + 64].copy_from_slice(&value.0);
        end += 64;
    }
    Hash::of_bytes(&bytes[..end])
}

/// The hash of a subtree with these two halves.
pub fn branch_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&left.0);
    bytes[32..].copy_from_slice(&right.0);
    Hash::of_bytes(&bytes)
}

/// Whether a key belongs to the right half of the subtree at this depth; the root is at 0.
pub const fn is_right(key: &Key, depth: usize) -> bool {
    key.0[(depth / 8) % 32] >> (7 - depth % 8) & 1 == 1
}

/// The path from the root to where the record of a key is, or would be.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RecordProof {
    /// The record, if there is one.
    pub value: Option<Vec<u8>>,
    /// The bucket of the key, in the order of keys.
    pub bucket: Vec<Entry>,
    /// The hashes beside the path to it, from the root down.
    pub siblings: Vec<Hash>,
}

impl RecordProof {
    /// Reads a proof that is all of `bytes`; `None` if it is malformed.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > PROOF_BYTES_MAX {
            return None;
        }
        let proof: Self = borsh::from_slice(bytes).ok()?;
        let is_sorted = proof.bucket.is_sorted_by(|(first, _), (second, _)| first < second);
        (is_sorted && proof.bucket.len() <= BUCKET_RECORDS_MAX && proof.siblings.len() <= DEPTH_MAX)
            .then_some(proof)
    }

    /// Its bytes.
    #[expect(clippy::expect_used, reason = "writing to memory does not fail")]
    pub fn encode(&self) -> Vec<u8> {
        borsh::to_vec(self).expect("memory takes everything")
    }

    /// What the record of `key` is in the state with this root: `Some(None)` if there is none, and
    /// `None` if this does not show it.
    pub fn shows(&self, key: &Key, root: &Hash) -> Option<Option<&[u8]>> {
        let mut node = bucket_hash(&self.bucket);
        for (depth, sibling) in self.siblings.iter().enumerate().rev() {
            let (left, right) =
                if is_right(key, depth) { (sibling, &node) } else { (&node, sibling) };
            node = branch_hash(left, right);
        }
        if node != *root {
            return None;
        }
        let entry = self.bucket.iter().find(|(other, _)| other == key);
        match (entry, &self.value) {
            (None, None) => Some(None),
            (Some((_, hash)), Some(value)) if Hash::of_bytes(value) == *hash => Some(Some(value)),
            _ => None,
        }
    }
}

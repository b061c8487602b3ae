//! Storage proofs: in every epoch the beacon challenges each validator for one chunk of one file
//! that it is paid for. The answer is the chunk with its path in the file's BLAKE3 tree: it can be
//! checked without the file, and cannot be given without it.

use blake3::hazmat::{
    HasherExt as _, Mode, left_subtree_len, merge_subtrees_non_root, merge_subtrees_root,
};

use crate::record::{EpochRecord, Rent, Weights};
use crate::state::{Key, StateRead, load};
use crate::{Address, Epoch, Hash, ModelId, read};

/// Number of bytes in a BLAKE3 chunk.
pub const CHUNK_BYTES: u64 = 1_024;

/// Length of the longest path, that of a file of 2^64 bytes.
pub const PATH_MAX: usize = 54;

/// The chunk that a validator has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The model whose file it is.
    pub model: ModelId,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: Hash,
    /// Length of the encrypted file in bytes.
    pub size_bytes: u64,
    /// The chunk, counted from 0.
    pub chunk: u64,
}

/// The most tickets that are drawn to find a file that a validator is paid for. One that is paid
/// for one in twenty finds one with all but certainty.
const TICKETS: u32 = 256;

/// A validator's challenge in the running epoch; `None` before the beacon is drawn, and for a
/// validator that is paid for so few files that no ticket hits one.
pub fn challenge(state: &dyn StateRead, validator: &Address) -> Option<Challenge> {
    let epoch = read::clock(state).epoch;
    let record = load::<EpochRecord>(state, &Key::epoch(epoch))?;
    let architectures: Vec<u32> = read::open_architectures(state).collect();
    (0..TICKETS).find_map(|number| {
        let parts: [&[u8]; 3] = [&record.beacon.0, &validator.0, &number.to_le_bytes()];
        let ticket = Hash::of_parts("soma challenge", &parts);
        let id = read::living_model(state, place(&ticket, record.living)?)?;
        let mut files: Vec<Weights> = architectures
            .iter()
            .filter_map(|&number| paid_file(state, id, number, validator))
            .collect();
        let count = u64::try_from(files.len()).unwrap_or(u64::MAX);
        let at = word(&ticket, 1).checked_rem(count)?;
        let file = files.swap_remove(usize::try_from(at).unwrap_or(0));
        let chunks = file.size_bytes.div_ceil(CHUNK_BYTES).max(1);
        let chunk = word(&ticket, 2).checked_rem(chunks)?;
        let (ciphertext_hash, size_bytes) = (file.ciphertext_hash, file.size_bytes);
        Some(Challenge { model: id, ciphertext_hash, size_bytes, chunk })
    })
}

/// The place in the list of living models that a ticket selects.
fn place(ticket: &Hash, living: u32) -> Option<u32> {
    u32::try_from(word(ticket, 0).checked_rem(living.into())?).ok()
}

/// One of the four integers of eight bytes in a ticket.
fn word(ticket: &Hash, at: usize) -> u64 {
    let (words, _) = ticket.0.as_chunks::<8>();
    words.get(at).map_or(0, |word| u64::from_le_bytes(*word))
}

/// The file of a model that the validator is paid for.
fn paid_file(
    state: &dyn StateRead,
    id: ModelId,
    number: u32,
    validator: &Address,
) -> Option<Weights> {
    let rent: Rent = load(state, &Key::rent(id, number))?;
    let paid = rent.epochs_left > 0 && rent.prepaid.0 > 0 && rent.holders.contains(validator);
    let model = read::model(state, id).filter(|_| paid)?;
    read::weights_for(state, &model, number)
}

/// Whether a validator has answered in an epoch.
pub fn has_answered(state: &dyn StateRead, epoch: Epoch, validator: &Address) -> bool {
    read::challenge_answers(state, epoch).contains(validator)
}

/// Whether a chunk and its path answer the challenge. `path` has the sibling subtree at every
/// level, from the top down.
pub fn verifies(challenge: &Challenge, chunk: &[u8], path: &[Hash]) -> bool {
    let start = challenge.chunk.saturating_mul(CHUNK_BYTES);
    let expected = challenge.size_bytes.saturating_sub(start).min(CHUNK_BYTES);
    if u64::try_from(chunk.len()) != Ok(expected) || path.len() > PATH_MAX {
        return false;
    }
    if challenge.size_bytes <= CHUNK_BYTES {
        return path.is_empty() && Hash::of_bytes(chunk) == challenge.ciphertext_hash;
    }
    let mut tree = Tree { chunk, start, path };
    let Some((left, right)) = tree.halves(0, challenge.size_bytes) else {
        return false;
    };
    let root = merge_subtrees_root(&left, &right, Mode::Hash);
    tree.path.is_empty() && *root.as_bytes() == challenge.ciphertext_hash.0
}

struct Tree<'a> {
    chunk: &'a [u8],
    start: u64,
    path: &'a [Hash],
}

impl Tree<'_> {
    /// Chaining value of the part of the file that holds the chunk.
    fn value(&mut self, offset: u64, len: u64) -> Option<[u8; 32]> {
        if len <= CHUNK_BYTES {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(offset);
            hasher.update(self.chunk);
            return Some(hasher.finalize_non_root());
        }
        let (left, right) = self.halves(offset, len)?;
        Some(merge_subtrees_non_root(&left, &right, Mode::Hash))
    }

    fn halves(&mut self, offset: u64, len: u64) -> Option<([u8; 32], [u8; 32])> {
        let left = left_subtree_len(len);
        let middle = offset.saturating_add(left);
        let (Hash(other), rest) = self.path.split_first()?;
        self.path = rest;
        if self.start < middle {
            Some((self.value(offset, left)?, *other))
        } else {
            Some((*other, self.value(middle, len.saturating_sub(left))?))
        }
    }
}

/// The path of a chunk in a file of `size_bytes`. `subtree` returns the chaining value of the part
/// of the file at an offset and of a length: that of a `blake3::Hasher` with that input offset, not
/// finalized as a root.
///
/// # Errors
/// Those of `subtree`.
pub fn path<E>(
    size_bytes: u64,
    chunk: u64,
    mut subtree: impl FnMut(u64, u64) -> Result<[u8; 32], E>,
) -> Result<Vec<Hash>, E> {
    let start = chunk.saturating_mul(CHUNK_BYTES);
    let (mut offset, mut len) = (0_u64, size_bytes);
    let mut path = Vec::new();
    while len > CHUNK_BYTES {
        let left = left_subtree_len(len);
        let middle = offset.saturating_add(left);
        let right = len.saturating_sub(left);
        if start < middle {
            path.push(Hash(subtree(middle, right)?));
            len = left;
        } else {
            path.push(Hash(subtree(offset, left)?));
            (offset, len) = (middle, right);
        }
    }
    Ok(path)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use super::{CHUNK_BYTES, Challenge, path, verifies};
    use crate::{Hash, ModelId};
    use blake3::hazmat::HasherExt as _;
    use std::convert::Infallible;

    fn file(size: usize) -> Vec<u8> {
        (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
    }

    fn answer(file: &[u8], chunk: u64) -> (Challenge, Vec<u8>, Vec<Hash>) {
        let size_bytes = file.len() as u64;
        let challenge = Challenge {
            model: ModelId(1),
            ciphertext_hash: Hash::of_bytes(file),
            size_bytes,
            chunk,
        };
        let part = |offset: u64, len: u64| {
            &file[usize::try_from(offset).unwrap()..usize::try_from(offset + len).unwrap()]
        };
        let start = chunk * CHUNK_BYTES;
        let bytes = part(start, CHUNK_BYTES.min(size_bytes - start)).to_vec();
        let subtree = |offset, len| {
            let mut hasher = blake3::Hasher::new();
            hasher.set_input_offset(offset);
            hasher.update(part(offset, len));
            Ok::<_, Infallible>(hasher.finalize_non_root())
        };
        let path = path(size_bytes, chunk, subtree).unwrap();
        (challenge, bytes, path)
    }

    #[test]
    fn every_chunk_of_a_file_can_be_shown_and_nothing_else() {
        for size in [1, 1_023, 1_024, 1_025, 2_048, 3_000, 5_121, 16_384, 20_000] {
            let file = file(size);
            for chunk in 0..(size as u64).div_ceil(CHUNK_BYTES) {
                let (challenge, bytes, path) = answer(&file, chunk);
                assert!(verifies(&challenge, &bytes, &path), "{size} {chunk}");
                let mut wrong = bytes.clone();
                wrong[0] ^= 1;
                assert!(!verifies(&challenge, &wrong, &path));
                assert!(!verifies(&challenge, &bytes[1..], &path));
                assert!(!verifies(&challenge, &bytes, &[&path[..], &[Hash([0; 32])]].concat()));
                let other = Challenge { chunk: chunk + 1, ..challenge };
                assert!(!verifies(&other, &bytes, &path));
                if let Some((_, short)) = path.split_last() {
                    assert!(!verifies(&challenge, &bytes, short));
                }
            }
        }
    }
}

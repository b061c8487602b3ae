//! A sketch of data: a few pieces of it, chosen by their hashes alone. Data that has most of its
//! bytes from other data has most of its sketch from it, too, wherever the bytes are moved to.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of a window. Every window of data is a piece that its sketch may contain.
const WINDOW_BYTES: usize = 16;

/// The most pieces of a sketch.
pub const PIECES_MAX: usize = 16;

/// The sketch of data: the hashes of its windows of 16 bytes, the smallest [`PIECES_MAX`] of them,
/// each once, in ascending order. Shorter data is one window.
///
/// The hash of a window `b_0 .. b_15` is `mix(sum b_i * BASE^(15 - i) mod 2^64)`.
pub fn sketch(data: &[u8]) -> Vec<u64> {
    let (first, rest) = data.split_at_checked(WINDOW_BYTES).unwrap_or((data, &[]));
    let mut smallest = Vec::with_capacity(PIECES_MAX.saturating_add(1));
    let mut window = first.iter().fold(0, |window, &byte| appended(window, byte));
    keep(&mut smallest, mix(window));
    for (&enters, &leaves) in rest.iter().zip(data) {
        let left = BASE_TO_THE_WINDOW.wrapping_mul(leaves.into());
        window = appended(window, enters).wrapping_sub(left);
        keep(&mut smallest, mix(window));
    }
    smallest
}

/// How many pieces of a sketch must come from one earlier winner for it to be the same data: half.
fn repeated_min(pieces: usize) -> usize {
    pieces.div_ceil(2).max(1)
}

/// How many must come from all earlier winners together for it to be made of them: three quarters.
fn composed_min(pieces: usize) -> usize {
    pieces.saturating_mul(3).div_ceil(4).max(1)
}

/// The earlier winner that data repeats most, if it repeats what won before: half of its sketch is
/// from one earlier winner, or three quarters are from several. `pieces` has, for each piece of the
/// sketch, the earlier winners that have it. Every piece of what won is kept, so the very same
/// bytes never win again. The rules and clients call this one function.
pub fn repeated<W: Copy + Ord>(
    pieces: impl IntoIterator<Item: IntoIterator<Item = W>>,
) -> Option<W> {
    let (mut all, mut known) = (0_usize, 0_usize);
    let mut shares: BTreeMap<W, usize> = BTreeMap::new();
    for winners in pieces {
        let winners: BTreeSet<W> = winners.into_iter().collect();
        all = all.saturating_add(1);
        known = known.saturating_add(usize::from(!winners.is_empty()));
        for winner in winners {
            let share = shares.entry(winner).or_default();
            *share = share.saturating_add(1);
        }
    }
    let most = shares.into_iter().max_by_key(|&(winner, share)| (share, Reverse(winner)));
    let (winner, share) = most?;
    (share >= repeated_min(all) || known >= composed_min(all)).then_some(winner)
}

/// An odd multiplier without structure: the fraction of the golden ratio.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;

/// `BASE^WINDOW_BYTES`: what a byte counts that leaves the window.
const BASE_TO_THE_WINDOW: u64 = {
    let (mut power, mut exponent) = (1_u64, WINDOW_BYTES);
    while let Some(smaller) = exponent.checked_sub(1) {
        power = power.wrapping_mul(BASE);
        exponent = smaller;
    }
    power
};

fn appended(window: u64, byte: u8) -> u64 {
    window.wrapping_mul(BASE).wrapping_add(byte.into())
}

/// Spreads a sum over all bits: the finalizer of `SplitMix64`, which maps no two sums to one hash.
fn mix(sum: u64) -> u64 {
    let sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    sum ^ (sum >> 31)
}

/// Adds a hash to the smallest so far, which are in order.
fn keep(smallest: &mut Vec<u64>, hash: u64) {
    let is_full = smallest.len() == PIECES_MAX;
    if is_full && smallest.last().is_some_and(|&largest| hash >= largest) {
        return;
    }
    if let Err(at) = smallest.binary_search(&hash) {
        smallest.insert(at, hash);
        smallest.truncate(PIECES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes without repetition, different for each seed.
    fn text(seed: u8, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
        bytes
    }

    /// The definition, window by window.
    fn naive(data: &[u8]) -> Vec<u64> {
        let hash = |window: &[u8]| {
            let sum = window
                .iter()
                .fold(0_u64, |sum, &byte| sum.wrapping_mul(BASE).wrapping_add(u64::from(byte)));
            mix(sum)
        };
        let mut hashes: Vec<u64> = data.windows(WINDOW_BYTES.min(data.len())).map(hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(PIECES_MAX);
        hashes
    }

    fn shared(a: &[u8], b: &[u8]) -> usize {
        let b = sketch(b);
        sketch(a).iter().filter(|piece| b.contains(piece)).count()
    }

    #[test]
    fn a_sketch_has_the_smallest_hashes_of_all_windows() {
        for length in [1, 15, 16, 17, 31, 40, 500, 5_000] {
            for data in [text(1, length), vec![0; length], b"ab".repeat(length)] {
                assert_eq!(sketch(&data), naive(&data), "{length}");
            }
        }
        assert_eq!(sketch(&[0; 1_000]).len(), 1);
    }

    #[test]
    fn most_of_a_sketch_survives_changes_moves_and_cuts_and_nothing_is_shared_by_chance() {
        let data = text(1, 60_000);
        let mut changed = data.clone();
        changed[30_000] ^= 1;
        assert!(shared(&data, &changed) >= 15);
        for cut in [1, 7_000, 31_234, 59_999] {
            let rotated = [&data[cut..], &data[..cut]].concat();
            assert!(shared(&data, &rotated) >= 15, "{cut}");
        }
        for part in [&data[15_000..], &data[..45_000]] {
            assert!(shared(&data, part) >= repeated_min(PIECES_MAX));
        }
        assert_eq!(shared(&data, &text(2, 60_000)), 0);
    }

    #[test]
    fn half_of_a_sketch_is_enough_and_never_nothing() {
        let needed: Vec<usize> = [0, 1, 2, 3, 15, 16].map(repeated_min).to_vec();
        assert_eq!(needed, [1, 1, 1, 2, 8, 8]);
        let needed: Vec<usize> = [0, 1, 2, 3, 15, 16].map(composed_min).to_vec();
        assert_eq!(needed, [1, 1, 2, 3, 12, 12]);
    }

    #[test]
    fn what_is_made_of_several_winners_repeats_the_one_that_it_has_most_of() {
        let from = |winners: &[u32]| -> Option<u32> {
            let known = winners.iter().map(|winner| vec![*winner]);
            let pieces: Vec<Vec<u32>> = known.chain(std::iter::repeat(vec![])).take(16).collect();
            repeated(pieces)
        };
        assert_eq!(from(&[3; 8]), Some(3));
        assert_eq!(from(&[3; 7]), None);
        assert_eq!(from(&[5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3]), None);
        assert_eq!(from(&[5, 5, 5, 5, 4, 4, 4, 4, 3, 3, 3, 2]), Some(4));
        assert_eq!(from(&(0..16).collect::<Vec<_>>()), Some(0));
        assert_eq!(repeated::<u32>(Vec::<Vec<u32>>::new()), None);
        assert_eq!(repeated([vec![1, 1, 2], vec![2], vec![], vec![]]), Some(2));
    }
}

//! Proofs of what records are, for whoever has only the root.

use std::sync::Arc;

use proptest::prelude::*;
use soma_proof::{EMPTY, RecordProof};
use soma_protocol::{Changes, Hash, Key, MemoryState, Outcome, StateRead as _};
use soma_store::Tree;

/// Writes of one block: numbers of keys, and the length of the value, if it is not deleted.
type Writes = Vec<(u8, Option<usize>)>;

/// Keys in all parts of the tree, and some that are alike in all bits but the last ones.
fn key(number: u8) -> Key {
    if number >= 240 {
        let mut bytes = [0x5a; 32];
        bytes[31] = number;
        return Key(bytes);
    }
    Key(Hash::of_bytes(&[number]).0)
}

fn changes(height: usize, writes: &Writes) -> Changes {
    let mut changes = Changes::default();
    for (number, length) in writes {
        let byte = u8::try_from(height % 251).unwrap_or_default();
        changes.0.insert(key(*number), length.map(|length| Arc::from(vec![byte; length])));
    }
    changes
}

/// The state and its tree after each block.
fn states(blocks: &[Writes]) -> Vec<(MemoryState, Tree)> {
    let (mut memory, mut tree) = (MemoryState::default(), Tree::default());
    let mut states = Vec::new();
    for (height, writes) in blocks.iter().enumerate() {
        let changes = changes(height, writes);
        memory.apply(&changes);
        tree = tree.after(&changes);
        states.push((memory.clone(), tree.clone()));
    }
    states
}

fn blocks() -> impl Strategy<Value = Vec<Writes>> {
    let length = prop_oneof![2 => (0..200_usize).prop_map(Some), 1 => Just(None)];
    let writes = prop::collection::vec((any::<u8>(), length), 0..160);
    prop::collection::vec(writes, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn every_record_and_every_absence_is_shown_against_the_root_and_nothing_else_is(
        blocks in blocks(), pick in any::<prop::sample::Index>(),
    ) {
        let states = states(&blocks);
        let other = states[pick.index(states.len())].1.root();
        for (memory, tree) in &states {
            let root = tree.root();
            prop_assert_eq!(root, Tree::of(memory).root(), "one state has one root");
            for number in 0..=255 {
                let key = key(number);
                let proof = tree.prove(memory, &key);
                let bytes = proof.encode();
                let read = RecordProof::decode(&bytes).unwrap();
                let value = memory.get(&key);
                prop_assert_eq!(read.shows(&key, &root), Some(value.as_deref()));
                if other != root {
                    prop_assert_eq!(read.shows(&key, &other), None);
                }
            }
        }
    }
}

#[test]
fn a_changed_or_cut_proof_shows_nothing() {
    let blocks: Vec<Writes> =
        (0..3).map(|_| (0..=255).step_by(2).map(|number| (number, Some(60))).collect()).collect();
    let states = states(&blocks);
    let (memory, tree) = states.last().unwrap();
    let root = tree.root();
    for asked in [key(2), key(3), key(244), key(245)] {
        let bytes = tree.prove(memory, &asked).encode();
        for at in 0..bytes.len() {
            assert!(RecordProof::decode(&bytes[..at]).is_none(), "cut at {at}");
            for bit in [1, 0x80] {
                let mut changed = bytes.clone();
                changed[at] ^= bit;
                let Some(changed) = RecordProof::decode(&changed) else { continue };
                assert_eq!(changed.shows(&asked, &root), None, "changed at {at}");
            }
        }
    }
}

#[test]
fn a_proof_of_one_key_shows_nothing_of_another_part_of_the_tree() {
    let blocks: Vec<Writes> = vec![(0..=255).map(|number| (number, Some(9))).collect()];
    let states = states(&blocks);
    let (memory, tree) = states.last().unwrap();
    let root = tree.root();
    for number in 0..=255 {
        let proof = tree.prove(memory, &key(number));
        for other in 0..=255 {
            let is_near = proof.bucket.iter().any(|(near, _)| *near == key(other));
            if number != other {
                // Whoever asks for a neighbor in the bucket gets no value that is not its own.
                let (shown, value) = (proof.shows(&key(other), &root), memory.get(&key(other)));
                assert!(shown.is_none() || is_near && shown == Some(value.as_deref()));
            }
        }
    }
}

#[test]
fn a_state_without_records_has_the_empty_root_and_shows_that_there_is_nothing() {
    let (memory, tree) = (MemoryState::default(), Tree::default());
    assert_eq!(tree.root(), EMPTY);
    assert_eq!(tree.prove(&memory, &key(1)).shows(&key(1), &EMPTY), Some(None));
    let filled = tree.after(&changes(1, &vec![(1, Some(3)), (2, Some(4))]));
    let emptied = filled.after(&changes(2, &vec![(1, None), (2, None)]));
    assert_eq!(emptied.root(), EMPTY);
}

#[test]
fn a_tree_that_a_thread_computes_is_the_same() {
    let mut changes = Changes::default();
    for number in 0..5_000_u64 {
        let key = Key(Hash::of_bytes(&number.to_le_bytes()).0);
        changes.0.insert(key, Some(Arc::from(number.to_le_bytes())));
    }
    let (outcome, mut memory) =
        (Arc::new(Outcome { changes, ..Outcome::default() }), MemoryState::default());
    memory.apply(&outcome.changes);
    assert_eq!(Tree::default().grow(&outcome).done().root(), Tree::of(&memory).root());
}

//! How long the roots of a block take that changes many records of a large state: that of the log,
//! and that of the tree over all records; how much memory the tree takes, and what a proof.
//!
//! `cargo bench -p soma-store --bench merkleize -- --records 1000000 --changes 20000`
#![recursion_limit = "256"]
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it measures and prints; a failure ends it"
)]

use std::{sync::Arc, time::Instant};

use commonware_glue::stateful::db::DatabaseSet;
use commonware_runtime::{
    Runner as _, Supervisor as _,
    buffer::paged::CacheRef,
    tokio::{Config, Context, Runner},
};
use commonware_utils::{NZU16, NZUsize};
use soma_protocol::{Changes, Hash, Key, MemoryState};
use soma_store::Tree;
use soma_store::database::{Databases, config, merkleize};

/// Records that are written at once while the state is made.
const PART: u64 = 50_000;
/// Bytes of a record.
const RECORD_BYTES: usize = 120;
/// Blocks that are measured.
const BLOCKS: u64 = 10;

fn argument(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name).skip(1);
    arguments.next().map_or(default, |number| number.parse().unwrap())
}

/// Changes of the records with these numbers.
fn changes(numbers: impl Iterator<Item = u64>, version: u64) -> Changes {
    let mut changes = Changes::default();
    for number in numbers {
        let key = Hash::of_parts("bench", &[&number.to_le_bytes()]);
        let mut value = vec![0; RECORD_BYTES];
        value[..8].copy_from_slice(&version.to_le_bytes());
        changes.0.insert(Key(key.0), Some(Arc::from(value)));
    }
    changes
}

/// Memory of this process, in MiB.
fn memory_mib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    (resident.unwrap_or(0) * 4_096) >> 20
}

/// The state that the database has, and its tree; prints what both take.
fn in_memory(records: u64) -> (MemoryState, Tree) {
    let mut state = MemoryState::default();
    let before = memory_mib();
    // In parts: what is freed in between would be the tree's.
    for first in (0..records).step_by(1_000) {
        state.apply(&changes(first..(first + 1_000).min(records), 0));
    }
    let with_state = memory_mib();
    let begun = Instant::now();
    let tree = Tree::of(&state);
    let (made, with_tree) = (begun.elapsed(), memory_mib());
    println!(
        "the state takes {} MiB, its tree {} MiB and {made:.1?}",
        with_state - before,
        with_tree - with_state
    );
    (state, tree)
}

/// Prints what a proof takes.
fn proof(state: &MemoryState, tree: &Tree, key: &Key) {
    let begun = Instant::now();
    let proof = tree.prove(state, key);
    let made = begun.elapsed();
    let begun = Instant::now();
    let shown = proof.shows(key, &tree.root()).is_some();
    let (bytes, levels, read) = (proof.encode().len(), proof.siblings.len(), begun.elapsed());
    println!(
        "proof: {bytes} bytes, {levels} levels, made in {made:.1?}, read in {read:.1?}, {shown}"
    );
}

fn main() {
    let (records, count) = (argument("--records", 1_000_000), argument("--changes", 20_000));
    let dir = tempfile::tempdir().unwrap();
    let runner = Runner::new(Config::new().with_storage_directory(dir.path()));
    runner.start(async |context| {
        let cache = CacheRef::new(NZU16!(4_084), NZUsize!(2_048));
        let databases = <Databases<Context> as DatabaseSet<Context>>::init(
            context.child("database"),
            config("bench", cache),
            None,
        )
        .await;
        let mut height = 0;
        let begun = Instant::now();
        for first in (0..records).step_by(usize::try_from(PART).unwrap()) {
            height += 1;
            let changes = changes(first..(first + PART).min(records), height);
            let batch = DatabaseSet::<Context>::new_batches(&databases).await;
            let merkleized = merkleize::<Context>(batch, height, &changes).await.unwrap();
            DatabaseSet::<Context>::apply(&databases, merkleized).await;
            assert!(DatabaseSet::<Context>::finalize(&databases).await.durable().await);
        }
        println!("{records} records made in {:.1} s", begun.elapsed().as_secs_f64());
        let (mut state, mut tree) = in_memory(records);
        for block in 0..BLOCKS {
            height += 1;
            // Records from all over the state.
            let numbers = (0..count).map(|at| (at * (records / count) + block * 7) % records);
            let changes = changes(numbers, height);
            let begun = Instant::now();
            tree = tree.after(&changes);
            println!("{count} changes: tree {:.1?}", begun.elapsed());
            state.apply(&changes);
            let begun = Instant::now();
            let batch = DatabaseSet::<Context>::new_batches(&databases).await;
            let merkleized = merkleize::<Context>(batch, height, &changes).await.unwrap();
            let root = begun.elapsed();
            DatabaseSet::<Context>::apply(&databases, merkleized).await;
            assert!(DatabaseSet::<Context>::finalize(&databases).await.durable().await);
            let durable = begun.elapsed();
            println!("{count} changes: log {root:.1?}, on disk {durable:.1?}");
        }
        for number in 0..3 {
            let key = Hash::of_parts("bench", &[&u64::to_le_bytes(number)]);
            proof(&state, &tree, &Key(key.0));
            proof(&state, &tree, &Key([u8::try_from(number).unwrap(); 32]));
        }
    });
}

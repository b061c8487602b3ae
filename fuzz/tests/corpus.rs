//! Replays the corpus: every input that once reached new code, and every one that once failed.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap fails the test, and the last path printed names the input"
)]

use std::path::{Path, PathBuf};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn replay(target: &str) {
    let (_, check) = soma_fuzz::TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let mut inputs = 0;
    for entry in std::fs::read_dir(corpus().join(target)).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        check(&std::fs::read(path).unwrap());
        inputs += 1;
    }
    assert!(inputs > 0, "the corpus of {target} is empty");
}

#[test]
fn transactions_and_batches_have_one_encoding() {
    replay("transactions");
}

#[test]
fn blocks_have_one_encoding() {
    replay("blocks");
}

#[test]
fn the_rules_keep_their_invariants_whatever_the_actions() {
    replay("rules");
}

#[test]
fn a_node_survives_every_request() {
    replay("api");
}

#[test]
fn every_folder_of_the_corpus_belongs_to_a_target() {
    for entry in std::fs::read_dir(corpus()).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(soma_fuzz::TARGETS.iter().any(|(target, _)| name == *target));
    }
}

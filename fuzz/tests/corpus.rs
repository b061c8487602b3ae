//! Replays the corpus: every input that once reached new code, and every one that once failed.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap fails the test, and the last path printed names the input"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use borsh::BorshDeserialize as _;
use soma_protocol::{Action, Amount, Hash, SecretKey, SignedTransaction, Transaction};

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

/// The shortest recorded action of each kind: its name and its bytes.
fn actions() -> BTreeMap<String, Vec<u8>> {
    let mut actions = BTreeMap::<String, Vec<u8>>::new();
    for line in include_str!("../../crates/protocol/tests/rules/actions.jsonl").lines() {
        let recorded: serde_json::Value = serde_json::from_str(line).unwrap();
        let bytes = soma_protocol::hex::decode(recorded["bytes"].as_str().unwrap()).unwrap();
        let name = recorded["json"]["action"].as_str().unwrap().to_owned();
        let shortest = actions.entry(name).or_insert_with(|| bytes.clone());
        if bytes.len() < shortest.len() {
            *shortest = bytes;
        }
    }
    actions
}

/// A transaction with this action.
fn signed(action: &[u8]) -> SignedTransaction {
    let key = SecretKey::from_bytes(&[7; 32]);
    let transaction = Transaction {
        chain: Hash([9; 32]),
        sender: key.address(),
        nonce: 1,
        tip: Amount(2),
        fee_limit: Amount(3),
        valid_until_ms: 4,
        action: Action::try_from_slice(action).unwrap(),
    };
    transaction.sign(&key)
}

/// An input is in the corpus as it is encoded now. `UPDATE=1` replaces it.
fn has(target: &str, name: &str, input: &[u8]) {
    let path = corpus().join(target).join(name);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, input).unwrap();
    }
    let found = std::fs::read(&path).unwrap_or_default();
    assert!(found == input, "{}: UPDATE=1 replaces it", path.display());
}

/// Inputs in the encoding of an older format are refused at their first bytes and test nothing: one
/// of each kind is replaced whenever the format changes.
#[test]
fn the_corpus_has_each_action_in_the_present_format() {
    let actions = actions();
    for (name, bytes) in &actions {
        has("transactions", &format!("of_{name}"), signed(bytes).bytes());
        // The validator acts, a millisecond later.
        has("rules", &format!("of_{name}"), &[&[16][..], bytes].concat());
    }
    let all = actions.values().map(|bytes| signed(bytes));
    let short: Vec<_> = all.filter(|tx| tx.bytes().len() < 400).collect();
    for (name, count) in [("of_nothing", 0), ("of_one", 1), ("of_many", short.len())] {
        let block = soma_engine::sample_block(short[..count].to_vec());
        assert!(soma_engine::recode_block(&block).is_some());
        has("blocks", name, &block);
    }
}

//! Replays the corpus: every input that once reached new code, and every one that once failed.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed unwrap fails the test, and the last path printed names the input"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use borsh::BorshDeserialize as _;
use soma_protocol::{Action, Amount, Hash, SecretKey, Transaction};

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

/// Inputs in the encoding of an older format are refused at their first bytes and test nothing: one
/// of each kind is replaced whenever the format changes (`UPDATE=1`).
#[test]
fn the_corpus_has_a_transaction_with_each_action_in_the_present_format() {
    let key = SecretKey::from_bytes(&[7; 32]);
    for (name, bytes) in actions() {
        let action = Action::try_from_slice(&bytes).unwrap();
        let transaction = Transaction {
            chain: Hash([9; 32]),
            sender: key.address(),
            nonce: 1,
            tip: Amount(2),
            fee_limit: Amount(3),
            valid_until_ms: 4,
            action,
        };
        // The validator acts, a millisecond later.
        let rules = [&[16][..], &bytes].concat();
        let inputs = [("transactions", transaction.sign(&key).bytes().to_vec()), ("rules", rules)];
        for (target, input) in inputs {
            let path = corpus().join(target).join(format!("of_{name}"));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::write(&path, &input).unwrap();
            }
            let found = std::fs::read(&path).unwrap_or_default();
            assert!(found == input, "{}: UPDATE=1 replaces it", path.display());
        }
    }
}

#[test]
fn most_blocks_of_the_corpus_decode_in_the_present_format() {
    let inputs = std::fs::read_dir(corpus().join("blocks")).unwrap();
    let inputs: Vec<_> =
        inputs.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    let decoded = inputs.iter().filter(|input| soma_engine::recode_block(input).is_some());
    let (decoded, all) = (decoded.count(), inputs.len());
    println!("{decoded} of {all}");
    assert!(decoded * 4 >= all, "{decoded} of {all}");
}

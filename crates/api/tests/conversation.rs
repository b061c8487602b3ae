//! Questions to a node of a small chain, carried by hand.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_zebra::SigningKey;
use serde_json::{Value, json};
use soma_api::conversation::{Conversation, ConversationError, Question, Turn};
use soma_api::routes;
use soma_api::unproved::{Unproved, VerifyError};
use soma_api::verifier::{Checkpoint, Verifier, read_genesis};
use soma_codes::{Code, Coded as _};
use soma_os::clock::now_ms;
use soma_proof::{RecordProof, TERM_BLOCKS, Voter, bucket_hash, digest_of};
use soma_protocol::{
    Address, Amount, Architecture, ConsensusKey, Genesis, GenesisValidator, Hash, Key, ModelId,
    Params, evidence, hex,
};

const URL: &str = "http://node";
/// The height at which it begins.
const THIRD_TERM: u64 = 2 * TERM_BLOCKS;

/// A chain with one validator, whose state is what every state has.
struct Chain {
    genesis: Genesis,
    key: SigningKey,
    records: Vec<(Key, Vec<u8>)>,
}

impl Chain {
    fn new(name: &str) -> Self {
        let key = SigningKey::from_bytes(&[7; 32]);
        let consensus_key = ConsensusKey(key.verification_key().into());
        let validator = GenesisValidator {
            address: Address([1; 32]),
            consensus_key,
            stake: Amount::soma(1_000),
            endpoints: soma_protocol::Endpoints::default(),
        };
        let genesis = Genesis {
            chain: name.to_owned(),
            timestamp_ms: 1,
            params: Params::local(),
            architecture: Architecture::nano(),
            accounts: Vec::new(),
            validators: vec![validator],
            models: Vec::new(),
            operator: None,
        };
        let state = genesis.state().unwrap();
        let every = [Key::network(), Key::params(), Key::clock(), Key::supply(), Key::rules()];
        let record = |key: Key| (key, state.0[&key].as_ref().unwrap().to_vec());
        let mut records: Vec<_> = every.into_iter().map(record).collect();
        records.sort_unstable();
        Self { genesis, key, records }
    }

    fn id(&self) -> Hash {
        self.genesis.chain_id()
    }

    fn voter(&self) -> Voter {
        let GenesisValidator { consensus_key, address, .. } = self.genesis.validators[0];
        Voter { consensus_key, validator: address }
    }

    /// The header of the block at this height, and its certificate.
    fn block(&self, height: u64) -> (Vec<u8>, Vec<u8>) {
        let entries: Vec<_> =
            self.records.iter().map(|(key, value)| (*key, Hash::of_bytes(value))).collect();
        let (term, view) = (height / TERM_BLOCKS, height);
        let header = [
            &leb128(term)[..],
            &leb128(view),
            &self.voter().consensus_key.0,
            &leb128(view - 1),
            &[0; 32],
            &[0; 32],
            &leb128(height),
            &now_ms().to_be_bytes(),
            &self.voter().validator.0,
            &bucket_hash(&entries).0,
            &[0; 32],
            &leb128(0),
            &leb128(1),
            &digest_of(&[self.voter()]).0,
            &1_u16.to_be_bytes(),
            &[0; 32],
        ]
        .concat();
        let (parent, block) = (view - 1, Hash::of_bytes(&header));
        let ballot = evidence::Ballot::Finalize { parent, block };
        let bytes = evidence::signed_bytes(&self.id(), term, view, &ballot);
        let signature = self.key.sign(&bytes).to_bytes();
        let certificate = [
            &leb128(term)[..],
            &leb128(view),
            &leb128(parent),
            &block.0,
            &1_u64.to_be_bytes(),
            &[1],
            &leb128(1),
            &signature,
        ]
        .concat();
        (header, certificate)
    }

    /// The end of the second term, after which nothing of the first one counts.
    fn handover(&self) -> Value {
        let (header, certificate) = self.block(THIRD_TERM - 1);
        let voter = self.voter();
        let voters = [&[1][..], &voter.consensus_key.0, &voter.validator.0].concat();
        json!({ "handovers": [hex::encode(&[header, certificate, voters].concat())] })
    }

    /// What a node says whose last block is at this height.
    fn says(&self, height: u64, path: &str) -> Value {
        if path == routes::GENESIS {
            return serde_json::to_value(&self.genesis).unwrap();
        }
        if path.starts_with(routes::HANDOVERS) {
            let is_known = path.ends_with("?after=1") || height < THIRD_TERM;
            return if is_known { json!({ "handovers": [] }) } else { self.handover() };
        }
        let keys = path.strip_prefix(routes::PROOF).unwrap().strip_prefix("?keys=").unwrap();
        let bucket = || {
            let entry = |(key, value): &(Key, Vec<u8>)| (*key, Hash::of_bytes(value));
            self.records.iter().map(entry).collect()
        };
        let proof = |key: &str| {
            let found = self.records.iter().find(|(own, _)| hex::encode(&own.0) == key);
            let value = found.map(|(_, value)| value.clone());
            hex::encode(&RecordProof { value, bucket: bucket(), siblings: vec![] }.encode())
        };
        let records: Vec<_> = keys.split(',').map(proof).collect();
        let (header, certificate) = self.block(height);
        let [header, certificate] = [header, certificate].map(|bytes| hex::encode(&bytes));
        json!({ "height": height.to_string(), "header": header, "certificate": certificate,
            "records": records })
    }

    /// Asks this chain's node, and returns the answer and the paths that were asked for.
    fn ask(
        &self,
        verifier: &Arc<Verifier>,
        height: u64,
        question: Question,
    ) -> (Result<Value, ConversationError>, Vec<String>) {
        let mut paths = Vec::new();
        let mut turn = Conversation::begin(URL, Arc::clone(verifier), question);
        loop {
            match turn {
                Ok(Turn::Ask(path, waiting)) => {
                    turn = waiting.hear(Some(self.says(height, &path).to_string().into_bytes()));
                    paths.push(path);
                }
                Ok(Turn::Answer(answer)) => {
                    return (Ok(serde_json::from_str(&answer).unwrap()), paths);
                }
                Err(error) => return (Err(error), paths),
            }
        }
    }
}

fn leb128(number: u64) -> Vec<u8> {
    assert!(number < 1 << 14);
    match number {
        0..0x80 => vec![number.to_le_bytes()[0]],
        _ => vec![(number & 0x7f | 0x80).to_le_bytes()[0], (number >> 7).to_le_bytes()[0]],
    }
}

fn begin(verifier: &Arc<Verifier>) -> (String, Conversation) {
    waits(Conversation::begin(URL, Arc::clone(verifier), Question::Params))
}

fn waits(turn: Result<Turn, ConversationError>) -> (String, Conversation) {
    match turn.unwrap() {
        Turn::Ask(path, waiting) => (path, waiting),
        Turn::Answer(answer) => panic!("it is answered already: {answer}"),
    }
}

fn reason(error: ConversationError) -> Unproved {
    match error {
        ConversationError::Verify(VerifyError::Unproved { url, reason }) => {
            assert_eq!(url, URL);
            reason
        }
        error => panic!("{error}"),
    }
}

#[test]
fn whoever_carries_a_question_gets_what_the_records_say() {
    let chain = Chain::new("carried");
    let verifier = Arc::new(Verifier::new(chain.id()));
    let (answer, paths) = chain.ask(&verifier, 1, Question::Params);
    assert_eq!(answer.unwrap(), serde_json::to_value(Params::local()).unwrap());
    let routes: Vec<_> = paths.iter().map(|path| path.split('?').next().unwrap()).collect();
    assert_eq!(routes, [routes::PROOF, routes::GENESIS, routes::HANDOVERS]);
    let (answer, paths) = chain.ask(&verifier, 2, Question::Architecture);
    assert_eq!(answer.unwrap(), serde_json::to_value(Architecture::nano()).unwrap());
    assert_eq!(paths.len(), 1, "{paths:?}");
    let missing = chain.ask(&verifier, 2, Question::Model(ModelId(1))).0.unwrap_err();
    let ConversationError::Verify(missing) = missing else { panic!("{missing}") };
    assert_eq!(missing.code(), Code::ModelNotFound);
    assert_eq!(missing.to_string(), "there is nothing at /v1/models/1");
}

#[test]
fn several_questions_at_once_follow_the_same_handovers() {
    let (chain, height) = (Chain::new("many"), THIRD_TERM + 2);
    let verifier = Arc::new(Verifier::new(chain.id()));
    let mut questions = [begin(&verifier), begin(&verifier)];
    let said = |path: &str| Some(chain.says(height, path).to_string().into_bytes());
    for route in [routes::PROOF, routes::GENESIS] {
        questions = questions.map(|(path, waiting)| {
            assert!(path.starts_with(route), "{path}");
            waits(waiting.hear(said(&path)))
        });
    }
    for (path, waiting) in questions {
        assert_eq!(path, routes::HANDOVERS);
        assert!(matches!(waiting.hear(said(&path)), Ok(Turn::Answer(_))));
    }
    let (answer, paths) = chain.ask(&verifier, height + 1, Question::Params);
    assert!(answer.is_ok() && paths.len() == 1, "{paths:?}");
    // A committee of before has nothing at stake.
    let old = chain.ask(&verifier, 3, Question::Params).0.unwrap_err();
    assert_eq!(reason(old), Unproved::Block { height: 3 });
}

#[test]
fn what_a_node_says_is_missing_is_not_missing() {
    let chain = Chain::new("withheld");
    let verifier = Arc::new(Verifier::new(chain.id()));
    let (_, waiting) = begin(&verifier);
    let error = waiting.hear(None).unwrap_err();
    assert_eq!(reason(error), Unproved::Withheld);
    for said in ["", "{}", "[]", "<html>"] {
        let (_, waiting) = begin(&verifier);
        let error = waiting.hear(Some(said.as_bytes().to_vec())).unwrap_err();
        assert!(matches!(error, ConversationError::Malformed { .. }), "{error}");
    }
}

#[test]
fn a_node_of_another_chain_is_named() {
    let chain = Chain::new("that");
    let verifier = Arc::new(Verifier::new(Chain::new("this").id()));
    let error = chain.ask(&verifier, 1, Question::Params).0.unwrap_err();
    let ConversationError::Verify(error) = error else { panic!("{error}") };
    assert_eq!(error.code(), Code::OtherChain);
    assert!(error.to_string().starts_with(&format!("{URL} is a node of chain {}", chain.id())));
}

#[test]
fn a_verifier_begins_with_a_checkpoint_and_believes_no_committee_of_before() {
    let (chain, folder) = (Chain::new("checkpoint"), tempfile::tempdir().unwrap());
    let file = folder.path().join("checkpoint");
    let verifier = Arc::new(Verifier::new(chain.id()));
    assert!(!verifier.save(&file).unwrap());
    chain.ask(&verifier, THIRD_TERM + 2, Question::Params).0.unwrap();
    assert!(verifier.save(&file).unwrap());

    let checkpoint = || Checkpoint::read(&file).unwrap();
    assert_eq!(checkpoint().chain(), chain.id());
    let second = Arc::new(Verifier::new(chain.id()));
    second.begin_at(checkpoint()).unwrap();
    let old = chain.ask(&second, 3, Question::Params).0.unwrap_err();
    assert_eq!(reason(old), Unproved::Block { height: 3 });
    let (answer, paths) = chain.ask(&second, THIRD_TERM + 3, Question::Params);
    answer.unwrap();
    assert!(paths.iter().all(|path| path != routes::GENESIS), "{paths:?}");

    // Neither the genesis nor an earlier checkpoint takes back what was verified.
    let early = folder.path().join("early");
    let beginner = Verifier::new(chain.id());
    beginner.begin(&chain.genesis).unwrap();
    assert!(beginner.save(&early).unwrap());
    second.begin(&chain.genesis).unwrap();
    second.begin_at(Checkpoint::read(&early).unwrap()).unwrap();
    let old = chain.ask(&second, 3, Question::Params).0.unwrap_err();
    assert_eq!(reason(old), Unproved::Block { height: 3 });
    // A later one counts, also for what is kept.
    let kept = folder.path().join("kept");
    let third = Verifier::kept(chain.id(), kept.clone()).unwrap();
    third.begin(&chain.genesis).unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), std::fs::read(&early).unwrap());
    third.begin_at(checkpoint()).unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), std::fs::read(&file).unwrap());
}

#[test]
fn a_checkpoint_or_genesis_of_another_chain_or_none_is_refused() {
    let (chain, folder) = (Chain::new("this"), tempfile::tempdir().unwrap());
    let file = folder.path().join("checkpoint");
    let verifier = Verifier::new(chain.id());
    verifier.begin(&chain.genesis).unwrap();
    assert!(verifier.save(&file).unwrap());
    let other = Verifier::new(Chain::new("that").id());
    let error = other.begin_at(Checkpoint::read(&file).unwrap()).unwrap_err();
    assert!(matches!(error, VerifyError::CheckpointOfOtherChain { .. }), "{error}");
    assert_eq!(error.code(), Code::BadCheckpoint);
    let error = other.begin(&chain.genesis).unwrap_err();
    assert_eq!(error.code(), Code::InvalidGenesis, "{error}");
    for content in [&b""[..], b"00", b"text", b"\xff\xfe\x00"] {
        std::fs::write(&file, content).unwrap();
        let error = Checkpoint::read(&file).unwrap_err();
        assert!(matches!(error, VerifyError::NotACheckpoint { .. }), "{error}");
        assert_eq!(read_genesis(&file).unwrap_err().code(), Code::InvalidGenesis);
    }
    let nothing = Path::new("/nothing/here");
    assert_eq!(Checkpoint::read(nothing).unwrap_err().code(), Code::FileNotFound);
    assert_eq!(read_genesis(nothing).unwrap_err().code(), Code::FileNotFound);
}

#[test]
fn a_block_of_another_time_is_refused() {
    let chain = Chain::new("time");
    let verifier = Arc::new(Verifier::new(chain.id()).with_age_max(Duration::ZERO));
    let (path, waiting) = begin(&verifier);
    let said = chain.says(1, &path).to_string().into_bytes();
    std::thread::sleep(Duration::from_millis(5));
    let (path, waiting) = waits(waiting.hear(Some(said)));
    let (_, waiting) = waits(waiting.hear(Some(chain.says(1, &path).to_string().into_bytes())));
    let error = waiting.hear(Some(b"{\"handovers\":[]}".to_vec())).unwrap_err();
    assert!(matches!(reason(error), Unproved::Time { height: 1, ahead: false, .. }));
}

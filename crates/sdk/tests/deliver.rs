//! Delivery of the spool, against a server on this machine in place of a node: ready obligations
//! are sent, settled ones are removed, and all others are kept.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod answers;

use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use soma_codes::Coded as _;
use soma_sdk::api::routes;
use soma_sdk::obligation::{Obligation, Publication};
use soma_sdk::protocol::{
    Action, Epoch, Hash, Params, SecretKey, SignedTransaction, TargetId, action,
};
use soma_sdk::spool::Outcome;
use soma_sdk::{Secret, Sender, Spool};

const CHAIN: Hash = Hash([7; 32]);

/// The answers of a node, and what it receives.
#[derive(Clone)]
struct Node {
    phase: &'static str,
    target_status: &'static str,
    rejection: Value,
    refuses: bool,
    sent: Vec<SignedTransaction>,
}

type Shared = Arc<Mutex<Node>>;

/// A folder that only this user can use, as a spool must be.
fn private_folder() -> std::io::Result<tempfile::TempDir> {
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    tempfile::Builder::new().permissions(mode).tempdir()
}

fn key() -> SecretKey {
    SecretKey::from_bytes(&[1; 32])
}

fn publication(owner: &SecretKey) -> Publication {
    Publication {
        chain: CHAIN,
        submitter: owner.address(),
        target: TargetId(9),
        epoch: Epoch(7),
        salt: Secret::from_bytes([4; 32]),
        index: 0,
        leaf_salt: Secret::from_bytes([3; 32]),
        path: Vec::new(),
        data: b"data".to_vec(),
    }
}

async fn status(State(node): State<Shared>) -> Json<Value> {
    let phase = node.lock().unwrap().phase;
    let clock = json!({ "epoch": 8, "phase": phase, "ends_ms": null, "beacon": null });
    Json(answers::status(json!({ "chain_id": CHAIN.to_string(), "clock": clock })))
}

async fn target(State(node): State<Shared>) -> Json<Value> {
    let candidate = json!({
        "rank": 0, "submitter": key().address().to_string(), "model": 1, "loss_q32": "-5",
        "gain_q32": "7", "corpus_root": Hash::default().to_string(), "corpus_leaves": 1,
        "distance": "6", "size_bytes": 4, "bond": "40",
        "commitment": publication(&key()).commitment().to_string(),
    });
    let status = node.lock().unwrap().target_status;
    Json(json!({
        "id": 9, "epoch": 7, "status": status, "returned": null, "reward": "100",
        "seed": Hash::default().to_string(), "routed": [], "candidates": [candidate],
        "publication": null, "payment": null, "loss_margin_q32": "4194304",
        "gain_min_q32": "0",
    }))
}

async fn send(State(node): State<Shared>, body: Bytes) -> Response {
    let mut node = node.lock().unwrap();
    if node.refuses {
        let error = json!({ "code": "pool_rules", "message": "no", "hint": null });
        return (StatusCode::UNPROCESSABLE_ENTITY, Json(error)).into_response();
    }
    let signed = SignedTransaction::decode(&body).unwrap();
    let hash = signed.hash().to_string();
    node.sent.push(signed);
    Json(json!({ "hash": hash })).into_response()
}

async fn transaction(State(node): State<Shared>) -> Json<Value> {
    let rejection = node.lock().unwrap().rejection.clone();
    Json(json!({
        "hash": Hash::default().to_string(), "state": "final",
        "sender": key().address().to_string(), "nonce": "0", "action": "publish_data",
        "tip": "0", "valid_until_ms": "1", "height": "2",
        "receipt": { "fee": "1", "rejection": rejection },
    }))
}

async fn account() -> Json<Value> {
    let address = key().address().to_string();
    Json(json!({
        "address": address, "height": "1", "balance": "1", "nonce": "0", "next_nonce": "0",
        "models": [], "corpus": null, "next_corpus": null,
    }))
}

/// An account at a node with the answers of `node`.
async fn serve(node: Node) -> (Shared, Sender) {
    let shared = Arc::new(Mutex::new(node));
    let router = Router::new()
        .route(routes::STATUS, get(status))
        .route(routes::PARAMS, get(async || Json(Params::local())))
        .route(routes::ACCOUNT, get(account))
        .route(routes::TARGET, get(target))
        .route(routes::TRANSACTIONS, post(send))
        .route(routes::TRANSACTION, get(transaction))
        .with_state(shared.clone());
    let client = answers::serve(router).await;
    (shared, Sender::on_any_chain(client, key()).await.unwrap())
}

/// One delivery of an obligation to a node with the answers of `node`: the outcome, what was sent,
/// and how many obligations are left.
async fn deliver(node: Node, due: Obligation) -> (Outcome, Vec<SignedTransaction>, usize) {
    let (shared, sender) = serve(node).await;
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.put(due).unwrap();
    let (_, outcome) = spool.deliver(&sender).await.unwrap().pop().unwrap();
    let sent = shared.lock().unwrap().sent.clone();
    (outcome, sent, spool.list().unwrap().obligations.len())
}

fn node() -> Node {
    Node {
        phase: "publish:0",
        target_status: "open",
        rejection: Value::Null,
        refuses: false,
        sent: Vec::new(),
    }
}

fn ours() -> Obligation {
    Obligation::Publication(publication(&key()))
}

#[tokio::test]
async fn a_ready_obligation_is_sent_and_removed_once_it_is_finalized() {
    let (outcome, sent, left) = deliver(node(), ours()).await;
    assert!(matches!(outcome, Outcome::Sent), "{outcome:?}");
    assert_eq!(left, 0);
    let Action::PublishData(action::PublishData { target, data, salt, .. }) =
        &sent[0].transaction().action
    else {
        panic!()
    };
    assert_eq!((*target, data.as_slice(), *salt), (TargetId(9), b"data".as_slice(), [4; 32]));
}

#[tokio::test]
async fn a_settled_obligation_is_removed_without_a_second_transaction() {
    let published = Node { target_status: "published", ..node() };
    let (outcome, sent, left) = deliver(published, ours()).await;
    assert!(matches!(outcome, Outcome::Settled));
    assert_eq!((sent.len(), left), (0, 0));
}

#[tokio::test]
async fn an_obligation_that_a_node_says_is_settled_is_looked_at_again_until_its_epoch_is_over() {
    let (shared, sender) = serve(Node { target_status: "published", ..node() }).await;
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.put(ours()).unwrap();
    let (_, outcome) = spool.deliver(&sender).await.unwrap().pop().unwrap();
    assert!(matches!(outcome, Outcome::Settled));
    // The same process asks again later; another one, as it begins.
    assert!(spool.deliver(&sender).await.unwrap().is_empty());
    shared.lock().unwrap().target_status = "open";
    let another = Spool::open(folder.path()).unwrap();
    let (_, outcome) = another.deliver(&sender).await.unwrap().pop().unwrap();
    assert!(matches!(outcome, Outcome::Sent), "{outcome:?}");
    assert_eq!(shared.lock().unwrap().sent.len(), 1);
    assert!(another.deliver(&sender).await.unwrap().is_empty(), "what was sent is over");
}

/// Bytes that this thread has read from files so far.
#[cfg(target_os = "linux")]
fn bytes_read() -> usize {
    let io = std::fs::read_to_string("/proc/thread-self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

/// Bytes of the publications with which reading is measured; their files are twice as large.
#[cfg(target_os = "linux")]
const LARGE: usize = 100_000;

#[cfg(target_os = "linux")]
fn large(owner: &SecretKey, number: u32, epoch: u32) -> Obligation {
    let data = vec![7; LARGE];
    let (target, epoch) = (TargetId(number), Epoch(epoch));
    Obligation::Publication(Publication { target, epoch, data, ..publication(owner) })
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_delivery_reads_what_is_due_and_nothing_that_is_over() {
    let (_, sender) = serve(node()).await;
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    for number in 100..140 {
        // The node is in epoch 8; what epoch 6 drew was published in epoch 7.
        let over = large(&key(), number, 6);
        spool.put(over.clone()).unwrap();
        spool.retire(&over, number % 2 == 0).unwrap();
    }
    let foreign = large(&SecretKey::from_bytes(&[2; 32]), 9, 7);
    spool.put(foreign.clone()).unwrap();
    spool.retire(&foreign, false).unwrap();
    spool.put(ours()).unwrap();

    let another = Spool::open(folder.path()).unwrap();
    let before = bytes_read();
    let (_, outcome) = another.deliver(&sender).await.unwrap().pop().unwrap();
    assert!(matches!(outcome, Outcome::Sent), "{outcome:?}");
    let read = bytes_read() - before;
    assert!((LARGE..4 * LARGE).contains(&read), "the foreign one alone, once: {read}");
    let before = bytes_read();
    assert!(another.deliver(&sender).await.unwrap().is_empty());
    let read = bytes_read() - before;
    assert!(read < LARGE, "{read}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_submission_reads_the_list_once_and_a_win_nothing_of_other_targets() {
    const OTHERS: u32 = 8;
    let (_, sender) = serve(node()).await;
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    for number in 0..OTHERS {
        spool.put(large(&key(), 100 + number, 7)).unwrap();
    }
    let account = (sender.chain(), sender.address());
    let data = publication(&key()).data_hash();
    let before = bytes_read();
    assert_eq!(spool.publication(account, TargetId(9), data).unwrap(), None);
    spool.put(ours()).unwrap();
    let (read, all) = (bytes_read() - before, OTHERS as usize * 2 * LARGE);
    assert!((all..all * 3 / 2).contains(&read), "{read} of {all}");
    assert_eq!(spool.publication(account, TargetId(9), data).unwrap(), Some(publication(&key())));

    for number in 0..OTHERS {
        spool.retire(&large(&key(), 100 + number, 7), true).unwrap();
    }
    spool.retire(&ours(), true).unwrap();
    let before = bytes_read();
    spool.remember_win(account, TargetId(9), data).unwrap();
    let read = bytes_read() - before;
    assert!(read < LARGE, "{read}");
    assert_eq!(spool.wins(CHAIN).unwrap().len(), 1);
}

#[tokio::test]
async fn what_has_won_is_remembered_by_every_process_and_nothing_else_is() {
    let (_, sender) = serve(node()).await;
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.put(ours()).unwrap();
    let (account, target) = ((CHAIN, key().address()), TargetId(9));
    let data = publication(&key()).data_hash();
    spool.remember_win(account, target, data).unwrap();
    assert_eq!(spool.wins(CHAIN).unwrap(), [], "it was not published");
    spool.deliver(&sender).await.unwrap();
    spool.remember_win(account, target, Hash([1; 32])).unwrap();
    assert_eq!(spool.wins(CHAIN).unwrap(), [], "other data");
    spool.remember_win(account, target, data).unwrap();
    let wins = Spool::open(folder.path()).unwrap().wins(CHAIN).unwrap();
    let pieces = soma_sdk::protocol::sketch::sketch(&publication(&key()).data);
    assert_eq!(wins, [(target, pieces)]);
    assert_eq!(spool.wins(Hash([8; 32])).unwrap(), [], "of another chain");
}

#[tokio::test]
async fn an_obligation_whose_phase_has_passed_is_reported_as_missed() {
    let (outcome, sent, left) = deliver(Node { phase: "compete", ..node() }, ours()).await;
    assert!(matches!(outcome, Outcome::Missed));
    assert_eq!((sent.len(), left), (0, 0));
}

#[tokio::test]
async fn a_temporary_rejection_keeps_the_obligation_and_a_permanent_one_removes_it() {
    for (code, kept) in [("not_publisher", 1), ("wrong_phase", 1), ("data_seen_before", 0)] {
        let rejection = json!({ "code": code, "message": "m", "help": "h" });
        let (outcome, _, left) = deliver(Node { rejection, ..node() }, ours()).await;
        let error = match &outcome {
            Outcome::Refused(error) if left == 1 => error,
            Outcome::Rejected(error) if left == 0 => error,
            outcome => panic!("{outcome:?}"),
        };
        assert_eq!(error.code().as_str(), code);
        assert_eq!(left, kept, "{code}");
    }
    let (outcome, _, left) = deliver(Node { refuses: true, ..node() }, ours()).await;
    assert!(matches!(outcome, Outcome::Failed(_)));
    assert_eq!(left, 1);
}

#[tokio::test]
async fn what_another_process_has_settled_is_not_at_stake_anymore() {
    let (_, sender) = serve(Node { refuses: true, ..node() }).await;
    let folder = private_folder().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    spool.put(ours()).unwrap();
    let outcomes = spool.deliver(&sender).await.unwrap();
    assert!(matches!(outcomes[..], [(_, Outcome::Failed(_))]), "{outcomes:?}");
    assert_eq!(sender.at_stake().dues().len(), 1);
    Spool::open(folder.path()).unwrap().retire(&ours(), true).unwrap();
    assert!(spool.deliver(&sender).await.unwrap().is_empty());
    assert_eq!(sender.at_stake().dues(), Vec::new());
}

#[tokio::test]
async fn obligations_of_another_account_or_chain_are_not_touched() {
    let other_account = Obligation::Publication(publication(&SecretKey::from_bytes(&[2; 32])));
    let other_chain =
        Obligation::Publication(Publication { chain: Hash([8; 32]), ..publication(&key()) });
    for due in [other_account, other_chain] {
        let (outcome, sent, left) = deliver(node(), due).await;
        assert!(matches!(outcome, Outcome::Foreign));
        assert_eq!((sent.len(), left), (0, 1));
    }
}

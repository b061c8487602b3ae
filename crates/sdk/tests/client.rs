//! The client, against a real server on this machine.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod answers;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use soma_codes::{Coded as _, Exit};
use soma_sdk::api::routes;
use soma_sdk::protocol::{
    Action, Address, Amount, Epoch, Hash, Params, SecretKey, SignedTransaction, TargetId, action,
};
use soma_sdk::{Client, SdkError, Sender, Sent};

const CHAIN: Hash = Hash([7; 32]);

/// A node with the answers of the test, which records what it receives.
#[derive(Default)]
struct Node {
    /// Answers to `GET /v1/transactions/{hash}`, in order; the last one stays.
    looks: VecDeque<(u16, Value)>,
    /// Answers to `POST /v1/transactions` that come before success. Meanwhile another program's
    /// transaction gets the next nonce.
    refusals: VecDeque<(u16, Value)>,
    /// No transaction is known before so many were received.
    known_from: usize,
    sent: Vec<SignedTransaction>,
    nonce: u64,
    /// The account's nonce on chain, and the height of that state.
    used: (u64, u64),
    timestamp_ms: u64,
    /// The height that it reports; the highest without one.
    height: Option<u64>,
    /// One answer after the other to `GET /v1/events`.
    streams: VecDeque<String>,
    resumed_at: Vec<Option<String>>,
}

type Shared = Arc<Mutex<Node>>;

fn answer(status: u16, body: Value) -> Response {
    (StatusCode::from_u16(status).unwrap(), Json(body)).into_response()
}

fn error(code: &str) -> Value {
    json!({ "code": code, "message": format!("the message of {code}"), "hint": "do this" })
}

async fn status(State(node): State<Shared>) -> Response {
    let timestamp_ms = node.lock().unwrap().timestamp_ms.to_string();
    let height = node.lock().unwrap().height.unwrap_or(u64::MAX).to_string();
    let replaced = json!({
        "chain_id": CHAIN.to_string(), "height": height, "timestamp_ms": timestamp_ms,
        "a_field_of_a_later_version": 1,
    });
    answer(200, answers::status(replaced))
}

async fn account(State(node): State<Shared>) -> Response {
    let (nonce, (used, height)) = {
        let node = node.lock().unwrap();
        (node.nonce.to_string(), node.used)
    };
    let address = SecretKey::from_bytes(&[1; 32]).address().to_string();
    answer(
        200,
        json!({
            "address": address, "balance": "1", "nonce": used.to_string(), "next_nonce": nonce,
            "models": [], "height": height.to_string(),
        }),
    )
}

/// Blocks up to 5 exist; a proxy fails for the first.
async fn block(Path(height): Path<u64>) -> Response {
    let zero = Hash::default().to_string();
    let proposer = Address([1; 32]).to_string();
    match height {
        1 => (StatusCode::BAD_GATEWAY, "<html>").into_response(),
        2..=5 => answer(
            200,
            json!({
                "height": height.to_string(), "hash": zero, "parent": zero, "timestamp_ms": "1",
                "proposer": proposer, "state_root": zero, "transactions": [],
            }),
        ),
        _ => answer(404, error("block_not_found")),
    }
}

async fn send(State(node): State<Shared>, body: Bytes) -> Response {
    let mut node = node.lock().unwrap();
    let signed = SignedTransaction::decode(&body).unwrap();
    let hash = signed.hash();
    node.nonce += u64::from(!signed.transaction().action.is_duty());
    node.sent.push(signed);
    match node.refusals.pop_front() {
        Some((status, body)) => answer(status, body),
        None => answer(202, json!({ "hash": hash.to_string() })),
    }
}

async fn look(State(node): State<Shared>) -> Response {
    let mut node = node.lock().unwrap();
    if node.sent.len() < node.known_from {
        return answer(404, error("transaction_not_found"));
    }
    let (status, body) =
        if node.looks.len() > 1 { node.looks.pop_front() } else { node.looks.front().cloned() }
            .unwrap();
    answer(status, body)
}

async fn events(State(node): State<Shared>, request: Request) -> Response {
    let mut node = node.lock().unwrap();
    let resumed = request.headers().get("last-event-id");
    node.resumed_at.push(resumed.map(|id| id.to_str().unwrap().to_owned()));
    match node.streams.pop_front() {
        Some(stream) => ([(header::CONTENT_TYPE, "text/event-stream")], stream).into_response(),
        None => Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>())
            .into_response(),
    }
}

async fn models(Query(query): Query<std::collections::BTreeMap<String, String>>) -> Response {
    let after: u32 = query.get("after").map_or(0, |after| after.parse().unwrap());
    let next = (after < 2).then(|| (after + 1).to_string());
    answer(200, json!({ "items": [model_json(after + 1)], "next": next }))
}

fn model_json(id: u32) -> Value {
    json!({
        "id": id, "name": "m", "owner": Address([1; 32]).to_string(), "commission_bps": 100,
        "status": "active", "release_epoch": null, "stake": "1", "leaving": "0",
        "joining": "0", "weights": null,
        "commits": [],
        "wins": 0, "earned": "0",
    })
}

async fn serve(node: Node) -> (Shared, Client) {
    let shared = Arc::new(Mutex::new(node));
    let router = Router::new()
        .route(routes::STATUS, get(status))
        .route(routes::PARAMS, get(async || Json(Params::local())))
        .route(routes::ACCOUNT, get(account))
        .route(routes::TRANSACTIONS, post(send))
        .route(routes::TRANSACTION, get(look))
        .route(routes::EVENTS, get(events))
        .route(routes::MODELS, get(models))
        .route(routes::TARGET, get(async || answer(404, error("target_not_found"))))
        .route(routes::TARGET_DATA, get(async || "the data"))
        .route(routes::BLOCK, get(block))
        .route(routes::EPOCH, get(async || "<html>"))
        .with_state(shared.clone());
    (shared, answers::serve(router).await)
}

fn transaction(receipt: &Value) -> Value {
    let state = if receipt.is_null() { "pending" } else { "final" };
    json!({
        "hash": Hash::default().to_string(), "state": state, "height": null, "receipt": receipt,
        "sender": Address([1; 32]).to_string(), "nonce": "0", "action": "transfer",
        "tip": "0", "valid_until_ms": "1",
    })
}

fn sent(valid_until_ms: u64) -> Sent {
    Sent { hash: Hash::default(), sender: Address([1; 32]), nonce: Some(0), valid_until_ms }
}

fn transfer() -> Action {
    Action::Transfer(action::Transfer { to: Address([2; 32]), amount: Amount(1) })
}

async fn sender(client: &Client) -> Sender {
    Sender::on_any_chain(client.clone(), SecretKey::from_bytes(&[1; 32])).await.unwrap()
}

#[tokio::test]
async fn numbers_of_64_bits_survive_and_unknown_fields_are_ignored() {
    let (_, client) = serve(Node::default()).await;
    let status = client.status().await.unwrap();
    assert_eq!(status.height.0, u64::MAX);
    assert_eq!(status.clock.phase.to_string(), "publish:1");
}

#[tokio::test]
async fn lists_are_read_to_their_end() {
    let (_, client) = serve(Node::default()).await;
    let ids: Vec<u32> = client.models().await.unwrap().iter().map(|model| model.id).collect();
    assert_eq!(ids, [1, 2, 3]);
}

#[tokio::test]
async fn errors_carry_code_hint_and_exit_class() {
    let (_, client) = serve(Node::default()).await;
    let missing = client.target(TargetId(1)).await.unwrap_err();
    assert_eq!((missing.code().as_str(), missing.exit()), ("target_not_found", Exit::NotFound));
    assert_eq!(
        (missing.to_string().as_str(), missing.hint()),
        ("the message of target_not_found", "do this")
    );

    let gateway = client.block(1).await.unwrap_err();
    assert_eq!((gateway.code().as_str(), gateway.exit()), ("http_error", Exit::Network));
    let page = client.epoch(soma_sdk::protocol::Epoch(1)).await.unwrap_err();
    assert_eq!((page.code().as_str(), page.exit()), ("not_a_node", Exit::Network));

    let nobody = Client::new("http://127.0.0.1:1").unwrap().status().await.unwrap_err();
    assert_eq!((nobody.code().as_str(), nobody.exit()), ("network", Exit::Network));
    for url in ["", "127.0.0.1:80", "ftp://a", "https://a?b", "file:///etc/passwd", "http://"] {
        let error = Client::new(url).unwrap_err();
        assert_eq!((error.code().as_str(), error.exit()), ("bad_url", Exit::Usage), "{url}");
    }
}

#[tokio::test]
async fn published_data_is_checked_against_its_hash() {
    let (_, client) = serve(Node::default()).await;
    let data = client.target_data(TargetId(1), Hash::of_bytes(b"the data")).await.unwrap();
    assert_eq!(data, b"the data");
    let error = client.target_data(TargetId(1), Hash::of_bytes(b"other data")).await.unwrap_err();
    assert_eq!(error.exit(), Exit::Verification);
}

#[tokio::test]
async fn several_pending_transactions_have_consecutive_nonces_and_valid_signatures() {
    let (node, client) = serve(Node { nonce: 5, ..Node::default() }).await;
    let sender = sender(&client).await;
    for _ in 0..3 {
        sender.send(transfer()).await.unwrap();
    }
    let sent = std::mem::take(&mut node.lock().unwrap().sent);
    let nonces: Vec<u64> = sent.iter().map(|signed| signed.transaction().nonce).collect();
    assert_eq!(nonces, [5, 6, 7]);
    for signed in sent {
        let verified = signed.verify(&CHAIN).unwrap();
        let least = verified.signed().admission_fee(&Params::local());
        assert!(verified.transaction().fee_limit >= least);
        assert_eq!(verified.transaction().sender, sender.address());
    }
}

#[tokio::test]
async fn a_tip_is_added_to_payments_and_a_duty_has_neither_nonce_nor_fee() {
    let (node, client) = serve(Node { nonce: 5, ..Node::default() }).await;
    let sender = sender(&client).await.with_tip(Amount(77));
    let (epoch, commitment) = (Epoch(2), Hash([1; 32]));
    let duty = Action::CommitBeacon(action::CommitBeacon { epoch, commitment });
    for action in [transfer(), duty, transfer()] {
        sender.send(action).await.unwrap();
    }
    let sent = std::mem::take(&mut node.lock().unwrap().sent);
    let terms = sent.iter().map(|signed| {
        let transaction = signed.transaction();
        (transaction.nonce, transaction.tip.0, transaction.fee_limit.0 > 0)
    });
    assert_eq!(terms.collect::<Vec<_>>(), [(5, 77, true), (0, 0, false), (6, 77, true)]);
}

#[tokio::test]
async fn a_transaction_is_sent_again_unchanged_while_the_network_fails() {
    let refusals = [(503, error("pool_full")), (502, json!(null))].into();
    let (node, client) = serve(Node { refusals, ..Node::default() }).await;
    sender(&client).await.send(transfer()).await.unwrap();
    let node = node.lock().unwrap();
    assert_eq!(node.sent.len(), 3);
    assert!(node.sent.iter().all(|signed| signed.hash() == node.sent[0].hash()));
}

#[tokio::test]
async fn a_nonce_that_another_program_was_faster_to_use_is_asked_for_again() {
    let codes = ["wrong_nonce", "replacement_underpriced", "nonce_too_low", "nonce_too_high"];
    let refusals = codes.map(|code| (409, error(code))).into();
    let (node, client) = serve(Node { refusals, nonce: 9, ..Node::default() }).await;
    let sender = sender(&client).await;
    sender.send(transfer()).await.unwrap();
    sender.send(transfer()).await.unwrap();
    assert_eq!(nonces(&node), [9, 10, 11, 12, 13, 14]);
}

fn nonces(node: &Shared) -> Vec<u64> {
    node.lock().unwrap().sent.iter().map(|signed| signed.transaction().nonce).collect()
}

fn finalized() -> VecDeque<(u16, Value)> {
    [(200, transaction(&json!({ "fee": "12", "rejection": null })))].into()
}

#[tokio::test]
async fn a_transaction_that_may_have_arrived_is_never_signed_again() {
    // A proxy gave up, and then the node says that the nonce is used: by this very transaction.
    let refusals = [(502, json!(null)), (409, error("nonce_too_low"))].into();
    let node = Node { refusals, looks: finalized(), ..Node::default() };
    let (node, client) = serve(node).await;
    let receipt = sender(&client).await.run(transfer()).await.unwrap();
    assert_eq!(receipt.fee.0, 12);
    assert_eq!(nonces(&node), [0, 0]);
}

#[tokio::test]
async fn a_transaction_that_a_restarted_node_has_lost_is_handed_in_again() {
    let node = Node { looks: finalized(), known_from: 2, ..Node::default() };
    let (node, client) = serve(node).await;
    sender(&client).await.run(transfer()).await.unwrap();
    let node = node.lock().unwrap();
    assert_eq!(node.sent[0].hash(), node.sent[1].hash());
}

#[tokio::test]
async fn what_another_machine_s_transaction_displaced_is_signed_again() {
    let node = Node { looks: finalized(), known_from: 2, used: (1, 5), ..Node::default() };
    let (node, client) = serve(node).await;
    sender(&client).await.run(transfer()).await.unwrap();
    assert_eq!(nonces(&node), [0, 1]);
}

#[tokio::test]
async fn waiting_ignores_transient_errors_until_the_receipt() {
    let done = transaction(&json!({ "fee": "12", "rejection": null }));
    let looks = [
        (404, error("transaction_not_found")),
        (503, error("busy")),
        (200, transaction(&json!(null))),
        (200, done),
    ];
    let (_, client) = serve(Node { looks: looks.into(), ..Node::default() }).await;
    let receipt = client.wait(&sent(1), Duration::from_secs(10)).await.unwrap();
    assert_eq!(receipt.fee.0, 12);
}

#[tokio::test]
async fn a_rejection_is_an_error_with_the_rules_code_and_hint() {
    let rejection = json!({ "code": "wrong_phase", "message": "not now", "help": "later" });
    let looks = [(200, transaction(&json!({ "fee": "12", "rejection": rejection })))].into();
    let (_, client) = serve(Node { looks, ..Node::default() }).await;
    let error = sender(&client).await.run(transfer()).await.unwrap_err();
    assert_eq!(
        (error.code().as_str(), error.hint(), error.exit()),
        ("wrong_phase", "later", Exit::Rejected)
    );
    assert_eq!(error.to_string(), "not now");
}

#[tokio::test]
async fn waiting_ends_when_the_transaction_expires_or_at_the_time_limit() {
    let looks: VecDeque<_> = [(404, error("transaction_not_found"))].into();
    let node = Node { looks: looks.clone(), timestamp_ms: 100, ..Node::default() };
    let (_, client) = serve(node).await;
    let expired = client.wait(&sent(99), Duration::from_secs(10)).await.unwrap_err();
    assert!(matches!(expired, SdkError::Expired { .. }));
    let late = client.wait(&sent(100), Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(late, SdkError::Timeout { .. }));
    assert_eq!(late.exit(), Exit::Network);
}

#[tokio::test]
async fn waiting_ends_when_a_finalized_block_used_the_nonce_for_another_transaction() {
    let (node, client) = serve(Node {
        looks: [(404, error("transaction_not_found"))].into(),
        used: (1, 8),
        ..Node::default()
    })
    .await;
    let wait = async || {
        let limit = Duration::from_millis(300);
        client.wait(&sent(100), limit).await.unwrap_err()
    };
    assert_eq!(wait().await.code().as_str(), "timeout", "block 8 is on its way");
    node.lock().unwrap().used = (0, 5);
    assert_eq!(wait().await.code().as_str(), "timeout", "nonce 0 is not used");
    node.lock().unwrap().used = (1, 5);
    let superseded = wait().await;
    assert_eq!(
        (superseded.code().as_str(), superseded.exit()),
        ("transaction_superseded", Exit::Rejected)
    );
}

fn event(cursor: &str) -> String {
    let data = json!({ "cursor": cursor, "timestamp_ms": "1", "event": "epoch_began", "epoch": 4 });
    format!(": keep alive\n\nid: {cursor}\nevent: epoch_began\ndata: {data}\n\n")
}

#[tokio::test]
async fn an_interrupted_stream_resumes_without_gap_or_repetition() {
    let first = event("1-0") + &event("1-1") + "id: 2-0\ndata: {\"cut off";
    let second = event("1-1") + &event("2-0");
    let streams = [first, second, event("10-0")].into();
    let (node, client) = serve(Node { streams, height: Some(0), ..Node::default() }).await;
    let mut events = client.events(None);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let event = events.next().await.unwrap();
        node.lock().unwrap().height = Some(100);
        assert_eq!(event.fields["epoch"], 4);
        let typed = soma_sdk::protocol::Event::EpochBegan { epoch: soma_sdk::protocol::Epoch(4) };
        assert_eq!(event.typed(), Some(typed));
        seen.push(event.cursor.to_string());
    }
    assert_eq!(seen, ["1-0", "1-1", "2-0", "10-0"]);
    let resumed: Vec<_> = node.lock().unwrap().resumed_at.clone();
    let expected = ["0-4294967295", "1-1", "2-0"].map(|cursor| Some(cursor.to_owned()));
    assert_eq!(resumed, expected);
}

#[tokio::test]
async fn a_stream_from_now_on_misses_nothing_though_its_first_connection_ends_before_an_event() {
    let streams = [": keep alive\n\n".to_owned(), String::new(), event("8-0")].into();
    let (node, client) = serve(Node { streams, height: Some(7), ..Node::default() }).await;
    let mut events = client.events(None);
    events.connect().await.unwrap();
    // What happens meanwhile is after the beginning of the stream.
    node.lock().unwrap().height = Some(8);
    assert_eq!(events.next().await.unwrap().cursor.to_string(), "8-0");
    let resumed: Vec<_> = node.lock().unwrap().resumed_at.clone();
    assert_eq!(resumed, [(); 3].map(|()| Some("7-4294967295".to_owned())));
}

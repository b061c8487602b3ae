//! The API keeps its contract: every route of its document answers, every error has a code and a
//! hint, streams resume.

use std::net::{Ipv4Addr, SocketAddr};

use soma_codes::Coded as _;
use soma_node::localnet::{Localnet, OPERATOR, Plan, account_name};
use soma_protocol::{Action, Amount, Epoch, Phase, SignedTransaction, action};
use soma_sdk::api::ApiError;
use soma_sdk::api::cursor::Cursor;
use soma_sdk::{Client, Sender, Sent};

use crate::network::Network;

/// A value for every parameter of a path: one that exists, or has the right form.
fn filled(path: &str, address: &str) -> String {
    let hash = "ab".repeat(32);
    path.replace("{address}", address)
        .replace("{hash}", &hash)
        .replace("{id}", "1")
        .replace("{epoch}", "1")
        .replace("{height}", "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_the_document_answers_and_every_error_has_a_code_and_a_hint() {
    let network = Network::start();
    let operator = network.sender(OPERATOR).await;
    operator.end_phase().await.unwrap();
    let address = operator.address().to_string();
    let http = reqwest::Client::new();
    let url = |path: &str| format!("{}{path}", network.url());
    let document: serde_json::Value = serde_json::from_str(
        &http.get(url("/openapi.json")).send().await.unwrap().text().await.unwrap(),
    )
    .unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let paths = document["paths"].as_object().unwrap();
    assert!(paths.len() >= 20, "the document lists all routes");
    for (path, methods) in paths {
        for method in methods.as_object().unwrap().keys() {
            let url = url(&filled(path, &address));
            let request = match method.as_str() {
                "get" => http.get(&url),
                "post" => http.post(&url).body(b"no transaction".to_vec()),
                "put" => http.put(&url).body(b"no file".to_vec()),
                other => panic!("{other} {path}: no such method is served"),
            };
            let response = request.send().await.unwrap();
            let status = response.status().as_u16().to_string();
            let documented = &document["paths"][path][method]["responses"];
            assert!(
                documented.get(&status).is_some(),
                "{method} {path} answers {status}, which is not in the document"
            );
            if !response.status().is_success() {
                assert_eq!(
                    response.headers()["content-type"],
                    "application/problem+json",
                    "{path}"
                );
                let error: ApiError =
                    serde_json::from_str(&response.text().await.unwrap()).unwrap();
                assert!(!error.message.is_empty() && error.hint.is_some(), "{error:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_are_refused_with_a_code() {
    let network = Network::start();
    let http = reqwest::Client::new();
    let too_long = vec![0; soma_protocol::TRANSACTION_BYTES_MAX + 1];
    let cases = [
        (http.get(format!("{}/v1/nothing", network.url())), 404, "no_such_route"),
        (http.delete(format!("{}/v1/status", network.url())), 405, "method_not_allowed"),
        (http.get(format!("{}/v1/models/17", network.url())), 404, "model_not_found"),
        (http.get(format!("{}/v1/models/x", network.url())), 400, "bad_request"),
        (http.get(format!("{}/v1/models?limit=0", network.url())), 400, "bad_request"),
        (http.get(format!("{}/v1/accounts/soma1x", network.url())), 400, "bad_request"),
        (http.get(format!("{}/v1/events?after=soon", network.url())), 400, "bad_request"),
        (
            http.post(format!("{}/v1/transactions", network.url())).body("x"),
            400,
            "malformed_transaction",
        ),
        (
            http.post(format!("{}/v1/transactions", network.url())).body(too_long),
            413,
            "body_too_large",
        ),
    ];
    for (request, status, code) in cases {
        let response = request.send().await.unwrap();
        let found = response.status().as_u16();
        let error: ApiError = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!((found, error.code.as_str()), (status, code));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_that_cannot_run_are_refused_by_the_pool() {
    let network = Network::start();
    let (client, alice) = (&network.client, network.sender("account-1").await);
    let action = || Action::Transfer(action::Transfer { to: alice.address(), amount: Amount(1) });
    let far = client.send(&alice.sign(action(), 1_000_000, u64::MAX)).await.unwrap_err();
    assert_eq!(far.code().as_str(), "nonce_too_high");
    let late = client.send(&alice.sign(action(), 0, 1)).await.unwrap_err();
    assert_eq!(late.code().as_str(), "expired");
    let forged = alice.sign(action(), 0, u64::MAX);
    let mut signature = *forged.signature();
    signature[0] ^= 1;
    let forged = SignedTransaction::new(forged.transaction().clone(), signature);
    assert_eq!(client.send(&forged).await.unwrap_err().code().as_str(), "bad_signature");
    let meddler = alice.sign(
        Action::EndPhase(action::EndPhase { epoch: Epoch(1), phase: Phase::Reveal }),
        0,
        u64::MAX,
    );
    assert_eq!(client.send(&meddler).await.unwrap_err().code().as_str(), "not_entitled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_sent_twice_is_one_transaction_before_and_after_it_is_finalized() {
    let network = Network::start();
    let (alice, bob) = (network.sender("account-1").await, network.sender("account-2").await);
    let signed = alice.sign(
        Action::Transfer(action::Transfer { to: bob.address(), amount: Amount(5) }),
        0,
        u64::MAX,
    );
    let before = network.client.account(bob.address()).await.unwrap().balance.0;
    let hash = network.client.send(&signed).await.unwrap();
    assert_eq!(network.client.send(&signed).await.unwrap(), hash);
    let receipt = network
        .client
        .wait(&Sent::from(&signed), std::time::Duration::from_secs(30))
        .await
        .unwrap();
    assert_eq!(receipt.rejection, None);
    assert_eq!(network.client.send(&signed).await.unwrap(), hash);
    assert_eq!(network.client.account(bob.address()).await.unwrap().balance.0, before + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_transactions_with_one_nonce_at_two_nodes_one_runs_and_the_other_fails() {
    let dir = tempfile::tempdir().unwrap();
    let plan = Plan { validators: 2, accounts: 8, ..Plan::timed([7; 32], 3_600_000) };
    let local = Localnet::create(dir.path(), &plan).unwrap();
    let nodes: Vec<_> = local
        .folders(0, 20)
        .unwrap()
        .iter()
        .map(|folder| soma_node::start(folder.config(None).unwrap()).unwrap())
        .collect();
    for number in 1..8 {
        let key = local.key(&account_name(number)).unwrap();
        let outcomes = nodes.iter().zip([1, 2]).map(async |(node, amount)| {
            let client = Client::new(node.url()).unwrap();
            let sender = Sender::on_any_chain(client, key.clone()).await.unwrap();
            let to = sender.address();
            let amount = Amount(amount);
            let signed =
                sender.sign(Action::Transfer(action::Transfer { to, amount }), 0, u64::MAX);
            sender.client().send(&signed).await?;
            let limit = std::time::Duration::from_secs(30);
            sender.client().wait(&Sent::from(&signed), limit).await
        });
        let outcomes = futures_util::future::join_all(outcomes).await;
        let (run, failed): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
        assert_eq!((run.len(), failed.len()), (1, 1), "{failed:?}");
        // Which of them depends on how far the other one has come.
        let codes = ["transaction_superseded", "replacement_underpriced", "nonce_too_low"];
        let code = failed[0].as_ref().unwrap_err().code().as_str();
        assert!(codes.contains(&code), "{code}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_transaction_by_transaction() {
    let network = Network::start();
    let alice = network.sender("account-1").await;
    let action =
        |amount| Action::Transfer(action::Transfer { to: alice.address(), amount: Amount(amount) });
    let forged = alice.sign(action(3), 1, u64::MAX);
    let mut signature = *forged.signature();
    signature[1] ^= 1;
    let forged = SignedTransaction::new(forged.transaction().clone(), signature);
    let mut batch = Vec::new();
    let transactions =
        [alice.sign(action(1), 0, u64::MAX), forged, alice.sign(action(2), 1, u64::MAX)];
    for transaction in &transactions {
        assert!(soma_sdk::api::batch::push(&mut batch, transaction));
    }
    batch.extend([3, 0, 0, 0, 1, 2, 3]);
    let answers = network.client.send_batch(batch).await.unwrap();
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| answer.error.as_ref().map(|error| error.code.as_str()))
        .collect();
    let expected = [None, Some("bad_signature"), None, Some("malformed_transaction")];
    assert_eq!(codes, expected);
    assert!(answers[3].hash.is_none());
    for at in [0, 2] {
        let sent = Sent::from(&transactions[at]);
        assert_eq!(*answers[at].hash.unwrap(), sent.hash);
        let limit = std::time::Duration::from_secs(30);
        let receipt = network.client.wait(&sent, limit).await.unwrap();
        assert_eq!(receipt.rejection, None);
    }
    let torn = network.client.send_batch(vec![9, 0, 0]).await.unwrap_err();
    assert_eq!(torn.code().as_str(), "malformed_batch");
    let endless = vec![0; soma_sdk::api::batch::BATCH_BYTES_MAX + 1];
    let large = network.client.send_batch(endless).await.unwrap_err();
    assert_eq!(large.code().as_str(), "body_too_large");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_above_its_rate_gets_retry_after_and_others_are_served() {
    let network = Network::start();
    let http = reqwest::Client::new();
    let ask = async |client: &str| {
        let request = http.get(format!("{}/healthz", network.url()));
        let request = request.header("x-forwarded-for", client);
        request.send().await.unwrap()
    };
    let mut refused = None;
    for _ in 0..30 {
        let answer = ask("192.0.2.1").await;
        if answer.status() == 429 {
            refused = Some(answer);
        }
    }
    let refused = refused.expect("the client is greedy");
    let seconds = refused.headers()["retry-after"].to_str().unwrap().to_owned();
    assert!(seconds.parse::<u32>().unwrap() >= 1);
    let error: ApiError = serde_json::from_str(&refused.text().await.unwrap()).unwrap();
    assert_eq!(error.code.as_str(), "rate_limited");
    assert_eq!(ask("192.0.2.2").await.status(), 200);
    let batch = [0; 4 * 21];
    let request = http.post(format!("{}/v1/transactions/batch", network.url()));
    let request = request.header("x-forwarded-for", "192.0.2.3").body(batch.to_vec());
    assert_eq!(request.send().await.unwrap().status(), 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_stream_resumes_where_it_was_interrupted_even_after_a_restart() {
    let mut network = Network::start();
    network.go_to(2, Phase::Reveal).await;
    let mut all = network.client.events(Some(Cursor::default()));
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(all.next().await.unwrap());
    }
    assert!(seen.is_sorted_by_key(|event| *event.cursor));
    network.restart().await;
    let mut rest = network.client.events(Some(*seen[1].cursor));
    assert_eq!(rest.next().await.unwrap(), seen[2]);
    assert_eq!(rest.next().await.unwrap(), seen[3]);
    let now = network.client.status().await.unwrap().height;
    let mut new = network.client.events(None);
    new.connect().await.unwrap();
    let alice = network.sender("account-1").await;
    alice
        .run(Action::Transfer(action::Transfer { to: alice.address(), amount: Amount(1) }))
        .await
        .unwrap();
    let mut event = new.next().await.unwrap();
    while event.event != "transferred" {
        assert!(event.cursor.height > *now, "a stream without a cursor begins now");
        event = new.next().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_and_a_state_in_use_are_reported() {
    let network = Network::start();
    let other = tempfile::tempdir().unwrap();
    let local = Localnet::create(other.path(), &Plan::manual([8; 32])).unwrap();
    let error = soma_node::start(local.node(network.api()).unwrap()).unwrap_err();
    assert_eq!(error.code().as_str(), "port_in_use");
    let port = network.api().port().to_string();
    assert!(error.to_string().contains(&port) && error.hint().contains("--port"));
    assert!(!other.path().join("node-1").exists(), "nothing was touched");
    let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let error = soma_node::start(network.local.node(free).unwrap()).unwrap_err();
    assert_eq!(error.code().as_str(), "state_in_use");
    network.client.status().await.unwrap();
}

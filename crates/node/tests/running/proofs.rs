//! What a client believes of a node that lies: nothing about the state.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use soma_codes::{Code, Coded as _};
use soma_node::ClientLimits;
use soma_node::localnet::Plan;
use soma_proof::RecordProof;
use soma_protocol::{
    Address, Amount, Epoch, GenesisModel, Hash, Key, ModelId, Phase, TargetId, hex,
};
use soma_sdk::api::routes;
use soma_sdk::{Client, SdkError, Verifier, VerifyError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::network::{Network, wait_until};

/// Changes the answer to a path.
type Lie = Box<dyn Fn(&str, &mut Value) + Send>;

/// A proxy before a node, which changes its answers.
struct Liar {
    url: String,
    lie: Arc<Mutex<Lie>>,
}

impl Liar {
    async fn before(network: &Network) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let lie: Arc<Mutex<Lie>> = Arc::new(Mutex::new(Box::new(|_, _| ())));
        let (told, node) = (Arc::clone(&lie), network.api());
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let told = Arc::clone(&told);
                tokio::spawn(async move {
                    let mut node = TcpStream::connect(node).await.unwrap();
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await.unwrap_or(b'\n'));
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let asked = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
                    node.write_all(asked.as_bytes()).await.unwrap();
                    let mut answer = Vec::new();
                    node.read_to_end(&mut answer).await.unwrap();
                    let split = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
                    let status = String::from_utf8_lossy(&answer[..split]);
                    let status = status.lines().next().unwrap().to_owned();
                    let mut body: Value = serde_json::from_slice(&answer[split + 4..]).unwrap();
                    told.lock().unwrap()(&path, &mut body);
                    let body = body.to_string();
                    let length = body.len();
                    let answer = format!(
                        "{status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                    );
                    client.write_all(answer.as_bytes()).await.unwrap();
                });
            }
        });
        Self { url, lie }
    }

    fn tells(&self, lie: impl Fn(&str, &mut Value) + Send + 'static) {
        *self.lie.lock().unwrap() = Box::new(lie);
    }

    /// Changes what the record of `key` is, and proves it as before.
    fn changes(&self, key: Key, at: usize) {
        self.tells(move |path, answer| {
            if path.starts_with(routes::PROOF) {
                let (_, keys) = path.split_once("keys=").unwrap();
                let records = answer["records"].as_array_mut().unwrap();
                for (asked, record) in keys.split(',').zip(records) {
                    if asked == hex::encode(&key.0) {
                        let mut proof = proof_in(record);
                        proof.value.as_mut().unwrap()[at] ^= 1;
                        *record = Value::from(hex::encode(&proof.encode()));
                    }
                }
            }
        });
    }
}

fn proof_in(record: &Value) -> RecordProof {
    RecordProof::decode(&hex::decode(record.as_str().unwrap()).unwrap()).unwrap()
}

/// A chain with two models, whose name has this number.
fn network_of(number: u8) -> Network {
    let plan = Network::plan();
    let mut specialization = vec![0; plan.architecture.dim as usize];
    specialization[0] = 32_767;
    // The first account is the faucet's.
    let owner = plan.genesis().accounts[1].address;
    let model = |name: &str| GenesisModel {
        owner,
        name: name.to_owned(),
        commission_bps: 500,
        stake: Amount::soma(10),
        weights_hash: Hash::of_bytes(name.as_bytes()),
        ciphertext_hash: Hash([0xcd; 32]),
        size_bytes: 3_456,
        key: [0xef; 32],
        specialization: specialization.clone(),
    };
    let models = vec![model("owl"), model("fox")];
    let plan = Plan { chain: format!("proofs-{number}"), models, ..plan };
    Network::of(&plan, |config| {
        let clients = ClientLimits { requests_per_second: 10_000, ..config.settings.clients };
        config.settings.clients = clients;
    })
}

fn verifying(url: &str, network: &Network) -> Client {
    let verifier = Verifier::new(network.local.genesis().chain_id());
    Client::new(url).unwrap().verifying(Arc::new(verifier))
}

fn refused<T: std::fmt::Debug>(answer: Result<T, SdkError>, code: Code) {
    let error = answer.expect_err("a lie is refused");
    assert_eq!(error.code(), code, "{error}");
    assert!(matches!(error, SdkError::Verify(VerifyError::Unproved { .. })), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_about_a_record_is_refused_and_honest_answers_are_those_of_the_node() {
    let network = network_of(1);
    network.go_to(1, Phase::Compete).await;
    let liar = Liar::before(&network).await;
    let (honest, client) = (&network.client, verifying(&liar.url, &network));
    let owner = network.sender("account-1").await.address();
    let (model, target, nobody) = (ModelId(1), TargetId(1), Address([9; 32]));

    // Nothing is changed: the answers are the node's, of a block that is proved.
    assert_eq!(client.params().await.unwrap(), honest.params().await.unwrap());
    assert_eq!(client.architecture().await.unwrap(), honest.architecture().await.unwrap());
    assert_eq!(client.model(model).await.unwrap(), honest.model(model).await.unwrap());
    assert_eq!(client.target(target).await.unwrap(), honest.target(target).await.unwrap());
    assert_eq!(client.direction(target).await.unwrap(), honest.direction(target).await.unwrap());
    let epoch = Some(Epoch(1));
    assert_eq!(client.targets(epoch).await.unwrap(), honest.targets(epoch).await.unwrap());
    assert_eq!(client.epoch(Epoch(1)).await.unwrap(), honest.epoch(Epoch(1)).await.unwrap());
    let (proved, said) = (client.specialization(model, epoch), honest.specialization(model, epoch));
    assert_eq!(proved.await.unwrap(), said.await.unwrap());
    assert_eq!(client.winners(&[1, 2]).await.unwrap(), [None, None]);
    let (proved, said) =
        (client.account(owner).await.unwrap(), honest.account(owner).await.unwrap());
    assert_eq!((proved.balance, proved.nonce), (said.balance, said.nonce));
    assert_eq!((&proved.models, proved.next_nonce), (&said.models, said.next_nonce));
    assert_eq!(client.account(nobody).await.unwrap().balance.0, 0);
    assert_eq!(client.governance().await.unwrap(), honest.governance().await.unwrap());
    let status = client.status().await.unwrap();
    let block = honest.block(status.height.0).await.unwrap();
    assert_eq!((status.block, status.state_root), (block.hash, block.state_root));
    for error in [client.model(ModelId(99)).await.err(), client.target(TargetId(99)).await.err()] {
        assert!(matches!(error, Some(SdkError::Api { status: 404, .. })), "{error:?}");
    }

    // What the node says without proof counts for nothing.
    liar.tells(|path, answer| {
        if !path.starts_with(routes::PROOF) && answer.get("balance").is_some() {
            answer["balance"] = Value::from("1000000000000000");
            answer["nonce"] = Value::from("7");
            answer["models"] = serde_json::json!([1, 2, 3, 99]);
        }
    });
    assert_eq!(client.account(nobody).await.unwrap().balance.0, 0);
    let told = client.account(owner).await.unwrap();
    assert_eq!((told.balance, told.nonce, told.models), (said.balance, said.nonce, said.models));

    // A record that is changed is not proved, whichever byte it is.
    let balance_and_nonce = [1, 8, 9, 16];
    for at in balance_and_nonce {
        liar.changes(Key::account(&owner), at);
        refused(client.account(owner).await, Code::AnswerUnproved);
    }
    let weights = honest.model(model).await.unwrap().weights.unwrap().hash.0;
    liar.changes(Key::model(model), 40);
    refused(client.model(model).await, Code::AnswerUnproved);
    liar.changes(Key::weights(model, &weights), 1);
    refused(client.model(model).await, Code::AnswerUnproved);
    liar.changes(Key::target(target), 12);
    refused(client.target(target).await, Code::AnswerUnproved);
    refused(client.targets(epoch).await, Code::AnswerUnproved);
    liar.changes(Key::drawn_specialization(Epoch(1), model), 20);
    refused(client.specialization(model, epoch).await, Code::AnswerUnproved);
    for key in [Key::params(), Key::network(), Key::clock(), Key::supply()] {
        liar.changes(key, 3);
        refused(client.params().await, Code::AnswerUnproved);
        refused(client.status().await, Code::AnswerUnproved);
    }
    liar.changes(Key::epoch(Epoch(1)), 3);
    refused(client.epoch(Epoch(1)).await, Code::AnswerUnproved);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proof_that_is_cut_moved_old_or_of_another_chain_is_refused() {
    let (network, other) = (network_of(1), network_of(2));
    let liar = Liar::before(&network).await;
    let client = verifying(&liar.url, &network);
    let owner = network.sender("account-1").await.address();
    let account = async || client.account(owner).await;
    account().await.unwrap();

    // A record as another one, as none, or none as a record: each of the five in each place.
    for by in 1..5 {
        liar.tells(move |path, answer| {
            if path.starts_with(routes::PROOF) {
                answer["records"].as_array_mut().unwrap().rotate_left(by);
            }
        });
        refused(account().await, Code::AnswerUnproved);
    }
    liar.tells(|path, answer| {
        if path.starts_with(routes::PROOF) {
            answer["records"].as_array_mut().unwrap().pop();
        }
    });
    refused(account().await, Code::AnswerUnproved);
    for field in ["header", "certificate", "record"] {
        for keep in [0, 2, 100] {
            liar.tells(move |path, answer| {
                if path.starts_with(routes::PROOF) {
                    let text = match field {
                        "record" => &mut answer["records"][0],
                        field => &mut answer[field],
                    };
                    *text = Value::from(&text.as_str().unwrap()[..keep]);
                }
            });
            refused(account().await, Code::AnswerUnproved);
        }
    }

    // Everything of another chain, which its own committee has certified.
    let keys = [Key::network(), Key::params(), Key::clock(), Key::supply()];
    let url = other.url().to_owned();
    let foreign = proof_of(&url, &keys).await;
    let replayed = foreign.clone();
    liar.tells(move |path, answer| {
        if path.starts_with(routes::PROOF) {
            *answer = replayed.clone();
        }
    });
    refused(client.params().await, Code::BlockNotCertified);
    // Its certificate under this chain's header.
    liar.tells(move |path, answer| {
        if path.starts_with(routes::PROOF) {
            answer["certificate"] = foreign["certificate"].clone();
        }
    });
    refused(client.params().await, Code::BlockNotCertified);
    // Another chain's genesis in place of the one that is asked for.
    let genesis = serde_json::to_value(other.local.genesis()).unwrap();
    liar.tells(move |path, answer| {
        if path.starts_with(routes::GENESIS) {
            *answer = genesis.clone();
        }
    });
    let error = verifying(&liar.url, &network).params().await.unwrap_err();
    assert_eq!(error.code(), Code::OtherChain, "{error}");
}

/// A node's answer to a question for proofs.
async fn proof_of(url: &str, keys: &[Key]) -> Value {
    let keys: Vec<String> = keys.iter().map(|key| hex::encode(&key.0)).collect();
    let address = url.strip_prefix("http://").unwrap();
    let mut node = TcpStream::connect(address).await.unwrap();
    let path = format!("{}?keys={}", routes::PROOF, keys.join(","));
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    node.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    node.read_to_end(&mut answer).await.unwrap();
    let split = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
    serde_json::from_slice(&answer[split + 4..]).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_was_true_a_while_ago_is_refused_when_it_is_too_old() {
    let network = network_of(1);
    let liar = Liar::before(&network).await;
    let age_max = Duration::from_secs(4);
    let verifier = Verifier::new(network.local.genesis().chain_id()).with_age_max(age_max);
    let client = Client::new(&liar.url).unwrap().verifying(Arc::new(verifier));
    let old =
        proof_of(network.url(), &[Key::network(), Key::params(), Key::clock(), Key::supply()])
            .await;
    tokio::time::sleep(age_max + Duration::from_secs(1)).await;
    liar.tells(move |path, answer| {
        if path.starts_with(routes::PROOF) {
            *answer = old.clone();
        }
    });
    refused(client.params().await, Code::BlockOfAnotherTime);
    liar.tells(|_, _| ());
    wait_until("a new block is believed", async || client.params().await.is_ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_no_question_for_more_records_than_one_proof_has() {
    let network = network_of(1);
    let many = vec![Key([7; 32]); routes::PROVED_RECORDS_MAX];
    let answer = proof_of(network.url(), &many).await;
    assert_eq!(answer["records"].as_array().unwrap().len(), many.len());
    let more = vec![Key([7; 32]); routes::PROVED_RECORDS_MAX + 1];
    assert_eq!(proof_of(network.url(), &more).await["code"], "bad_request");
    assert_eq!(proof_of(network.url(), &[]).await["code"], "bad_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_for_handovers_after_any_term_is_answered_and_stops_no_node() {
    let network = network_of(5);
    for after in [0, 1, u64::MAX - 1, u64::MAX] {
        let url = format!("{}{}?after={after}", network.client.url(), routes::HANDOVERS);
        let answer = reqwest::get(url).await.unwrap();
        assert!(answer.status().is_success(), "{after}: {}", answer.status());
    }
    let height = network.client.status().await.unwrap().height.0;
    let goes_on = async || network.client.status().await.is_ok_and(|now| now.height.0 > height);
    wait_until("blocks follow", goes_on).await;
}

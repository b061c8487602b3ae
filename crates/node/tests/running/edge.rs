//! The edge of a node under attack: clients that hold what can be held keep out neither operators
//! nor transactions.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use soma_model::Weights;
use soma_protocol::{
    Action, Amount, Epoch, Hash, SecretKey, SignedTransaction, Transaction, action,
};
use soma_sdk::api::permit::{PERMIT_MS, PeerPermit, UploadPermit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::competition::commit;
use crate::network::Network;

/// Clients in networks of their own, as a proxy on this machine names them.
fn other(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((198 << 24) + (number << 8) + 1)
}

/// Sends a request on a connection of its own, and reads the status of the answer.
async fn ask(network: &Network, path: &str, client: Ipv4Addr) -> (TcpStream, u16) {
    ask_with(network, path, client, "").await
}

/// The same with more headers.
async fn ask_with(
    network: &Network,
    path: &str,
    client: Ipv4Addr,
    headers: &str,
) -> (TcpStream, u16) {
    let mut stream = TcpStream::connect(network.api()).await.unwrap();
    let head =
        format!("GET {path} HTTP/1.1\r\nhost: node\r\nx-forwarded-for: {client}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut begin = [0; 12];
    stream.read_exact(&mut begin).await.unwrap();
    let status = std::str::from_utf8(&begin[9..]).unwrap().parse().unwrap();
    (stream, status)
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_while_one_client_holds_every_stream() {
    let network = Network::start();
    let mut held = Vec::new();
    let mut first_refusal = None;
    for number in 0..60 {
        for _ in 0..8 {
            let (stream, status) = ask(&network, "/v1/events", other(number)).await;
            match status {
                200 => held.push(stream),
                503 => first_refusal = first_refusal.or(Some(held.len())),
                429 => {}
                other => panic!("{other}"),
            }
        }
    }
    assert_eq!(first_refusal, Some(256), "every stream is held");
    for path in ["/healthz", "/readyz", "/v1/status", "/metrics", "/v1/models"] {
        let begun = Instant::now();
        let (_, status) = ask(&network, path, other(100)).await;
        assert_eq!(status, 200, "{path}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{path}");
    }
    let alice = network.sender("account-1").await;
    let pay = Action::Transfer(action::Transfer { to: alice.address(), amount: Amount(1) });
    alice.run(pay).await.unwrap();
    drop(held);
    crate::network::wait_until("streams are free again", async || {
        ask(&network, "/v1/events", other(200)).await.1 == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_holds_no_more_streams_than_its_own() {
    let network = Network::start();
    let mut held = Vec::new();
    for _ in 0..9 {
        held.push(ask(&network, "/v1/events", other(1)).await);
    }
    let answered = held.iter().filter(|(_, status)| *status == 200).count();
    assert_eq!(answered, 8);
    assert_eq!(ask(&network, "/v1/events", other(2)).await.1, 200);
    assert_eq!(ask(&network, "/healthz", other(1)).await.1, 200, "its health is its own");
}

/// Begins to send a transaction on a connection of its own, and never ends.
async fn begin_to_send(network: &Network, client: Ipv4Addr) -> TcpStream {
    let mut stream = TcpStream::connect(network.api()).await.unwrap();
    let head = format!(
        "POST /v1/transactions HTTP/1.1\r\nhost: node\r\nx-forwarded-for: {client}\r\n\
         content-length: 200\r\n\r\n0"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_has_a_place_while_a_hundred_networks_begin_to_send_and_never_end() {
    let network = Network::start();
    let mut held = Vec::new();
    for number in 0..700 {
        held.push(begin_to_send(&network, other(number % 100)).await);
    }
    // The place is taken from one of those who hold several, the one that has waited longest.
    let mut modest = begin_to_send(&network, other(200)).await;
    for _ in 0..20 {
        held.push(begin_to_send(&network, other(201)).await);
    }
    modest.write_all(&[0; 199]).await.unwrap();
    let mut begin = [0; 12];
    modest.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, b"HTTP/1.1 400", "it is read, and no transaction");
    let mut end = [0; 1];
    let read = tokio::time::timeout(Duration::from_secs(10), held[0].read(&mut end)).await;
    assert!(matches!(read.unwrap(), Ok(0) | Err(_)), "the first one gave way");
    let alice = network.sender("account-1").await;
    let pay = Action::Transfer(action::Transfer { to: alice.address(), amount: Amount(1) });
    alice.run(pay).await.unwrap();
}

/// How many transactions a client sends, each as `make` makes it, until it must wait.
async fn sent_until_limited(
    network: &Network,
    client: Ipv4Addr,
    make: impl Fn(u32) -> SignedTransaction,
) -> u32 {
    for number in 0..1_000 {
        let mut stream = TcpStream::connect(network.api()).await.unwrap();
        let signed = make(number);
        let head = format!(
            "POST /v1/transactions HTTP/1.1\r\nhost: node\r\nx-forwarded-for: {client}\r\n\
             content-length: {}\r\n\r\n",
            signed.bytes().len()
        );
        stream.write_all(&[head.as_bytes(), signed.bytes()].concat()).await.unwrap();
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).await.unwrap();
        match &begin[9..] {
            b"429" => return number,
            b"422" | b"409" => {}
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    panic!("it is never limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_duties_that_the_rules_reject_is_charged_for_the_work() {
    let network = Network::start();
    let [validator, alice] =
        ["validator-1", "account-1"].map(|name| network.local.key(name).unwrap());
    let chain = network.local.genesis().chain_id();
    let signed = |key: &SecretKey, nonce, fee, action| {
        let transaction = Transaction {
            chain,
            sender: key.address(),
            nonce,
            tip: Amount::ZERO,
            fee_limit: fee,
            valid_until_ms: u64::MAX,
            action,
        };
        transaction.sign(key)
    };
    let payments = sent_until_limited(&network, other(1), |number| {
        let pay = Action::Transfer(action::Transfer { to: alice.address(), amount: Amount(1) });
        signed(&alice, 1_000_000 + u64::from(number), Amount::soma(1), pay)
    })
    .await;
    let duties = sent_until_limited(&network, other(2), |number| {
        let chunk = number.to_le_bytes().to_vec();
        let answer = action::AnswerChallenge { epoch: Epoch(9), chunk, path: Vec::new() };
        signed(&validator, 0, Amount::ZERO, Action::AnswerChallenge(answer))
    })
    .await;
    assert!(duties * 2 <= payments, "{duties} duties, {payments} payments");
}

/// Puts a file there that takes long to download: connections do not hold it.
fn long_file(network: &Network) -> Hash {
    let bytes = vec![7; 64 << 20];
    let hash = Hash::of_bytes(&bytes);
    let path = network.path(&format!("state/node-1/weights/ciphertexts/{hash}"));
    std::fs::write(path, bytes).unwrap();
    hash
}

/// A client in one of a few networks.
fn neighbor(network: u32, number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((203 << 24) + (network << 8) + number + 1)
}

/// Reads four times as much as a node demands at first.
async fn read_slowly(mut stream: TcpStream) {
    let mut piece = vec![0; 32 << 10];
    while stream.read_exact(&mut piece).await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_and_a_peer_have_places_while_sixteen_clients_hold_all_downloads() {
    let network = Network::with_peers(vec!["http://127.0.0.1:1".to_owned()]);
    let file = long_file(&network);
    let path = format!("/v1/ciphertexts/{file}");
    let clients = (0..16_u32).flat_map(|client| [neighbor(client / 4, client % 4); 8]);
    let begun = join_all(clients.map(|client| ask(&network, &path, client))).await;
    let mut held = JoinSet::new();
    for (stream, status) in begun {
        assert_eq!(status, 200);
        held.spawn(read_slowly(stream));
    }
    let more = ask(&network, &path, neighbor(0, 9)).await.1;
    assert!([429, 503].contains(&more), "{more}: nobody makes room for more of the same");

    // An owner uploads through them; others are refused before they have a place.
    let owner = network.sender("account-1").await;
    let weights = Weights::init(&network.architecture(), [1; 32]).unwrap();
    commit(&network, &owner, "owl", &weights).await;
    let upload = format!("{path}/upload?size_bytes=1");
    assert_eq!(ask(&network, &upload, other(1)).await.1, 403);
    let other_key = SecretKey::from_bytes(&[77; 32]);
    let until_ms = soma_os::clock::now_ms() + PERMIT_MS;
    let chain = network.local.genesis().chain_id();
    let permit = UploadPermit::sign(&other_key, &chain, &file, until_ms);
    let header = format!("authorization: {permit}\r\n");
    assert_eq!(ask_with(&network, &upload, other(1), &header).await.1, 404);

    // A peer shows its key; nobody else has its places.
    let server = network.local.genesis().validators[0].consensus_key;
    let peer = SecretKey::from_bytes(&[1; 32]);
    for (key, client, place) in
        [(&peer, neighbor(0, 10), true), (&other_key, neighbor(1, 10), false)]
    {
        let permit = PeerPermit::sign(key, &chain, &server, &file, until_ms);
        let header = format!("authorization: {permit}\r\n");
        let status = ask_with(&network, &path, client, &header).await.1;
        assert_eq!(status == 200, place, "{status}");
    }

    // A newcomer has the place of the slowest of the network with most.
    assert_eq!(ask(&network, &path, other(1)).await.1, 200);
    drop(held);
}

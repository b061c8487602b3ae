//! A node whose chain is long answers every question in time, and has no more files open than one
//! whose chain is short.
//!
//! `SOMA_HISTORY=1000,10000,100000 cargo test --release -p soma-node --test running long_history --
//! --nocapture` makes a network of that many models, targets and blocks, and prints how long each
//! route takes; with `SOMA_HISTORY_STAYS` it then stays up, for a browser.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use soma_model::{Directions, Engine, KernelChoice, Weights};
use soma_node::localnet::{Plan, account_name};
use soma_protocol::{
    Action, Amount, GenesisModel, Hash, Params, Phase, SecretKey, SignedTransaction, action,
};
use soma_sdk::api::routes;

use crate::network::{Network, wait_until};

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_millis(if cfg!(debug_assertions) { 5_000 } else { 100 });
/// What asks for files and submissions that are not there.
const FILES: [&str; 4] = ["/v1/weights", "/v1/ciphertexts", "/v1/targets/", "/v1/pieces"];
/// How often each question is asked.
const TIMES: u32 = 5;
/// Payments between two looks at the chain.
const BATCH: u64 = 16;

/// How long the history is.
#[derive(Clone, Copy, Debug)]
struct Size {
    models: u32,
    targets: u32,
    blocks: u64,
}

impl Size {
    /// That of the environment, else a small one.
    fn wanted() -> Self {
        let Ok(text) = std::env::var("SOMA_HISTORY") else {
            return Self { models: 20, targets: 60, blocks: 300 };
        };
        let numbers: Vec<u32> = text.split(',').map(|number| number.parse().unwrap()).collect();
        let [models, targets, blocks] = numbers[..] else {
            panic!("SOMA_HISTORY is MODELS,TARGETS,BLOCKS");
        };
        Self { models, targets, blocks: blocks.into() }
    }

    fn targets_per_epoch(self) -> u32 {
        self.targets.div_ceil(3).min(100)
    }
}

/// A network whose models are active from the start.
fn network(size: Size) -> Network {
    let plan = Network::plan();
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let weights = Weights::init(&plan.architecture, [1; 32]).unwrap();
    let directions = Directions::new(&plan.architecture, [2; 32]);
    let model = |number: u32| {
        let text = format!("what model {number} is good at, as no other one is {}", number * 7_919);
        let score = soma_model::score(&engine, &weights, text.as_bytes(), &directions).unwrap();
        let hash = |what: &str| Hash::of_bytes(format!("{what} {number}").as_bytes());
        GenesisModel {
            owner: SecretKey::from_bytes(&hash("owner").0).address(),
            name: format!("model-{number}"),
            commission_bps: 1_000,
            stake: Amount::soma(100),
            weights_hash: hash("weights"),
            ciphertext_hash: hash("ciphertext"),
            size_bytes: 4_096,
            key: hash("key").0,
            specialization: score.score.embedding,
        }
    };
    let plan = Plan {
        params: Params {
            targets_per_epoch: size.targets_per_epoch(),
            models_per_target: 4,
            ..plan.params.clone()
        },
        models: (1..=size.models).map(model).collect(),
        ..plan
    };
    Network::of(&plan, |config| {
        // Blocks with payments follow each other as fast as they are finalized.
        (config.settings.block_ms, config.settings.idle_block_ms) = (1, 500);
        config.settings.clients.requests_per_second = 1_000_000;
        config.settings.clients.transactions_per_second = 1_000_000;
    })
}

/// Pays from an account until the chain has this many blocks. Returns its last payment.
async fn pay(network: &Network, account: u32, blocks: u64) -> Hash {
    let sender = network.sender(&account_name(account)).await;
    let to = network.sender(&account_name(account + 1)).await.address();
    let mut nonce = 0;
    loop {
        let sign = |nonce| {
            let transfer = action::Transfer { to, amount: Amount(1) };
            sender.sign(Action::Transfer(transfer), nonce, u64::MAX)
        };
        let batch: Vec<SignedTransaction> = (nonce..nonce + BATCH).map(sign).collect();
        for transaction in &batch {
            network.client.send(transaction).await.unwrap();
        }
        nonce += BATCH;
        let paid =
            async || network.client.account(sender.address()).await.unwrap().nonce.0 >= nonce;
        wait_until("payments are made", paid).await;
        if network.client.status().await.unwrap().height.0 >= blocks {
            return batch.last().unwrap().hash();
        }
    }
}

/// The paths of all questions, with values that exist, and their longest pages. A value is for the
/// paths that begin like this.
fn questions(document: &Value, values: &[(&str, &str, String)]) -> Vec<String> {
    let paths = document["paths"].as_object().unwrap();
    let asked = paths.iter().filter_map(|(path, methods)| Some((path, methods.get("get")?)));
    let filled = asked.map(|(path, get)| {
        let values = values.iter().filter(|(begin, ..)| path.starts_with(begin));
        let path = values.fold(path.clone(), |path, (_, name, value)| path.replace(name, value));
        let mut parameters = get["parameters"].as_array().into_iter().flatten();
        let is_paged = parameters.any(|parameter| parameter["name"] == "limit");
        if path == routes::PROOF {
            let keys = vec!["5a".repeat(32); routes::PROVED_RECORDS_MAX];
            return format!("{path}?keys={}", keys.join(","));
        }
        if is_paged { format!("{path}?limit={}", routes::PAGE_MAX) } else { path }
    });
    filled.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_route_of_a_node_with_a_long_history_answers_in_time() {
    let size = Size::wanted();
    let network = network(size);
    let epoch = size.targets.div_ceil(size.targets_per_epoch()) + 1;
    let drawn = network.go_to(epoch, Phase::Compete);
    let (payment, ()) = tokio::join!(pay(&network, 1, size.blocks), drawn);
    let status = network.client.status().await.unwrap();
    let (epoch, height) = (status.clock.epoch, status.height.0);
    let drawn = (epoch - 1) * size.targets_per_epoch();
    assert!(height >= size.blocks && drawn >= size.targets, "{height} blocks, {drawn} targets");
    eprintln!("{} models, {drawn} targets, {height} blocks, epoch {epoch}", size.models);

    let http = reqwest::Client::new();
    let base = network.client.url().to_owned();
    let document = http.get(format!("{base}/openapi.json")).send().await.unwrap();
    let document: Value = serde_json::from_str(&document.text().await.unwrap()).unwrap();
    let address = network.sender(&account_name(1)).await.address();
    let validator = network.client.validators().await.unwrap()[0].address;
    let model = &network.client.models().await.unwrap()[0];
    let [weights_hash, ciphertext_hash] = model
        .weights
        .as_ref()
        .map(|file| [file.hash.to_string(), file.ciphertext_hash.to_string()])
        .unwrap();
    let values = [
        ("/v1/validators", "{address}", validator.to_string()),
        ("/v1/ciphertexts", "{hash}", ciphertext_hash),
        ("/v1/weights", "{hash}", weights_hash),
        ("", "{address}", address.to_string()),
        ("", "{hash}", payment.to_string()),
        ("", "{id}", size.models.div_ceil(2).to_string()),
        ("", "{epoch}", epoch.to_string()),
        ("", "{height}", (height / 2).to_string()),
    ];
    let mut slow = Vec::new();
    for path in questions(&document, &values) {
        let mut longest = Duration::ZERO;
        let mut bytes = 0;
        for _ in 0..TIMES {
            let begun = Instant::now();
            let mut response = http.get(format!("{base}{path}")).send().await.unwrap();
            assert!(!response.status().is_server_error(), "{path}: {}", response.status());
            // A stream never ends; what counts is that it begins.
            let is_stored = !FILES.iter().any(|begin| path.starts_with(begin));
            assert!(response.status().is_success() || !is_stored, "{path}: {}", response.status());
            if path != "/v1/events" {
                while let Some(part) = response.chunk().await.unwrap() {
                    bytes += part.len();
                }
            }
            longest = longest.max(begun.elapsed());
        }
        eprintln!(
            "{:>7.1} ms {:>9} B  {path}",
            longest.as_secs_f64() * 1e3,
            bytes / TIMES as usize
        );
        if longest > PATIENCE {
            slow.push((path, longest));
        }
    }
    let metrics = http.get(format!("{base}/metrics")).send().await.unwrap().text().await.unwrap();
    let terms: BTreeSet<&str> = metrics
        .split("marshal_cache_cache_verified_syncs_total{epoch=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert!((1..=2).contains(&terms.len()), "terms with open files: {terms:?}");
    if std::env::var("SOMA_HISTORY_STAYS").is_ok() {
        eprintln!("page  {base}/");
        tokio::time::sleep(Duration::from_mins(10)).await;
    }
    assert!(slow.is_empty(), "longer than {PATIENCE:?}: {slow:?}");
}

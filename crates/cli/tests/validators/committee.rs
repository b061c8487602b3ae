//! The committee changes while transactions flow: a fifth validator joins by stake with its own
//! node, and the first one leaves.

use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use soma_protocol::Address;
use soma_sdk::client::Client;

use crate::network::{Network, Node, until};
use crate::support::{Process, command, json};

/// Blocks of a term; a committee takes office at the second boundary after it was decided.
const TERM_BLOCKS: u64 = 128;
/// Number of blocks of which each of four active validators has proposed at least one.
const TURNS: u64 = 40;

/// Seat of a validator, as `soma validator list` shows it.
fn seat(network: &Network, address: &str) -> Value {
    let all = network.json(&["validator", "list"]);
    let one = |one: &&Value| one["address"] == address;
    all.as_array().unwrap().iter().find(one).map_or(Value::Null, |one| one["seat"].clone())
}

/// A fifth node, registered as a validator and running, as docs/guides/run-a-node.md describes.
struct Newcomer {
    client: Client,
    address: String,
    _process: Process,
}

impl Newcomer {
    fn join(network: &Network, home: &Path) -> Self {
        let dir = home.join("fifth");
        let dir = dir.to_str().unwrap();
        let genesis = network.state.join("genesis.json");
        let genesis = genesis.to_str().unwrap();
        let mut init = vec!["node", "init", "--dir", dir, "--genesis", genesis];
        init.extend(["--api", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
        let peers: Vec<String> = network.nodes.iter().map(|node| node.as_peer(home)).collect();
        for peer in &peers {
            init.extend(["--peer", peer]);
        }
        let address = json(home, &init)["address"].as_str().unwrap().to_owned();
        network.json(&["send", &address, "2000", "--key", "account-2"]);
        let key = |name: &str| format!("{dir}/keys/{name}.json");
        let (account, consensus) = (key("account"), key("consensus"));
        let mut register = vec!["validator", "register", "--stake", "1000"];
        register.extend(["--consensus-key", &consensus, "--key", &account]);
        network.json(&register);
        let mut child = command(home)
            .args(["node", "run", "--json", "--dir", dir])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let process = Process(child);
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
        let told: Value = serde_json::from_str(&line).unwrap();
        Self {
            client: Client::new(told["url"].as_str().unwrap()).unwrap(),
            address,
            _process: process,
        }
    }

    async fn follows(&self, height: u64) {
        until("the newcomer follows", async || {
            let status = self.client.status().await;
            status.is_ok_and(|status| status.height.0 >= height)
        })
        .await;
    }
}

/// Proposers of the next committee's first blocks; it takes office when a term begins.
async fn next_proposers(node: &Node) -> Vec<Address> {
    let office = (node.height().await / TERM_BLOCKS + 2) * TERM_BLOCKS;
    until("the committee takes office", async || node.height().await >= office + TURNS).await;
    let mut proposers = Vec::new();
    for height in office..office + TURNS {
        proposers.push(node.client.block(height).await.unwrap().proposer.0);
    }
    proposers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifth_validator_joins_by_stake_and_a_first_one_leaves_while_transactions_flow() {
    let home = tempfile::tempdir().unwrap();
    let flags = ["--epoch", "manual", "--block-ms", "20"];
    let network = Network::start(home.path(), &flags).await;
    let load = network.load("account-1", 3).await;
    load.progresses(3).await;
    let fifth = Newcomer::join(&network, home.path());
    let height = network.nodes[0].height().await;
    fifth.follows(height).await;

    // At most one seat in three changes with an epoch.
    let first = network.json(&["keys", "show", "validator-1"])["address"].clone();
    let first = first.as_str().unwrap().to_owned();
    network.json(&["send", &first, "1", "--key", "account-2"]);
    let left = network.json(&["validator", "leave", "--key", "validator-1"]);
    assert_eq!(left["status"], "leaving");
    let mut epoch = 1;
    while seat(&network, &fifth.address).is_null() || !seat(&network, &first).is_null() {
        assert!(epoch < 5, "the committee does not change");
        epoch += 1;
        network.turn_to(epoch, "reveal").await;
    }
    load.progresses(1).await;
    let proposers = next_proposers(&network.nodes[3]).await;
    assert!(proposers.contains(&fifth.address.parse().unwrap()));
    assert!(!proposers.contains(&first.parse().unwrap()));

    // Without the one that left and another one, three of four remain, including the newcomer.
    network.nodes[0].kill();
    network.nodes[1].kill();
    load.progresses(5).await;
    let known = network.nodes[3].hash(height).await;
    assert_eq!(fifth.client.block(height).await.unwrap().hash.0, known);
    let status = fifth.client.status().await.unwrap();
    assert!(status.supply.conserved);
}

//! A network of four whose processes are killed and restarted, and a node that follows it.

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use soma_sdk::client::Client;
use soma_sdk::keys::KeyFolder;

use crate::network::{Network, until};
use crate::support::{Process, command, json};

/// A network without a block for this long has halted: normally it makes several per second.
const STILL: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_survive_one_crash_halt_at_two_and_agree_when_all_are_back() {
    let home = tempfile::tempdir().unwrap();
    let network = Network::start(home.path(), &["--epoch", "1h"]).await;
    let nodes = &network.nodes;
    let load = network.load("account-1", 0).await;
    load.progresses(3).await;

    // One is killed meanwhile: the others continue.
    let before = nodes[3].height().await;
    let known = nodes[3].hash(before).await;
    nodes[3].kill();
    load.progresses(10).await;

    // A second one is killed: two of four are not a quorum.
    nodes[2].kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let halted = nodes[0].height().await;
    tokio::time::sleep(STILL).await;
    assert_eq!(nodes[0].height().await, halted, "two of four decided something");
    let ready = nodes[0].client.status().await;
    assert!(ready.is_ok(), "finalized state can still be read");

    // One of them is back: the network continues, with everything that was finalized.
    let _second = nodes[2].run(home.path());
    load.progresses(5).await;

    // So is the other: it catches up, and no finalized block differs anywhere.
    let _first = nodes[3].run(home.path());
    let now = nodes[0].height().await;
    assert!(now > halted && halted > before);
    until("the restarted node catches up", async || nodes[3].height().await >= now).await;
    assert_eq!(nodes[3].hash(before).await, known);
    until("all nodes are there", async || nodes[2].height().await >= now).await;
    for height in 1..=now {
        let wanted = nodes[0].hash(height).await;
        for node in &nodes[1..] {
            assert_eq!(node.hash(height).await, wanted, "block {height} differs");
        }
    }
    load.progresses(3).await;
    assert!(nodes[1].client.status().await.unwrap().supply.conserved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_seat_follows_the_network_and_serves_finalized_blocks() {
    let home = tempfile::tempdir().unwrap();
    let network = Network::start(home.path(), &["--epoch", "1h"]).await;
    let load = network.load("account-1", 0).await;
    load.progresses(3).await;
    drop(load);

    // The steps of docs/guides/run-a-node.md: create a folder, name each other, start.
    let dir = home.path().join("follower");
    let genesis = network.state.join("genesis.json");
    let mut arguments = vec!["node", "init", "--dir", dir.to_str().unwrap()];
    arguments.extend(["--genesis", genesis.to_str().unwrap()]);
    arguments.extend(["--api", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    let peers: Vec<String> = network.nodes.iter().map(|node| node.as_peer(home.path())).collect();
    for peer in &peers {
        arguments.extend(["--peer", peer]);
    }
    let made = json(home.path(), &arguments);
    #[cfg(unix)]
    for name in ["account", "consensus"] {
        let file = KeyFolder::of(&dir).path_of(name);
        let mode = std::fs::metadata(file).unwrap().permissions();
        assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777, 0o600);
    }
    let key = made["consensus_key"].as_str().unwrap();
    let mut restarted = Vec::new();
    for node in &network.nodes {
        let settings = node.dir.join("config.toml");
        let text = std::fs::read_to_string(&settings).unwrap();
        std::fs::write(&settings, format!("{text}\n[[peers]]\nkey = \"{key}\"\n")).unwrap();
        node.kill();
        tokio::time::sleep(Duration::from_millis(300)).await;
        restarted.push(node.run(home.path()));
    }
    let mut child = command(home.path())
        .args(["node", "run", "--json", "--dir", dir.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let running = Process(child);
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).unwrap();
    let told: Value = serde_json::from_str(&line).unwrap();
    let follower = Client::new(told["url"].as_str().unwrap()).unwrap();

    // Another account: the last transactions of the first may be lost with a pool.
    let load = network.load("account-2", 0).await;
    load.progresses(3).await;
    let height = network.nodes[0].height().await;
    until("the follower catches up", async || {
        follower.status().await.is_ok_and(|status| status.height.0 >= height)
    })
    .await;
    for height in 1..=height {
        let wanted = network.nodes[0].hash(height).await;
        assert_eq!(follower.block(height).await.unwrap().hash.0, wanted);
    }

    // Its files are valid.
    drop((running, load));
    let verified = json(home.path(), &["node", "verify-store", "--dir", dir.to_str().unwrap()]);
    assert!(verified["blocks"].as_str().unwrap().parse::<u64>().unwrap() >= height);
}

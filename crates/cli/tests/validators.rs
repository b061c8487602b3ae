//! A network of four validators, each a process with its own sockets and disk, as it is killed and comes back; and a node
//! that follows it.
#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use soma_protocol::{Action, Amount, Hash};
use soma_sdk::client::Client;
use soma_sdk::keys::KeyFolder;
use soma_sdk::sender::Sender;
use support::{command, json};

const PATIENCE: Duration = Duration::from_mins(3);
/// A network that makes no block for so long has halted: with all there it makes several a second.
const STILL: Duration = Duration::from_secs(4);

/// A process of a test, killed when the test is over.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !question().await {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

struct Node {
    client: Client,
    dir: PathBuf,
    pid: u64,
}

impl Node {
    async fn height(&self) -> u64 {
        self.client
            .status()
            .await
            .map_or(0, |status| status.height.0)
    }

    async fn hash(&self, height: u64) -> Hash {
        self.client.block(height).await.unwrap().hash.0
    }

    fn kill(&self) {
        let pid = self.pid.to_string();
        let killed = std::process::Command::new("kill")
            .args(["-9", &pid])
            .status();
        assert!(killed.unwrap().success());
    }

    /// Runs it again, in a process of the test.
    fn run(&self, home: &Path) -> Process {
        let dir = self.dir.to_str().unwrap();
        let child = command(home)
            .args(["node", "run", "--dir", dir])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process(child.unwrap())
    }
}

/// A network of four, and the process that started it.
struct Network {
    _localnet: Process,
    state: PathBuf,
    nodes: Vec<Node>,
}

impl Network {
    async fn start(home: &Path) -> Self {
        let (info, state) = (home.join("info.json"), home.join("network"));
        let child = command(home)
            .args([
                "localnet",
                "--validators",
                "4",
                "--epoch",
                "1h",
                "--port",
                "0",
            ])
            .arg("--info-out")
            .arg(&info)
            .arg("--state")
            .arg(&state)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let localnet = Process(child.unwrap());
        until("the network starts", async || info.is_file()).await;
        let info: Value = serde_json::from_slice(&std::fs::read(&info).unwrap()).unwrap();
        let node = |entry: &Value| Node {
            client: Client::new(entry["url"].as_str().unwrap()).unwrap(),
            dir: PathBuf::from(entry["dir"].as_str().unwrap()),
            pid: entry["pid"].as_u64().unwrap(),
        };
        let nodes: Vec<Node> = info["nodes"].as_array().unwrap().iter().map(node).collect();
        assert_eq!(nodes.len(), 4);
        Self {
            _localnet: localnet,
            state,
            nodes,
        }
    }

    /// Sends from one account to the first node until it is told to end; counts what became final.
    async fn load(&self, account: &str) -> Load {
        let keys = KeyFolder::new(self.state.join("keys"));
        let key = keys.load(account, None).unwrap();
        let sender = Sender::new(self.nodes[0].client.clone(), key)
            .await
            .unwrap();
        let load = Load::default();
        let (ends, done) = (Arc::clone(&load.ends), Arc::clone(&load.done));
        tokio::spawn(async move {
            let to = sender.address();
            while !ends.load(Ordering::Relaxed) {
                let action = Action::Transfer {
                    to,
                    amount: Amount(1),
                };
                if sender.run(action).await.is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        load
    }
}

#[derive(Default)]
struct Load {
    ends: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Load {
    /// Waits until `count` more transactions are final.
    async fn goes_on(&self, count: u64) {
        let wanted = self.done.load(Ordering::Relaxed) + count;
        until("transactions become final", async || {
            self.done.load(Ordering::Relaxed) >= wanted
        })
        .await;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_survive_one_death_halt_at_two_and_agree_when_all_are_back() {
    let home = tempfile::tempdir().unwrap();
    let network = Network::start(home.path()).await;
    let nodes = &network.nodes;
    let load = network.load("account-1").await;
    load.goes_on(3).await;

    // One dies in the middle of it: the others go on.
    let before = nodes[3].height().await;
    let known = nodes[3].hash(before).await;
    nodes[3].kill();
    load.goes_on(10).await;

    // A second one dies: two of four are no quorum.
    nodes[2].kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let halted = nodes[0].height().await;
    tokio::time::sleep(STILL).await;
    assert_eq!(
        nodes[0].height().await,
        halted,
        "two of four decided something"
    );
    let ready = nodes[0].client.status().await;
    assert!(ready.is_ok(), "what is final can still be read");

    // One of them is back: the network goes on, with everything that was final.
    let _second = nodes[2].run(home.path());
    load.goes_on(5).await;

    // The other one too: it catches up, and nothing that was final differs anywhere.
    let _first = nodes[3].run(home.path());
    let now = nodes[0].height().await;
    assert!(now > halted && halted > before);
    until("the restarted node catches up", async || {
        nodes[3].height().await >= now
    })
    .await;
    assert_eq!(nodes[3].hash(before).await, known);
    until("all nodes are there", async || {
        nodes[2].height().await >= now
    })
    .await;
    for height in 1..=now {
        let wanted = nodes[0].hash(height).await;
        for node in &nodes[1..] {
            assert_eq!(node.hash(height).await, wanted, "block {height} differs");
        }
    }
    load.goes_on(3).await;
    assert!(nodes[1].client.status().await.unwrap().supply.conserved);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_seat_follows_the_network_and_serves_what_is_final() {
    let home = tempfile::tempdir().unwrap();
    let network = Network::start(home.path()).await;
    let load = network.load("account-1").await;
    load.goes_on(3).await;
    drop(load);

    // The steps of docs/guides/run-a-node.md: make a folder, name each other, start.
    let dir = home.path().join("follower");
    let genesis = network.state.join("genesis.json");
    let mut arguments = vec!["node", "init", "--dir", dir.to_str().unwrap()];
    arguments.extend(["--genesis", genesis.to_str().unwrap()]);
    arguments.extend(["--api", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    let peers: Vec<String> = network
        .nodes
        .iter()
        .map(|node| peer(home.path(), node))
        .collect();
    for peer in &peers {
        arguments.extend(["--peer", peer]);
    }
    let made = json(home.path(), &arguments);
    #[cfg(unix)]
    for name in ["account", "consensus"] {
        let file = KeyFolder::new(dir.join("keys")).path_of(name);
        let mode = std::fs::metadata(file).unwrap().permissions();
        assert_eq!(
            std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
            0o600
        );
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

    // Another account: what the first one sent last may have died with a pool.
    let load = network.load("account-2").await;
    load.goes_on(3).await;
    let height = network.nodes[0].height().await;
    until("the follower catches up", async || {
        follower
            .status()
            .await
            .is_ok_and(|status| status.height.0 >= height)
    })
    .await;
    for height in 1..=height {
        let wanted = network.nodes[0].hash(height).await;
        assert_eq!(follower.block(height).await.unwrap().hash.0, wanted);
    }

    // What it has on disk is whole.
    drop((running, load));
    let verified = json(
        home.path(),
        &["node", "verify-store", "--dir", dir.to_str().unwrap()],
    );
    assert!(verified["blocks"].as_str().unwrap().parse::<u64>().unwrap() >= height);
}

/// A node as another one names it.
fn peer(home: &Path, node: &Node) -> String {
    let shown = json(home, &["node", "show", "--dir", node.dir.to_str().unwrap()]);
    let (key, listen) = (shown["consensus_key"].as_str(), shown["listen"].as_str());
    format!("{}@{}={}", key.unwrap(), listen.unwrap(), node.client.url())
}

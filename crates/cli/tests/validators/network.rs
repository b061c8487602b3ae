//! A local network of four nodes, and load on it.

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use soma_protocol::{Action, Amount, Hash, action};
use soma_sdk::client::Client;
use soma_sdk::keys::KeyFolder;
use soma_sdk::sender::Sender;

use crate::support::{Process, command, json, last_line, soma, stderr};

const PATIENCE: Duration = Duration::from_mins(3);

pub(crate) async fn until(what: &str, mut question: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !question().await {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(crate) struct Node {
    pub(crate) client: Client,
    pub(crate) dir: PathBuf,
    pub(crate) pid: u32,
}

impl Node {
    pub(crate) async fn height(&self) -> u64 {
        self.client.status().await.map_or(0, |status| status.height.0)
    }

    pub(crate) async fn hash(&self, height: u64) -> Hash {
        self.client.block(height).await.unwrap().hash.0
    }

    pub(crate) fn kill(&self) {
        let pid = self.pid.to_string();
        let killed = std::process::Command::new("kill").args(["-9", &pid]).status();
        assert!(killed.unwrap().success());
    }

    /// Runs it again, as a process of the test.
    pub(crate) fn run(&self, home: &Path) -> Process {
        let dir = self.dir.to_str().unwrap();
        let child = command(home)
            .args(["node", "run", "--dir", dir])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Process(child.unwrap())
    }

    /// This node as a `--peer` argument.
    pub(crate) fn as_peer(&self, home: &Path) -> String {
        let shown = json(home, &["node", "show", "--dir", self.dir.to_str().unwrap()]);
        let (key, listen) = (shown["consensus_key"].as_str(), shown["listen"].as_str());
        format!("{}@{}={}", key.unwrap(), listen.unwrap(), self.client.url())
    }
}

/// A network of four, and the process that started it. Commands find its keys by name.
pub(crate) struct Network {
    _localnet: Process,
    home: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) nodes: Vec<Node>,
}

impl Network {
    pub(crate) async fn start(home: &Path, flags: &[&str]) -> Self {
        let (info, state) = (home.join("info.json"), home.join("localnet"));
        let child = command(home)
            .args(["localnet", "--validators", "4", "--port", "0"])
            .args(flags)
            .arg("--info-out")
            .arg(&info)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let localnet = Process(child.unwrap());
        until("the network starts", async || info.is_file()).await;
        let info: Value = serde_json::from_slice(&std::fs::read(&info).unwrap()).unwrap();
        let node = |entry: &Value| Node {
            client: Client::new(entry["url"].as_str().unwrap()).unwrap(),
            dir: PathBuf::from(entry["dir"].as_str().unwrap()),
            pid: u32::try_from(entry["pid"].as_u64().unwrap()).unwrap(),
        };
        let nodes: Vec<Node> = info["nodes"].as_array().unwrap().iter().map(node).collect();
        assert_eq!(nodes.len(), 4);
        Self { _localnet: localnet, home: home.to_owned(), state, nodes }
    }

    /// Runs a command against the first node; returns its result.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let url = self.nodes[0].client.url();
        json(&self.home, &[arguments, &["--url", url]].concat())
    }

    /// Runs a command against the first node and ignores its output.
    pub(crate) fn run(&self, arguments: &[&str]) {
        let url = self.nodes[0].client.url();
        let output = soma(&self.home, &[arguments, &["--url", url]].concat());
        assert!(output.status.success(), "{}", stderr(&output));
    }

    /// Starts a command against the first node.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Running {
        let child = command(&self.home)
            .args(arguments)
            .args(["--json", "--url", self.nodes[0].client.url()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        Running(child.unwrap())
    }

    /// Starts a `soma submit`, and waits until its documents are committed: they count in the next
    /// epoch.
    pub(crate) async fn submit(&self, arguments: &[&str]) -> Running {
        let running = self.begin(arguments);
        let key = arguments.iter().skip_while(|argument| **argument != "--key").nth(1).unwrap();
        let (client, address) = (&self.nodes[0].client, self.sender(key).await.address());
        until("the documents are committed", async || {
            let account = client.account(address).await.unwrap();
            account.next_corpus.is_some()
        })
        .await;
        running
    }

    /// Ends phases until this one runs.
    pub(crate) async fn turn_to(&self, epoch: u32, phase: &str) {
        loop {
            let clock = self.nodes[0].client.status().await.unwrap().clock;
            if clock.epoch == epoch && clock.phase.to_string() == phase {
                return;
            }
            assert!(clock.epoch <= epoch, "epoch {epoch} is over");
            self.json(&["localnet", "next"]);
        }
    }

    /// Restarts all nodes so that they believe a proxy on this machine, which names strangers: this
    /// machine itself is not limited.
    pub(crate) async fn restart_behind_a_proxy(&mut self, home: &Path) -> Vec<Process> {
        let mut running = Vec::new();
        for node in &mut self.nodes {
            let settings = node.dir.join("config.toml");
            let text = std::fs::read_to_string(&settings).unwrap();
            let trusting = text.replace("trust_proxy = false", "trust_proxy = true");
            assert_ne!(trusting, text);
            std::fs::write(&settings, trusting).unwrap();
            node.kill();
            tokio::time::sleep(Duration::from_millis(300)).await;
            let process = node.run(home);
            node.pid = process.0.id();
            running.push(process);
        }
        for node in &self.nodes {
            until("the node is back", async || node.client.status().await.is_ok()).await;
        }
        running
    }

    /// An account of the network that acts through its first node.
    pub(crate) async fn sender(&self, account: &str) -> Sender {
        let keys = KeyFolder::of(&self.state);
        let key = keys.load(account, None).unwrap();
        let client = self.nodes[0].client.clone();
        Sender::on_any_chain(client, key).await.unwrap()
    }

    /// Sends from one account to a node until it is stopped; counts finalized transactions.
    pub(crate) async fn load(&self, account: &str, node: usize) -> Load {
        let keys = KeyFolder::of(&self.state);
        let key = keys.load(account, None).unwrap();
        let sender = Sender::on_any_chain(self.nodes[node].client.clone(), key).await.unwrap();
        let load = Load::default();
        let (ends, done) = (Arc::clone(&load.ends), Arc::clone(&load.done));
        tokio::spawn(async move {
            let to = sender.address();
            while !ends.load(Ordering::Relaxed) {
                let action = Action::Transfer(action::Transfer { to, amount: Amount(1) });
                if sender.run(action).await.is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        load
    }
}

/// A command that runs in the background.
pub(crate) struct Running(Child);

impl Running {
    /// Waits until it succeeds; returns what it printed.
    pub(crate) fn output(self) -> Output {
        let output: Output = self.0.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        output
    }

    /// Waits until it succeeds; returns its result.
    pub(crate) fn result(self) -> Value {
        last_line(&self.output())
    }

    /// Kills it, whatever it does.
    pub(crate) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[derive(Default)]
pub(crate) struct Load {
    ends: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
}

impl Load {
    /// Waits until `count` more transactions are finalized.
    pub(crate) async fn progresses(&self, count: u64) {
        let wanted = self.done.load(Ordering::Relaxed) + count;
        until("transactions become final", async || self.done.load(Ordering::Relaxed) >= wanted)
            .await;
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

//! Three operators start a network, a fourth node joins and moves, with the commands of
//! docs/guides/start-a-network.md and nothing else.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use soma_protocol::Genesis;
use soma_sdk::client::Client;

use crate::guides::{shell, shell_blocks};
use crate::network::until;
use crate::support::{Process, json};

/// How long after the plan is written the network begins.
const START_IN: Duration = Duration::from_secs(12);

/// The commands of the guide that begin with `# WHO`, block by block, without that line.
fn blocks(who: &str) -> Vec<String> {
    let title = format!("# {who}\n");
    let all = shell_blocks("start-a-network");
    all.iter().filter_map(|block| block.strip_prefix(title.as_str())).map(str::to_owned).collect()
}

/// Two addresses that are free.
pub(crate) fn free_addresses() -> [String; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().to_string())
}

/// Somebody's machine: a folder, a home, and addresses.
struct Host {
    dir: PathBuf,
    name: &'static str,
    p2p: String,
    api: String,
    variables: Vec<(String, String)>,
}

impl Host {
    fn new(world: &Path, name: &'static str) -> Self {
        let dir = world.join(name);
        std::fs::create_dir_all(dir.join("entries")).unwrap();
        let [p2p, api] = free_addresses();
        Self { dir, name, p2p, api, variables: Vec::new() }
    }

    /// Another machine, where the node of this one will listen.
    fn moves(&self, world: &Path) -> Self {
        let dir = world.join("another");
        std::fs::create_dir_all(&dir).unwrap();
        let [p2p, api] = free_addresses();
        let config = self.dir.join(self.name).join("config.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        let listens = |name: &str, from: &str, to: &str, text: String| {
            text.replace(&format!("{name} = \"{from}\""), &format!("{name} = \"{to}\""))
        };
        let text = listens("listen", &self.p2p, &p2p, text);
        std::fs::write(&config, listens("api", &self.api, &api, text)).unwrap();
        Self { dir, name: self.name, p2p, api, variables: Vec::new() }
    }

    fn url(&self) -> String {
        format!("http://{}", self.api)
    }

    /// The operator's own names and addresses in place of the guide's.
    fn own(&self, block: &str) -> String {
        let line = |line: &str| match line.split_once('=') {
            Some(("NAME", _)) => format!("NAME={}", self.name),
            Some(("P2P", _)) => format!("P2P={}", self.p2p),
            Some(("API", _)) => format!("API={}", self.url()),
            _ => line
                .replace("0.0.0.0:8646", &self.p2p)
                .replace("0.0.0.0:8645", &self.api)
                .replace("http://alice.example.org:8645", "$FIRST"),
        };
        block.lines().map(|text| line(text) + "\n").collect()
    }

    /// A shell on this machine, in which `soma` is the program.
    fn shell(&self, script: &str) -> Command {
        let mut shell = shell(&self.dir.join("home"), &self.dir, script);
        shell.env("SOMA_URL", self.url()).env("NAME", self.name);
        shell.envs(self.variables.iter().map(|(name, value)| (name, value)));
        shell
    }

    /// Runs commands of the guide, but a node's in the background.
    fn follow(&self, block: &str) -> Option<Process> {
        let block = self.own(block);
        let (run, rest): (Vec<&str>, Vec<&str>) =
            block.lines().partition(|line| line.starts_with("soma node run"));
        let output = self.shell(&rest.join("\n")).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {block}\n{said}", self.name);
        let run = run.first()?;
        let log = std::fs::File::create(self.dir.join("log")).unwrap();
        let is_variable = |line: &&&str| line.starts_with("P2P=") || line.starts_with("API=");
        let variables: Vec<&str> = rest.iter().filter(is_variable).copied().collect();
        let script = format!("{}\nexec {run}", variables.join("\n"));
        let child = self.shell(&script).stdout(Stdio::null()).stderr(log).spawn();
        Some(Process(child.unwrap()))
    }

    async fn height(&self) -> u64 {
        let client = Client::new(&self.url()).unwrap();
        client.status().await.map_or(0, |status| status.height.0)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let url = self.url();
        json(&self.dir.join("home"), &[arguments, &["--url", &url]].concat())
    }
}

fn copy(from: &Host, to: &Host, file: &str, folder: &str) {
    std::fs::copy(from.dir.join(file), to.dir.join(folder).join(file)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_operators_start_a_network_as_the_guide_says_and_a_fourth_joins_and_moves() {
    let world = tempfile::tempdir().unwrap();
    let mut hosts = ["alice", "bob", "carol"].map(|name| Host::new(world.path(), name));
    let start = humantime::format_rfc3339_seconds(SystemTime::now() + START_IN).to_string();
    let plan = blocks("the coordinator").concat().replace("2030-01-31T12:00:00Z", &start);
    hosts[0].follow(&plan);
    let steps = blocks("each operator");
    let [sign, assemble, begin] = steps.as_slice() else { panic!("{steps:?}") };

    for host in &hosts {
        if host.name != "alice" {
            copy(&hosts[0], host, "plan.toml", "");
        }
        host.follow(sign);
    }
    for from in &hosts {
        for to in &hosts {
            copy(from, to, &format!("{}.json", from.name), "entries");
        }
    }
    for host in &hosts {
        host.follow(assemble);
    }
    let genesis =
        hosts.each_ref().map(|host| std::fs::read(host.dir.join("genesis.json")).unwrap());
    assert!(genesis.iter().all(|bytes| *bytes == genesis[0]), "byte for byte");
    let read: Genesis = serde_json::from_slice(&genesis[0]).unwrap();
    for command in ["check", "show"] {
        let path = hosts[0].dir.join("genesis.json");
        let shown = hosts[0].json(&["genesis", command, path.to_str().unwrap()]);
        assert_eq!(shown["chain_id"], read.chain_id().to_string());
        assert_eq!((&shown["validators"], &shown["supply"]), (&3.into(), &"3300000000000".into()));
    }

    let _nodes = hosts.each_ref().map(|host| host.follow(begin).unwrap());
    until("all three finalize blocks", async || {
        let heights = [hosts[0].height().await, hosts[1].height().await, hosts[2].height().await];
        heights.into_iter().all(|height| height >= 3)
    })
    .await;
    let first = Client::new(&hosts[0].url()).unwrap().block(1).await.unwrap();
    assert!(first.timestamp_ms.0 >= read.timestamp_ms, "no block comes before the start");

    joins(world.path(), &mut hosts).await;
}

/// A fourth node is registered, follows, and moves.
async fn joins(world: &Path, hosts: &mut [Host; 3]) {
    let steps = blocks("a newcomer");
    let [init, register] = steps.as_slice() else { panic!("{steps:?}") };
    let pays = blocks("the first operator");
    let mut dora = Host::new(world, "dora");
    copy(&hosts[0], &dora, "genesis.json", "");
    dora.follow(init);
    let dir = dora.dir.join("dora");
    let shown = dora.json(&["node", "show", "--dir", dir.to_str().unwrap()]);
    let address = shown["address"].as_str().unwrap().to_owned();
    hosts[0].variables.push(("NEWCOMER".to_owned(), address.clone()));
    for block in &pays {
        hosts[0].follow(block);
    }
    dora.variables.push(("FIRST".to_owned(), hosts[0].url()));
    let node = dora.follow(register).unwrap();
    let height = hosts[0].height().await;
    until("the newcomer follows", async || dora.height().await > height + 2).await;
    let said = async |place: &Host| {
        let list = hosts[1].json(&["validator", "list"]);
        let all = list.as_array().unwrap().clone();
        assert_eq!(all.len(), 4);
        let ours = all.into_iter().find(|validator| validator["address"] == *address).unwrap();
        ours["p2p"] == *place.p2p && ours["url"] == *place.url()
    };
    until("the newcomer says where it is", async || said(&dora).await).await;

    drop(node);
    let moved = dora.moves(world);
    let [leaves] = blocks("who moves away").try_into().unwrap();
    let [moves] = blocks("who moves").try_into().unwrap();
    dora.follow(&leaves);
    copy(&dora, &moved, "dora.move", "");
    let _node = moved.follow(&moves).unwrap();
    let height = hosts[0].height().await;
    until("it follows from its new place", async || moved.height().await > height + 2).await;
    until("it says where it is now", async || said(&moved).await).await;
}

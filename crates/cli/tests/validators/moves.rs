//! What an operator is promised who moves a node, or has lost one and has a backup: its key never
//! contradicts itself, and nothing that exists is overwritten.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use soma_codes::Code;

use crate::network::{Load, Network, Node, until};
use crate::support::{fails, json, last_line, soma, stderr};

const TERM_BLOCKS: u64 = 128;
/// What votes of a killed process may still be on their way.
const GONE: Duration = Duration::from_millis(500);

/// Somebody's machine, on which commands run.
struct Machine<'a> {
    home: &'a Path,
    /// What must never be shown.
    secrets: Vec<String>,
}

impl Machine<'_> {
    fn path(&self, name: &str) -> String {
        self.home.join(name).to_str().unwrap().to_owned()
    }

    /// Runs `soma node` until it succeeds; returns its result.
    fn node(&self, arguments: &[&str]) -> Value {
        let output = soma(self.home, &[&["node"], arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", stderr(&output));
        self.shows_no_secret(&output);
        last_line(&output)
    }

    /// Runs `soma node` until it fails; returns what it says.
    fn refused(&self, arguments: &[&str], exit: i32, code: &str) -> String {
        let output = soma(self.home, &[&["node"], arguments].concat());
        self.shows_no_secret(&output);
        fails(&output, exit, code)
    }

    fn shows_no_secret(&self, output: &std::process::Output) {
        let said = [&output.stdout[..], &output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let shown = self.secrets.iter().any(|secret| said.contains(secret.as_str()));
        assert!(!shown && !self.secrets.is_empty(), "{said}");
    }
}

/// The secrets in the folder of a node whose keys are not encrypted.
fn secrets(dir: &Path) -> Vec<String> {
    let key = |name: &str| {
        let file = fs::read(dir.join("keys").join(name).with_extension("json")).unwrap();
        let file: Value = serde_json::from_slice(&file).unwrap();
        file["secret"]["local"]["seed"].as_str().unwrap().to_owned()
    };
    let beacon = fs::read_to_string(dir.join("beacon")).ok();
    let beacon = beacon.map(|text| text.trim().to_owned());
    [key("account"), key("consensus")].into_iter().chain(beacon).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Why a node says that it does not vote, if it does.
async fn watches(node: &Node) -> Option<String> {
    let troubles = node.client.status().await.ok()?.troubles;
    let lost = troubles.into_iter().find(|trouble| *trouble.code == Code::VotesLost);
    lost.map(|trouble| trouble.message)
}

async fn kill(node: &Node) {
    node.kill();
    tokio::time::sleep(GONE).await;
}

/// Where the network of `home` has a node now.
fn at(node: &Node, dir: PathBuf) -> Node {
    Node { client: node.client.clone(), dir, pid: 0 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moved_votes_at_once_and_one_from_a_backup_in_a_term_that_nobody_had_reached() {
    let home = tempfile::tempdir().unwrap();
    let network = Network::start(home.path(), &["--epoch", "1h", "--block-ms", "50"]).await;
    let load = network.load("account-1", 0).await;
    load.progresses(3).await;
    // Blocks come as fast as they can: the test waits for two terms.
    let _more = [network.load("account-2", 0).await, network.load("account-3", 0).await];
    let moved = moves(&network, home.path(), &load).await;
    let _moved = moved.run(home.path());
    // Two others run: without a vote of the moved node, no block is finalized.
    load.progresses(5).await;
    assert_eq!(watches(&moved).await, None);

    let mut third = network.nodes[2].run(home.path());
    let height = network.nodes[0].height().await;
    until("all are back", async || network.nodes[2].height().await > height).await;
    let restored = restores(&network, home.path(), &load).await;
    let _restored = restored.run(home.path());
    until("it watches", async || watches(&restored).await.is_some()).await;
    let term = network.nodes[0].height().await / TERM_BLOCKS;
    let why = watches(&restored).await.unwrap();
    assert!(why.contains("backup") || why.contains("elsewhere"), "{why}");
    let first = &network.nodes[0];
    until("the next term", async || first.height().await >= (term + 1) * TERM_BLOCKS).await;
    assert!(watches(&restored).await.is_some(), "its key may have got there");
    until("it votes", async || restored.height().await > 0 && watches(&restored).await.is_none())
        .await;
    let height = first.height().await;
    assert!(height + 1 >= (term + 2) * TERM_BLOCKS, "{height} is too early, from term {term} on");
    third.0.kill().unwrap();
    load.progresses(5).await;
}

/// Moves the last node of four to another folder, while another one is down.
async fn moves(network: &Network, home: &Path, load: &Load) -> Node {
    let node = &network.nodes[3];
    let dir = text(&node.dir);
    let machine = Machine { home, secrets: secrets(&node.dir) };
    let (file, new) = (machine.path("node.move"), machine.path("moved"));
    machine.refused(&["move", "--dir", dir, "-o", &file], 1, "state_in_use");
    assert!(!Path::new(&file).exists());
    kill(&network.nodes[2]).await;
    load.progresses(5).await;
    kill(node).await;

    let told = machine.node(&["move", "--dir", dir, "-o", &file]);
    assert_eq!((&told["purpose"], &told["votes"]), (&"move".into(), &"at_once".into()), "{told}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let said = machine.refused(&["run", "--dir", dir], 3, "node_moved");
    assert!(said.contains("--undo"), "{said}");
    let other = machine.path("other");
    machine.refused(&["move", "--dir", dir, "-o", &other], 3, "node_moved");
    machine.refused(&["backup", "--dir", dir, "-o", &other], 3, "node_moved");

    let told = machine.node(&["restore", &file, "--dir", &new]);
    assert_eq!(told["votes"], "at_once", "{told}");
    machine.refused(&["restore", &file, "--dir", &new], 1, "node_exists");
    at(node, new.into())
}

/// Backs a running node up, loses it after it has voted on, and restores it.
async fn restores(network: &Network, home: &Path, load: &Load) -> Node {
    let node = &network.nodes[1];
    let machine = Machine { home, secrets: secrets(&node.dir) };
    let (file, new) = (machine.path("node.backup"), machine.path("restored"));
    let backup = ["backup", "--dir", text(&node.dir), "-o", &file];
    let told = machine.node(&backup);
    assert_eq!(told["votes"], "after_watching", "{told}");
    let whole = fs::read(&file).unwrap();
    machine.refused(&backup, 1, "file_exists");
    assert_eq!(fs::read(&file).unwrap(), whole);
    load.progresses(3).await;
    kill(node).await;
    let told = machine.node(&["restore", &file, "--dir", &new]);
    assert_eq!(told["votes"], "after_watching", "{told}");
    at(node, new.into())
}

/// The folder of a node that never ran.
fn new_node(machine: &Machine<'_>) -> PathBuf {
    let soma = |arguments: &[&str]| json(machine.home, arguments);
    let [plan, entry, entries, genesis, dir] =
        ["plan.toml", "entry.json", "entries", "genesis.json", "node"]
            .map(|name| machine.path(name));
    soma(&["genesis", "new", &plan, "--name", "test", "--preset", "private"]);
    let text = fs::read_to_string(&plan).unwrap().replace("least = 3", "least = 1");
    fs::write(&plan, text).unwrap();
    let reached = ["--p2p", "node.example.org:8646", "--api-url", "http://node.example.org:8645"];
    let add = ["genesis", "add", &plan, "--dir", &dir, "-o", &entry];
    soma(&[&add[..], &reached].concat());
    fs::create_dir(&entries).unwrap();
    fs::copy(&entry, Path::new(&entries).join("entry.json")).unwrap();
    soma(&["genesis", "assemble", &plan, &entries, "-o", &genesis]);
    soma(&["node", "init", "--dir", &dir, "--genesis", &genesis]);
    dir.into()
}

#[test]
fn a_bundle_has_all_that_cannot_be_made_again_and_is_refused_when_it_is_cut_off_or_changed() {
    let home = tempfile::tempdir().unwrap();
    let mut machine = Machine { home: home.path(), secrets: Vec::new() };
    let dir = new_node(&machine);
    fs::write(dir.join("beacon"), format!("{}\n", "5e".repeat(32))).unwrap();
    machine.secrets = secrets(&dir);
    let (file, new) = (machine.path("file"), machine.path("new"));
    let output = soma(home.path(), &["node", "backup", "--dir", text(&dir), "-o", &file]);
    let said = stderr(&output);
    assert!(said.contains("not encrypted") && said.contains("one validator"), "{said}");
    machine.node(&["restore", &file, "--dir", &new]);
    for name in
        ["config.toml", "genesis.json", "beacon", "keys/account.json", "keys/consensus.json"]
    {
        let read = |dir: &Path| fs::read(dir.join(name)).unwrap();
        assert_eq!(read(&dir), read(Path::new(&new)), "{name}");
    }

    let whole = fs::read_to_string(&file).unwrap();
    let refused = |content: &str| {
        fs::write(&file, content).unwrap();
        let another = machine.path("another");
        let said = machine.refused(&["restore", &file, "--dir", &another], 7, "bad_bundle");
        assert!(!Path::new(&another).exists(), "{said}");
        said
    };
    assert!(refused(&whole[..whole.len() / 2]).contains("cut off"));
    assert!(refused(&whole.replace("\"backup\"", "\"move\"")).contains("changed"));
    assert!(refused(&whole.replace("bundle/1", "bundle/2")).contains("another version"));
    assert!(refused("").contains("cut off"));
    assert!(refused("[1]").contains("not the bundle"));
    fs::write(&file, &whole).unwrap();

    // What lies there stays, whatever it is.
    let full = machine.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(Path::new(&full).join("notes"), "mine").unwrap();
    machine.refused(&["restore", &file, "--dir", &full], 1, "file_exists");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
}

#[test]
fn a_move_that_is_taken_back_or_fails_leaves_the_node_where_it_was() {
    let home = tempfile::tempdir().unwrap();
    let mut machine = Machine { home: home.path(), secrets: Vec::new() };
    let dir = new_node(&machine);
    machine.secrets = secrets(&dir);
    let (dir, file) = (text(&dir), machine.path("file"));
    machine.refused(&["move", "--dir", dir, "--undo"], 1, "node_not_moved");
    let nowhere = machine.path("nowhere/file");
    machine.refused(&["move", "--dir", dir, "-o", &nowhere], 4, "file_not_found");
    let votes = Path::new(dir).join("votes");
    let before = fs::read(&votes).unwrap();
    machine.node(&["move", "--dir", dir, "-o", &file]);
    assert_ne!(fs::read(&votes).unwrap(), before);
    machine.refused(&["run", "--dir", dir], 3, "node_moved");
    // Whoever does not have the key cannot say how it voted.
    let whole = fs::read_to_string(&file).unwrap();
    let unsigned = whole.lines().filter(|line| !line.contains("\"signature\"")).collect::<String>();
    fs::write(machine.path("unsigned"), unsigned).unwrap();
    let restore = ["restore", &machine.path("unsigned"), "--dir", &machine.path("new")];
    let said = machine.refused(&restore, 7, "bad_bundle");
    assert!(said.contains("not signed"), "{said}");
    let told = machine.node(&["move", "--dir", dir, "--undo"]);
    assert_eq!(told["votes"], "after_watching", "{told}");
    machine.refused(&["move", "--dir", dir, "--undo"], 1, "node_not_moved");
    // It has no exact record anymore, and says so when it moves.
    let told = machine.node(&["move", "--dir", dir, "-o", &machine.path("again")]);
    assert_eq!(told["votes"], "after_watching", "{told}");
}

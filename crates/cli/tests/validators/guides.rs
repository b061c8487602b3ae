//! The shell commands of docs/guides, followed to the letter but for names of hosts and times.
//! `start_a_network` follows the guide of that name.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use soma_sdk::client::Client;

use crate::network::{Network, until};
use crate::start_a_network::free_addresses;
use crate::support::{Process, command, json, root};

/// The blocks that are not run here, by how they begin, and what shows them instead.
const ELSEWHERE: [(&str, &str); 18] = [
    ("soma localnet --epoch", "the network of this test"),
    ("soma localnet --validators", "the network of this test"),
    ("soma bench engine", "it measures the machine for a minute"),
    ("soma model pull 3", "the tests of `for_programs`"),
    ("soma balance soma1", "the tests of `localnet`, which verify"),
    ("python -m", "python/tests/test_guides.py"),
    ("pip install", "python/tests/test_guides.py"),
    ("torchrun", "python/tests/test_guides.py"),
    ("soma model register owl --stake", "the steps of submit-data"),
    ("curl https://", "a host of the reader's"),
    // The vote takes seven minutes; the test `votes` goes through its steps in one.
    ("for n in 1 2; do\n  soma model init --arch larger.json", "the test `votes`"),
    ("cat > larger.json", "the test `votes`"),
    ("for n in 1 2 3; do", "the test `votes`"),
    ("for n in 1 2; do\n  soma model init --arch nano", "the steps of submit-data"),
    ("soma validator leave", "the test `committee`"),
    ("soma node restore", "the test `moves`"),
    ("soma node move", "the test `moves`"),
    ("# ", "the test `start_a_network`"),
];

/// The guides that are followed by one who competes, in this order.
const COMPETING: [&str; 5] =
    ["submit-data", "score-and-measure", "receipts", "find-and-embed", "start-from-public-weights"];

/// The shell commands of a guide, block by block.
pub(crate) fn shell_blocks(guide: &str) -> Vec<String> {
    let path = root().join("docs/guides").join(guide).with_extension("md");
    let guide = fs::read_to_string(path).unwrap();
    let fences: Vec<&str> = guide.split("```").collect();
    let blocks = fences.iter().skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    blocks.map(str::to_owned).collect()
}

/// A shell in which `soma` is the program.
pub(crate) fn shell(home: &Path, dir: &Path, script: &str) -> Command {
    let program = command(home);
    let bin = Path::new(program.get_program()).parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("bash");
    shell.args(["-euc", script]).current_dir(dir);
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell.env("PATH", format!("{}:{path}", bin.display()));
    shell
}

/// Somebody who follows guides: a home, a folder, and a node.
struct Reader {
    home: PathBuf,
    dir: PathBuf,
    url: String,
    /// What the reader types in place of what the guides have.
    own: Vec<(String, String)>,
}

impl Reader {
    /// With what the guides take for granted: this repository's `docs`, notes, and two models.
    fn new(world: &Path, network: &Network) -> Self {
        let (home, dir) = (world.to_owned(), world.join("work"));
        fs::create_dir_all(dir.join("notes")).unwrap();
        symlink(root().join("docs").canonicalize().unwrap(), dir.join("docs")).unwrap();
        for (from, to) in
            [("vote", "notes/a.txt"), ("distil", "notes/b.txt"), ("vote", "notes.txt")]
        {
            let from = root().join("docs/guides").join(from).with_extension("md");
            fs::copy(from, dir.join(to)).unwrap();
        }
        let url = network.nodes[0].client.url().to_owned();
        let reader = Self { home, dir, url, own: Vec::new() };
        for (name, seed) in [("owl", 8), ("fox", 9)] {
            let init = format!("soma model init --arch nano --seed {seed} -o {name}.safetensors");
            reader.runs(&init);
        }
        reader
    }

    fn types(&mut self, text: &str, instead_of: &str) {
        self.own.push((instead_of.to_owned(), text.to_owned()));
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = shell(&self.home, &self.dir, script);
        shell.env("SOMA_URL", &self.url).env("SOMA_PASSPHRASE_FILE", self.dir.join("passphrase"));
        shell
    }

    /// Runs a script, which must succeed; returns what it prints.
    fn runs(&self, script: &str) -> String {
        let script =
            self.own.iter().fold(script.to_owned(), |text, (from, to)| text.replace(from, to));
        let output = self.shell(&script).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{script}\n{said}");
        assert!(!said.contains("error["), "{script}\n{said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs every block of a guide, but those of [`ELSEWHERE`]; returns what they print.
    fn follows(&self, guide: &str) -> String {
        let blocks = shell_blocks(guide);
        assert!(!blocks.is_empty(), "{guide}");
        let here = blocks.iter().filter(|block| !is_elsewhere(guide, block));
        here.map(|block| self.runs(block)).collect()
    }

    /// Runs `soma node run` in the background.
    fn node(&self, script: &str) -> Process {
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let child = self.shell(&format!("exec {script}")).stdout(Stdio::null()).stderr(log).spawn();
        Process(child.unwrap())
    }
}

/// The steps of the vote are those of submit-data at first.
fn is_elsewhere(guide: &str, block: &str) -> bool {
    let publishes = "for n in 1 2; do\n  soma model init --arch nano";
    let begins = |(begin, _): &(&str, &str)| block.starts_with(begin);
    ELSEWHERE.iter().any(begins) && !(guide == "submit-data" && block.starts_with(publishes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_competes_can_follow_the_guides_to_the_letter() {
    let world = tempfile::tempdir().unwrap();
    let network = Network::start(world.path(), &["--epoch", "30s"]).await;
    let reader = Reader::new(world.path(), &network);
    let said: Vec<String> = COMPETING.iter().map(|guide| reader.follows(guide)).collect();
    let [submitted, _, received, found, pulled] = said.as_slice() else { panic!("{said:?}") };
    assert!(submitted.contains("won, paid"), "{submitted}");
    assert!(received.ends_with("equal\n"), "{received}");
    assert!(found.contains("notes/a.txt"), "{found}");
    assert!(pulled.contains("owl-1"), "{pulled}");
    for file in ["scores.jsonl", "owl.json", "notes.safetensors", "theirs.safetensors"] {
        assert!(fs::metadata(reader.dir.join(file)).unwrap().len() > 0, "{file}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_runs_a_node_and_keeps_keys_can_follow_the_guides_to_the_letter() {
    let world = tempfile::tempdir().unwrap();
    let network = Network::start(world.path(), &["--epoch", "manual"]).await;
    let mut reader = Reader::new(world.path(), &network);
    fs::write(reader.dir.join("passphrase"), "correct horse battery staple\n").unwrap();

    // Words and passphrases are typed on a terminal there, and come from files here.
    reader.types("--words -o words ", "--words  ");
    reader.types(
        "SOMA_HOME=second soma keys import savings --words words #",
        "soma keys import savings  ",
    );
    reader.types(
        "SOMA_HOME=third soma keys import savings --file",
        "soma keys import savings --file",
    );
    reader.types(
        "soma keys passphrase savings --new-passphrase-file passphrase",
        "soma keys passphrase savings",
    );
    reader.types("--nonce 0", "--nonce 7");
    let chain = network.json(&["status"])["chain_id"].as_str().unwrap().to_owned();
    reader.types(&format!("--chain {chain}"), "--chain ID");
    let before = [
        "ADDRESS=$(soma keys show account-4)",
        "soma send $(soma keys show savings) 100 --key account-1",
        "soma balance $ADDRESS",
    ];
    reader.types(&before.join("\n"), "soma balance ADDRESS");
    reader.types("soma send $ADDRESS", "soma send ADDRESS");
    let kept = reader.follows("keep-keys");
    assert!(kept.contains("\"amount\": \"12500000000\""), "{kept}");

    fs::copy(network.state.join("genesis.json"), reader.dir.join("genesis.json")).unwrap();
    let peer = network.nodes[0].as_peer(world.path());
    let [listen, api] = free_addresses();
    let peer = format!("{peer} --api {api} --listen {listen}");
    reader.types(&peer, "KEY@HOST:PORT=http://HOST:8645");
    let blocks = shell_blocks("run-a-node");
    let here: Vec<&String> =
        blocks.iter().filter(|block| !is_elsewhere("run-a-node", block)).collect();
    let [init, backup, register, duty] = here.as_slice() else { panic!("{here:?}") };
    let without_run = |block: &str| block.replace("soma node run --dir my-node\n", "");
    reader.runs(&without_run(init));
    let node = reader.node("soma node run --dir my-node");
    reader.runs(backup);
    let shown = json(world.path(), &["node", "show", "--dir", &path(&reader.dir.join("my-node"))]);
    let address = shown["address"].as_str().unwrap();
    reader.own.clear();
    reader.types(&format!("soma send {address} 2000"), "soma send ADDRESS 2000");
    reader.types("safe.json", "SOMEWHERE-SAFE");
    let listed = reader.runs(&without_run(register));
    assert!(listed.contains(&address[..12]), "{listed}");
    reader.runs(duty);
    drop(node);
    let _node = reader.node("soma node run --dir my-node");
    let (own, first) = (Client::new(&format!("http://{api}")).unwrap(), &network.nodes[0]);
    let height = first.height().await;
    until("the node follows with its duty key", async || {
        own.status().await.is_ok_and(|status| status.height.0 > height)
    })
    .await;
}

fn path(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_block_of_shell_commands_in_the_guides_is_followed_by_a_test() {
    let followed = [&COMPETING[..], &["keep-keys", "run-a-node", "start-a-network"]].concat();
    let mut used = [false; ELSEWHERE.len()];
    for entry in fs::read_dir(root().join("docs/guides")).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        for block in shell_blocks(&name) {
            let begins = |(begin, _): &(&str, &str)| block.starts_with(begin);
            let place = ELSEWHERE.iter().position(begins);
            place.inspect(|&place| used[place] = true);
            let is_followed = place.is_some() || followed.contains(&name.as_str());
            assert!(is_followed, "no test follows this block of {name}:\n{block}");
        }
    }
    let left = ELSEWHERE.iter().zip(used).filter(|(_, used)| !used).collect::<Vec<_>>();
    assert!(left.is_empty(), "no guide has these anymore: {left:?}");
}

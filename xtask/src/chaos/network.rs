//! The network that is tested: operators make it as the guide says, each on a host of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::hosts::host::Host;
use crate::hosts::node::Node;
use crate::hosts::sandbox::WORLD;
use crate::hosts::{run, words};

pub(crate) const VALIDATORS: usize = 4;
const FOLLOWERS: usize = 2;
pub(crate) const NODES: usize = VALIDATORS + FOLLOWERS;

/// Size of a host's disk.
pub(crate) const DISK_MIB: u32 = 256;

/// Length of an epoch.
pub(crate) const EPOCH: Duration = Duration::from_mins(1);

/// How long after the plan is written the network begins.
const START_IN: Duration = Duration::from_secs(15);

/// How long the first blocks may take.
const BEGIN_MAX: Duration = Duration::from_mins(3);

/// What differs from the preset `private`. Whoever cannot reveal a beacon because of a fault loses
/// nothing, so that every stake that shrinks is a fault of the program; models with random weights
/// may compete.
fn parameters() -> String {
    format!("epoch_ms = {}\nbeacon_slash_bps = 0\ngain_min_q32 = 0\n", EPOCH.as_millis())
}

/// What every node of this network has in its settings instead of the defaults.
const SETTINGS: [(&str, &str); 2] = [("idle_block_ms", "1000"), ("free_bytes_min", "33554432")];

/// The network.
#[derive(Debug)]
pub(crate) struct Network {
    /// The validators, then the followers.
    pub(crate) nodes: Vec<Node>,
    /// Accounts of the validators.
    pub(crate) addresses: Vec<String>,
    /// Keys of these accounts, for the load.
    pub(crate) keys: Vec<PathBuf>,
}

impl Network {
    /// Makes hosts, keys, genesis and folders. Logs go into `logs`.
    pub(crate) fn create(soma: &Path, logs: &Path) -> Result<Self, String> {
        let clock = build_clock()?;
        let files = Path::new(WORLD).join("files");
        let entries = files.join("entries");
        fs::create_dir_all(&entries).map_err(|error| error.to_string())?;
        let mut nodes = Vec::new();
        for number in 1..=NODES {
            let name = if number <= VALIDATORS {
                format!("v{number}")
            } else {
                format!("f{}", number - VALIDATORS)
            };
            let host = Host::create(&name, u8::try_from(number).unwrap_or(u8::MAX), DISK_MIB)?;
            let offset = files.join(format!("{name}.clock"));
            let mut node = Node::new(host, soma, logs.join(format!("{name}.log")));
            node.environment = vec![("LD_PRELOAD", clock.clone()), ("CLOCK_OFFSET_FILE", offset)];
            set_clock(&node, 0)?;
            nodes.push(node);
        }
        let genesis = assemble(&nodes, &files)?;
        let mut network = Self { nodes, addresses: Vec::new(), keys: Vec::new() };
        network.set_up(&genesis, &files)?;
        Ok(network)
    }

    /// Folders of all nodes. Validators name the followers, who are not on the chain.
    fn set_up(&mut self, genesis: &str, files: &Path) -> Result<(), String> {
        let mut followers = String::new();
        for (number, node) in self.nodes.iter().enumerate().rev() {
            let dir = node.dir.to_string_lossy();
            let made = node.soma(&[
                "node",
                "init",
                "--dir",
                &dir,
                "--genesis",
                genesis,
                "--api",
                "0.0.0.0:8645",
            ])?;
            let key = made.get("consensus_key").text();
            let mut peers = "";
            if number >= VALIDATORS {
                followers += &format!("\n[[peers]]\nkey = \"{key}\"\n");
            } else {
                peers = &followers;
                self.addresses.push(made.get("address").text().to_owned());
                let key = files.join(format!("{}.json", node.host.name));
                fs::copy(node.dir.join("keys/account.json"), &key)
                    .map_err(|error| error.to_string())?;
                self.keys.push(key);
            }
            settle(&node.dir.join("config.toml"), peers)?;
        }
        self.addresses.reverse();
        self.keys.reverse();
        Ok(())
    }

    /// Starts all nodes, and waits until each has finalized blocks.
    pub(crate) fn start(&mut self) -> Result<(), String> {
        for node in &mut self.nodes {
            node.start()?;
        }
        let begun = Instant::now();
        for node in &mut self.nodes {
            let height = |node: &Node| node.get("/v1/status").ok()?.get("height").integer();
            while height(node).is_none_or(|height| height < 3) {
                let ended = node.ended();
                if begun.elapsed() > BEGIN_MAX || ended.is_some() {
                    let (name, ended) = (&node.host.name, ended.unwrap_or_default());
                    let log = node.last_lines(20);
                    return Err(format!("{name} finalizes no block {ended}\n{log}"));
                }
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        Ok(())
    }
}

/// The genesis of the validators; returns its path.
fn assemble(nodes: &[Node], files: &Path) -> Result<String, String> {
    let path = |name: &str| files.join(name).to_string_lossy().into_owned();
    let (plan, genesis, entries) = (path("plan.toml"), path("genesis.json"), path("entries"));
    let start = words(&format!("date -u -d +{}seconds +%FT%TZ", START_IN.as_secs()))?;
    let coordinator = &nodes[0];
    let name = ["--name", "chaos", "--preset", "private", "--start", start.trim()];
    coordinator.soma(&[["genesis", "new", &plan].as_slice(), &name].concat())?;
    let text = fs::read_to_string(&plan).map_err(|error| error.to_string())?;
    let text = text.replace("[params]\n", &format!("[params]\n{}", parameters()));
    fs::write(&plan, text).map_err(|error| error.to_string())?;
    for node in &nodes[..VALIDATORS] {
        let (dir, p2p) = (node.dir.to_string_lossy(), format!("{}:8646", node.host.address));
        let entry = format!("{entries}/{}.json", node.host.name);
        node.soma(&[
            "genesis",
            "add",
            &plan,
            "--dir",
            &dir,
            "--p2p",
            &p2p,
            "--api-url",
            &node.url(),
            "-o",
            &entry,
        ])?;
    }
    coordinator.soma(&["genesis", "assemble", &plan, &entries, "-o", &genesis])?;
    Ok(genesis)
}

/// Writes the settings of this network into a node's settings.
fn settle(config: &Path, peers: &str) -> Result<(), String> {
    let text = fs::read_to_string(config).map_err(|error| error.to_string())?;
    fs::write(config, changed(&text, &SETTINGS) + peers).map_err(|error| error.to_string())
}

/// A text of settings with other values for some.
fn changed(text: &str, settings: &[(&str, &str)]) -> String {
    let line = |line: &str| {
        let name = line.split(" = ").next().unwrap_or_default();
        let setting = settings.iter().find(|(setting, _)| *setting == name);
        setting.map_or_else(|| line.to_owned(), |(name, value)| format!("{name} = {value}")) + "\n"
    };
    text.lines().map(line).collect()
}

/// The library that shifts clocks.
fn build_clock() -> Result<PathBuf, String> {
    let source = Path::new(WORLD).join("clock.c");
    let library = source.with_extension("so");
    fs::write(&source, include_str!("clock.c")).map_err(|error| error.to_string())?;
    run(Command::new("cc")
        .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source))?;
    Ok(library)
}

/// Shifts the clock of a node, also while it runs.
pub(crate) fn set_clock(node: &Node, offset_ms: i64) -> Result<(), String> {
    let named = |(name, _): &&(&str, PathBuf)| *name == "CLOCK_OFFSET_FILE";
    let Some((_, file)) = node.environment.iter().find(named) else { return Ok(()) };
    // Overwritten in place: the file is mapped.
    let opened = fs::OpenOptions::new().create(true).truncate(false).write(true).open(file);
    let written = opened.and_then(|mut file| {
        std::io::Write::write_all(&mut file, offset_ms.to_le_bytes().as_slice())
    });
    written.map_err(|error| format!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::changed;

    #[test]
    fn settings_change_by_name_and_everything_else_stays() {
        let text = "# idle_block_ms\nblock_ms = 500\nidle_block_ms = 5000\n[history]\n";
        let expected = "# idle_block_ms\nblock_ms = 500\nidle_block_ms = 9\n[history]\n";
        assert_eq!(changed(text, &[("idle_block_ms", "9"), ("absent", "1")]), expected);
    }
}

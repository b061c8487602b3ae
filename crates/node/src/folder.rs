//! A node's own folder: settings, genesis, keys, and the data it keeps.
//!
//! `config.toml` is for people to edit; keys lie in files that only their owner can read. It must never overwrite a folder that
//! is there, nor print a key.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
pub use soma_engine::Verified;
use soma_engine::{ConsensusSecret, Join, KEEP_BLOCKS_MIN, Peer};
use soma_model::KernelChoice;
use soma_protocol::{ConsensusKey, Genesis, SecretKey};
use soma_sdk::keys::{KeyFolder, Protection};

use crate::config::{BLOCK_MS, IDLE_BLOCK_MS, NodeConfig};
use crate::error::NodeError;
use crate::http::ClientLimits;
use crate::mempool::Limits;

/// Name of the key that signs the node's transactions.
pub const ACCOUNT: &str = "account";
/// Name of the key that the node votes with and is known by.
pub const CONSENSUS: &str = "consensus";

/// What `config.toml` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the HTTP API listens.
    pub api: SocketAddr,
    /// Where other nodes connect.
    pub listen: SocketAddr,
    /// The least time between two blocks, in milliseconds.
    #[serde(default = "block_ms")]
    pub block_ms: u64,
    /// The most time between two blocks while nothing happens, in milliseconds.
    #[serde(default = "idle_block_ms")]
    pub idle_block_ms: u64,
    /// Threads that an audit uses; 0 for all.
    #[serde(default)]
    pub audit_threads: usize,
    /// How much one client of the API may do.
    #[serde(default)]
    pub clients: ClientLimits,
    /// How much the pool holds.
    #[serde(default)]
    pub pool: Limits,
    /// Where the chain begins for this node.
    #[serde(default)]
    pub history: HistorySettings,
    /// The other nodes.
    #[serde(default)]
    pub peers: Vec<PeerSettings>,
}

fn block_ms() -> u64 {
    BLOCK_MS
}

fn idle_block_ms() -> u64 {
    IDLE_BLOCK_MS
}

/// Where the chain begins for a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistorySettings {
    /// How many blocks it keeps; all of them if this is left out.
    pub keep_blocks: Option<u64>,
    /// How it comes to the state if it has no blocks.
    pub join: Way,
}

/// How a node comes to the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// By its peers' state if it has no blocks and the chain is long, else by executing blocks.
    #[default]
    Auto,
    /// By its peers' state, also if it is far behind.
    State,
    /// By executing all blocks.
    Replay,
}

impl Way {
    /// The word for it, as settings have it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::State => "state",
            Self::Replay => "replay",
        }
    }
}

impl From<Way> for Join {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::State => Self::State,
            Way::Replay => Self::Replay,
        }
    }
}

/// Another node, as settings name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerSettings {
    /// The key it is known by.
    pub key: ConsensusKey,
    /// Where it listens, `host:port`; none if it connects to us.
    pub address: Option<String>,
    /// Its API, from which files are fetched.
    pub url: Option<String>,
}

impl Settings {
    /// Settings of a node with everything else as it is usually.
    pub fn new(api: SocketAddr, listen: SocketAddr, peers: Vec<PeerSettings>) -> Self {
        Self {
            api,
            listen,
            block_ms: BLOCK_MS,
            idle_block_ms: IDLE_BLOCK_MS,
            audit_threads: 0,
            clients: ClientLimits::default(),
            pool: Limits::default(),
            history: HistorySettings::default(),
            peers,
        }
    }

    /// Reads the text of a `config.toml`.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// The text of a `config.toml`, explained for those who edit it.
    pub fn render(&self) -> String {
        let Self {
            api,
            listen,
            block_ms,
            idle_block_ms,
            audit_threads,
            ..
        } = self;
        let ClientLimits {
            requests_per_second,
            transactions_per_second,
            concurrent,
            trust_proxy,
        } = self.clients;
        let Limits {
            bytes,
            entries,
            per_account,
        } = self.pool;
        let HistorySettings { keep_blocks, join } = self.history;
        let keep_blocks = keep_blocks.map_or_else(
            || "# keep_blocks = 100000".to_owned(),
            |keep| format!("keep_blocks = {keep}"),
        );
        let join = join.word();
        let mut text = format!(
            "# Settings of a soma node; it reads them when it starts.\n\n\
             # Where the HTTP API listens. It speaks plain HTTP: for the outside, put a proxy with TLS in front of it.\n\
             api = \"{api}\"\n\n\
             # Where other nodes connect; they are known by their keys.\n\
             listen = \"{listen}\"\n\n\
             # The least and the most time between two blocks, in milliseconds; the same on all nodes.\n\
             block_ms = {block_ms}\nidle_block_ms = {idle_block_ms}\n\n\
             # Threads that an audit uses; 0 for all.\n\
             audit_threads = {audit_threads}\n\n\
             # How much one client of the API may do; this machine itself is not limited.\n\
             [clients]\n\
             requests_per_second = {requests_per_second}\n\
             transactions_per_second = {transactions_per_second}\n\
             concurrent = {concurrent}\n\
             # Whether a proxy on this machine names the client in X-Forwarded-For.\n\
             trust_proxy = {trust_proxy}\n\n\
             # How much waits for a block: bytes, transactions, transactions of one account.\n\
             [pool]\nbytes = {bytes}\nentries = {entries}\nper_account = {per_account}\n\n\
             # How many blocks are kept, {KEEP_BLOCKS_MIN} at least; left out: all of them.\n\
             [history]\n{keep_blocks}\n\
             # How a node without blocks comes to the state: \"auto\", \"state\" (of its peers) or \"replay\" (of all blocks).\n\
             join = \"{join}\"\n\n\
             # The other nodes: their key, where they listen (left out for a node that connects to this one), and their API.\n"
        );
        for PeerSettings { key, address, url } in &self.peers {
            text += &format!("\n[[peers]]\nkey = \"{key}\"\n");
            for (name, value) in [("address", address), ("url", url)] {
                if let Some(value) = value {
                    text += &format!("{name} = {}\n", toml::Value::String(value.clone()));
                }
            }
        }
        text
    }
}

/// The folder of one node.
#[derive(Clone, Debug)]
pub struct NodeFolder {
    dir: PathBuf,
    settings: Settings,
    genesis: Genesis,
}

impl NodeFolder {
    /// True when the folder holds a node's settings.
    pub fn exists(dir: &Path) -> bool {
        settings_file(dir).is_file()
    }

    /// Makes a folder with these settings and keys.
    ///
    /// # Errors
    /// [`NodeError::NodeExists`] when there is one; an invalid genesis; a file error.
    pub fn create(
        dir: &Path,
        genesis: &Genesis,
        settings: &Settings,
        account: &SecretKey,
        consensus: &SecretKey,
    ) -> Result<Self, NodeError> {
        if Self::exists(dir) {
            return Err(NodeError::NodeExists {
                dir: dir.to_path_buf(),
            });
        }
        genesis.state()?;
        fs::create_dir_all(dir).map_err(|error| NodeError::io(dir, error))?;
        let keys = KeyFolder::of(dir);
        for (name, key) in [(ACCOUNT, account), (CONSENSUS, consensus)] {
            // A start that was cut off has left the first of them.
            let there = keys
                .info(name)
                .is_ok_and(|info| info.address == key.address());
            if !there {
                keys.create(name, key, Protection::Local)?;
            }
        }
        write_whole(&genesis_file(dir), genesis)?;
        // Written last: a folder with settings is whole.
        write_text(&settings_file(dir), &settings.render())?;
        Self::open(dir)
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// [`NodeError::NotANode`] when it is none; what is wrong with its files.
    pub fn open(dir: &Path) -> Result<Self, NodeError> {
        let path = settings_file(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NodeError::NotANode {
                    dir: dir.to_path_buf(),
                });
            }
            Err(error) => return Err(NodeError::io(&path, error)),
        };
        let settings = Settings::parse(&text).map_err(|error| NodeError::Settings {
            path,
            reason: error.to_string(),
        })?;
        Ok(Self {
            dir: dir.to_path_buf(),
            settings,
            genesis: read_genesis(&genesis_file(dir))?,
        })
    }

    /// Replaces the settings.
    ///
    /// # Errors
    /// A file error.
    pub fn write(&mut self, settings: Settings) -> Result<(), NodeError> {
        write_text(&settings_file(&self.dir), &settings.render())?;
        self.settings = settings;
        Ok(())
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its chain.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Its keys.
    pub fn keys(&self) -> KeyFolder {
        KeyFolder::of(&self.dir)
    }

    /// The folder of the chain's state.
    pub fn chain_dir(&self) -> PathBuf {
        chain_dir(&self.dir)
    }

    /// The key it votes with and is known by.
    ///
    /// # Errors
    /// When its file cannot be used.
    pub fn consensus(&self) -> Result<SecretKey, NodeError> {
        Ok(self.keys().load(CONSENSUS, None)?)
    }

    /// Checks the chain's folder while no process uses it: blocks, certificates, state and history.
    ///
    /// # Errors
    /// What is not whole, or that the folder is in use.
    pub fn verify_store(&self) -> Result<Verified, NodeError> {
        soma_engine::verify_store(&self.chain_dir(), &self.genesis).map_err(NodeError::engine)
    }

    /// What the node needs to run.
    ///
    /// # Errors
    /// When a key file cannot be used, or a peer's address is none.
    pub fn config(&self) -> Result<NodeConfig, NodeError> {
        let Settings {
            api,
            listen,
            block_ms,
            idle_block_ms,
            audit_threads,
            clients,
            pool,
            history,
            ref peers,
        } = self.settings;
        if history
            .keep_blocks
            .is_some_and(|keep| keep < KEEP_BLOCKS_MIN)
        {
            return Err(NodeError::Settings {
                path: settings_file(&self.dir),
                reason: format!("keep_blocks is less than {KEEP_BLOCKS_MIN}"),
            });
        }
        let address = |peer: &PeerSettings| -> Result<Peer, NodeError> {
            let address = peer.address.as_deref().map(str::parse).transpose();
            Ok(Peer {
                key: peer.key,
                address: address.map_err(NodeError::engine)?,
            })
        };
        Ok(NodeConfig {
            dir: self.dir.clone(),
            genesis: self.genesis.clone(),
            account: self.keys().load(ACCOUNT, None)?,
            consensus: ConsensusSecret(self.consensus()?.to_bytes()),
            api,
            listen,
            peers: peers.iter().map(address).collect::<Result<_, _>>()?,
            peer_urls: peers.iter().filter_map(|peer| peer.url.clone()).collect(),
            block_ms,
            idle_block_ms,
            join: history.join.into(),
            keep_blocks: history.keep_blocks,
            pool,
            clients,
            kernel: KernelChoice::Auto,
            audit_threads,
        })
    }
}

fn settings_file(dir: &Path) -> PathBuf {
    dir.join("config.toml")
}

pub(crate) fn genesis_file(dir: &Path) -> PathBuf {
    dir.join("genesis.json")
}

pub(crate) fn chain_dir(dir: &Path) -> PathBuf {
    dir.join("chain")
}

/// Reads a genesis from a file and checks it.
///
/// # Errors
/// When it cannot be read, is no genesis, or breaks its own rules.
pub fn read_genesis(path: &Path) -> Result<Genesis, NodeError> {
    let bytes = fs::read(path).map_err(|error| NodeError::io(path, error))?;
    let genesis: Genesis =
        serde_json::from_slice(&bytes).map_err(|source| NodeError::Malformed {
            path: path.to_path_buf(),
            source,
        })?;
    genesis.state()?;
    Ok(genesis)
}

/// Writes a file of JSON that appears whole or not at all.
pub(crate) fn write_whole(path: &Path, value: &impl Serialize) -> Result<(), NodeError> {
    let text = serde_json::to_string_pretty(value).map_err(|source| NodeError::Malformed {
        path: path.to_path_buf(),
        source,
    })?;
    write_text(path, &(text + "\n"))
}

fn write_text(path: &Path, text: &str) -> Result<(), NodeError> {
    soma_os::file::write(path, text.as_bytes()).map_err(|error| NodeError::io(path, error))
}

#[cfg(test)]
mod tests {
    use soma_protocol::ConsensusKey;

    use super::{PeerSettings, Settings, Way};

    fn settings(peers: Vec<PeerSettings>) -> Settings {
        let address = |port| format!("127.0.0.1:{port}").parse().unwrap();
        Settings::new(address(1), address(2), peers)
    }

    #[test]
    fn settings_are_what_was_written_and_what_is_left_out_is_as_usual() {
        let peer = |url: Option<&str>| PeerSettings {
            key: ConsensusKey([7; 32]),
            address: Some("a \"strange\" host:1".to_owned()),
            url: url.map(str::to_owned),
        };
        let mut written = settings(vec![peer(None), peer(Some("http://host:1"))]);
        written.clients.trust_proxy = true;
        written.pool.entries = 7;
        written.history.keep_blocks = Some(5_000);
        written.history.join = Way::Replay;
        assert_eq!(Settings::parse(&written.render()).unwrap(), written);
        let shortest = "api = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n[clients]\n";
        assert_eq!(Settings::parse(shortest).unwrap(), settings(Vec::new()));
    }

    #[test]
    fn a_word_that_means_nothing_is_refused() {
        let text = settings(Vec::new()).render() + "\n[colours]\nred = 1\n";
        assert!(
            Settings::parse(&text)
                .unwrap_err()
                .to_string()
                .contains("colours")
        );
    }
}

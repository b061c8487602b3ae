//! The state folder of a local network: its genesis, its keys and its nodes' folders.
//!
//! Everything is derived from one seed: the same seed and the same settings give the same keys and
//! the same chain. Its keys are unencrypted and worth nothing. It must never overwrite an existing
//! network.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use soma_engine::ConsensusSecret;
use soma_protocol::{
    Address, Amount, Architecture, ConsensusKey, Endpoints, Genesis, GenesisAccount, GenesisModel,
    GenesisValidator, Params, Ruleset, SecretKey,
};
use soma_sdk::keys::{KeyFolder, Protection};
use soma_sdk::secret::Secret;
use soma_store::StoreError;

use crate::error::NodeError;
use crate::folder::{NodeFolder, NodeKeys, genesis_file, write_json};
use crate::genesis::{self, read_genesis};
use crate::settings::{NodeConfig, PeerSettings, Settings, WeightsSettings, chain_dir};

/// Genesis time of networks whose phases end by command, fixed so that one seed gives one chain:
/// 2026-01-01, in milliseconds since 1970.
pub const MANUAL_GENESIS_MS: u64 = 1_767_225_600_000;
/// Name of the key that may end phases.
pub const OPERATOR: &str = "operator";
/// Name of the key that has money to give away.
pub const FAUCET: &str = "faucet";

/// The most validators that a local network can have.
pub const VALIDATORS_MAX: u8 = 16;

const FAUCET_BALANCE: Amount = Amount::soma(1_000_000);
const ACCOUNT_BALANCE: Amount = Amount::soma(10_000);
const VALIDATOR_STAKE: Amount = Amount::soma(1_000);

/// The plan of a new local network.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its name.
    pub chain: String,
    /// The seed that its keys are derived from.
    pub seed: [u8; 32],
    /// Its genesis time, in milliseconds since 1970: [`MANUAL_GENESIS_MS`] or now.
    pub timestamp_ms: u64,
    /// Its rules.
    pub params: Params,
    /// The architecture of its models.
    pub architecture: Architecture,
    /// How many validators it has, with equal stakes.
    pub validators: u8,
    /// How many accounts have money; they are named `account-1` and so on.
    pub accounts: u32,
    /// Models that are active from the start.
    pub models: Vec<GenesisModel>,
}

impl Plan {
    /// A network of small models whose phases end by command only; one seed gives one chain.
    pub fn manual(seed: [u8; 32]) -> Self {
        Self {
            chain: "local".to_owned(),
            seed,
            timestamp_ms: MANUAL_GENESIS_MS,
            params: Params { epoch_ms: 0, ..Params::local() },
            architecture: Architecture::nano(),
            validators: 1,
            accounts: 8,
            models: Vec::new(),
        }
    }

    /// The same network, with epochs of `epoch_ms`, starting now.
    pub fn timed(seed: [u8; 32], epoch_ms: u64) -> Self {
        let params = Params { epoch_ms, ..Params::local() };
        Self { timestamp_ms: soma_os::clock::now_ms(), params, ..Self::manual(seed) }
    }

    /// The secret of a key of this network.
    pub(crate) fn key(&self, name: &str) -> SecretKey {
        SecretKey::from_bytes(Secret::derive(&self.seed, name).bytes())
    }

    fn names(&self) -> Vec<String> {
        let validators = (1..=self.validators)
            .flat_map(|number| [validator_name(number), consensus_name(number)]);
        validators
            .chain([OPERATOR, FAUCET].map(str::to_owned))
            .chain((1..=self.accounts).map(account_name))
            .collect()
    }

    /// The genesis that follows from the plan.
    pub fn genesis(&self) -> Genesis {
        let funded =
            |name: &str, balance| GenesisAccount { address: self.key(name).address(), balance };
        let mut accounts = vec![funded(FAUCET, FAUCET_BALANCE)];
        accounts.extend(
            (1..=self.accounts).map(|number| funded(&account_name(number), ACCOUNT_BALANCE)),
        );
        Genesis {
            chain: self.chain.clone(),
            timestamp_ms: self.timestamp_ms,
            params: self.params.clone(),
            architecture: self.architecture.clone(),
            accounts,
            validators: (1..=self.validators)
                .map(|number| GenesisValidator {
                    address: self.key(&validator_name(number)).address(),
                    consensus_key: ConsensusKey(self.key(&consensus_name(number)).address().0),
                    stake: VALIDATOR_STAKE,
                    endpoints: Endpoints::default(),
                })
                .collect(),
            models: self.models.clone(),
            operator: Some(self.key(OPERATOR).address()),
        }
    }
}

/// The name of the `number`th funded account.
pub fn account_name(number: u32) -> String {
    format!("account-{number}")
}

pub(crate) fn validator_name(number: u8) -> String {
    format!("validator-{number}")
}

pub(crate) fn consensus_name(number: u8) -> String {
    format!("consensus-{number}")
}

/// What clients need to use a local network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Info {
    /// `localnet/1`.
    pub schema: String,
    /// Name of the chain.
    pub chain: String,
    /// Hash of its genesis.
    pub chain_id: String,
    /// Where its APIs answer.
    pub urls: Vec<String>,
    /// The state folder.
    pub state: PathBuf,
    /// The genesis file.
    pub genesis: PathBuf,
    /// The process that runs the nodes, or that started their processes.
    pub pid: u32,
    /// Its nodes, if each has its own process.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<NodeEntry>,
    /// Its keys by name.
    pub keys: BTreeMap<String, KeyEntry>,
}

/// A key of a local network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyEntry {
    /// Its address.
    pub address: Address,
    /// Its file, which is not encrypted.
    pub file: PathBuf,
    /// What it had at genesis, in base units.
    pub funded: Amount,
}

/// A node in a local network of several nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeEntry {
    /// Where its API answers.
    pub url: String,
    /// Its folder: `soma node run --dir`.
    pub dir: PathBuf,
    /// Its process.
    pub pid: u32,
}

/// A local network on disk.
#[derive(Clone, Debug)]
pub struct Localnet {
    dir: PathBuf,
    genesis: Genesis,
}

impl Localnet {
    /// Whether the folder holds a local network.
    pub fn exists(dir: &Path) -> bool {
        genesis_file(dir).is_file()
    }

    /// Opens the network in the folder.
    ///
    /// # Errors
    /// When there is none, or its genesis cannot be read.
    pub fn open(dir: &Path) -> Result<Self, NodeError> {
        Ok(Self { dir: dir.to_path_buf(), genesis: read_genesis(&genesis_file(dir))? })
    }

    /// Creates the network of a plan in the folder, or opens it if it already exists.
    ///
    /// # Errors
    /// [`NodeError::OtherNetwork`] when the folder holds the network of another plan.
    pub fn create(dir: &Path, plan: &Plan) -> Result<Self, NodeError> {
        let genesis = plan.genesis();
        genesis.state()?;
        if Self::exists(dir) {
            let existing = Self::open(dir)?;
            let what = difference(&existing.genesis, &genesis);
            return match what {
                None => Ok(existing),
                Some(what) => Err(NodeError::OtherNetwork { dir: dir.to_path_buf(), what }),
            };
        }
        fs::create_dir_all(dir).map_err(|error| NodeError::io(dir, error))?;
        let keys = KeyFolder::of(dir);
        for name in plan.names() {
            let key = plan.key(&name);
            // An earlier attempt may have been interrupted after some keys.
            let exists = keys.info(&name).is_ok_and(|info| info.address == key.address());
            if !exists {
                keys.create(&name, &key, Protection::Local)?;
            }
        }
        // Written last: a folder with a genesis is complete.
        write_json(&genesis_file(dir), &genesis)?;
        Ok(Self { dir: dir.to_path_buf(), genesis })
    }

    /// Deletes the network in the folder, unless a process runs it.
    ///
    /// # Errors
    /// [`NodeError::StateInUse`]; if there is no network in the folder; a file error.
    pub fn delete(dir: &Path) -> Result<(), NodeError> {
        let network = Self::open(dir)?;
        let chain = network.genesis.chain_id();
        let mut locks = Vec::new();
        for number in 1..=network.validators() {
            let held = soma_store::StateFolder::open(&chain_dir(&network.node_dir(number)), &chain);
            locks.push(held.map_err(|error| match error {
                StoreError::InUse { .. } => NodeError::StateInUse { dir: dir.to_path_buf() },
                error => error.into(),
            })?);
        }
        fs::remove_dir_all(dir).map_err(|error| NodeError::io(dir, error))
    }

    /// Its genesis.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Its keys.
    pub fn keys(&self) -> KeyFolder {
        KeyFolder::of(&self.dir)
    }

    /// The key with this name.
    ///
    /// # Errors
    /// When there is none, or its file is damaged.
    pub fn key(&self, name: &str) -> Result<SecretKey, NodeError> {
        Ok(self.keys().load(name, None)?)
    }

    /// How many validators it has.
    pub fn validators(&self) -> u8 {
        u8::try_from(self.genesis.validators.len()).unwrap_or(u8::MAX)
    }

    fn node_dir(&self, number: u8) -> PathBuf {
        self.dir.join(format!("node-{number}"))
    }

    /// The configuration of the only validator in a network of one; its API listens on `api`.
    ///
    /// # Errors
    /// When a key file cannot be used.
    pub fn node(&self, api: SocketAddr) -> Result<NodeConfig, NodeError> {
        Ok(NodeConfig {
            dir: self.node_dir(1),
            genesis: self.genesis.clone(),
            duties: self.key(&validator_name(1))?,
            account: None,
            consensus: ConsensusSecret(self.key(&consensus_name(1))?.to_bytes()),
            settings: local(Settings::new(api, (Ipv4Addr::LOCALHOST, 0).into(), Vec::new())),
            vote_unrecorded: false,
            ruleset: Ruleset::WHOLE,
        })
    }

    /// Creates the folders of the nodes of a larger network, one for each validator, with free
    /// ports of this machine; the first API listens on `api_port`, the others on the ports after
    /// it, unless that is 0.
    ///
    /// # Errors
    /// When a port is taken, a key cannot be used, or a folder cannot be written.
    pub fn folders(&self, api_port: u16, block_ms: u64) -> Result<Vec<NodeFolder>, NodeError> {
        let numbers = 1..=self.validators();
        let ports: Vec<u16> = numbers
            .clone()
            .flat_map(|number| {
                [api_port.checked_add(u16::from(number) - 1).filter(|_| api_port > 0), None]
            })
            .map(|port| port.unwrap_or(0))
            .collect();
        let addresses = free_addresses(&ports)?;
        let keys = |name: fn(u8) -> String| -> Result<Vec<SecretKey>, NodeError> {
            numbers.clone().map(|number| self.key(&name(number))).collect()
        };
        let (accounts, consensus) = (keys(validator_name)?, keys(consensus_name)?);
        let peers: Vec<PeerSettings> = consensus
            .iter()
            .zip(addresses.chunks(2))
            .map(|(key, addresses)| PeerSettings {
                key: ConsensusKey(key.address().0),
                address: Some(addresses[1].to_string()),
                url: Some(format!("http://{}", addresses[0])),
            })
            .collect();
        let mut folders = Vec::new();
        for (at, number) in numbers.enumerate() {
            let mut others = peers.clone();
            others.remove(at);
            let mut settings =
                local(Settings::new(addresses[2 * at], addresses[2 * at + 1], others));
            settings.block_ms = block_ms;
            let dir = self.node_dir(number);
            folders.push(if NodeFolder::exists(&dir) {
                let mut folder = NodeFolder::open(&dir)?;
                folder.write(settings)?;
                folder
            } else {
                // Keys of a local network follow from its name: they may have voted before.
                let keys = NodeKeys {
                    account: accounts[at].clone(),
                    consensus: consensus[at].clone(),
                    has_never_voted: false,
                };
                NodeFolder::create(&dir, &self.genesis, &settings, &keys, Protection::Local)?
            });
        }
        Ok(folders)
    }

    /// Where the APIs of a larger network answer; empty for a network of one, whose port is chosen
    /// when it starts.
    ///
    /// # Errors
    /// When a node's settings cannot be read.
    pub fn urls(&self) -> Result<Vec<String>, NodeError> {
        let dirs = (1..=self.validators()).map(|number| self.node_dir(number));
        let folders = dirs.filter(|dir| NodeFolder::exists(dir));
        folders.map(|dir| Ok(NodeFolder::open(&dir)?.settings().url())).collect()
    }

    /// What clients need to use it while its nodes answer at `urls`.
    ///
    /// # Errors
    /// When the key files cannot be read.
    pub fn info(&self, urls: Vec<String>) -> Result<Info, NodeError> {
        let keys = self.keys();
        let funded = |address| {
            let account = self.genesis.accounts.iter().find(|account| account.address == address);
            account.map_or(Amount::ZERO, |account| account.balance)
        };
        let entry = |info: soma_sdk::keys::KeyInfo| {
            let file = keys.path_of(&info.name);
            (info.name, KeyEntry { address: info.address, file, funded: funded(info.address) })
        };
        Ok(Info {
            schema: "localnet/1".to_owned(),
            chain: self.genesis.chain.clone(),
            chain_id: self.genesis.chain_id().to_string(),
            urls,
            state: self.dir.clone(),
            genesis: genesis_file(&self.dir),
            pid: std::process::id(),
            nodes: Vec::new(),
            keys: keys.list()?.into_iter().map(entry).collect(),
        })
    }
}

impl Info {
    /// Writes the info file atomically.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), NodeError> {
        write_json(path, self)
    }
}

/// Addresses of this machine with these ports, or free ones for 0. All are bound before any is
/// released, so that no two are equal.
fn free_addresses(ports: &[u16]) -> Result<Vec<SocketAddr>, NodeError> {
    let take = |port: &u16| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        TcpListener::bind(address).map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => NodeError::PortInUse { address },
            _ => NodeError::Listen { address, source },
        })
    };
    let taken: Vec<TcpListener> = ports.iter().map(take).collect::<Result<_, _>>()?;
    let address = |listener: &TcpListener| {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let taken = listener.local_addr();
        taken.map_err(|source| NodeError::Listen { address, source })
    };
    taken.iter().map(address).collect()
}

/// The first difference between two networks. The genesis time counts only if phases wait for
/// commands: a timed network starts when it is created.
fn difference(existing: &Genesis, wanted: &Genesis) -> Option<&'static str> {
    match genesis::difference(existing, wanted)? {
        genesis::GENESIS_TIME if existing.params.epoch_ms > 0 => None,
        // Keys and addresses follow from the seed.
        "validators" | "operator" => Some("seed"),
        what => Some(what),
    }
}

/// The settings for a network on one machine, whose chain and files are small.
fn local(settings: Settings) -> Settings {
    Settings {
        weights: WeightsSettings { free_bytes_min: 64 << 20, ..WeightsSettings::default() },
        ..settings
    }
}

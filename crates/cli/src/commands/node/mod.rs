//! `soma node`: sets up and runs one node. It votes while its validator has a seat and follows the
//! chain otherwise.

mod bundle;

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use soma_node::folder::{ACCOUNT, NodeFolder, NodeKeys};
use soma_node::genesis::read_genesis;
use soma_node::settings::{PeerSettings, Settings};
use soma_node::{NodeConfig, NodeFailure};
use soma_os::clock::ClockLooks;
use soma_protocol::{Address, ConsensusKey, Hash, SecretKey, hex};
use soma_sdk::api::text::Text;
use soma_sdk::figures::span;
use soma_sdk::keys::Protection;
use tracing_subscriber::filter::LevelFilter;

use self::bundle::{Backup, Move, Restore};
use crate::endpoint_flags::EndpointFlags;
use crate::error::Result;
use crate::global::Global;
use crate::network;
use crate::output::Output;
use crate::signals::stopped;

/// By how much the clock may be set back while a node runs: clocks of nodes differ by as much.
const SET_BACK_MAX: Duration = Duration::from_secs(5);

/// Set up and run a node: a validator or a follower.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Node {
    /// Create a node's folder: settings, genesis, and keys that only you can read.
    Init(Init),
    /// Run a node.
    Run(Run),
    /// Check everything that a stopped node has on disk about the chain.
    VerifyStore {
        /// The node's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Write what of a node cannot be made again into one file.
    ///
    /// Its settings, genesis, keys as they are encrypted on disk, the secret of its beacons, and
    /// the record of its votes; not the state and the files of models, which a node fetches from
    /// the network. The node may run meanwhile.
    Backup(Backup),
    /// Make a node's folder from a file of `soma node backup` or `soma node move`.
    ///
    /// From a backup, the node watches for the rest of a term and the whole next one before it
    /// votes, because its key may have voted since. From a move of the last 24 hours, it votes at
    /// once.
    Restore(Restore),
    /// Move a stopped node into one file, to continue elsewhere.
    ///
    /// The file is that of a backup with the exact last vote. The node does not run in its folder
    /// from then on, and votes at once where the file is restored within 24 hours. Restore it once:
    /// of two nodes with one key, the other validators let one vote.
    Move(Move),
    /// Show a node's keys and addresses.
    Show {
        /// The node's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Create a node's folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The folder; created if it does not exist.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The network's genesis file, from a source you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Address on which the HTTP API listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8645")]
    api: SocketAddr,
    /// Address on which other nodes connect.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8646")]
    listen: SocketAddr,
    /// Another node, as KEY@HOST:PORT or KEY@HOST:PORT=URL; repeat for more.
    #[arg(long, value_name = "PEER")]
    peer: Vec<PeerArgument>,
    #[command(flatten)]
    endpoints: EndpointFlags,
    /// Encrypt its keys with a passphrase, which `soma node run` then needs.
    #[arg(long)]
    encrypt: bool,
}

/// The value of `--peer`.
#[derive(Clone, Debug)]
struct PeerArgument(PeerSettings);

impl FromStr for PeerArgument {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (key, place) =
            text.split_once('@').ok_or("expected KEY@HOST:PORT or KEY@HOST:PORT=URL")?;
        let (address, url) = match place.split_once('=') {
            Some((address, url)) => (address, Some(url.to_owned())),
            None => (place, None),
        };
        let key = hex::decode_array(key).ok_or("the key must have 64 lower-case hex digits")?;
        Ok(Self(PeerSettings {
            key: ConsensusKey(key),
            address: Some(address.to_owned()).filter(|address| !address.is_empty()),
            url,
        }))
    }
}

/// Run a node.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Which messages to log.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    log: Level,
    /// Format of the log.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
    /// How to obtain the state (overrides config.toml).
    #[arg(long, value_enum, value_name = "WAY")]
    join: Option<Join>,
    #[command(flatten)]
    endpoints: EndpointFlags,
    /// Vote although nothing shows how the key voted before: only if it votes nowhere else.
    #[arg(long)]
    vote_without_record: bool,
    /// Exit when stdin closes.
    #[arg(long)]
    until_stdin_ends: bool,
}

/// How a node obtains the state.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Join {
    /// State sync if it has no blocks and the chain is long; else replay.
    Auto,
    /// State sync from its peers, even if it has blocks but is far behind.
    State,
    /// Execute all blocks.
    Replay,
}

impl From<Join> for soma_node::Join {
    fn from(join: Join) -> Self {
        match join {
            Join::Auto => Self::Auto,
            Join::State => Self::State,
            Join::Replay => Self::Replay,
        }
    }
}

/// Which messages are logged.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Level {
    /// Failures that stop the node.
    Error,
    /// Problems that someone should look at.
    Warn,
    /// What the node does.
    #[default]
    Info,
    /// Why it does it.
    Debug,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Lines of text.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}

/// A node's keys and addresses.
#[derive(Serialize)]
struct Identity {
    dir: PathBuf,
    chain: String,
    chain_id: Hash,
    address: Address,
    consensus_key: ConsensusKey,
    api: SocketAddr,
    /// Where this machine reaches the API.
    api_url: String,
    listen: SocketAddr,
    /// Proof that the account's owner holds the consensus key.
    possession: String,
}

/// A running node.
#[derive(Serialize)]
struct Running<'a> {
    url: &'a str,
    #[serde(flatten)]
    identity: Identity,
}

impl Identity {
    fn of(folder: &NodeFolder, address: Address, consensus: &SecretKey) -> Self {
        let settings = folder.settings();
        let chain_id = folder.genesis().chain_id();
        Self {
            dir: folder.dir().to_path_buf(),
            chain: folder.genesis().chain.clone(),
            chain_id,
            address,
            consensus_key: ConsensusKey(consensus.address().0),
            api: settings.api,
            api_url: settings.url(),
            listen: settings.listen,
            possession: hex::encode(&consensus.prove_possession(&chain_id, &address)),
        }
    }

    /// The same, with the keys that the node is started with.
    fn of_config(folder: &NodeFolder, config: &NodeConfig) -> Self {
        // With a duty key, the account's can be kept elsewhere.
        let account = folder.keys().info(ACCOUNT).map(|key| key.address);
        let address = account.unwrap_or_else(|_| config.duties.address());
        Self::of(folder, address, &SecretKey::from_bytes(&config.consensus.0))
    }

    fn describe(&self) -> String {
        format!(
            "chain          {} ({})\naddress        {}\nconsensus key  {}\n\
             API            {}\nlistens        {}",
            self.chain, self.chain_id, self.address, self.consensus_key, self.api_url, self.listen
        )
    }
}

impl Node {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        match self {
            Self::Init(init) => init.run(global, output),
            Self::Run(run) => run.run(global, output),
            Self::VerifyStore { dir } => verify_store(&dir, global, output),
            Self::Backup(backup) => backup.run(output),
            Self::Restore(restore) => restore.run(output),
            Self::Move(moves) => moves.run(global, output),
            Self::Show { dir } => {
                let folder = NodeFolder::open(&dir)?;
                let passphrase = network::node_passphrase(&dir, global)?;
                let config = folder.config(passphrase.as_ref().map(|text| text.as_str()))?;
                let identity = Identity::of_config(&folder, &config);
                output.result(identity.describe(), &identity)
            }
        }
    }
}

impl Init {
    fn run(self, global: &Global, output: &Output) -> Result {
        let genesis = read_genesis(&self.genesis)?;
        let passphrase = network::new_node_passphrase(&self.dir, self.encrypt, global)?;
        let passphrase = passphrase.as_ref().map(|text| text.as_str());
        let keys = NodeKeys::of(&self.dir, passphrase)?;
        let consensus = &keys.consensus;
        let peers = self.peer.into_iter().map(|peer| peer.0).collect();
        let mut settings = Settings::new(self.api, self.listen, peers);
        settings.endpoints = self.endpoints.change(None)?;
        let protection = passphrase.map_or(Protection::Local, Protection::Passphrase);
        let folder = NodeFolder::create(&self.dir, &genesis, &settings, &keys, protection)?;
        let identity = Identity::of(&folder, keys.account.address(), consensus);
        output.done(format_args!("created {}", self.dir.display()));
        let key = identity.consensus_key;
        if !genesis.validators.iter().any(|validator| validator.consensus_key == key) {
            output.say(
                "  The other nodes accept it once its consensus key is in their settings, or its \
                 validator\n  is registered; until then it waits and tries again.",
            );
        }
        output.say(format_args!("  Run it with: soma node run --dir {}", self.dir.display()));
        output.result(identity.describe(), &identity)
    }
}

impl Run {
    fn run(self, global: &Global, output: &Output) -> Result {
        log(self.log, self.log_format);
        let mut folder = NodeFolder::open(&self.dir)?;
        let endpoints = self.endpoints.change(folder.settings().endpoints.as_ref())?;
        if endpoints != folder.settings().endpoints {
            // Kept: the node must not say something else after its next start.
            folder.write(Settings { endpoints, ..folder.settings().clone() })?;
        }
        let passphrase = network::node_passphrase(&self.dir, global)?;
        let passphrase = passphrase.as_ref().map(|text| text.as_str());
        let mut config = folder.config(passphrase)?;
        let identity = Identity::of_config(&folder, &config);
        if let Some(join) = self.join {
            config.settings.history.join = join.into();
        }
        config.vote_unrecorded = self.vote_without_record;
        let node = soma_node::start(config.clone())?;
        let (url, address) = (node.url(), identity.address);
        tracing::info!(url, chain = identity.chain, %address, "the node is running");
        output.result(node.url(), &Running { url: node.url(), identity })?;
        network::block_on(run(node, config, self.until_stdin_ends))
    }
}

/// Waits until the node is stopped, or stops by itself. When this machine's clock is set back, the
/// node restarts: much of what it has planned by that clock would be due long after.
async fn run(mut node: soma_node::Node, config: NodeConfig, until_stdin_ends: bool) -> Result {
    let mut stopped = pin!(async {
        tokio::select! {
            signal = stopped() => signal,
            () = stdin_ended(), if until_stdin_ends => Ok(()),
        }
    });
    loop {
        let ended = tokio::select! {
            ended = &mut stopped => Some(ended),
            failure = failed(&node) => Some(Err(failure.into())),
            back = clock_set_back() => {
                let ms = u64::try_from(back.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!("the clock was set back by {}: the node restarts", span(ms));
                None
            }
        };
        tracing::info!("the node is stopping");
        tokio::task::block_in_place(|| node.shutdown());
        if let Some(ended) = ended {
            return ended;
        }
        node = tokio::task::block_in_place(|| soma_node::start(config.clone()))?;
        tracing::info!(url = node.url(), "the node is running");
    }
}

/// Returns when this machine's clock has been set back by more than clocks may differ, and by how
/// much.
async fn clock_set_back() -> Duration {
    let mut looks = ClockLooks::default();
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let back = looks.set_back();
        if back > SET_BACK_MAX {
            return back;
        }
    }
}

/// What was verified; heights, and a count of certificates.
#[derive(Serialize)]
struct Whole {
    first: Text<u64>,
    blocks: Text<u64>,
    certificates: Text<u64>,
    state: Text<u64>,
    history: Text<u64>,
}

fn verify_store(dir: &Path, global: &Global, output: &Output) -> Result {
    let folder = NodeFolder::open(dir)?;
    let passphrase = network::node_passphrase(dir, global)?;
    let verified = folder.verify_store(passphrase.as_ref().map(|text| text.as_str()))?;
    let text = format!(
        "blocks {} to {}, {} certificates, the state of block {}, a history up to block {}: valid",
        verified.first, verified.blocks, verified.certificates, verified.state, verified.history
    );
    output.result(
        text,
        &Whole {
            first: Text(verified.first),
            blocks: Text(verified.blocks),
            certificates: Text(verified.certificates),
            state: Text(verified.state),
            history: Text(verified.history),
        },
    )
}

/// Returns the reason when the node has stopped by itself.
async fn failed(node: &soma_node::Node) -> NodeFailure {
    loop {
        if let Some(failure) = node.failure() {
            return failure;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Returns when stdin closes. What arrives is ignored.
async fn stdin_ended() {
    let (sender, ended) = tokio::sync::oneshot::channel();
    // The thread ends with the process; nothing waits for it.
    std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while matches!(std::io::stdin().read(&mut bytes), Ok(count) if count > 0) {}
        let _gone = sender.send(());
    });
    let _ended = ended.await;
}

/// Writes the log to stderr.
fn log(level: Level, format: Format) {
    let level = match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
    };
    let log = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    match format {
        Format::Text => log.init(),
        Format::Json => log.json().init(),
    }
}

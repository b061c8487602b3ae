//! `soma node`: a node of its own, that votes if the chain gives it a seat and follows otherwise.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::ValueEnum;
use serde::Serialize;
use soma_codes::Code;
use soma_node::folder::{NodeFolder, read_genesis};
use soma_node::settings::{PeerSettings, Settings};
use soma_protocol::{Address, ConsensusKey, Hash, hex};
use soma_sdk::api::text::Text;
use soma_sdk::keys;
use tracing_subscriber::filter::LevelFilter;

use crate::error::{Error, Result};
use crate::network;
use crate::output::Output;
use crate::signals::stopped;

/// Set up and run a node: a validator, or one that follows.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Node {
    /// Make a node's folder: settings, genesis, and keys that only you can read.
    Init(Init),
    /// Run the node of a folder.
    Run(Run),
    /// Check the blocks, certificates, state and history of a node that does not run.
    VerifyStore {
        /// The node's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
    /// Say who the node of a folder is: what others need to know of it.
    Show {
        /// The node's folder.
        #[arg(long, value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Make a node's folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The folder; made if it is not there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The genesis of the network: a file that you have from a source you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Where the HTTP API listens.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8645")]
    api: SocketAddr,
    /// Where other nodes connect.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8646")]
    listen: SocketAddr,
    /// Another node, as in KEY@HOST:PORT or KEY@HOST:PORT=URL; may be given several times.
    #[arg(long, value_name = "PEER")]
    peer: Vec<PeerArgument>,
}

/// A peer as it is typed.
#[derive(Clone, Debug)]
struct PeerArgument(PeerSettings);

impl FromStr for PeerArgument {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (key, place) = text
            .split_once('@')
            .ok_or("a peer reads KEY@HOST:PORT or KEY@HOST:PORT=URL")?;
        let (address, url) = match place.split_once('=') {
            Some((address, url)) => (address, Some(url.to_owned())),
            None => (place, None),
        };
        let key = hex::decode_array(key).ok_or("its key has 64 lower-case hex digits")?;
        Ok(Self(PeerSettings {
            key: ConsensusKey(key),
            address: Some(address.to_owned()).filter(|address| !address.is_empty()),
            url,
        }))
    }
}

/// Run the node of a folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// How much is logged.
    #[arg(long, value_enum, default_value_t, value_name = "LEVEL")]
    log: Level,
    /// The form of the log.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: Format,
    /// How it comes to the state: instead of what its settings say.
    #[arg(long, value_enum, value_name = "WAY")]
    join: Option<Join>,
    /// Stop when the standard input ends: with the process that holds its other end.
    #[arg(long)]
    until_stdin_ends: bool,
}

/// How a node comes to the state.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Join {
    /// From its peers if it has no blocks and the chain is long; else it executes all blocks.
    Auto,
    /// From its peers, also when it has blocks and is far behind.
    State,
    /// By executing all blocks.
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

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Level {
    /// What stops the node.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// Why it happens.
    Debug,
}

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object for each line.
    Json,
}

/// Who a node is.
#[derive(Serialize)]
struct Identity {
    dir: PathBuf,
    chain: String,
    chain_id: Hash,
    address: Address,
    consensus_key: ConsensusKey,
    api: SocketAddr,
    listen: SocketAddr,
    /// Proof that the account's owner holds the consensus key.
    possession: String,
}

/// A node that runs.
#[derive(Serialize)]
struct Running<'a> {
    url: &'a str,
    #[serde(flatten)]
    identity: Identity,
}

impl Identity {
    fn of(folder: &NodeFolder) -> Result<Self> {
        let (config, settings) = (folder.config()?, folder.settings());
        let consensus = folder.consensus()?;
        let (chain_id, address) = (folder.genesis().chain_id(), config.account.address());
        Ok(Self {
            dir: folder.dir().to_path_buf(),
            chain: folder.genesis().chain.clone(),
            chain_id,
            address,
            consensus_key: ConsensusKey(consensus.address().0),
            api: settings.api,
            listen: settings.listen,
            possession: hex::encode(&consensus.prove_possession(&chain_id, &address)),
        })
    }

    fn describe(&self) -> String {
        format!(
            "chain          {} ({})\naddress        {}\nconsensus key  {}\nAPI            http://{}\nlistens        {}",
            self.chain, self.chain_id, self.address, self.consensus_key, self.api, self.listen
        )
    }
}

impl Node {
    pub(crate) fn run(self, output: &Output) -> Result {
        match self {
            Self::Init(init) => init.run(output),
            Self::Run(run) => run.run(output),
            Self::VerifyStore { dir } => verify_store(&dir, output),
            Self::Show { dir } => {
                let identity = Identity::of(&NodeFolder::open(&dir)?)?;
                output.result(identity.describe(), &identity)
            }
        }
    }
}

impl Init {
    fn run(self, output: &Output) -> Result {
        let genesis = read_genesis(&self.genesis)?;
        let peers = self.peer.into_iter().map(|peer| peer.0).collect();
        let settings = Settings::new(self.api, self.listen, peers);
        let (account, consensus) = (keys::generate()?, keys::generate()?);
        let folder = NodeFolder::create(&self.dir, &genesis, &settings, &account, &consensus)?;
        let identity = Identity::of(&folder)?;
        output.done(format_args!("made {}", self.dir.display()));
        output.say(
            "  The other nodes need its consensus key in their settings before it can connect.",
        );
        output.say(format_args!(
            "  Run it with: soma node run --dir {}",
            self.dir.display()
        ));
        output.result(identity.describe(), &identity)
    }
}

impl Run {
    fn run(self, output: &Output) -> Result {
        log(self.log, self.log_format);
        let folder = NodeFolder::open(&self.dir)?;
        let identity = Identity::of(&folder)?;
        let mut config = folder.config()?;
        if let Some(join) = self.join {
            config.settings.history.join = join.into();
        }
        let node = soma_node::start(config)?;
        tracing::info!(url = node.url(), chain = identity.chain, address = %identity.address, "the node runs");
        output.result(
            node.url(),
            &Running {
                url: node.url(),
                identity,
            },
        )?;
        let until_stdin_ends = self.until_stdin_ends;
        let ended = network::block_on(async {
            tokio::select! {
                signal = stopped() => signal,
                () = stdin_ended(), if until_stdin_ends => Ok(()),
                failure = failed(&node) => Err(Error::new(Code::NodeStopped, failure)
                    .hint("nothing final is lost: start it again")),
            }
        });
        tracing::info!("the node stops");
        node.shutdown();
        ended
    }
}

/// What was found whole.
#[derive(Serialize)]
struct Whole {
    first: Text<u64>,
    blocks: Text<u64>,
    certificates: Text<u64>,
    state: Text<u64>,
    history: Text<u64>,
}

fn verify_store(dir: &Path, output: &Output) -> Result {
    let verified = NodeFolder::open(dir)?.verify_store()?;
    let text = format!(
        "blocks {} to {}, {} certificates, the state of block {}, a history up to block {}: whole",
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

/// Ends when the node has stopped by itself, with the reason.
async fn failed(node: &soma_node::Node) -> String {
    loop {
        if let Some(failure) = node.failure() {
            return failure;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
}

/// Ends with the standard input. What comes in is nobody's.
async fn stdin_ended() {
    let (sender, ended) = tokio::sync::oneshot::channel();
    // A thread of its own: it ends with the process, and nothing waits for it.
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

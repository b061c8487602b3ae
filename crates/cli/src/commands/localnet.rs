//! `soma localnet`: a local network that stays up and keeps its state.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use soma_codes::Code;
use soma_node::localnet::{Info, Localnet as Network, OPERATOR, Plan, VALIDATORS_MAX};
use soma_protocol::{Amount, Architecture};
use soma_sdk::api::Status;
use soma_sdk::client::Client;
use soma_sdk::sender::Sender;

use crate::commands::status::phase;
use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::local_nodes::LocalNodes;
use crate::model_flags::Arch;
use crate::network;
use crate::output::Output;
use crate::output_file::{self, Existing};
use crate::seed::Seed;
use crate::signals::stopped;

/// Run a local network that stays up.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "The network keeps its state and continues when it is started again. Its keys \
                  are in the\nstate folder, funded and not encrypted: \
                  soma send ... --key account-1"
)]
pub(crate) struct Localnet {
    #[command(subcommand)]
    command: Option<Command>,
    /// Number of validators; several run as one process each, with a folder, ports and a log
    /// [default: 1].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=i64::from(VALIDATORS_MAX)))]
    validators: Option<u8>,
    /// Length of an epoch, as in 10s or 5m; `manual` ends phases with `soma localnet next`
    /// [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = epoch)]
    epoch: Option<u64>,
    /// Minimum time between two blocks, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = soma_node::settings::BLOCK_MS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60_000))]
    block_ms: u64,
    /// Port of the API; 0 chooses a free one.
    #[arg(long, default_value_t = soma_node::settings::API_PORT)]
    port: u16,
    /// The state folder [default: `localnet` in `SOMA_HOME`].
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Delete the state and start from scratch.
    #[arg(long)]
    reset: bool,
    /// Seed of the keys: an integer, or 64 hex digits [default: 0].
    #[arg(long)]
    seed: Option<Seed>,
    /// Architecture of the models: `nano`, `v1` or a JSON file [default: nano].
    #[arg(long)]
    arch: Option<Arch>,
    /// Write URLs and funded keys to this file once the network is up.
    #[arg(long, value_name = "FILE")]
    info_out: Option<PathBuf>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// End the current phase of the epoch now.
    Next {
        /// The state folder of the network [default: `localnet` in `SOMA_HOME`].
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
}

const EPOCH_MS: u64 = 10_000;
const POLL: Duration = Duration::from_millis(500);

/// Milliseconds of an epoch; 0 if phases are ended manually.
fn epoch(text: &str) -> std::result::Result<u64, String> {
    if text == "manual" {
        return Ok(0);
    }
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match u64::try_from(length.as_millis()) {
        Ok(ms) if ms >= 1000 => Ok(ms),
        _ => Err("an epoch takes at least one second".to_owned()),
    }
}

impl Localnet {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let home = Home::find(global)?;
        let folder = |state: &Option<PathBuf>| state.clone().unwrap_or_else(|| home.localnet());
        if let Some(Command::Next { state }) = &self.command {
            return next(&folder(state), global, output);
        }
        let dir = folder(&self.state);
        if let Some(path) = &self.info_out {
            output_file::check(path, Existing::Replaced)?;
        }
        if self.reset {
            reset(&dir)?;
        }
        let network = self.open(&dir)?;
        if network.validators() > 1 {
            return self.run_many(&network, output);
        }
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut config = network.node(api)?;
        config.settings.block_ms = self.block_ms;
        let node = soma_node::start(config)?;
        let info = network.info(vec![node.url().to_owned()])?;
        if let Some(path) = &self.info_out {
            info.write(path)?;
        }
        banner(&info, &network, output);
        output.value("URL", node.url(), &info)?;
        let ended = network::block_on(watch(&info.urls, output, || check_node(&node)));
        output.say("stopping");
        node.shutdown();
        ended
    }

    /// Runs each validator as a process.
    fn run_many(self, network: &Network, output: &Output) -> Result {
        let mut nodes = LocalNodes::start(network.folders(self.port, self.block_ms)?)?;
        let entries = nodes.entries();
        let urls: Vec<String> = entries.iter().map(|node| node.url.clone()).collect();
        let text = urls.join(" ");
        let info = Info { nodes: entries, ..network.info(urls)? };
        if let Some(path) = &self.info_out {
            info.write(path)?;
        }
        banner(&info, network, output);
        for (number, node) in (1..).zip(&info.nodes) {
            let (url, pid) = (&node.url, node.pid);
            output
                .say(format_args!("  node {number}  {url}  process {pid}  {}", node.dir.display()));
        }
        output.result(text, &info)?;
        let ended =
            network::block_on(watch(&info.urls, output, || check_nodes(&mut nodes, &info, output)));
        output.say("stopping");
        nodes.stop();
        ended
    }

    /// The network of the folder, or a new one. Flags for a new network are an error for an
    /// existing one.
    fn open(&self, dir: &Path) -> Result<Network> {
        let changes = self.epoch.is_some()
            || self.seed.is_some()
            || self.arch.is_some()
            || self.validators.is_some();
        if Network::exists(dir) && !changes {
            return Ok(Network::open(dir)?);
        }
        let seed = self.seed.unwrap_or(Seed::from_integer(0)).0;
        let mut plan = match self.epoch.unwrap_or(EPOCH_MS) {
            0 => Plan::manual(seed),
            epoch_ms => Plan::timed(seed, epoch_ms),
        };
        plan.validators = self.validators.unwrap_or(1);
        if let Some(Arch(architecture)) = &self.arch {
            plan.architecture = Architecture { name: "custom".to_owned(), ..architecture.clone() };
        }
        Ok(Network::create(dir, &plan)?)
    }
}

/// Deletes the state folder of a local network; refuses to delete anything else.
fn reset(dir: &Path) -> Result {
    if !dir.exists() {
        return Ok(());
    }
    let empty = std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_none());
    if !Network::exists(dir) && !empty {
        let message =
            format!("{} is not the state of a local network; nothing was deleted", dir.display());
        return Err(Error::new(Code::NotALocalnet, message)
            .hint("name another folder with --state, or delete this one yourself"));
    }
    if empty {
        return Ok(());
    }
    Ok(Network::delete(dir)?)
}

/// What a person needs, within 80 columns, the most important last.
fn banner(info: &Info, network: &Network, output: &Output) {
    output.heading(format_args!("Local network {}", info.chain));
    let funded: Vec<_> = info.keys.iter().filter(|(_, key)| key.funded > Amount::ZERO).collect();
    let mut amounts: Vec<Amount> = funded.iter().map(|(_, key)| key.funded).collect();
    amounts.sort_unstable();
    amounts.dedup();
    for amount in amounts {
        output.say(format_args!("  keys with {amount} SOMA each"));
        for (name, key) in funded.iter().filter(|(_, key)| key.funded == amount) {
            output.say(format_args!("    {name:10} {}", key.address));
        }
    }
    output.say(format_args!("  state   {}", info.state.display()));
    let length = network.genesis().params.epoch_ms;
    let epochs = match length {
        0 => "manual (soma localnet next)".to_owned(),
        ms => format!("{} each", humantime::format_duration(Duration::from_millis(ms))),
    };
    output.say(format_args!("  epochs  {epochs}"));
    let first = info.urls.first().map_or("", String::as_str);
    output.say(format_args!("  docs    {first}/openapi.json"));
    output.say(format_args!("  page    {first}/"));
    for url in &info.urls {
        output.say(format_args!("  API     {url}"));
    }
    output.say("  Try: soma status | soma model register owl | soma target list");
    output.say("  Ctrl-C stops it.\n");
}

/// Shows the status of the first node that answers, until a signal, or until `check` fails.
pub(crate) async fn watch(
    urls: &[String],
    output: &Output,
    mut check: impl FnMut() -> Result,
) -> Result {
    let clients = urls.iter().map(|url| Client::new(url));
    let clients: Vec<Client> = clients.collect::<std::result::Result<_, _>>()?;
    let line = output.spinner("");
    let mut stop = std::pin::pin!(stopped());
    loop {
        tokio::select! {
            signal = &mut stop => return signal,
            () = tokio::time::sleep(POLL) => {}
        }
        check()?;
        for client in &clients {
            if let Ok(status) = client.status().await {
                line.set_message(glance(&status));
                break;
            }
        }
    }
}

/// Fails if the node has stopped by itself.
pub(crate) fn check_node(node: &soma_node::Node) -> Result {
    match node.failure() {
        Some(failure) => Err(failure.into()),
        None => Ok(()),
    }
}

/// Warns of each node that has exited, and fails if none is left.
fn check_nodes(nodes: &mut LocalNodes, info: &Info, output: &Output) -> Result {
    for (number, status) in nodes.ended() {
        let dir = info.nodes[number].dir.display();
        output.warn(format_args!(
            "node {} exited ({status}); start it again with: soma node run --dir {dir}",
            number + 1
        ));
    }
    if nodes.is_empty() {
        return Err(Error::new(Code::NodeStopped, "all nodes have exited").hint(
            "see the logs in their folders, and start them again; finalized blocks are safe",
        ));
    }
    Ok(())
}

fn glance(status: &Status) -> String {
    format!(
        "epoch {}, {} \u{b7} block {} \u{b7} {} models \u{b7} {} targets open \u{b7} {} waiting",
        status.clock.epoch,
        phase(&status.clock),
        status.height,
        status.models_active,
        status.targets_open,
        status.pool
    )
}

/// Ends the current phase once all validators of the folder have done their duties in it.
fn next(dir: &Path, global: &Global, output: &Output) -> Result {
    if !Network::exists(dir) {
        let message = format!("there is no local network in {}", dir.display());
        return Err(Error::new(Code::NotALocalnet, message));
    }
    let network = Network::open(dir)?;
    let key = network.key(OPERATOR)?;
    let urls = network.urls()?;
    network::block_on(async {
        let chain = network.genesis().chain_id();
        let operator = Sender::new(network::client(global, output)?, key, chain).await?;
        let nodes = urls.iter().map(|url| Client::new(url));
        let nodes: Vec<Client> = nodes.collect::<std::result::Result<_, _>>()?;
        let status = network::end_phase(&operator, &nodes, output).await?;
        let text = format!("epoch {}, phase {}", status.clock.epoch, phase(&status.clock));
        output.result(text, &status.clock)
    })
}

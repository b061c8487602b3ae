//! `soma genesis`: operators make the genesis of a network together. Each signs an entry with keys
//! that stay in the folder of their node, and anyone assembles the same file from the entries.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use soma_codes::Code;
use soma_node::NodeFolder;
use soma_node::genesis::{Plan, Preset, check_equal, read_entries, read_genesis, render};
use soma_protocol::{Address, Amount, ConsensusKey, Hash};
use soma_sdk::Text;

use crate::endpoint_flags::EndpointFlags;
use crate::error::{Error, Result};
use crate::global::Global;
use crate::network;
use crate::output::{self, Output};
use crate::output_file::{self, Existing};

/// Make the genesis of a network together with other operators.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Genesis {
    /// Write the plan of a network, to be edited and given to all operators.
    New(New),
    /// Sign the entry of your validator; its keys are made in the folder of its node.
    Add(Add),
    /// Make the genesis from the plan and all entries; their order does not matter.
    Assemble(Assemble),
    /// Check a genesis, and whether it follows from a plan and entries.
    Check(Check),
    /// Show what a genesis says.
    Show {
        /// The genesis file.
        genesis: PathBuf,
    },
}

/// Write the plan of a network.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The file to write.
    plan: PathBuf,
    /// The network's name.
    #[arg(long)]
    name: String,
    /// What the plan starts from.
    #[arg(long, value_enum, default_value_t, value_name = "PRESET")]
    preset: Kind,
    /// When the network begins, as in 2030-01-31T12:00:00Z [default: in two days].
    #[arg(long, value_name = "TIME", value_parser = time)]
    start: Option<SystemTime>,
}

/// What a plan starts from.
#[derive(Clone, Copy, Debug, Default, clap::ValueEnum)]
enum Kind {
    /// A test network that anyone may join: the parameters of a network, `v1`.
    #[default]
    Public,
    /// People who know each other: epochs of an hour, small stakes and fees, `nano`.
    Private,
}

/// Sign the entry of your validator.
#[derive(Debug, clap::Args)]
pub(crate) struct Add {
    /// The plan.
    plan: PathBuf,
    /// The folder of your node, for `soma node init`; keys that it has are used.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Stake to start with, in SOMA [default: the most that the plan allows].
    #[arg(long, value_name = "SOMA")]
    stake: Option<Amount>,
    #[command(flatten)]
    endpoints: EndpointFlags,
    /// Encrypt new keys with a passphrase, which `soma node init` and `soma node run` then need.
    #[arg(long)]
    encrypt: bool,
    /// The entry's file.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Make the genesis.
#[derive(Debug, clap::Args)]
pub(crate) struct Assemble {
    /// The plan.
    plan: PathBuf,
    /// Entries, and folders of entries.
    #[arg(required = true, value_name = "ENTRY")]
    entries: Vec<PathBuf>,
    /// The genesis file [default: genesis.json].
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Check a genesis.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The genesis file.
    genesis: PathBuf,
    /// The plan that it should follow from.
    #[arg(long, value_name = "FILE", requires = "entries")]
    plan: Option<PathBuf>,
    /// Entries, and folders of entries.
    #[arg(value_name = "ENTRY", requires = "plan")]
    entries: Vec<PathBuf>,
}

/// A plan that was written.
#[derive(Serialize)]
struct Planned {
    plan: PathBuf,
    hash: Hash,
}

/// An entry that was signed.
#[derive(Serialize)]
struct Entered {
    entry: PathBuf,
    chain: String,
    plan: Hash,
    address: Address,
    consensus_key: ConsensusKey,
    /// In base units.
    stake: Amount,
}

/// A genesis at a glance.
#[derive(Serialize)]
struct Summary {
    chain: String,
    chain_id: Hash,
    start_ms: Text<u64>,
    /// How many it begins with.
    validators: usize,
    /// What it allocates, in base units.
    supply: Amount,
}

const DAY: Duration = Duration::from_hours(24);

fn time(text: &str) -> std::result::Result<SystemTime, String> {
    humantime::parse_rfc3339(text).map_err(|error| error.to_string())
}

impl Genesis {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        match self {
            Self::New(new) => new.run(output),
            Self::Add(add) => add.run(global, output),
            Self::Assemble(assemble) => assemble.run(output),
            Self::Check(check) => check.run(output),
            Self::Show { genesis } => show(&genesis, output),
        }
    }
}

impl New {
    fn run(self, output: &Output) -> Result {
        // It may have been edited.
        output_file::check(&self.plan, Existing::Kept)?;
        let start = self.start.unwrap_or_else(|| SystemTime::now() + 2 * DAY);
        let start_ms = start.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let preset = match self.preset {
            Kind::Public => Preset::Public,
            Kind::Private => Preset::Private,
        };
        let start_ms = u64::try_from(start_ms).unwrap_or(u64::MAX);
        let text = Plan::render(&self.name, preset, start_ms);
        let plan = Plan::parse(&text).map_err(|reason| Error::new(Code::BadPlan, reason))?;
        write(&self.plan, &text)?;
        output.done(format_args!("wrote {}", self.plan.display()));
        output.say("  Edit it, and give it to all operators: each signs with `soma genesis add`.");
        let planned = Planned { plan: self.plan, hash: plan.hash() };
        output.value("plan", planned.hash, &planned)
    }
}

impl Add {
    fn run(self, global: &Global, output: &Output) -> Result {
        let plan = Plan::read(&self.plan)?;
        let endpoints = self.endpoints.change(None)?.unwrap_or_default();
        let stake = self.stake.unwrap_or(plan.stake_max());
        plan.check_stake(&self.output, stake)?;
        output_file::check(&self.output, Existing::Replaced)?;
        let passphrase = network::new_node_passphrase(&self.dir, self.encrypt, global)?;
        let passphrase = passphrase.as_ref().map(|text| text.as_str());
        let keys = NodeFolder::make_keys(&self.dir, passphrase)?;
        let entry = plan.enter(&keys.account, &keys.consensus, stake, endpoints);
        write(&self.output, &entry.render())?;
        let entered = Entered {
            entry: self.output,
            chain: plan.chain().to_owned(),
            plan: plan.hash(),
            address: entry.address,
            consensus_key: entry.consensus_key,
            stake,
        };
        output.done(format_args!("signed an entry in {} with {stake} SOMA", entered.chain));
        output.say(format_args!(
            "  The keys are in {}: back them up, and keep them to yourself.\n  Give {} to whoever \
             collects the entries.",
            self.dir.join("keys").display(),
            entered.entry.display(),
        ));
        output.value("address", entered.address, &entered)
    }
}

impl Assemble {
    fn run(self, output: &Output) -> Result {
        let path = output_file::named_or_new(self.output, "genesis.json".to_owned())?;
        let genesis = Plan::read(&self.plan)?.assemble(&read_entries(&self.entries)?)?;
        write(&path, &render(&genesis))?;
        output.done(format_args!("wrote {}", path.display()));
        output.say("  Compare the chain id with the other operators before anyone starts a node.");
        summarize(&genesis, output)
    }
}

impl Check {
    fn run(self, output: &Output) -> Result {
        let genesis = read_genesis(&self.genesis)?;
        if let Some(plan) = &self.plan {
            let expected = Plan::read(plan)?.assemble(&read_entries(&self.entries)?)?;
            check_equal(&self.genesis, &genesis, &expected)?;
            output.done("it is the genesis of this plan and these entries");
        }
        summarize(&genesis, output)
    }
}

fn show(path: &Path, output: &Output) -> Result {
    let genesis = read_genesis(path)?;
    for validator in &genesis.validators {
        let stake = validator.stake;
        output.say(format_args!("  validator  {}  {stake} SOMA", validator.address));
    }
    for account in &genesis.accounts {
        output.say(format_args!("  account    {}  {} SOMA", account.address, account.balance));
    }
    summarize(&genesis, output)
}

fn summarize(genesis: &soma_protocol::Genesis, output: &Output) -> Result {
    let summary = Summary {
        chain: genesis.chain.clone(),
        chain_id: genesis.chain_id(),
        start_ms: Text(genesis.timestamp_ms),
        validators: genesis.validators.len(),
        supply: genesis.allocated(),
    };
    let text = format!(
        "chain       {}\nchain id    {}\nstart       {}\nvalidators  {}\nsupply      {} SOMA",
        summary.chain,
        summary.chain_id,
        output::when(genesis.timestamp_ms),
        summary.validators,
        summary.supply,
    );
    output.result(text, &summary)
}

fn write(path: &Path, text: &str) -> Result {
    soma_os::file::write(path, text.as_bytes()).map_err(|error| Error::file(path, "write", &error))
}

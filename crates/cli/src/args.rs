//! The commands: `soma <noun> <verb>` for things on the network, `soma <verb>` for daily work.
//!
//! Each command's own flags are in its file under `commands/`.

use std::sync::LazyLock;

use clap::{CommandFactory, Parser, Subcommand};
use soma_protocol::RULES;

use crate::commands;
use crate::error::Result;
use crate::global::Global;
use crate::output::Output;

/// The version of this program, and of the rules that it executes.
fn version() -> &'static str {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| format!("{} ({RULES})", env!("CARGO_PKG_VERSION")));
    &TEXT
}

/// Many models of one architecture compete to predict bytes; the network keeps the score.
#[derive(Debug, Parser)]
#[command(
    name = "soma",
    version = version(),
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Start with `soma demo`: a complete competition on this machine in one to three \
                  minutes."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a complete competition on this machine.
    Demo(commands::demo::Demo),
    /// Run a local network that stays up.
    Localnet(commands::localnet::Localnet),
    /// Make the genesis of a network together with other operators.
    #[command(subcommand)]
    Genesis(commands::genesis::Genesis),
    /// Set up and run a node: a validator or a follower.
    #[command(subcommand)]
    Node(commands::node::Node),
    /// Score local files with local weights.
    Score(commands::score::Score),
    /// Compute the score of a receipt again and say whether it is equal.
    Verify(commands::verify::Verify),
    /// Measure the performance of this machine.
    #[command(subcommand)]
    Bench(commands::bench::Bench),
    /// Train a model on this machine, reproducibly.
    Train(commands::train::Train),
    /// Continue a text with a model, or embed a file.
    Run(commands::run::Run),
    /// Serve a model to programs on this machine, as OpenAI's API does.
    Serve(commands::serve::Serve),
    /// Create, publish, download and inspect models.
    #[command(subcommand)]
    Model(commands::model::ModelCommand),
    /// List and inspect targets.
    #[command(subcommand)]
    Target(commands::target::TargetCommand),
    /// Score data with the assigned models and submit it for targets.
    Submit(commands::submit::Submit),
    /// Find the public models that predict data best.
    Find(commands::find::Find),
    /// Write the embeddings of files to one file.
    Embed(commands::embed::Embed),
    /// Create, import, export and list keys.
    #[command(subcommand)]
    Keys(commands::keys::Keys),
    /// Show an account's balance.
    Balance(commands::balance::Balance),
    /// Send SOMA to an account.
    Send(commands::send::Send),
    /// Give money away on a test network, or ask for it.
    #[command(subcommand)]
    Faucet(commands::faucet::Faucet),
    /// Show and send transactions that were signed with `--offline`.
    #[command(subcommand)]
    Tx(commands::tx::Tx),
    /// Stake on models and validators, and withdraw.
    #[command(subcommand)]
    Stake(commands::stake::StakeCommand),
    /// List validators, register one and manage it.
    #[command(subcommand)]
    Validator(commands::validator::ValidatorCommand),
    /// Propose changes to the network and vote on them.
    #[command(subcommand)]
    Vote(commands::vote::Vote),
    /// Show the network at a glance.
    Status(commands::status::Status),
    /// Explain what became of submissions and models in the last epochs.
    Why(commands::why::Why),
    /// Monitor a node.
    Top(commands::top::Top),
    /// Offer the network and models as tools to an assistant.
    Mcp(commands::mcp::Mcp),
    /// Check whether this machine can run a node.
    Doctor(commands::doctor::Doctor),
    /// Explain an error code.
    Explain(commands::explain::Explain),
    /// Print a completion script for a shell.
    Completions(commands::completions::Completions),
}

impl Command {
    /// Runs the command.
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        match self {
            Self::Demo(command) => command.run(global, output),
            Self::Localnet(command) => command.run(global, output),
            Self::Score(command) => command.run(global, output),
            Self::Verify(command) => command.run(output),
            Self::Bench(command) => command.run(output),
            Self::Genesis(command) => command.run(global, output),
            Self::Node(command) => command.run(global, output),
            Self::Train(command) => command.run(output),
            Self::Run(command) => command.run(output),
            Self::Serve(command) => command.run(output),
            Self::Model(command) => command.run(global, output),
            Self::Target(command) => command.run(global, output),
            Self::Submit(command) => command.run(global, output),
            Self::Faucet(command) => command.run(global, output),
            Self::Find(command) => command.run(global, output),
            Self::Embed(command) => command.run(global, output),
            Self::Keys(command) => command.run(global, output),
            Self::Balance(command) => command.run(global, output),
            Self::Send(command) => command.run(global, output),
            Self::Tx(command) => command.run(global, output),
            Self::Stake(command) => command.run(global, output),
            Self::Validator(command) => command.run(global, output),
            Self::Vote(command) => command.run(global, output),
            Self::Status(_) => commands::status::run(global, output),
            Self::Why(command) => command.run(global, output),
            Self::Top(command) => command.run(global, output),
            Self::Mcp(command) => command.run(global, output),
            Self::Doctor(command) => command.run(global, output),
            Self::Explain(command) => command.run(output),
            Self::Completions(command) => command.run(&mut Args::command()),
        }
    }
}

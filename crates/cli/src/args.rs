//! The commands: `soma <noun> <verb>` for things on the network, `soma <verb>` for daily work.
//!
//! Each command's own flags are in its file under `commands/`.

use clap::{CommandFactory, Parser, Subcommand};

use crate::commands;
use crate::error::Result;
use crate::global::Global;
use crate::output::Output;

/// Many models of one architecture compete to predict bytes; the network keeps the score.
#[derive(Debug, Parser)]
#[command(
    name = "soma",
    version,
    propagate_version = true,
    disable_help_subcommand = true,
    after_help = "Start with `soma demo`: the whole competition on this machine, in about a minute."
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch the whole competition on this machine.
    Demo(commands::demo::Demo),
    /// Run a local network that stays up.
    Localnet(commands::localnet::Localnet),
    /// Set up and run a node: a validator, or one that follows.
    #[command(subcommand)]
    Node(commands::node::Node),
    /// Score local files with local weights.
    Score(commands::score::Score),
    /// Measure what this machine can do.
    #[command(subcommand)]
    Bench(commands::bench::Bench),
    /// Train a model on this machine, reproducibly.
    Train(commands::train::Train),
    /// Continue bytes with a model, or embed a file.
    Run(commands::run::Run),
    /// Make, publish, fetch and look at models.
    #[command(subcommand)]
    Model(commands::model::Model),
    /// Look at targets.
    #[command(subcommand)]
    Target(commands::target::Target),
    /// Score data with the assigned models and enter it for targets.
    Submit(commands::submit::Submit),
    /// Make and list keys.
    #[command(subcommand)]
    Keys(commands::keys::Keys),
    /// Show what an account holds.
    Balance(commands::balance::Balance),
    /// Send SOMA.
    Send(commands::send::Send),
    /// Put money behind models and validators, and take it back.
    #[command(subcommand)]
    Stake(commands::stake::Stake),
    /// List validators, and run one.
    #[command(subcommand)]
    Validator(commands::validator::Validator),
    /// Propose changes and vote on them.
    #[command(subcommand)]
    Vote(commands::vote::Vote),
    /// Show the network at a glance.
    Status(commands::status::Status),
    /// Watch a node at work.
    Top(commands::top::Top),
    /// Check what could keep this machine from running a node well.
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
            Self::Bench(command) => command.run(output),
            Self::Node(command) => command.run(output),
            Self::Train(command) => command.run(output),
            Self::Run(command) => command.run(output),
            Self::Model(command) => command.run(global, output),
            Self::Target(command) => command.run(global, output),
            Self::Submit(command) => command.run(global, output),
            Self::Keys(command) => command.run(global, output),
            Self::Balance(command) => command.run(global, output),
            Self::Send(command) => command.run(global, output),
            Self::Stake(command) => command.run(global, output),
            Self::Validator(command) => command.run(global, output),
            Self::Vote(command) => command.run(global, output),
            Self::Status(_) => commands::status::run(global, output),
            Self::Top(command) => command.run(global, output),
            Self::Doctor(command) => command.run(global, output),
            Self::Explain(command) => command.run(output),
            Self::Completions(command) => command.run(&mut Args::command()),
        }
    }
}

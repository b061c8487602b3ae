//! The grammar: `soma <noun> <verb>` for things on the network, `soma <verb>` for daily work.
//!
//! Each command's own flags stand in its file under `commands/`; the flags that all of them share
//! are here, once.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands;
use crate::output::Color;

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

/// Flags that mean the same everywhere.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Print the result as JSON, one document per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print nothing but the result and errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// When to colour.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// No bars and spinners.
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// The node to talk to.
    #[arg(long, global = true, env = "SOMA_URL", hide_env_values = true, default_value = DEFAULT_URL, value_name = "URL")]
    pub(crate) url: String,
    /// The key to sign with: a name from `soma keys list`, or a file [default: `default`].
    #[arg(
        long,
        global = true,
        env = "SOMA_KEY",
        hide_env_values = true,
        value_name = "NAME"
    )]
    pub(crate) key: Option<String>,
    /// Where the passphrase of an encrypted key is read from; `-` is standard input.
    #[arg(
        long,
        global = true,
        env = "SOMA_PASSPHRASE_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// Where keys, caches and local networks live [default: the XDG data folder].
    #[arg(
        long,
        global = true,
        env = "SOMA_HOME",
        hide_env_values = true,
        value_name = "DIR"
    )]
    pub(crate) home: Option<PathBuf>,
}

/// Where a local network listens unless told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8645";

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
    Balance(commands::account::Balance),
    /// Send SOMA.
    Send(commands::account::Send),
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

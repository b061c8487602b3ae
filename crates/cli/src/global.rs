//! Flags that every command has.

use std::path::PathBuf;

use clap::builder::FalseyValueParser;
use soma_protocol::{Amount, Hash};

use crate::output::Color;

/// Flags that mean the same for every command.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
pub(crate) struct Global {
    /// Print the result as JSON, one document per line.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Only print the result and errors.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// When to use color.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub(crate) color: Color,
    /// Hide progress bars.
    #[arg(long, global = true)]
    pub(crate) no_progress: bool,
    /// The node's URL.
    #[arg(
        long,
        global = true,
        env = "SOMA_URL",
        hide_env_values = true,
        default_value = DEFAULT_URL,
        value_name = "URL"
    )]
    pub(crate) url: String,
    /// File of certificates (PEM) to trust, besides those that this machine trusts.
    #[arg(long, global = true, env = "SOMA_CA", hide_env_values = true, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,
    /// Server with encrypted weights files under their hashes, such as a public bucket, to fetch
    /// them from before the node; repeat it for several.
    #[arg(
        long = "mirror",
        global = true,
        env = "SOMA_MIRROR",
        hide_env_values = true,
        value_delimiter = ',',
        value_name = "URL"
    )]
    pub(crate) mirrors: Vec<String>,
    /// The key to sign with: a name from `soma keys list`, or a file [default: `default`].
    #[arg(long, global = true, env = "SOMA_KEY", hide_env_values = true, value_name = "NAME")]
    pub(crate) key: Option<String>,
    /// File with the passphrase of an encrypted key; `-` is standard input.
    #[arg(
        long,
        global = true,
        env = "SOMA_PASSPHRASE_FILE",
        hide_env_values = true,
        value_name = "FILE"
    )]
    pub(crate) passphrase_file: Option<PathBuf>,
    /// What to add to the fee of each transaction, in SOMA, to come earlier [default: what the node
    /// suggests, at most ten times the fee].
    #[arg(long, global = true, value_name = "SOMA")]
    pub(crate) tip: Option<Amount>,
    /// Id of the chain to sign for [default: that of the genesis beside the key, else the one that
    /// was signed for first].
    #[arg(long, global = true, env = "SOMA_CHAIN", hide_env_values = true, value_name = "ID")]
    pub(crate) chain: Option<Hash>,
    /// Believe nothing of what the node says about balances, nonces, models, targets and rules: it
    /// has to prove it, from the genesis of the chain on. Lists of all and the history stay its
    /// word.
    #[arg(
        long,
        global = true,
        env = "SOMA_VERIFY",
        hide_env_values = true,
        value_parser = FalseyValueParser::new()
    )]
    pub(crate) verify: bool,
    /// Folder of keys, caches and local networks [default: the XDG data folder].
    #[arg(long, global = true, env = "SOMA_HOME", hide_env_values = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
}

/// The URL of a local network with its default port.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8645";

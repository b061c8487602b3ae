//! `soma keys`: the keys of accounts. A key is a file, encrypted unless it is for a local network.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use soma_codes::Code;
use soma_sdk::SdkError;
use soma_sdk::keys::{KeyFolder, KeyInfo, KeyPath, Protection};
use soma_sdk::words::Words;

use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::network;
use crate::output::Output;
use crate::output_file::{self, Existing};

/// Create and list keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Keys {
    /// Create a key, encrypted with a passphrase.
    New(New),
    /// Make a key from its 24 words, or from a key file.
    Import(Import),
    /// Copy a key's file, or write its 24 words.
    Export(Export),
    /// Change the passphrase of a key, or encrypt one without.
    Passphrase(Passphrase),
    /// List the keys of this machine.
    List,
    /// Show a key's address and file.
    Show {
        /// The key's name [default: the one that would sign].
        name: Option<String>,
    },
}

/// Create a key, encrypted with a passphrase.
#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The key's name; `default` signs when --key is not given.
    #[arg(default_value = "default")]
    name: String,
    /// Do not encrypt it; only for local networks.
    #[arg(long)]
    local: bool,
}

/// Make a key from its 24 words, or from a key file.
#[derive(Debug, clap::Args)]
pub(crate) struct Import {
    /// The key's name here.
    name: String,
    /// A key file; it stays encrypted as it is.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["words", "local"])]
    file: Option<PathBuf>,
    /// File with the 24 words; `-` is standard input [default: ask for them].
    #[arg(long, value_name = "FILE")]
    words: Option<PathBuf>,
    /// Do not encrypt it; only for local networks.
    #[arg(long)]
    local: bool,
}

/// Copy a key's file, or write its 24 words.
#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// The key's name [default: the one that would sign].
    name: Option<String>,
    /// Write the words that the key was made from; without -o to the terminal.
    #[arg(long)]
    words: bool,
    /// The file to write, which only you can read.
    #[arg(short, long, value_name = "FILE", required_unless_present = "words")]
    output: Option<PathBuf>,
}

/// Change the passphrase of a key, or encrypt one without.
#[derive(Debug, clap::Args)]
pub(crate) struct Passphrase {
    /// The key's name [default: the one that would sign].
    name: Option<String>,
    /// File with the new passphrase; `-` is standard input [default: ask for it].
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
}

/// Words that were asked for.
#[derive(Serialize)]
struct Phrase<'a> {
    words: &'a str,
}

/// A file that was written.
#[derive(Serialize)]
struct Exported {
    address: String,
    file: String,
}

#[derive(Serialize)]
struct KeyFacts {
    name: String,
    address: String,
    file: String,
    encrypted: bool,
}

impl Keys {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let home = Home::find(global)?;
        let folder = home.keys();
        match self {
            Self::New(new) => new.run(global, output, &folder),
            Self::Import(import) => import.run(global, output, &folder),
            Self::Export(export) => export.run(global, output),
            Self::Passphrase(passphrase) => passphrase.run(global, output),
            Self::List => {
                let local = KeyFolder::of(&home.localnet());
                let (mut all, mut errors) = (Vec::new(), Vec::new());
                for folder in [&folder, &local] {
                    let (keys, unusable) = folder.list_all()?;
                    all.extend(describe(folder, keys));
                    errors.extend(unusable);
                }
                for error in &errors {
                    output.warn(format_args!("left out: {error}"));
                }
                let width = all.iter().map(|key| key.name.len()).max().unwrap_or(0);
                let line = |key: &KeyFacts| {
                    let kept = if key.encrypted { "" } else { " *" };
                    format!("{:width$}  {}{kept}\n", key.name, key.address)
                };
                if all.is_empty() {
                    output.say("no keys yet; create one with `soma keys new`");
                }
                output.result(all.iter().map(line).collect::<String>(), &all)?;
                if all.iter().any(|key| !key.encrypted) {
                    output.say("* not encrypted: for local networks only");
                }
                match errors.len() {
                    0 => Ok(()),
                    count => {
                        Err(Error::new(Code::LeftOut, format!("{count} files are no usable keys")))
                    }
                }
            }
            Self::Show { name } => {
                let key = named(name, global)?;
                let shown = facts(key.info()?, key.path());
                output.say(format_args!("{} in {}", shown.name, shown.file));
                output.value("address", &shown.address, &shown)
            }
        }
    }
}

impl New {
    fn run(self, global: &Global, output: &Output, folder: &KeyFolder) -> Result {
        make(&self.name, self.local, global, output, folder, Words::generate)?;
        output.say(format_args!(
            "The key is also 24 words: `soma keys export {} --words` shows them, to be written on \
             paper.",
            self.name
        ));
        created(&self.name, output, folder)
    }
}

/// Writes the key of these words.
fn make(
    name: &str,
    local: bool,
    global: &Global,
    output: &Output,
    folder: &KeyFolder,
    words: impl FnOnce() -> std::result::Result<Words, SdkError>,
) -> Result {
    if local {
        folder.create_from_words(name, &words()?, Protection::Local)?;
        output.warn("this key is not encrypted: use it on local networks only");
        output.say("Back up this file: it cannot be recovered.");
        return Ok(());
    }
    // Refuse an existing name before asking for a passphrase.
    if folder.path_of(name).exists() {
        return Err(SdkError::KeyExists { name: name.to_owned() }.into());
    }
    let words = words()?;
    let passphrase =
        network::new_passphrase("--passphrase-file", global.passphrase_file.as_deref())?;
    folder.create_from_words(name, &words, Protection::Passphrase(&passphrase))?;
    output.say("Back up this file and remember its passphrase: neither can be recovered.");
    Ok(())
}

fn created(name: &str, output: &Output, folder: &KeyFolder) -> Result {
    let created = facts(folder.info(name)?, &folder.path_of(name));
    output.done(format_args!("{} in {}", created.name, created.file));
    output.value("address", &created.address, &created)
}

/// The key of this name, or the one that would sign.
fn named(name: Option<String>, global: &Global) -> Result<KeyPath> {
    network::key_path(&Global { key: name.or_else(|| global.key.clone()), ..global.clone() })
}

impl Import {
    fn run(self, global: &Global, output: &Output, folder: &KeyFolder) -> Result {
        if let Some(file) = &self.file {
            folder.import(&self.name, &KeyPath::file(file))?;
            if !folder.info(&self.name)?.encrypted {
                output.warn("this key is not encrypted; `soma keys passphrase` encrypts it");
            }
        } else {
            let text = network::WORDS.get(self.words.as_deref(), "24 words: ")?;
            let words = || Words::parse(&text);
            make(&self.name, self.local, global, output, folder, words)?;
        }
        created(&self.name, output, folder)
    }
}

impl Export {
    fn run(self, global: &Global, output: &Output) -> Result {
        let key = named(self.name, global)?;
        let Some(file) = &self.output else {
            // Where nobody reads, words would end in a log.
            if !std::io::stdout().is_terminal() {
                return Err(Error::usage("words are written to a terminal or to a file")
                    .hint("name a file, which only you can read: -o FILE"));
            }
            let words = network::unlock(global, &key)?.words()?;
            output.warn("whoever sees these words has the key");
            return output.value("words", words.phrase(), &Phrase { words: words.phrase() });
        };
        // What lies there could be another key.
        output_file::check(file, Existing::Kept)?;
        if self.words {
            let words = network::unlock(global, &key)?.words()?;
            let written = soma_os::file::write_private(file, words.phrase().as_bytes());
            written.map_err(|error| Error::file(file, "write", &error))?;
        } else {
            key.export(file)?;
        }
        let (address, file) = (key.info()?.address.to_string(), file.display().to_string());
        output.done(format_args!("wrote {file}"));
        output.value("address", address.clone(), &Exported { address, file })
    }
}

impl Passphrase {
    fn run(self, global: &Global, output: &Output) -> Result {
        let key = named(self.name, global)?;
        // A wrong passphrase is told before a new one is asked for.
        let opened = network::unlock(global, &key)?;
        let flag = "--new-passphrase-file";
        let new = network::new_passphrase(flag, self.new_passphrase_file.as_deref())?;
        opened.protect(Protection::Passphrase(&new))?;
        let changed = facts(key.info()?, key.path());
        output.done(format_args!("{} has a new passphrase", changed.name));
        output.value("address", &changed.address, &changed)
    }
}

fn describe(folder: &KeyFolder, keys: Vec<KeyInfo>) -> Vec<KeyFacts> {
    keys.into_iter()
        .map(|key| {
            let path = folder.path_of(&key.name);
            facts(key, &path)
        })
        .collect()
}

fn facts(key: KeyInfo, path: &Path) -> KeyFacts {
    KeyFacts {
        file: path.display().to_string(),
        address: key.address.to_string(),
        encrypted: key.encrypted,
        name: key.name,
    }
}

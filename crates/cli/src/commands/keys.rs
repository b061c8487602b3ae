//! `soma keys`: the keys of accounts. A key is a file, encrypted unless it is for a local network.

use std::path::Path;

use serde::Serialize;
use soma_codes::Code;
use soma_sdk::keys::{self, KeyFolder, KeyInfo, Protection};
use zeroize::Zeroizing;

use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::network;
use crate::output::Output;

/// Create and list keys.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Keys {
    /// Create a key, encrypted with a passphrase.
    New(New),
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

#[derive(Serialize)]
struct KeyFacts {
    name: String,
    address: String,
    file: String,
    encrypted: bool,
}

const PASSPHRASE_CHARS_MIN: usize = 8;

impl Keys {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let home = Home::find(global)?;
        let folder = home.keys();
        match self {
            Self::New(new) => new.run(global, output, &folder),
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
                    let kept = if key.encrypted { "encrypted" } else { "local" };
                    format!("{:width$}  {}  {kept}\n", key.name, key.address)
                };
                if all.is_empty() {
                    output.say("no keys yet; create one with `soma keys new`");
                }
                output.result(all.iter().map(line).collect::<String>(), &all)?;
                match errors.len() {
                    0 => Ok(()),
                    count => {
                        Err(Error::new(Code::LeftOut, format!("{count} files are no usable keys")))
                    }
                }
            }
            Self::Show { name } => {
                let named = Global { key: name.or_else(|| global.key.clone()), ..global.clone() };
                let key = network::key_path(&named)?;
                let shown = facts(key.info()?, key.path());
                output.say(format_args!("{} in {}", shown.name, shown.file));
                output.value("address", &shown.address, &shown)
            }
        }
    }
}

impl New {
    fn run(self, global: &Global, output: &Output, folder: &KeyFolder) -> Result {
        let key = keys::generate()?;
        if self.local {
            folder.create(&self.name, &key, Protection::Local)?;
            output.warn("this key is not encrypted: use it on local networks only");
        } else {
            // Refuse an existing name before asking for a passphrase.
            if folder.path_of(&self.name).exists() {
                return Err(soma_sdk::SdkError::KeyExists { name: self.name }.into());
            }
            let passphrase = new_passphrase(global)?;
            folder.create(&self.name, &key, Protection::Passphrase(&passphrase))?;
        }
        let created = facts(folder.info(&self.name)?, &folder.path_of(&self.name));
        output.done(format_args!("{} in {}", created.name, created.file));
        output.say(if self.local {
            "Back up this file: it cannot be recovered."
        } else {
            "Back up this file and remember its passphrase: neither can be recovered."
        });
        output.value("address", &created.address, &created)
    }
}

fn new_passphrase(global: &Global) -> Result<Zeroizing<String>> {
    let passphrase = network::passphrase(global, "New passphrase: ")?;
    if passphrase.chars().count() < PASSPHRASE_CHARS_MIN {
        let message = format!("a passphrase needs at least {PASSPHRASE_CHARS_MIN} characters");
        return Err(Error::new(Code::PassphraseTooShort, message));
    }
    if global.passphrase_file.is_none() && network::passphrase(global, "Repeat it: ")? != passphrase
    {
        let message = "the two passphrases differ; nothing was written";
        return Err(Error::new(Code::PassphraseMismatch, message));
    }
    Ok(passphrase)
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

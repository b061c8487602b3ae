//! `soma node backup`, `restore` and `move`: a node in one file.

use std::path::{Path, PathBuf};

use serde::Serialize;
use soma_node::bundle::{Bundle, Purpose, left_out, take_back};
use soma_node::folder::{ACCOUNT, CONSENSUS, DUTY, NodeFolder};
use soma_os::clock::now_ms;
use soma_protocol::{Address, ConsensusKey, Hash};
use soma_sdk::api::text::Text;

use crate::error::Result;
use crate::global::Global;
use crate::network;
use crate::output::{Output, when};
use crate::output_file::{self, Existing};

/// Write what of a node cannot be made again into one file.
#[derive(Debug, clap::Args)]
pub(crate) struct Backup {
    /// The node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The file to write, which only you can read; nothing is replaced.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

/// Make a node's folder from a file of `soma node backup` or `soma node move`.
#[derive(Debug, clap::Args)]
pub(crate) struct Restore {
    /// The file.
    file: PathBuf,
    /// The folder to make; nothing may be in it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// Move a stopped node into one file, to continue elsewhere.
#[derive(Debug, clap::Args)]
pub(crate) struct Move {
    /// The node's folder.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The file to write, which only you can read; nothing is replaced.
    #[arg(short, long, value_name = "FILE", required_unless_present = "undo")]
    output: Option<PathBuf>,
    /// Take a move back: the node may run here again, and watches first, as from a backup.
    #[arg(long, conflicts_with = "output")]
    undo: bool,
}

/// When a node that is restored from a file votes.
#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Votes {
    AtOnce,
    AfterWatching,
}

/// A key in a bundle.
#[derive(Serialize)]
struct Key {
    name: String,
    address: Address,
    encrypted: bool,
}

/// What is in a bundle, or was made from it.
#[derive(Serialize)]
struct Facts<'a> {
    file: &'a Path,
    dir: &'a Path,
    chain: &'a str,
    chain_id: Hash,
    consensus_key: ConsensusKey,
    purpose: Purpose,
    made_ms: Text<u64>,
    votes: Votes,
    keys: Vec<Key>,
    /// Files that belong to the node and are not in the bundle.
    left_out: Vec<PathBuf>,
}

/// A move that was taken back.
#[derive(Serialize)]
struct Returned<'a> {
    dir: &'a Path,
    votes: Votes,
}

impl<'a> Facts<'a> {
    fn new(
        file: &'a Path,
        folder: &'a NodeFolder,
        bundle: &Bundle,
        left_out: Vec<PathBuf>,
    ) -> Result<Self> {
        let at_once = bundle.votes_at_once(now_ms());
        let infos = [ACCOUNT, DUTY, CONSENSUS].map(|name| folder.keys().info(name));
        let key = |info: soma_sdk::keys::KeyInfo| Key {
            name: info.name,
            address: info.address,
            encrypted: info.encrypted,
        };
        Ok(Self {
            file,
            dir: folder.dir(),
            chain: &folder.genesis().chain,
            chain_id: folder.genesis().chain_id(),
            consensus_key: folder.consensus_key()?,
            purpose: bundle.purpose(),
            made_ms: Text(bundle.made_ms()),
            votes: if at_once { Votes::AtOnce } else { Votes::AfterWatching },
            keys: infos.into_iter().flatten().map(key).collect(),
            left_out,
        })
    }

    /// What the operator must know about the secrets in the file, and what is not in it.
    fn warn(&self, folder: &NodeFolder, output: &Output) {
        let plain: Vec<&str> = self.keys.iter().filter(|key| !key.encrypted).map(name).collect();
        if !plain.is_empty() {
            output.warn(format_args!(
                "not encrypted in {}: {}; whoever reads the file has the keys",
                self.file.display(),
                plain.join(", ")
            ));
        }
        for path in &self.left_out {
            output.warn(format_args!("not in the file: {}", path.display()));
        }
        if folder.genesis().validators.len() <= 1 {
            output.warn(
                "the network began with one validator: if no other node has the chain, only a copy \
                 of the folder `chain` of the stopped node keeps it",
            );
        }
    }
}

fn name(key: &Key) -> &str {
    &key.name
}

impl Backup {
    pub(super) fn run(self, output: &Output) -> Result {
        // What lies there may be the only other backup.
        output_file::check(&self.output, Existing::Kept)?;
        let folder = NodeFolder::open(&self.dir)?;
        let bundle = Bundle::backup(&folder, now_ms())?;
        bundle.write(&self.output)?;
        let facts = Facts::new(&self.output, &folder, &bundle, left_out(&folder)?)?;
        output.done(format_args!("wrote {}", self.output.display()));
        facts.warn(&folder, output);
        output.say(
            "  Keep it as safe as the folder. If the node is lost:\n  \
             soma node restore FILE --dir DIR",
        );
        output.value("file", self.output.display(), &facts)
    }
}

impl Move {
    pub(super) fn run(self, global: &Global, output: &Output) -> Result {
        let folder = NodeFolder::open(&self.dir)?;
        let Some(file) = &self.output else {
            return undo(&folder, output);
        };
        output_file::check(file, Existing::Kept)?;
        let passphrase = network::node_passphrase(&self.dir, global)?;
        let passphrase = passphrase.as_ref().map(|text| text.as_str());
        let left_out = left_out(&folder)?;
        let bundle = Bundle::move_away(&folder, passphrase, file, now_ms())?;
        let facts = Facts::new(file, &folder, &bundle, left_out)?;
        output.done(format_args!(
            "moved the node into {}: it does not run in {} anymore",
            file.display(),
            self.dir.display()
        ));
        facts.warn(&folder, output);
        output.say(
            "  On the new machine, once: soma node restore FILE --dir DIR\n  \
             When it runs there, delete this folder and the file.",
        );
        output.value("file", file.display(), &facts)
    }
}

fn undo(folder: &NodeFolder, output: &Output) -> Result {
    take_back(folder)?;
    let dir = folder.dir();
    output.done(format_args!("the node may run in {} again", dir.display()));
    output.say(
        "  Make sure that it runs nowhere else, and delete the file of the move.\n  It watches for \
         the rest of a term and the whole next one before it votes: its key may have voted\n  \
         elsewhere.",
    );
    output.value("dir", dir.display(), &Returned { dir, votes: Votes::AfterWatching })
}

impl Restore {
    pub(super) fn run(self, output: &Output) -> Result {
        let bundle = Bundle::read(&self.file)?;
        let folder = bundle.restore(&self.dir, now_ms())?;
        let facts = Facts::new(&self.file, &folder, &bundle, left_out(&folder)?)?;
        let what = match facts.purpose {
            Purpose::Backup => "backup",
            Purpose::Move => "move",
        };
        output.done(format_args!(
            "made {} from the {what} of {}",
            self.dir.display(),
            when(bundle.made_ms())
        ));
        for path in facts.left_out.iter().filter(|path| !path.exists()) {
            output.warn(format_args!("{} is missing: config.toml names it", path.display()));
        }
        output.say("  It has no blocks yet: its peers give it the state when it starts.");
        output.say(match (&facts.votes, facts.purpose) {
            (Votes::AtOnce, _) => {
                "  If it has a seat, it votes as soon as it follows. Restore this file only here."
            }
            (Votes::AfterWatching, Purpose::Move) => {
                "  If it has a seat, it watches for the rest of a term and the whole next one \
                 before it votes:\n  the move was not in the last 24 hours, or its record of votes \
                 is not exact."
            }
            (Votes::AfterWatching, Purpose::Backup) => {
                "  If it has a seat, it watches for the rest of a term and the whole next one \
                 before it votes:\n  its key may have voted since the backup. Never start the \
                 original again."
            }
        });
        output.say(format_args!(
            "  Run it with: soma node run --dir {}\n  Where others reach it at another place now, \
             add --p2p HOST:PORT --api-url URL, once.",
            self.dir.display()
        ));
        output.value("dir", self.dir.display(), &facts)
    }
}

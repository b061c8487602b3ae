//! A node in one file: what of its folder cannot be made again, for a backup or on the way to
//! another machine. State, blocks and models' files are not in it: the network has them.
//!
//! A bundle is JSON of fixed fields. Names of files never come from it, everything in it is checked
//! or nothing of it stays, and nothing here shows a secret. Keys are in it as they are on disk.

use std::fmt;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use soma_engine::{CarriedVotes, ConsensusSecret, StoppedNode};
use soma_protocol::bundle::{move_is_signed, sign_move};
use soma_protocol::{ConsensusKey, Hash, hex};
use soma_sdk::keys::KeyFolder;
use zeroize::Zeroizing;

use crate::error::NodeError;
use crate::folder::{ACCOUNT, CONSENSUS, DUTY, Made, NodeFolder};
use crate::folder::{genesis_file, parse, settings_file, write_text};
use crate::genesis::parse_genesis;
use crate::settings::{beacon_file, votes_file};

const SCHEMA: &str = "soma-node-bundle/1";
/// The largest file that is read. Almost all of a large one is the accounts of the genesis.
const BYTES_MAX: u64 = 64 << 20;
const TOO_LARGE: &str = "it is too large for the bundle of a node";
/// How long a move may take. Later, its file counts as a backup: nobody remembers what the key did.
const MOVE_MS: u64 = 24 * 60 * 60 * 1_000;
/// How much the clock of another machine may be behind.
const CLOCKS_DIFFER_MS: u64 = 60_000;

/// What a bundle is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// It is kept, while the node runs.
    Backup,
    /// The node continues where the bundle is restored, and nowhere else.
    Move,
}

/// A text that must not be shown.
struct SecretText(Zeroizing<String>);

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// The files of keys, by their names.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(skip_serializing_if = "Option::is_none")]
    account: Option<SecretText>,
    #[serde(skip_serializing_if = "Option::is_none")]
    duty: Option<SecretText>,
    consensus: SecretText,
}

impl Keys {
    fn all(&self) -> impl Iterator<Item = (&'static str, &SecretText)> {
        let optional = [(ACCOUNT, &self.account), (DUTY, &self.duty)];
        let optional = optional.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        optional.chain([(CONSENSUS, &self.consensus)])
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    purpose: Purpose,
    /// When it was made, ms since 1970.
    made_ms: u64,
    /// The release that made it.
    release: String,
    chain: String,
    chain_id: Hash,
    consensus_key: ConsensusKey,
    /// The text of `config.toml`.
    settings: String,
    /// The text of `genesis.json`.
    genesis: String,
    keys: Keys,
    /// The secret of its contributions to beacons, if it has made one.
    #[serde(skip_serializing_if = "Option::is_none")]
    beacon: Option<SecretText>,
    /// The record of its votes, in hex.
    votes: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: String,
    /// Of `content`, against accidents.
    check: Hash,
    /// Of a move: by the consensus key, in hex. Whoever finds a backup must not make a move of it.
    #[serde(default)]
    signature: Option<String>,
    content: Content,
}

/// What is read first, of a file of any version.
#[derive(Deserialize)]
struct Head {
    schema: String,
}

/// A node in one file.
pub struct Bundle {
    content: Content,
    votes: CarriedVotes,
    /// The signature of a move.
    signature: Option<[u8; 64]>,
}

impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle").field("purpose", &self.content.purpose).finish_non_exhaustive()
    }
}

impl Bundle {
    /// A backup of a node, which may run.
    ///
    /// # Errors
    /// [`NodeError::Moved`] if it has moved away; if one of its files cannot be used.
    pub fn backup(folder: &NodeFolder, now_ms: u64) -> Result<Self, NodeError> {
        let key = folder.consensus_key()?;
        let votes = CarriedVotes::read(&votes_file(folder.dir()), key);
        // Whoever restores it does not know what the key did since.
        let votes = votes.map_err(NodeError::engine)?.restored();
        Self::of(folder, Purpose::Backup, votes, now_ms)
    }

    /// Moves a node that does not run into the new file `path`: it does not run in its folder from
    /// now on. All keys have one passphrase, if any.
    ///
    /// # Errors
    /// [`NodeError::StateInUse`] if it runs; [`NodeError::Moved`] if it has moved away; if one of
    /// its files cannot be used or written. The node is where it was then.
    pub fn move_away(
        folder: &NodeFolder,
        passphrase: Option<&str>,
        path: &Path,
        now_ms: u64,
    ) -> Result<Self, NodeError> {
        let signer = folder.consensus(passphrase)?;
        let key = ConsensusSecret(signer.to_bytes());
        let record = votes_file(folder.dir());
        let stopped = StoppedNode::lock(&folder.chain_dir(), folder.genesis());
        let stopped = stopped.map_err(NodeError::engine)?;
        let votes = stopped.votes(&record, &key).map_err(NodeError::engine)?;
        let mut bundle = Self::of(folder, Purpose::Move, votes, now_ms)?;
        bundle.signature = Some(sign_move(&signer, &check(&bundle.content)));
        let before = match fs::read(&record) {
            Ok(bytes) => Some(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(NodeError::io(&record, error)),
        };
        // First of all: whatever fails from here on, there are never two places.
        bundle.votes.clone().left().write(&record).map_err(NodeError::engine)?;
        if let Err(error) = bundle.write(path) {
            // The file may be there although it could not be synced.
            if soma_os::file::remove(path).is_ok() {
                let back = match before {
                    Some(bytes) => soma_os::file::write(&record, &bytes),
                    None => soma_os::file::remove(&record),
                };
                back.map_err(|error| NodeError::io(&record, error))?;
            }
            return Err(error);
        }
        Ok(bundle)
    }

    fn of(
        folder: &NodeFolder,
        purpose: Purpose,
        votes: CarriedVotes,
        now_ms: u64,
    ) -> Result<Self, NodeError> {
        let dir = folder.dir();
        let keys = folder.keys();
        let optional = |name: &str| {
            let exists = keys.path_of(name).exists();
            exists.then(|| key_file(&keys, name)).transpose()
        };
        let keys = Keys {
            account: optional(ACCOUNT)?,
            duty: optional(DUTY)?,
            consensus: key_file(&keys, CONSENSUS)?,
        };
        let content = Content {
            purpose,
            made_ms: now_ms,
            release: env!("CARGO_PKG_VERSION").to_owned(),
            chain: folder.genesis().chain.clone(),
            chain_id: folder.genesis().chain_id(),
            consensus_key: folder.consensus_key()?,
            settings: text(&settings_file(dir))?,
            genesis: text(&genesis_file(dir))?,
            keys,
            beacon: beacon(dir)?,
            votes: hex::encode(&votes.bytes()),
        };
        Ok(Self { content, votes, signature: None })
    }

    /// Writes it to the new file `path`, which only this user can read.
    ///
    /// # Errors
    /// [`NodeError::Bundle`] if nobody could read it again; a file error.
    pub fn write(&self, path: &Path) -> Result<(), NodeError> {
        let content = &self.content;
        let check = check(content);
        // The buffer does not grow, because that would leave a copy of secrets behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * room(content)));
        let malformed = |source| NodeError::Malformed { path: path.to_path_buf(), source };
        let signature = self.signature.map(|signature| hex::encode(&signature));
        let written = Written { schema: SCHEMA, check, signature, content };
        serde_json::to_writer_pretty(&mut *bytes, &written).map_err(malformed)?;
        bytes.push(b'\n');
        if bytes.len() as u64 > BYTES_MAX {
            let reason = TOO_LARGE.to_owned();
            return Err(NodeError::Bundle { path: path.into(), reason });
        }
        let written = soma_os::file::write_private(path, &bytes);
        written.map_err(|error| NodeError::io(path, error))
    }

    /// Reads a file and checks everything in it.
    ///
    /// # Errors
    /// [`NodeError::Bundle`] if it is no bundle, or damaged; a file error.
    pub fn read(path: &Path) -> Result<Self, NodeError> {
        let bad = |reason: &str| NodeError::Bundle { path: path.into(), reason: reason.to_owned() };
        let file = soma_os::data::open(path).map_err(|error| NodeError::io(path, error))?;
        // The buffer does not grow, because that would leave a copy of secrets behind.
        let length = file.metadata().map_or(0, |found| found.len().min(BYTES_MAX));
        let mut bytes =
            Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or(0) + 1));
        let read = file.take(BYTES_MAX + 1).read_to_end(&mut bytes);
        if read.map_err(|error| NodeError::io(path, error))? as u64 > BYTES_MAX {
            return Err(bad(TOO_LARGE));
        }
        // The parser's own message is dropped, because it could quote a secret.
        let unread = |error: serde_json::Error| match error.classify() {
            serde_json::error::Category::Eof => bad("it is cut off"),
            _ => bad("it is not the bundle of a node"),
        };
        let head: Head = serde_json::from_slice(&bytes).map_err(unread)?;
        if head.schema != SCHEMA {
            return Err(bad("it is the bundle of another version of this software, or of none"));
        }
        let file: File = serde_json::from_slice(&bytes).map_err(unread)?;
        let (hash, content) = (check(&file.content), file.content);
        if hash != file.check {
            return Err(bad("its content was changed"));
        }
        let signature = file.signature.and_then(|text| hex::decode_array(&text));
        let is_signed = signature
            .is_some_and(|signature| move_is_signed(&content.consensus_key, &hash, &signature));
        if content.purpose == Purpose::Move && !is_signed {
            return Err(bad("it is not signed by the consensus key of the node that moves"));
        }
        let votes = hex::decode(&content.votes).and_then(|bytes| CarriedVotes::parse(&bytes));
        let votes = votes.filter(|votes| votes.key() == content.consensus_key);
        let votes = votes.ok_or_else(|| bad("its record of votes is damaged or of another key"))?;
        parse(path, &content.settings)?;
        let genesis = parse_genesis(path, content.genesis.as_bytes())?;
        if genesis.chain_id() != content.chain_id {
            return Err(bad("its genesis is of another chain"));
        }
        Ok(Self { content, votes, signature })
    }

    /// Makes the folder of a node out of it, which must be new or empty.
    ///
    /// # Errors
    /// [`NodeError::NodeExists`]; [`NodeError::NotEmpty`]; [`NodeError::Bundle`] if a key in it is
    /// damaged; a file error. Nothing is left behind then.
    pub fn restore(&self, dir: &Path, now_ms: u64) -> Result<NodeFolder, NodeError> {
        if NodeFolder::exists(dir) {
            return Err(NodeError::NodeExists { dir: dir.to_path_buf() });
        }
        match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
            Ok(true) => return Err(NodeError::NotEmpty { dir: dir.to_path_buf() }),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(NodeError::io(dir, error)),
        }
        let mut made = Made::default();
        if let Err(error) = self.make(&mut made, dir, now_ms) {
            made.undo();
            return Err(error);
        }
        NodeFolder::open(dir)
    }

    fn make(&self, made: &mut Made, dir: &Path, now_ms: u64) -> Result<(), NodeError> {
        let content = &self.content;
        let keys = made.folder(dir)?;
        for (name, text) in content.keys.all() {
            made.note(&keys.path_of(name));
            keys.adopt(name, text.0.as_bytes())?;
        }
        if keys.info(CONSENSUS)?.address.0 != content.consensus_key.0 {
            let reason = "its consensus key is another one than it says".to_owned();
            return Err(NodeError::Bundle { path: keys.path_of(CONSENSUS), reason });
        }
        if let Some(beacon) = &content.beacon {
            let path = beacon_file(dir);
            made.note(&path);
            let written = soma_os::file::write_private(&path, beacon.0.as_bytes());
            written.map_err(|error| NodeError::io(&path, error))?;
        }
        let record = votes_file(dir);
        made.note(&record);
        let votes = self.votes.clone();
        let votes = if self.votes_at_once(now_ms) { votes } else { votes.restored() };
        votes.write(&record).map_err(NodeError::engine)?;
        made.note(&genesis_file(dir));
        write_text(&genesis_file(dir), &content.genesis)?;
        // Written last: a folder with settings is complete.
        let settings = settings_file(dir);
        made.note(&settings);
        // The URLs of peers may have passwords.
        let written = soma_os::file::write_private(&settings, content.settings.as_bytes());
        written.map_err(|error| NodeError::io(&settings, error))
    }

    /// What it is for.
    pub fn purpose(&self) -> Purpose {
        self.content.purpose
    }

    /// When it was made, in ms since 1970.
    pub fn made_ms(&self) -> u64 {
        self.content.made_ms
    }

    /// Whether a node that is restored from it now votes as if it had been restarted: only after a
    /// move, whose record of votes is exact, and within a day.
    pub fn votes_at_once(&self, now_ms: u64) -> bool {
        let Content { purpose, made_ms, .. } = self.content;
        let from = made_ms.saturating_sub(CLOCKS_DIFFER_MS);
        let is_recent = (from..made_ms.saturating_add(MOVE_MS)).contains(&now_ms);
        purpose == Purpose::Move && is_recent && self.votes.is_exact()
    }
}

/// Takes back that a node has moved away from its folder. It is as if it was restored from a
/// backup there: nobody knows whether the bundle was used.
///
/// # Errors
/// [`NodeError::NotMoved`]; if a file cannot be used.
pub fn take_back(folder: &NodeFolder) -> Result<(), NodeError> {
    let stopped = StoppedNode::lock(&folder.chain_dir(), folder.genesis());
    let _stopped = stopped.map_err(NodeError::engine)?;
    let record = votes_file(folder.dir());
    let votes = CarriedVotes::returned(&record, folder.consensus_key()?);
    let votes = votes.map_err(NodeError::engine)?;
    let votes = votes.ok_or_else(|| NodeError::NotMoved { dir: folder.dir().to_path_buf() })?;
    votes.write(&record).map_err(NodeError::engine)
}

/// The files that belong to a node and that no bundle has: those that its settings name, and keys
/// of other names.
///
/// # Errors
/// If the folder of its keys cannot be read.
pub fn left_out(folder: &NodeFolder) -> Result<Vec<PathBuf>, NodeError> {
    let settings = folder.settings();
    let tls = settings.tls.iter().flat_map(|tls| [&tls.certificate, &tls.key]);
    let named = settings.ca.iter().chain(tls).map(|file| folder.dir().join(file));
    let keys = folder.keys();
    let others = keys.list()?.into_iter().map(|key| key.name);
    let others = others.filter(|name| ![ACCOUNT, DUTY, CONSENSUS].contains(&name.as_str()));
    Ok(named.chain(others.map(|name| keys.path_of(&name))).collect())
}

/// A [`File`] that is written.
#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    check: Hash,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature: Option<String>,
    content: &'a Content,
}

/// About how many bytes the content takes.
fn room(content: &Content) -> usize {
    let keys: usize = content.keys.all().map(|(_, text)| text.0.len()).sum();
    content.settings.len() + content.genesis.len() + keys + (16 << 10)
}

fn check(content: &Content) -> Hash {
    let mut bytes = Zeroizing::new(Vec::with_capacity(2 * room(content)));
    // Texts and numbers always have a JSON form.
    let _written = serde_json::to_writer(&mut *bytes, content);
    Hash::of_parts("soma node bundle", &[&bytes])
}

/// The content of a key file, as it is encrypted.
fn key_file(keys: &KeyFolder, name: &str) -> Result<SecretText, NodeError> {
    let content = keys.key(name)?.content()?;
    let text = std::str::from_utf8(&content);
    let text = text.map_err(|error| {
        NodeError::io(&keys.path_of(name), io::Error::new(io::ErrorKind::InvalidData, error))
    })?;
    Ok(SecretText(Zeroizing::new(text.to_owned())))
}

fn text(path: &Path) -> Result<String, NodeError> {
    fs::read_to_string(path).map_err(|error| NodeError::io(path, error))
}

fn beacon(dir: &Path) -> Result<Option<SecretText>, NodeError> {
    match fs::read_to_string(beacon_file(dir)) {
        Ok(text) => Ok(Some(SecretText(Zeroizing::new(text)))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(NodeError::io(&beacon_file(dir), error)),
    }
}

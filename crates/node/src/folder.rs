//! A node's own folder: settings, genesis, keys, and the data it keeps.
//!
//! Operators edit `config.toml`; key files are readable by their owner only. It must never
//! overwrite an existing folder, nor print a key.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use soma_engine::{ConsensusSecret, Verified, VoteRecord};
use soma_protocol::{ConsensusKey, Genesis, Ruleset, SecretKey};
use soma_sdk::client::without_logins;
use soma_sdk::keys::{self, KeyFolder, Protection};
use soma_sdk::{Client, SdkError, Trust};

use crate::bucket::probe;
use crate::certificates::{Certificates, own_api};
use crate::error::NodeError;
use crate::genesis::read_genesis;
use crate::settings::{self, NodeConfig, Settings, chain_dir, votes_file};

/// Name of the key of the validator's account. It signs duties, if the node has no duty key.
pub const ACCOUNT: &str = "account";
/// Name of the key that signs the node's duties instead, once the account has named it.
pub const DUTY: &str = "duty";
/// Name of the key that the node votes with and that identifies it.
pub const CONSENSUS: &str = "consensus";

/// The keys of a node that is to be made.
#[expect(missing_debug_implementations, reason = "keys are never shown")]
pub struct NodeKeys {
    /// The key of the validator's account.
    pub account: SecretKey,
    /// The key it votes with and that identifies it.
    pub consensus: SecretKey,
    /// Whether the consensus key was made just now, so that it has voted for nothing.
    pub has_never_voted: bool,
}

impl NodeKeys {
    /// Those that are in the folder of a node, which need not exist yet, else new ones, which are
    /// not written.
    ///
    /// # Errors
    /// When a key file cannot be used.
    pub fn of(dir: &Path, passphrase: Option<&str>) -> Result<Self, NodeError> {
        let folder = KeyFolder::of(dir);
        let key = |name| match folder.load(name, passphrase) {
            Err(SdkError::KeyMissing { .. }) => Ok((keys::generate()?, true)),
            loaded => loaded.map(|key| (key, false)),
        };
        let ((account, _), (consensus, has_never_voted)) = (key(ACCOUNT)?, key(CONSENSUS)?);
        Ok(Self { account, consensus, has_never_voted })
    }
}

/// The folder of one node.
#[derive(Clone, Debug)]
pub struct NodeFolder {
    dir: PathBuf,
    settings: Settings,
    genesis: Genesis,
}

impl NodeFolder {
    /// Whether the folder holds a node's settings.
    pub fn exists(dir: &Path) -> bool {
        settings_file(dir).is_file()
    }

    /// Creates a folder with these settings and keys.
    ///
    /// # Errors
    /// [`NodeError::NodeExists`] when the folder holds a node; invalid settings; an invalid
    /// genesis; a file error.
    pub fn create(
        dir: &Path,
        genesis: &Genesis,
        settings: &Settings,
        keys: &NodeKeys,
        protection: Protection<'_>,
    ) -> Result<Self, NodeError> {
        if Self::exists(dir) {
            return Err(NodeError::NodeExists { dir: dir.to_path_buf() });
        }
        genesis.state()?;
        let text = settings.render();
        parse(&settings_file(dir), &text)?;
        let mut made = Made::default();
        let created = made.node(dir, genesis, &text, keys, protection);
        if let Err(error) = created {
            made.undo();
            return Err(error);
        }
        Self::open(dir)
    }

    /// The keys of a node before there is one, written: an entry in a genesis needs them.
    ///
    /// # Errors
    /// When a file cannot be used or written.
    pub fn make_keys(dir: &Path, passphrase: Option<&str>) -> Result<NodeKeys, NodeError> {
        let keys = NodeKeys::of(dir, passphrase)?;
        let protection = passphrase.map_or(Protection::Local, Protection::Passphrase);
        Made::default().keys(dir, &keys, protection)?;
        Ok(keys)
    }

    /// Whether a key of the node in `dir` is encrypted, so that its passphrase is needed.
    pub fn needs_passphrase(dir: &Path) -> bool {
        let folder = KeyFolder::of(dir);
        let encrypted = |name| folder.info(name).is_ok_and(|key| key.encrypted);
        [ACCOUNT, DUTY, CONSENSUS].into_iter().any(encrypted)
    }

    /// Opens the folder.
    ///
    /// # Errors
    /// [`NodeError::NotANode`] when it holds no node; otherwise the error in one of its files.
    pub fn open(dir: &Path) -> Result<Self, NodeError> {
        let path = settings_file(dir);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(NodeError::NotANode { dir: dir.to_path_buf() });
            }
            Err(error) => return Err(NodeError::io(&path, error)),
        };
        let settings = parse(&path, &text)?;
        Ok(Self { dir: dir.to_path_buf(), settings, genesis: read_genesis(&genesis_file(dir))? })
    }

    /// Replaces the settings.
    ///
    /// # Errors
    /// A file error.
    pub fn write(&mut self, settings: Settings) -> Result<(), NodeError> {
        write_text(&settings_file(&self.dir), &settings.render())?;
        self.settings = settings;
        Ok(())
    }

    /// Whose certificates the node trusts.
    ///
    /// # Errors
    /// When the file that `ca` names cannot be used.
    pub fn trust(&self) -> Result<Trust, NodeError> {
        settings::trust(&self.settings, &self.dir)
    }

    /// Reads the API's certificate and key, if it has them, as a start does.
    ///
    /// # Errors
    /// [`NodeError::Tls`] if they cannot be used; a file error.
    pub fn check_tls(&self) -> Result<(), NodeError> {
        let files = self.settings.tls.as_ref();
        files.map_or(Ok(()), |files| Certificates::read(files, &self.dir).map(drop))
    }

    /// Tries the cold store of the weights files, if there is one, with an object of its own:
    /// writes, reads, lists and deletes it.
    ///
    /// # Errors
    /// [`NodeError::ColdStore`] with what does not work.
    pub async fn check_cold_store(&self) -> Result<(), NodeError> {
        let Some(url) = &self.settings.weights.cold else {
            return Ok(());
        };
        let seed = format!("soma doctor {} {}", self.dir.display(), soma_os::clock::now_ms());
        probe(url, &self.trust()?, seed.as_bytes()).await
    }

    /// A client of this node, which runs on this machine, whatever its certificate.
    ///
    /// # Errors
    /// When the system cannot make one.
    pub fn own_api(&self) -> Result<Client, NodeError> {
        Ok(own_api(&self.settings.url())?)
    }

    /// The path of the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Its chain.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Its keys.
    pub fn keys(&self) -> KeyFolder {
        KeyFolder::of(&self.dir)
    }

    /// The folder of the chain's state.
    pub fn chain_dir(&self) -> PathBuf {
        chain_dir(&self.dir)
    }

    /// The key it votes with and that identifies it, decrypted with its passphrase if it has one.
    ///
    /// # Errors
    /// When its file cannot be used.
    pub fn consensus(&self, passphrase: Option<&str>) -> Result<SecretKey, NodeError> {
        Ok(self.keys().load(CONSENSUS, passphrase)?)
    }

    /// The public part of the key it votes with, which needs no passphrase.
    ///
    /// # Errors
    /// When its file cannot be used.
    pub fn consensus_key(&self) -> Result<ConsensusKey, NodeError> {
        Ok(ConsensusKey(self.keys().info(CONSENSUS)?.address.0))
    }

    /// Checks everything that a start reads while no process uses it: blocks, certificates, state,
    /// history, votes and small stores.
    ///
    /// # Errors
    /// If anything is damaged or missing, or the folder is in use.
    pub fn verify_store(&self, passphrase: Option<&str>) -> Result<Verified, NodeError> {
        let key = ConsensusSecret(self.consensus(passphrase)?.to_bytes());
        let (chain, votes) = (self.chain_dir(), votes_file(&self.dir));
        soma_engine::verify_store(&chain, &self.genesis, &votes, &key).map_err(NodeError::engine)
    }

    /// The configuration that the node is started with; all keys have one passphrase, if any.
    ///
    /// # Errors
    /// When a key file cannot be used.
    pub fn config(&self, passphrase: Option<&str>) -> Result<NodeConfig, NodeError> {
        let load = |name| match self.keys().load(name, passphrase) {
            Err(SdkError::KeyMissing { .. }) => Ok(None),
            loaded => loaded.map(Some),
        };
        let (duties, account) = match load(DUTY)? {
            Some(duties) => (duties, load(ACCOUNT)?),
            None => (self.keys().load(ACCOUNT, passphrase)?, None),
        };
        Ok(NodeConfig {
            dir: self.dir.clone(),
            genesis: self.genesis.clone(),
            duties,
            account,
            consensus: ConsensusSecret(self.consensus(passphrase)?.to_bytes()),
            settings: self.settings.clone(),
            vote_unrecorded: false,
            ruleset: Ruleset::WHOLE,
        })
    }
}

/// The files and folders that were made for a new node, the last one last: if it cannot be
/// completed, they are removed, so that the corrected command finds nothing in its way.
#[derive(Default)]
pub(crate) struct Made(Vec<PathBuf>);

impl Made {
    /// Makes the folder of a node, and notes that of its keys, which is made with the first one.
    pub(crate) fn folder(&mut self, dir: &Path) -> Result<KeyFolder, NodeError> {
        let parents = dir.ancestors().take_while(|parent| !parent.exists());
        let mut missing: Vec<PathBuf> = parents.map(Path::to_path_buf).collect();
        missing.reverse();
        self.0.extend(missing.into_iter().filter(|path| !path.as_os_str().is_empty()));
        fs::create_dir_all(dir).map_err(|error| NodeError::io(dir, error))?;
        let keys = KeyFolder::of(dir);
        self.note(keys.path());
        Ok(keys)
    }

    fn node(
        &mut self,
        dir: &Path,
        genesis: &Genesis,
        settings: &str,
        keys: &NodeKeys,
        protection: Protection<'_>,
    ) -> Result<(), NodeError> {
        self.folder(dir)?;
        self.keys(dir, keys, protection)?;
        let genesis_path = genesis_file(dir);
        self.note(&genesis_path);
        write_json(&genesis_path, genesis)?;
        // Written last: a folder with settings is complete.
        self.note(&settings_file(dir));
        write_text(&settings_file(dir), settings)
    }

    fn keys(
        &mut self,
        dir: &Path,
        keys: &NodeKeys,
        protection: Protection<'_>,
    ) -> Result<(), NodeError> {
        let folder = KeyFolder::of(dir);
        self.note(folder.path());
        for (name, key) in [(ACCOUNT, &keys.account), (CONSENSUS, &keys.consensus)] {
            // The entry in a genesis needs keys before there is a node, and an earlier attempt may
            // have been interrupted after the first one.
            let exists = folder.info(name).is_ok_and(|info| info.address == key.address());
            if !exists {
                self.note(&folder.path_of(name));
                folder.create(name, key, protection)?;
            }
        }
        if keys.has_never_voted {
            let votes = votes_file(dir);
            self.note(&votes);
            let key = ConsensusSecret(keys.consensus.to_bytes()).public();
            let record = VoteRecord::open(&votes, key).map_err(NodeError::engine)?;
            record.begin().map_err(|error| NodeError::io(&votes, error))?;
        }
        Ok(())
    }

    /// Notes a path that does not exist yet.
    pub(crate) fn note(&mut self, path: &Path) {
        if !path.exists() {
            self.0.push(path.to_path_buf());
        }
    }

    /// Removes what was made; folders only if nothing else is in them.
    pub(crate) fn undo(self) {
        for path in self.0.iter().rev() {
            let _gone = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
        }
    }
}

pub(crate) fn parse(path: &Path, text: &str) -> Result<Settings, NodeError> {
    Settings::parse(text).map_err(|error| NodeError::Settings {
        path: path.to_path_buf(),
        // It shows the line, which may have a password.
        reason: without_logins(&error.to_string()),
    })
}

pub(crate) fn settings_file(dir: &Path) -> PathBuf {
    dir.join("config.toml")
}

pub(crate) fn genesis_file(dir: &Path) -> PathBuf {
    dir.join("genesis.json")
}

/// Writes a JSON file atomically.
pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), NodeError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|source| NodeError::Malformed { path: path.to_path_buf(), source })?;
    write_text(path, &(text + "\n"))
}

pub(crate) fn write_text(path: &Path, text: &str) -> Result<(), NodeError> {
    soma_os::file::write(path, text.as_bytes()).map_err(|error| NodeError::io(path, error))
}

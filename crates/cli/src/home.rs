//! Where keys, caches and local networks are: one folder, `SOMA_HOME` or `$XDG_DATA_HOME/soma`.

use std::path::PathBuf;

use etcetera::BaseStrategy;

use crate::error::{Error, Result};
use crate::global::Global;
use soma_codes::Code;
use soma_protocol::Hash;
use soma_sdk::api::verifier::kept_in;
use soma_sdk::keys::KeyFolder;
use soma_sdk::known_chain::KnownChain;

/// The folder and its layout.
#[derive(Clone, Debug)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// Finds the folder; it is created when something is first written.
    pub(crate) fn find(global: &Global) -> Result<Self> {
        if let Some(home) = &global.home {
            return Ok(Self(home.clone()));
        }
        let base = etcetera::choose_base_strategy().map_err(|error| {
            Error::new(Code::NoHome, format!("no home folder: {error}"))
                .hint("set SOMA_HOME to a folder")
        })?;
        let data = base.data_dir();
        if !data.is_absolute() {
            return Err(
                Error::new(Code::NoHome, "HOME names no folder").hint("set SOMA_HOME to a folder")
            );
        }
        Ok(Self(data.join("soma")))
    }

    /// Key files.
    pub(crate) fn keys(&self) -> KeyFolder {
        KeyFolder::of(&self.0)
    }

    /// The chain that its keys sign for.
    pub(crate) fn known_chain(&self) -> KnownChain {
        KnownChain::of(&self.0)
    }

    /// The local network's state, keys included.
    pub(crate) fn localnet(&self) -> PathBuf {
        self.0.join("localnet")
    }

    /// Downloaded weights, named by hash.
    pub(crate) fn weights(&self) -> PathBuf {
        self.0.join("cache").join("weights")
    }

    /// The score cache.
    pub(crate) fn scores(&self) -> PathBuf {
        self.0.join("cache").join("scores")
    }

    /// What is remembered of the files that were submitted.
    pub(crate) fn library(&self) -> PathBuf {
        self.0.join("cache").join("library")
    }

    /// The documents that an account may submit on a chain. One folder per chain.
    pub(crate) fn corpus(&self, chain: &str, account: &str) -> PathBuf {
        self.0.join("corpus").join(chain).join(account)
    }

    /// The committees of a chain, as they were verified last.
    pub(crate) fn committees(&self, chain: &Hash) -> PathBuf {
        kept_in(&self.0, chain)
    }

    /// The file at which processes that send for an account on a chain take turns.
    pub(crate) fn turns(&self, chain: &str, account: &str) -> PathBuf {
        self.0.join("turns").join(chain).join(format!("{account}.lock"))
    }

    /// Whom a faucet's account has paid on a chain.
    pub(crate) fn faucet(&self, chain: &str, account: &str) -> PathBuf {
        self.0.join("faucet").join(chain).join(format!("{account}.jsonl"))
    }

    /// Obligations on a chain: reveals and publications. One folder per chain.
    pub(crate) fn spool(&self, chain: &str) -> PathBuf {
        self.0.join("spool").join(chain)
    }
}

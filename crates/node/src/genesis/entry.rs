//! An operator's entry in a genesis: what a validator is, signed by its account and by its
//! consensus key. It holds no secret.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use soma_os::data;
use soma_protocol::{
    Address, Amount, ConsensusKey, Endpoints, Hash, SecretKey,
    entry::{entry_is_signed, possession_is_proved, sign_entry},
    hex,
};

use super::GenesisError;
use crate::settings::check_endpoints;

const SCHEMA: &str = "soma-genesis-entry/1";
/// Size limit of an entry.
const ENTRY_BYTES_MAX: usize = 16 << 10;
/// Most entries that are read; more than any network has validators.
const ENTRIES_MAX: usize = 4_096;

/// An entry and the file that it is in.
pub type NamedEntry = (PathBuf, Entry);

/// A validator of a new network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    schema: String,
    /// The network's name.
    pub(super) chain: String,
    /// The plan that it is for.
    pub(super) plan: Hash,
    /// Its account.
    pub address: Address,
    /// The key it votes with.
    pub consensus_key: ConsensusKey,
    /// What it starts with as its stake.
    pub stake: Amount,
    p2p: Option<String>,
    url: Option<String>,
    /// The consensus key's proof that it is assigned to this account.
    #[serde(with = "hex::array")]
    possession: [u8; 64],
    /// The account's signature of all the rest.
    #[serde(with = "hex::array")]
    signature: [u8; 64],
}

impl Entry {
    /// The entry of a validator with these keys in the network `chain` with this plan.
    pub(super) fn sign(
        chain: &str,
        plan: Hash,
        account: &SecretKey,
        consensus: &SecretKey,
        stake: Amount,
        endpoints: Endpoints,
    ) -> Self {
        let address = account.address();
        let mut entry = Self {
            schema: SCHEMA.to_owned(),
            chain: chain.to_owned(),
            plan,
            address,
            consensus_key: ConsensusKey(consensus.address().0),
            stake,
            p2p: endpoints.p2p,
            url: endpoints.url,
            possession: consensus.prove_possession(&plan, &address),
            signature: [0; 64],
        };
        entry.signature = sign_entry(account, &entry.hash());
        entry
    }

    /// What its account signs.
    #[expect(clippy::expect_used, reason = "writing to a vector cannot fail")]
    fn hash(&self) -> Hash {
        let Self { chain, plan, address, consensus_key, stake, p2p, url, possession, .. } = self;
        let content = (chain, plan, address, consensus_key, stake, p2p, url, possession);
        let bytes = borsh::to_vec(&content).expect("writing to a vector cannot fail");
        Hash::of_parts("soma genesis entry", &[&bytes])
    }

    /// Which of its signatures does not hold, if one does not.
    pub(super) fn unproved(&self) -> Option<&'static str> {
        let Self { plan, address, consensus_key, possession, signature, .. } = self;
        if !entry_is_signed(address, &self.hash(), signature) {
            return Some("signature");
        }
        let proved = possession_is_proved(plan, address, consensus_key, possession);
        (!proved).then_some("proof of the consensus key")
    }

    /// The text of its file: the same bytes for the same entry.
    pub fn render(&self) -> String {
        // Numbers, strings and arrays of these always have a JSON form.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads an entry; its signatures are not checked.
    ///
    /// # Errors
    /// [`GenesisError::File`]; [`GenesisError::Entry`].
    pub fn read(path: &Path) -> Result<Self, GenesisError> {
        let text = data::read_text(path, ENTRY_BYTES_MAX).map_err(|source| file(path, source))?;
        let bad = |reason: String| GenesisError::Entry { path: path.to_owned(), reason };
        let entry: Self = serde_json::from_str(&text).map_err(|error| bad(error.to_string()))?;
        if entry.schema != SCHEMA {
            return Err(bad(format!("its schema is `{}`, not `{SCHEMA}`", entry.schema)));
        }
        check_endpoints(&entry.endpoints()).map_err(bad)?;
        Ok(entry)
    }

    /// Where its node is reached.
    pub fn endpoints(&self) -> Endpoints {
        Endpoints { p2p: self.p2p.clone(), url: self.url.clone() }
    }
}

/// The entries in these files, and in the files of these folders that end in `.json`.
///
/// # Errors
/// As for [`Entry::read`]; [`GenesisError::NoEntry`] for a folder without any.
pub fn read_entries(paths: &[PathBuf]) -> Result<Vec<NamedEntry>, GenesisError> {
    let mut entries = Vec::new();
    for path in paths {
        for path in files(path)? {
            if entries.len() == ENTRIES_MAX {
                return Err(GenesisError::Count {
                    found: ENTRIES_MAX + 1,
                    least: 1,
                    most: ENTRIES_MAX,
                });
            }
            let entry = Entry::read(&path)?;
            entries.push((path, entry));
        }
    }
    Ok(entries)
}

/// The file itself, or the files of a folder, by name.
fn files(path: &Path) -> Result<Vec<PathBuf>, GenesisError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let listed = std::fs::read_dir(path).map_err(|source| file(path, source))?;
    let mut files = Vec::new();
    for listed in listed {
        let listed = listed.map_err(|source| file(path, source))?.path();
        if listed.extension().is_some_and(|ending| ending == "json") {
            files.push(listed);
        }
    }
    files.sort();
    if files.is_empty() { Err(GenesisError::NoEntry { path: path.to_owned() }) } else { Ok(files) }
}

fn file(path: &Path, source: std::io::Error) -> GenesisError {
    GenesisError::File { path: path.to_owned(), source }
}

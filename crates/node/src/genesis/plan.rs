//! The plan of a network: one commented TOML file that everyone has, and the genesis that follows
//! from it and the entries. The same content gives the same hash, however the file is written.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use soma_os::data;
use soma_protocol::{
    Address, Amount, Architecture, Endpoints, Genesis, GenesisAccount, GenesisValidator, Hash,
    Params, SecretKey, VALIDATORS_MAX,
};

use super::GenesisError;
use super::entry::{Entry, NamedEntry};

/// Size limit of a plan.
const PLAN_BYTES_MAX: usize = 4 << 20;

/// What a plan starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    /// A test network that anyone may join: the parameters of a network and `v1`.
    Public,
    /// A network of people who know each other: epochs of an hour, small stakes and fees, `nano`.
    Private,
}

impl Preset {
    /// Its name in a plan.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Private => "private",
        }
    }

    /// Its parameters.
    pub fn params(self) -> Params {
        let network = Params::network();
        match self {
            Self::Public => network,
            Self::Private => Params {
                epoch_ms: 3_600_000,
                targets_per_epoch: 16,
                // A target of an hour pays what one of a network's day pays: with the whole reward
                // as its bond, nobody could submit from what a plan gives an account.
                bond_bps: 1_000,
                model_stake_min: Amount::soma(1),
                validator_stake_min: Amount::soma(1),
                proposal_deposit: Amount::soma(1),
                byte_fee: Amount(10),
                room_fee: Amount(100),
                ..network
            },
        }
    }

    const fn architecture(self) -> &'static str {
        match self {
            Self::Public => "v1",
            Self::Private => "nano",
        }
    }
}

/// What is the same for all operators of a new network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The genesis without validators.
    genesis: Genesis,
    terms: Terms,
}

/// What holds for every entry.
#[derive(Clone, Debug, PartialEq, Eq, borsh::BorshSerialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Terms {
    /// The fewest validators.
    least: u32,
    /// The most validators.
    most: u32,
    /// The most that a validator may start with as its stake.
    #[serde(deserialize_with = "soma")]
    stake_max: Amount,
    /// What each validator's account has besides.
    #[serde(deserialize_with = "soma")]
    balance: Amount,
}

/// The file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    chain: String,
    start: String,
    preset: Preset,
    architecture: ArchitectureField,
    validators: Terms,
    #[serde(default)]
    params: BTreeMap<String, u64>,
    #[serde(default)]
    accounts: Vec<AccountField>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum ArchitectureField {
    Preset(String),
    Whole(Architecture),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountField {
    address: Address,
    #[serde(deserialize_with = "soma")]
    balance: Amount,
}

/// An amount as people write it: SOMA with up to nine decimals, in quotes.
fn soma<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

impl Plan {
    /// Reads a plan.
    ///
    /// # Errors
    /// [`GenesisError::File`]; [`GenesisError::Plan`] with what is wrong, and the line if the text
    /// is malformed.
    pub fn read(path: &Path) -> Result<Self, GenesisError> {
        let text = data::read_text(path, PLAN_BYTES_MAX)
            .map_err(|source| GenesisError::File { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|reason| GenesisError::Plan { path: path.to_owned(), reason })
    }

    /// The plan that a text says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: PlanFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let PlanFile { chain, start, preset, architecture, validators: terms, .. } = file;
        let architecture = match architecture {
            ArchitectureField::Whole(architecture) => architecture,
            ArchitectureField::Preset(name) => Architecture::preset(&name)
                .ok_or_else(|| format!("architecture `{name}` is neither `nano` nor `v1`"))?,
        };
        let mut params = preset.params();
        for (name, value) in file.params {
            let changed = params.with(&name, value);
            params = changed.ok_or_else(|| format!("[params] has no `{name}` with that value"))?;
        }
        let account = |field: AccountField| {
            let AccountField { address, balance } = field;
            GenesisAccount { address, balance }
        };
        let accounts = file.accounts.into_iter().map(account).collect();
        let genesis = Genesis {
            chain,
            timestamp_ms: time_ms(&start)?,
            params,
            architecture,
            accounts,
            validators: Vec::new(),
            models: Vec::new(),
            operator: None,
        };
        let plan = Self { genesis, terms };
        plan.check()?;
        Ok(plan)
    }

    /// Checks everything that does not depend on the entries, with validators that stand for them.
    fn check(&self) -> Result<(), String> {
        let Terms { least, most, stake_max, .. } = self.terms;
        if least == 0 || least > most || as_count(most) > VALIDATORS_MAX {
            return Err(format!(
                "[validators] names {least} to {most}; possible are 1 to {VALIDATORS_MAX}"
            ));
        }
        let stake_min = self.genesis.params.validator_stake_min;
        if stake_max < stake_min {
            return Err(format!(
                "[validators] stake_max is {stake_max}; a validator needs {stake_min}"
            ));
        }
        let validators = (0..most).map(|number| {
            let address = Hash::of_parts("soma stand-in", &[&number.to_le_bytes()]).0;
            let consensus_key = soma_protocol::ConsensusKey(address);
            GenesisValidator {
                address: Address(address),
                consensus_key,
                stake: stake_max,
                endpoints: Endpoints::default(),
            }
        });
        self.with(validators.collect()).state().map(drop).map_err(|error| error.to_string())
    }

    /// The network's name.
    pub fn chain(&self) -> &str {
        &self.genesis.chain
    }

    /// When it begins, in ms since 1970.
    pub fn start_ms(&self) -> u64 {
        self.genesis.timestamp_ms
    }

    /// The most that a validator may start with as its stake.
    pub fn stake_max(&self) -> Amount {
        self.terms.stake_max
    }

    /// What identifies the plan: a hash of all that it says, with the parameters of its preset.
    #[expect(clippy::expect_used, reason = "writing to a vector cannot fail")]
    pub fn hash(&self) -> Hash {
        let bytes = borsh::to_vec(&(&self.genesis, &self.terms));
        Hash::of_parts("soma genesis plan", &[&bytes.expect("writing to a vector cannot fail")])
    }

    /// The signed entry of a validator with these keys, this stake, and a node at these endpoints.
    pub fn enter(
        &self,
        account: &SecretKey,
        consensus: &SecretKey,
        stake: Amount,
        endpoints: Endpoints,
    ) -> Entry {
        Entry::sign(self.chain(), self.hash(), account, consensus, stake, endpoints)
    }

    /// The genesis of this plan with these entries, in whatever order they are.
    ///
    /// # Errors
    /// What is wrong with an entry, with the file that it is in; [`GenesisError::Count`].
    pub fn assemble(&self, entries: &[NamedEntry]) -> Result<Genesis, GenesisError> {
        for (path, entry) in entries {
            self.check_entry(path, entry)?;
        }
        for (at, (first, entry)) in entries.iter().enumerate() {
            for (second, other) in &entries[at + 1..] {
                let what = match entry {
                    _ if entry.address == other.address => "account",
                    _ if entry.consensus_key == other.consensus_key => "consensus key",
                    _ => continue,
                };
                return Err(GenesisError::Twice {
                    first: first.clone(),
                    second: second.clone(),
                    what,
                });
            }
        }
        let (found, least, most) = (entries.len(), self.terms.least, self.terms.most);
        let bounds = (as_count(least), as_count(most));
        if found < bounds.0 || found > bounds.1 {
            return Err(GenesisError::Count { found, least: bounds.0, most: bounds.1 });
        }
        let validator = |(_, entry): &NamedEntry| GenesisValidator {
            address: entry.address,
            consensus_key: entry.consensus_key,
            stake: entry.stake,
            endpoints: entry.endpoints(),
        };
        let genesis = self.with(entries.iter().map(validator).collect());
        genesis.state()?;
        Ok(genesis)
    }

    fn check_entry(&self, path: &Path, entry: &Entry) -> Result<(), GenesisError> {
        let path = || path.to_owned();
        if entry.plan != self.hash() || entry.chain != self.chain() {
            return Err(GenesisError::OtherPlan {
                path: path(),
                found: format!("{} ({})", entry.chain, entry.plan),
                expected: format!("{} ({})", self.chain(), self.hash()),
            });
        }
        if let Some(what) = entry.unproved() {
            return Err(GenesisError::Unsigned { path: path(), what, address: entry.address });
        }
        self.check_stake(&path(), entry.stake)
    }

    /// Checks that a validator may start with this stake, which the file `path` says.
    ///
    /// # Errors
    /// [`GenesisError::Stake`].
    pub fn check_stake(&self, path: &Path, found: Amount) -> Result<(), GenesisError> {
        let (min, max) = (self.genesis.params.validator_stake_min, self.terms.stake_max);
        if found < min || found > max {
            return Err(GenesisError::Stake { path: path.to_owned(), found, min, max });
        }
        Ok(())
    }

    /// The genesis with these validators, in the order of their addresses, and their balances.
    fn with(&self, mut validators: Vec<GenesisValidator>) -> Genesis {
        validators.sort_by_key(|validator| validator.address);
        let mut genesis = self.genesis.clone();
        for &GenesisValidator { address, .. } in &validators {
            let balance = self.terms.balance;
            match genesis.accounts.iter_mut().find(|account| account.address == address) {
                Some(account) => account.balance = account.balance.plus(balance),
                None if balance == Amount::ZERO => {}
                None => genesis.accounts.push(GenesisAccount { address, balance }),
            }
        }
        genesis.validators = validators;
        genesis
    }

    /// The text of a new plan, with a comment for everything that can be changed.
    pub fn render(chain: &str, preset: Preset, start_ms: u64) -> String {
        let start = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(start_ms));
        let (name, architecture) = (preset.name(), preset.architecture());
        let params = preset.params();
        let (stake_max, balance) = match preset {
            Preset::Public => (10_000, 100),
            Preset::Private => (1_000, 100),
        };
        let epoch = humantime::format_duration(Duration::from_millis(params.epoch_ms));
        format!(
            "\
# The plan of a soma network. Everyone who takes part has this very file: entries are signed for
# what it says, and whoever has it and all entries can assemble the genesis.

# The network's name: 1 to 64 printable characters, no spaces.
chain = \"{chain}\"

# No block comes before this time (UTC).
start = \"{start}\"

# Where the parameters come from:
#   public   a test network that anyone may join: the parameters of a network
#   private  people who know each other: epochs of an hour, small stakes and fees
preset = \"{name}\"

# What the models are: \"v1\", \"nano\", or a table [architecture] with every number of one.
architecture = \"{architecture}\"

[validators]
# How many must have signed an entry before there can be a genesis, and how many may.
least = 3
most = 16
# The most SOMA that a validator starts with as its stake; the least is validator_stake_min, here
# {stake_min}.
stake_max = \"{stake_max}\"
# SOMA that each validator's account has besides, for fees.
balance = \"{balance}\"

# Parameters that differ from the preset, as docs/protocol.md lists them; amounts in base units
# (10^-9 SOMA). An epoch of this preset takes {epoch}.
[params]
# epoch_ms = {epoch_ms}
# targets_per_epoch = {targets}

# Accounts with money from the start, in SOMA: people who test, and whoever gives it away. What is
# not allocated is the reserve, from which rewards are paid.
# [[accounts]]
# address = \"soma1...\"
# balance = \"1000000\"
",
            stake_min = params.validator_stake_min,
            epoch_ms = params.epoch_ms,
            targets = params.targets_per_epoch,
        )
    }
}

fn as_count(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

/// A time as people write it, in ms since 1970.
fn time_ms(text: &str) -> Result<u64, String> {
    let bad = || format!("start `{text}` is not a time such as 2030-01-31T12:00:00Z");
    let time: SystemTime = humantime::parse_rfc3339(text).map_err(|_| bad())?;
    let since = time.duration_since(UNIX_EPOCH).map_err(|_| bad())?;
    u64::try_from(since.as_millis()).map_err(|_| bad())
}

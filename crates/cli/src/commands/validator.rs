//! `soma validator`: lists validators, registers one and manages it.

use soma_codes::Code;
use soma_protocol::{Action, Address, Amount, ConsensusKey, Hash, SecretKey, action};
use soma_sdk::api::{Validator, ValidatorStatus};
use soma_sdk::sender::Sender;

use crate::error::{Error, Result};
use crate::global::Global;
use crate::network;
use crate::offline::Offline;
use crate::output::Output;

/// List validators, register one and manage it.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ValidatorCommand {
    /// List all validators: seat, stake, status.
    List,
    #[command(flatten)]
    Change(Change),
}

/// What an account does with its validator.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Change {
    /// Register this account as a validator.
    Register {
        /// The consensus key: a name from `soma keys list`, or a file.
        #[arg(long, value_name = "NAME")]
        consensus_key: String,
        /// Stake in SOMA; the validators with the most stake have the seats.
        #[arg(long)]
        stake: Amount,
        /// The operator's share of the stake's earnings, in hundredths of a percent.
        #[arg(long, default_value_t = 1000, value_name = "BPS")]
        #[arg(value_parser = clap::value_parser!(u16).range(..=10_000))]
        commission: u16,
        #[command(flatten)]
        offline: Offline,
    },
    /// Change this validator's consensus key.
    Rotate {
        /// The new consensus key: a name from `soma keys list`, or a file.
        #[arg(long, value_name = "NAME")]
        consensus_key: String,
        #[command(flatten)]
        offline: Offline,
    },
    /// Name the key that the node signs duties with, so that the account's key can stay elsewhere.
    DutyKey {
        /// The key: a name from `soma keys list`, or a file.
        #[arg(required_unless_present = "none")]
        name: Option<String>,
        /// Let no other key than the account's sign duties.
        #[arg(long, conflicts_with = "name")]
        none: bool,
        #[command(flatten)]
        offline: Offline,
    },
    /// Give up the seat; the stake remains until it is withdrawn.
    Leave {
        #[command(flatten)]
        offline: Offline,
    },
    /// Return to the validators after jail, or cancel leaving.
    Return {
        #[command(flatten)]
        offline: Offline,
    },
    /// Change this validator's commission, after the unbonding period.
    Commission {
        /// The commission in hundredths of a percent.
        #[arg(value_parser = clap::value_parser!(u16).range(..=10_000))]
        bps: u16,
        #[command(flatten)]
        offline: Offline,
    },
    /// Vote on the rent of one MiB for one epoch; the median by stake becomes the price.
    RentPrice {
        /// Price in SOMA, with up to nine decimals.
        price: Amount,
        #[command(flatten)]
        offline: Offline,
    },
}

impl ValidatorCommand {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        network::block_on(self.run_networked(global, output))
    }

    async fn run_networked(self, global: &Global, output: &Output) -> Result {
        let Self::Change(change) = self else {
            return list(global, output).await;
        };
        let offline = change.offline();
        if offline.write(global, output, |chain, account| change.action(global, chain, account))? {
            return Ok(());
        }
        let sender = network::sender(global, output).await?;
        sender.run(change.action(global, sender.chain(), sender.address())?).await?;
        let validator = registered(&sender).await?;
        output.result(line(&validator).trim_end(), &validator)
    }
}

async fn list(global: &Global, output: &Output) -> Result {
    let client = network::client(global, output)?;
    let all = client.validators().await?;
    let governance = client.governance().await?;
    output.say(format_args!(
        "a validator takes a seat with {} SOMA and keeps it with {}",
        Amount(governance.seat_to_take.0),
        Amount(governance.seat_to_keep.0),
    ));
    output.result(all.iter().map(line).collect::<String>(), &all)
}

impl Change {
    fn offline(&self) -> &Offline {
        match self {
            Self::Register { offline, .. }
            | Self::Rotate { offline, .. }
            | Self::DutyKey { offline, .. }
            | Self::Leave { offline }
            | Self::Return { offline }
            | Self::Commission { offline, .. }
            | Self::RentPrice { offline, .. } => offline,
        }
    }

    fn action(&self, global: &Global, chain: Hash, account: Address) -> Result<Action> {
        Ok(match self {
            Self::Register { consensus_key, stake, commission, .. } => {
                let key = named_key(global, consensus_key)?;
                Action::RegisterValidator(action::RegisterValidator {
                    consensus_key: public(&key),
                    proof: key.prove_possession(&chain, &account),
                    commission_bps: *commission,
                    stake: *stake,
                })
            }
            Self::Rotate { consensus_key, .. } => {
                let key = named_key(global, consensus_key)?;
                Action::RotateKey(action::RotateKey {
                    consensus_key: public(&key),
                    proof: key.prove_possession(&chain, &account),
                })
            }
            Self::DutyKey { name, .. } => {
                let key = name.as_deref().map(|name| named_key(global, name)).transpose()?;
                Action::SetDutyKey(action::SetDutyKey {
                    duty_key: key.as_ref().map_or(account, SecretKey::address),
                    proof: key.map_or([0; 64], |key| key.prove_duties(&chain, &account)),
                })
            }
            Self::Leave { .. } => Action::LeaveValidator(action::LeaveValidator {}),
            Self::Return { .. } => Action::ReturnValidator(action::ReturnValidator {}),
            Self::Commission { bps, .. } => Action::SetCommission(action::SetCommission {
                pool: soma_protocol::PoolId::Validator(account),
                commission_bps: *bps,
            }),
            Self::RentPrice { price, .. } => {
                Action::VoteRentPrice(action::VoteRentPrice { price: *price })
            }
        })
    }
}

/// A key that is not the account's, found as `--key` finds one.
fn named_key(global: &Global, name: &str) -> Result<SecretKey> {
    network::key(&Global { key: Some(name.to_owned()), ..global.clone() })
}

fn public(key: &SecretKey) -> ConsensusKey {
    ConsensusKey(key.address().0)
}

async fn registered(sender: &Sender) -> Result<Validator> {
    let all = sender.client().validators().await?;
    let me = sender.address();
    let is_mine = |validator: &Validator| {
        validator.address.0 == me || validator.duty_key.is_some_and(|key| key.0 == me)
    };
    let validator = all.into_iter().find(is_mine);
    validator.ok_or_else(|| {
        let message = "the node does not list this validator";
        Error::new(Code::NotANode, message)
    })
}

fn line(validator: &Validator) -> String {
    let seat = validator.seat.map_or_else(|| "-".to_owned(), |seat| seat.to_string());
    let counts =
        validator.seat_stake.map_or_else(|| "-".to_owned(), |stake| Amount(stake.0).to_string());
    let status = match (validator.status, validator.jailed_until) {
        (ValidatorStatus::Jailed, Some(until)) => format!("jailed until epoch {until}"),
        (status, _) => format!("{status:?}").to_lowercase(),
    };
    let fact = |name: &str, value: &Option<String>| {
        value.as_ref().map_or_else(String::new, |value| format!("          {name:<8} {value}\n"))
    };
    let duty_key = fact("duty key", &validator.duty_key.map(|key| key.to_string()));
    let place = fact("node", &validator.p2p) + &fact("API", &validator.url);
    format!(
        "seat {seat:>3}  {}\n{duty_key}{place}          stake {:<12} counts {counts:<12} \
         commission {}.{:02} %  {status}\n",
        validator.address,
        Amount(validator.stake.0),
        validator.commission_bps / 100,
        validator.commission_bps % 100,
    )
}

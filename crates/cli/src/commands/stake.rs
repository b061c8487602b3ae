//! `soma stake`: stakes on models and validators, and withdraws.

use serde::Serialize;
use soma_protocol::{Action, Address, Amount, PoolId, action};
use soma_sdk::api::{Stake, StakeChange};

use crate::error::Result;
use crate::global::Global;
use crate::network;
use crate::offline::Offline;
use crate::output::Output;

/// Stake on models and validators, and withdraw.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum StakeCommand {
    /// Stake on a model or a validator; it counts from the epoch after the next one on.
    #[command(after_help = "Example: soma stake add model:3 25")]
    Add {
        /// `model:NUMBER` or `validator:ADDRESS`.
        pool: PoolId,
        /// Amount in SOMA.
        amount: Amount,
        #[command(flatten)]
        offline: Offline,
    },
    /// Withdraw stake; it is paid out after the unbonding period and can be slashed until then.
    Withdraw {
        /// `model:NUMBER` or `validator:ADDRESS`.
        pool: PoolId,
        /// Amount in SOMA.
        #[arg(required_unless_present = "all")]
        amount: Option<Amount>,
        /// Withdraw everything.
        #[arg(long, conflicts_with = "amount")]
        all: bool,
        #[command(flatten)]
        offline: Offline,
    },
    /// Show an account's stakes.
    Show {
        /// The account [default: this key's].
        address: Option<Address>,
    },
}

#[derive(Serialize)]
struct Held {
    address: String,
    stakes: Vec<Stake>,
}

impl StakeCommand {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        network::block_on(self.run_networked(global, output))
    }

    async fn run_networked(self, global: &Global, output: &Output) -> Result {
        let (action, offline) = match self {
            Self::Show { address } => {
                let address = network::account(global, address)?;
                return show(
                    network::client(global, output)?.stakes(address).await?,
                    address,
                    output,
                );
            }
            Self::Add { pool, amount, offline } => {
                (Action::AddStake(action::AddStake { pool, amount }), offline)
            }
            Self::Withdraw { pool, amount, offline, .. } => {
                // The rules pay out at most what there is.
                let amount = amount.unwrap_or(Amount(u64::MAX));
                (Action::WithdrawStake(action::WithdrawStake { pool, amount }), offline)
            }
        };
        if offline.write(global, output, |_, _| Ok(action.clone()))? {
            return Ok(());
        }
        let added = match &action {
            Action::AddStake(add) => Some(add.pool.to_string()),
            _ => None,
        };
        let sender = network::sender(global, output).await?;
        sender.run(action).await?;
        let stakes = sender.client().stakes(sender.address()).await?;
        match added {
            None => {
                let epochs = sender.params().unbonding_epochs;
                output.done(format_args!("it will be paid out in {epochs} epochs"));
            }
            Some(pool) => {
                let stake = stakes.iter().find(|stake| stake.pool == pool);
                let mut changes = stake.iter().flat_map(|stake| &stake.changes).rev();
                if let Some(change) = changes.find(|change| change.joining.0 > 0) {
                    let epoch = change.epoch;
                    output.done(format_args!(
                        "it counts from the beginning of epoch {epoch}; until then it can be \
                         slashed and earns nothing"
                    ));
                }
            }
        }
        show(stakes, sender.address(), output)
    }
}

fn show(stakes: Vec<Stake>, address: Address, output: &Output) -> Result {
    if stakes.is_empty() {
        output.say("no stakes yet; add one with: soma stake add model:ID AMOUNT");
    }
    let change = |change: &StakeChange| {
        let part = |what: &str, amount: Amount| {
            let epoch = change.epoch;
            (amount > Amount::ZERO).then(|| format!("  {what} in epoch {epoch}: {amount}\n"))
        };
        let joining = part("counts", change.joining.into());
        let leaving = part("is paid out", change.leaving.into());
        joining.unwrap_or_default() + &leaving.unwrap_or_default()
    };
    let line = |stake: &Stake| {
        let changes: String = stake.changes.iter().map(change).collect();
        format!(
            "{}\n  stake {} of {}, joining {}, leaving {}\n{changes}",
            stake.pool,
            Amount(stake.stake.0),
            Amount(stake.pool_stake.0),
            Amount(stake.joining.0),
            Amount(stake.leaving.0),
        )
    };
    let text: String = stakes.iter().map(line).collect();
    let held = Held { address: address.to_string(), stakes };
    output.result(text.trim_end(), &held)
}

//! `soma stake`: money behind models and validators.

use serde::Serialize;
use soma_protocol::{Action, Address, Amount, PoolId, action};
use soma_sdk::api::Stake as Shown;

use crate::error::Result;
use crate::global::Global;
use crate::network;
use crate::output::Output;

/// Put money behind models and validators, and take it back.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Stake {
    /// Put money behind a model or a validator.
    #[command(after_help = "Example: soma stake add model:3 25")]
    Add {
        /// `model:NUMBER` or `validator:ADDRESS`.
        pool: PoolId,
        /// How much, in SOMA.
        amount: Amount,
    },
    /// Take money back; it waits, can be slashed meanwhile, and then arrives by itself.
    Withdraw {
        /// `model:NUMBER` or `validator:ADDRESS`.
        pool: PoolId,
        /// How much, in SOMA.
        #[arg(required_unless_present = "all")]
        amount: Option<Amount>,
        /// Everything.
        #[arg(long, conflicts_with = "amount")]
        all: bool,
    },
    /// Show what an account has at stake.
    Show {
        /// The account [default: the key's own].
        address: Option<Address>,
    },
}

#[derive(Serialize)]
struct Held {
    address: String,
    stakes: Vec<Shown>,
}

impl Stake {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        network::block_on(self.run_networked(global, output))
    }

    async fn run_networked(self, global: &Global, output: &Output) -> Result {
        let action = match self {
            Self::Show { address } => {
                let own = || {
                    let place = network::place(global)?;
                    Ok::<_, crate::error::Error>(place.folder.info(&place.name)?.address)
                };
                let address = address.map_or_else(own, Ok)?;
                return show(
                    network::client(global)?.stakes(address).await?,
                    address,
                    output,
                );
            }
            Self::Add { pool, amount } => Action::AddStake(action::AddStake { pool, amount }),
            Self::Withdraw { pool, amount, .. } => Action::WithdrawStake(action::WithdrawStake {
                pool,
                // More than there can ever be is everything.
                amount: amount.unwrap_or(Amount(u64::MAX)),
            }),
        };
        let withdraws = matches!(action, Action::WithdrawStake(_));
        let sender = network::sender(global).await?;
        sender.run(action).await?;
        if withdraws {
            let waits = sender.params().unbonding_epochs;
            output.done(format_args!("it arrives by itself in {waits} epochs"));
        }
        let stakes = sender.client().stakes(sender.address()).await?;
        show(stakes, sender.address(), output)
    }
}

fn show(stakes: Vec<Shown>, address: Address, output: &Output) -> Result {
    if stakes.is_empty() {
        output.say("nothing at stake: soma stake add model:ID AMOUNT");
    }
    let line = |one: &Shown| {
        format!(
            "{:24} stake {:<14} leaving {:<14} of {}\n",
            one.pool,
            Amount(one.stake.0),
            Amount(one.leaving.0),
            Amount(one.pool_stake.0),
        )
    };
    let text: String = stakes.iter().map(line).collect();
    let held = Held {
        address: address.to_string(),
        stakes,
    };
    output.result(text.trim_end(), &held)
}

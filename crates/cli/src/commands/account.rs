//! `soma balance` and `soma send`.

use serde::Serialize;
use soma_protocol::{Action, Address, Amount};

use crate::args::Global;
use crate::error::Result;
use crate::network;
use crate::output::Output;

/// Show what an account holds.
#[derive(Debug, clap::Args)]
pub(crate) struct Balance {
    /// The account [default: the key's own].
    address: Option<Address>,
}

/// Send SOMA.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma send soma1... 12.5 --key account-1")]
pub(crate) struct Send {
    /// Who gets it.
    to: Address,
    /// How much, in SOMA, with up to nine decimals.
    amount: Amount,
}

#[derive(Serialize)]
struct Held {
    address: String,
    /// In base units.
    balance: String,
    nonce: String,
    models: Vec<u32>,
}

impl Balance {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let address = if let Some(address) = self.address {
            address
        } else {
            let place = network::place(global)?;
            place.folder.info(&place.name)?.address
        };
        let client = network::client(global)?;
        let account = network::block_on(async { Ok(client.account(address).await?) })?;
        let held = Held {
            address: address.to_string(),
            balance: account.balance.to_string(),
            nonce: account.nonce.to_string(),
            models: account.models,
        };
        output.result(format_args!("{} SOMA", Amount(account.balance.0)), &held)
    }
}

#[derive(Serialize)]
struct Done {
    hash: String,
    /// In base units.
    fee: String,
}

impl Send {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let Self { to, amount } = self;
        network::block_on(async {
            let sender = network::sender(global).await?;
            let sent = sender.send(Action::Transfer { to, amount }).await?;
            let receipt = sender.wait(sent).await?;
            let fee = Amount(receipt.fee.0);
            output.done(format_args!("{amount} SOMA to {to}, fee {fee}"));
            let done = Done {
                hash: sent.hash.to_string(),
                fee: receipt.fee.to_string(),
            };
            output.result(sent.hash, &done)
        })
    }
}

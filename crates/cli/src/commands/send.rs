//! `soma send`: sends SOMA to an account.

use serde::Serialize;
use soma_protocol::{Action, Address, Amount, action};

use crate::error::Result;
use crate::global::Global;
use crate::network;
use crate::offline::Offline;
use crate::output::Output;

/// Send SOMA to an account.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma send soma1... 12.5 --key account-1")]
pub(crate) struct Send {
    /// The recipient's address.
    to: Address,
    /// Amount in SOMA, with up to nine decimals.
    amount: Amount,
    #[command(flatten)]
    offline: Offline,
}

#[derive(Serialize)]
struct Transfer {
    hash: String,
    /// In base units.
    fee: String,
}

impl Send {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let Self { to, amount, offline } = self;
        let transfer = Action::Transfer(action::Transfer { to, amount });
        if offline.write(global, output, |_, _| Ok(transfer.clone()))? {
            return Ok(());
        }
        network::block_on(async {
            let sender = network::sender(global, output).await?;
            let (sent, receipt) = sender.settle(transfer).await?;
            let fee = Amount(receipt.fee.0);
            output.done(format_args!("sent {amount} SOMA to {to}, fee {fee}"));
            let transfer = Transfer { hash: sent.hash.to_string(), fee: receipt.fee.to_string() };
            output.value("transaction", sent.hash, &transfer)
        })
    }
}

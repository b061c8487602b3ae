//! `soma balance`: shows an account's balance.

use serde::Serialize;
use soma_protocol::{Address, Amount};
use soma_sdk::api::Corpus;

use crate::error::Result;
use crate::global::Global;
use crate::network;
use crate::output::Output;

/// Show an account's balance.
#[derive(Debug, clap::Args)]
pub(crate) struct Balance {
    /// The account [default: this key's].
    address: Option<Address>,
}

#[derive(Serialize)]
struct Holding {
    address: String,
    /// In base units.
    balance: String,
    nonce: String,
    models: Vec<u32>,
    /// Documents that it may submit now; null if there are none.
    corpus: Option<Corpus>,
    /// Documents that it may submit from the next epoch on, if it has committed them in this one.
    next_corpus: Option<Corpus>,
}

impl Balance {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let address = network::account(global, self.address)?;
        let client = network::client(global, output)?;
        let account = network::block_on(async { Ok(client.account(address).await?) })?;
        let holding = Holding {
            address: address.to_string(),
            balance: account.balance.to_string(),
            nonce: account.nonce.to_string(),
            models: account.models,
            corpus: account.corpus,
            next_corpus: account.next_corpus,
        };
        output.result(format_args!("{} SOMA", Amount(account.balance.0)), &holding)
    }
}

//! `soma tx`: transactions in files, signed with `--offline` on a machine that has the key.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use soma_protocol::{Hash, SignedTransaction};
use soma_sdk::client::Sent;
use soma_sdk::{SdkError, Text, VerifyError};

use crate::error::{Error, Result};
use crate::global::Global;
use crate::network;
use crate::offline;
use crate::output::{self, Output};

/// Show and send transactions that were signed with `--offline`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tx {
    /// Show what a transaction does, and check its signature.
    Show {
        /// The file that `--offline` wrote.
        file: PathBuf,
    },
    /// Send a transaction, and wait until it is finalized. No key is needed.
    Send {
        /// The file that `--offline` wrote.
        file: PathBuf,
    },
}

/// How long its inclusion is waited for.
const PATIENCE: Duration = Duration::from_mins(20);

/// A transaction with its hash.
#[derive(Serialize)]
struct Shown<'a> {
    hash: Hash,
    #[serde(flatten)]
    transaction: &'a SignedTransaction,
}

/// A finalized transaction.
#[derive(Serialize)]
struct Finalized {
    hash: Hash,
    /// In base units.
    fee: Text<u64>,
}

impl Tx {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        match self {
            Self::Show { file } => show(&offline::read(&file)?, output),
            Self::Send { file } => network::block_on(send(offline::read(&file)?, global, output)),
        }
    }
}

fn show(signed: &SignedTransaction, output: &Output) -> Result {
    let transaction = signed.transaction();
    let action = serde_json::to_string_pretty(&transaction.action)
        .map_err(|error| Error::new(soma_codes::Code::Json, error.to_string()))?;
    let text = format!(
        "hash         {}\nchain        {}\nsender       {}\nnonce        {}\ntip          {} SOMA\n\
         fee limit    {} SOMA\nvalid until  {}\n{action}",
        signed.hash(),
        transaction.chain,
        transaction.sender,
        transaction.nonce,
        transaction.tip,
        transaction.fee_limit,
        output::when(transaction.valid_until_ms),
    );
    output.result(text, &Shown { hash: signed.hash(), transaction: signed })
}

async fn send(signed: SignedTransaction, global: &Global, output: &Output) -> Result {
    let client = network::client(global, output)?;
    let (expected, found) = (signed.transaction().chain, client.status().await?.chain_id.0);
    if found != expected {
        let url = client.url().to_owned();
        return Err(SdkError::from(VerifyError::OtherChain { url, found, expected }).into());
    }
    let hash = client.send(&signed).await?;
    let what = || format!("waiting for the network to include transaction {hash}");
    let sent = Sent::from(&signed);
    let wait = client.wait(&sent, PATIENCE);
    let receipt = Box::pin(client.listener().during(what, wait)).await?;
    if let Some(rejection) = receipt.rejection {
        return Err(SdkError::Rejected { hash, rejection }.into());
    }
    let fee = soma_protocol::Amount(receipt.fee.0);
    output.done(format_args!("{} is finalized, fee {fee}", signed.transaction().action.name()));
    output.value("transaction", hash, &Finalized { hash, fee: receipt.fee })
}

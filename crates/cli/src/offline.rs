//! `--offline`: a transaction that is signed without a node, on a machine that need not have a
//! network, and sent with `soma tx send` from another one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use soma_codes::Code;
use soma_protocol::{Action, Address, Amount, Hash, Params, SignedTransaction};
use soma_sdk::signing::{self, Terms, Tip};

use crate::error::{Error, Result};
use crate::global::Global;
use crate::network;
use crate::output::Output;
use crate::output_file::{self, Existing};

/// Size limit of a transaction's file: twice the longest transaction in hex, and names.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Sign without a node.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Without a node")]
pub(crate) struct Offline {
    /// Sign without a node and write the transaction to this file, for `soma tx send`.
    #[arg(long = "offline", id = "offline", value_name = "FILE", requires = "nonce")]
    file: Option<PathBuf>,
    /// The account's next nonce, which `soma balance --json` shows.
    #[arg(long, value_name = "N", requires = "offline")]
    nonce: Option<u64>,
    /// How long it can be sent, as in 2h or 7d.
    #[arg(long, value_name = "DURATION", requires = "offline", default_value = "1d")]
    #[arg(value_parser = humantime::parse_duration)]
    valid_for: Duration,
    /// The most that the fee may be, in SOMA [default: enough for a network's usual parameters].
    #[arg(long, value_name = "SOMA", requires = "offline")]
    fee_limit: Option<Amount>,
}

impl Offline {
    /// Signs the action and writes the transaction, if that was asked for; `action` is told the
    /// chain and the account. Returns whether it was.
    ///
    /// # Errors
    /// [`Code::Usage`] if no chain is known; those of the key and of the file.
    pub(crate) fn write(
        &self,
        global: &Global,
        output: &Output,
        action: impl FnOnce(Hash, Address) -> Result<Action>,
    ) -> Result<bool> {
        let (Some(path), Some(nonce)) = (&self.file, self.nonce) else {
            return Ok(false);
        };
        let chain = network::known_chain(global)?.ok_or_else(|| {
            Error::usage("it is not known which chain the transaction is for")
                .hint("name it: --chain ID; `soma genesis show` prints the id of a genesis")
        })?;
        output_file::check(path, Existing::Replaced)?;
        let key = network::key(global)?;
        let valid_ms = u64::try_from(self.valid_for.as_millis()).unwrap_or(u64::MAX);
        let terms = Terms {
            chain,
            nonce,
            tip: Tip::Exactly(global.tip.unwrap_or(Amount::ZERO)),
            valid_until_ms: soma_os::clock::now_ms().saturating_add(valid_ms),
        };
        let action = action(chain, key.address())?;
        let signed = signing::sign(action, &terms, &Params::network(), &key);
        let signed = match self.fee_limit {
            Some(fee_limit) => {
                let transaction = signed.transaction().clone();
                soma_protocol::Transaction { fee_limit, ..transaction }.sign(&key)
            }
            None => signed,
        };
        save(path, &signed)?;
        output.done(format_args!("wrote {}", path.display()));
        output.say(
            "  Nothing was sent. Look at it with `soma tx show`, send it with `soma tx send`.",
        );
        output.value("transaction", signed.hash(), &Written { hash: signed.hash(), file: path })?;
        Ok(true)
    }
}

/// A transaction that was written.
#[derive(serde::Serialize)]
struct Written<'a> {
    hash: Hash,
    file: &'a Path,
}

fn save(path: &Path, signed: &SignedTransaction) -> Result {
    let text = serde_json::to_string_pretty(signed)
        .map_err(|error| Error::new(Code::Json, error.to_string()))?;
    let written = soma_os::file::write(path, (text + "\n").as_bytes());
    written.map_err(|error| Error::file(path, "write", &error))
}

/// Reads a transaction, and checks that its sender signed it.
///
/// # Errors
/// [`Code::MalformedTransaction`]; [`Code::BadSignature`]; a file error.
pub(crate) fn read(path: &Path) -> Result<SignedTransaction> {
    let text = soma_os::data::read_text(path, FILE_BYTES_MAX)
        .map_err(|error| Error::file(path, "read", &error))?;
    let signed: SignedTransaction = serde_json::from_str(&text).map_err(|error| {
        let message = format!("{} is not a transaction: {error}", path.display());
        Error::new(Code::MalformedTransaction, message)
    })?;
    let chain = signed.transaction().chain;
    signed.verify(&chain).map(soma_protocol::VerifiedTransaction::into_signed).map_err(|error| {
        let code = match error {
            soma_protocol::Error::Signature => Code::BadSignature,
            _ => Code::TransactionTooLarge,
        };
        Error::new(code, format!("{}: {error}", path.display()))
    })
}

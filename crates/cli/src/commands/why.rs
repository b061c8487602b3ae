//! `soma why`: what became of submissions and models, and what would have changed it.

use serde::Serialize;
use soma_protocol::{Address, ModelId};
use soma_sdk::why::{self, Fate};

use crate::error::Result;
use crate::global::Global;
use crate::network;
use crate::output::Output;

/// Explain what became of submissions and models in the last epochs.
///
/// For the account of --key and the models that it owns, or for another account or model: why each
/// submission won or did not, why the rules rejected a transaction, and why a model was routed to
/// no target or lost. Everything is read from the chain.
#[derive(Debug, clap::Args)]
pub(crate) struct Why {
    /// An account instead of that of --key; no key is needed.
    #[arg(long, value_name = "ADDRESS", conflicts_with = "model")]
    account: Option<Address>,
    /// Only this model, whoever owns it; no key is needed.
    #[arg(long, value_name = "ID")]
    model: Option<u32>,
    /// How many epochs to look back, the running one included.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    epochs: u32,
}

/// What became of an account or a model.
#[derive(Serialize)]
struct Report<'a> {
    schema: &'static str,
    account: Option<String>,
    epochs: Vec<InEpoch<'a>>,
}

/// What became of it in an epoch.
#[derive(Serialize)]
struct InEpoch<'a> {
    epoch: u32,
    reasons: &'a [Fate],
}

impl Why {
    pub(crate) fn run(&self, global: &Global, output: &Output) -> Result {
        let client = network::client(global, output)?;
        network::block_on(async {
            // A model alone has no account.
            let account = match self.model {
                Some(_) => None,
                None => Some(network::account(global, self.account)?),
            };
            let mut fates = Vec::new();
            let models = match (self.model, account) {
                (Some(model), _) => vec![model],
                (None, Some(account)) => {
                    fates = why::of_account(&client, account, self.epochs).await?;
                    client.account(account).await?.models
                }
                (None, None) => Vec::new(),
            };
            for model in models {
                fates.extend(why::of_model(&client, ModelId(model), self.epochs).await?);
            }
            fates.sort_by_key(|fate| fate.epoch);
            if fates.is_empty() {
                output.say(format_args!(
                    "nothing was submitted, and no model competed, in the last {} epochs",
                    self.epochs
                ));
            }
            let account = account.map(|account| account.to_string());
            let epochs = fates.chunk_by(|a, b| a.epoch == b.epoch);
            let epochs = epochs.map(|reasons| InEpoch { epoch: reasons[0].epoch, reasons });
            let report = Report { schema: "why/1", account, epochs: epochs.collect() };
            output.result(describe(&fates), &report)
        })
    }
}

/// The fates by epoch; a hint is given once for all that have the same.
fn describe(fates: &[Fate]) -> String {
    let mut text = String::new();
    for epoch in fates.chunk_by(|a, b| a.epoch == b.epoch) {
        text += &format!("epoch {}\n", epoch[0].epoch);
        let mut hints: Vec<&str> = Vec::new();
        for fate in epoch {
            text += &format!("  {}: {}\n", subject(fate), fate.reason);
            hints.extend(fate.reason.hint().filter(|hint| !hints.contains(hint)));
        }
        for hint in hints {
            text += &format!("  hint: {hint}\n");
        }
    }
    text
}

fn subject(fate: &Fate) -> String {
    match (fate.target, fate.model) {
        (Some(target), Some(model)) => format!("target {target}, model {model}"),
        (Some(target), None) => format!("target {target}"),
        (None, Some(model)) => format!("model {model}"),
        (None, None) => "transaction".to_owned(),
    }
}

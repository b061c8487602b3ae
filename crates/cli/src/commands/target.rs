//! `soma target`: targets, their candidates and their winners.

use std::path::PathBuf;

use serde::Serialize;
use soma_codes::Code;
use soma_protocol::{Amount, Epoch, TargetId};
use soma_sdk::api::{Target, TargetStatus};
use soma_sdk::client::Client;
use soma_sdk::figures::relative_distance;

use crate::data::Shown;
use crate::error::{Error, Result};
use crate::global::Global;
use crate::network;
use crate::output::Output;
use crate::output_file::named_or_new;

/// List and inspect targets.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TargetCommand {
    /// List the targets of an epoch.
    List {
        /// The epoch [default: the current one].
        #[arg(long)]
        epoch: Option<u32>,
    },
    /// Show a target: models, candidates, winner.
    Show {
        /// The target's number.
        id: u32,
    },
    /// Download and verify the data that was published for a target, while the node keeps it: until
    /// the target is settled.
    Data {
        /// The target's number.
        id: u32,
        /// The file to write [default: target-ID.data].
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
}

#[derive(Serialize)]
struct Downloaded<'a> {
    target: u32,
    path: Shown<'a>,
    data_hash: String,
    bytes: usize,
}

impl TargetCommand {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let client = network::client(global, output)?;
        network::block_on(async {
            match self {
                Self::List { epoch } => {
                    let epoch = match epoch {
                        Some(epoch) => epoch,
                        None => client.status().await?.clock.epoch,
                    };
                    let targets = client.targets(Some(Epoch(epoch))).await?;
                    if targets.is_empty() {
                        output.say(format_args!("epoch {epoch} has no targets yet"));
                    }
                    output.result(targets.iter().map(line).collect::<String>(), &targets)
                }
                Self::Show { id } => {
                    let target = client.target(TargetId(id)).await?;
                    output.result(describe(&target), &target)
                }
                Self::Data { id, output: path } => data(&client, id, path, output).await,
            }
        })
    }
}

/// Downloads what was published for a target, as long as the node keeps it.
async fn data(client: &Client, id: u32, path: Option<PathBuf>, output: &Output) -> Result {
    let target = client.target(TargetId(id)).await?;
    let Some(published) = &target.publication else {
        let message = format!("no data has been published for target {id}");
        return Err(Error::new(Code::DataNotFound, message)
            .hint("data is published when its submission wins; see `soma target show ID`"));
    };
    let path = named_or_new(path, format!("target-{id}.data"))?;
    let hash = published.data_hash.0;
    let bytes = client.target_data(TargetId(id), hash).await?;
    soma_os::file::write(&path, &bytes).map_err(|error| Error::file(&path, "write", &error))?;
    output.done(format_args!("{} bytes, verified: {}", bytes.len(), state(&target)));
    let (path, data_hash, bytes) = (Shown(&path), hash.to_string(), bytes.len());
    output.value("file", path.0.display(), &Downloaded { target: id, path, data_hash, bytes })
}

/// What has become of a target, in a few words.
pub(crate) fn state(target: &Target) -> String {
    match (target.status, &target.payment, target.returned) {
        (TargetStatus::Settled, Some(payment), _) => format!("won by model {}", payment.model),
        (TargetStatus::Returned, _, Some(reason)) => format!("returned, {reason:?}").to_lowercase(),
        (status, ..) => format!("{status:?}").to_lowercase(),
    }
}

fn line(target: &Target) -> String {
    let routed: Vec<String> = target.routed.iter().map(|routed| routed.model.to_string()).collect();
    let best = target
        .candidates
        .first()
        .map_or("-".into(), |best| format!("{:.4}", relative_distance(best.distance.0)));
    format!(
        "target {:<5} reward {:<13} models {:<10} closest {best:<7} {}\n",
        target.id,
        Amount(target.reward.0),
        routed.join(" "),
        state(target)
    )
}

fn describe(target: &Target) -> String {
    let mut text = format!(
        "target {} of epoch {}: {}\nreward   {} SOMA\nseed     {}\n",
        target.id,
        target.epoch,
        state(target),
        Amount(target.reward.0),
        target.seed
    );
    for routed in &target.routed {
        text += &format!("routed   model {} with weights {}\n", routed.model, routed.weights_hash);
    }
    for candidate in &target.candidates {
        text += &format!(
            "rank {}   {} with model {}, distance {:.4}, {} bytes\n",
            candidate.rank,
            candidate.submitter,
            candidate.model,
            relative_distance(candidate.distance.0),
            candidate.size_bytes
        );
    }
    if let Some(data) = &target.publication {
        text += &format!(
            "data     rank {} published {} bytes: {}\n",
            data.rank, data.size_bytes, data.data_hash
        );
    }
    if let Some(payment) = &target.payment {
        text += &format!(
            "paid     {} SOMA to {}\npaid     {} SOMA to model {}\n",
            Amount(payment.paid_submitter.0),
            payment.submitter,
            Amount(payment.paid_model.0),
            payment.model
        );
    }
    text.trim_end().to_owned()
}

//! `soma status`: the network at a glance, and what this account still owes it.

use serde::Serialize;
use soma_protocol::Amount;
use soma_sdk::api as types;

use crate::error::Result;
use crate::global::Global;
use crate::network;
use crate::output::Output;

/// Show the network at a glance.
#[derive(Debug, clap::Args)]
pub(crate) struct Status;

#[derive(Serialize)]
struct Facts {
    url: String,
    #[serde(flatten)]
    status: types::Status,
}

/// Asks the node and says what it knows.
pub(crate) fn run(global: &Global, output: &Output) -> Result {
    let client = network::client(global)?;
    let status = network::block_on(async { Ok(client.status().await?) })?;
    let text = describe(&status);
    output.result(
        text,
        &Facts {
            url: client.url().to_owned(),
            status,
        },
    )
}

fn describe(status: &types::Status) -> String {
    let soma = |units: u64| Amount(units).to_string();
    let left = status.clock.ends_ms.map_or_else(
        || "ends by command: soma localnet next".to_owned(),
        |ends| {
            format!(
                "ends in {:.1} s of block time",
                ends.0.saturating_sub(status.timestamp_ms.0) as f64 / 1e3
            )
        },
    );
    let supply = &status.supply;
    let conserved = if supply.conserved {
        "conserved"
    } else {
        "NOT CONSERVED"
    };
    format!(
        "chain    {} ({})\nheight   {}\nepoch    {}, phase {}, {left}\nmodels   {} active\n\
         targets  {} open\npool     {} transactions\npeers    {} connected\naudits   {}\nsupply   {} in the reserve, {} held, {} burned: {conserved}",
        status.chain,
        status.chain_id,
        status.height,
        status.clock.epoch,
        status.clock.phase,
        status.models_active,
        status.targets_open,
        status.pool,
        status.peers,
        audited(&status.audits),
        soma(supply.reserve.0),
        soma(supply.held.0),
        soma(supply.burned.0),
    )
}

/// What the node's validator checked, and what it cost.
pub(crate) fn audited(audits: &types::Audits) -> String {
    let put_off = match audits.put_off.0 {
        0 => String::new(),
        count => format!(", put off {count} times"),
    };
    format!(
        "{} waiting, {} found valid, {} invalid{put_off}; {} scores in {:.1} s",
        audits.waiting,
        audits.valid,
        audits.invalid,
        audits.scores,
        audits.spent_ms.0 as f64 / 1e3
    )
}

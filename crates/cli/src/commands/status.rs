//! `soma status`: the network at a glance.

use std::time::Duration;

use serde::Serialize;
use soma_protocol::{Amount, Hash, RulesRange};
use soma_sdk::api as types;
use soma_sdk::at_stake::{self, Due};
use soma_sdk::client::Client;
use soma_sdk::spool;

use crate::error::Result;
use crate::global::Global;
use crate::home::Home;
use crate::network;
use crate::output::Output;

/// Show the network at a glance.
#[derive(Debug, clap::Args)]
pub(crate) struct Status;

#[derive(Serialize)]
struct NodeStatus {
    url: String,
    #[serde(flatten)]
    status: types::Status,
    /// What the keys of this home still have to send, by the files of this machine.
    due: Vec<Due>,
}

/// Asks the node and prints its answer.
pub(crate) fn run(global: &Global, output: &Output) -> Result {
    let client = network::client(global, output)?;
    let home = Home::find(global)?;
    let (status, due) = network::block_on(async {
        let status = match client.status().await {
            Ok(status) => status,
            Err(error) => {
                if let Ok(Some(chain)) = network::known_chain(global) {
                    remind(&home, &chain, output);
                }
                return Err(error.into());
            }
        };
        let due = dues(&home, &client, &status, output).await?;
        Ok((status, due))
    })?;
    let text = format!("{}\n{}", describe(&status), listed(&due, status.timestamp_ms.0));
    output.result(text, &NodeStatus { url: client.url().to_owned(), status, due })
}

/// What the keys of this home still have to send on the node's chain.
pub(crate) async fn dues(
    home: &Home,
    client: &Client,
    status: &types::Status,
    output: &Output,
) -> Result<Vec<Due>> {
    let obligations = network::obligations(home, &status.chain_id.0, output);
    if obligations.is_empty() {
        return Ok(Vec::new());
    }
    let params = client.params().await?;
    let mut dues = Vec::new();
    for obligation in &obligations {
        match spool::look(client, status, &params, obligation).await {
            Ok((_, due)) => dues.extend(due),
            Err(error) => output.warn(format_args!("{obligation}: {error}")),
        }
    }
    at_stake::sort(&mut dues);
    Ok(dues)
}

/// What may be due though no node can be asked.
fn remind(home: &Home, chain: &Hash, output: &Output) {
    for obligation in network::obligations(home, chain, output) {
        output.warn(format_args!("the {obligation} may be due"));
    }
}

/// What is due, a line each.
fn listed(dues: &[Due], now_ms: u64) -> String {
    if dues.is_empty() {
        return "due      nothing from the keys of this home".to_owned();
    }
    let line = |due: &Due| {
        let left = due.until_ms.map(|until| {
            let left = Duration::from_secs(until.0.saturating_sub(now_ms) / 1_000);
            format!(" ({} left)", humantime::format_duration(left))
        });
        format!("due      {due}{}", left.unwrap_or_default())
    };
    dues.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn describe(status: &types::Status) -> String {
    let soma = |units: u64| Amount(units).to_string();
    let left = status.clock.ends_ms.map_or_else(
        || "manual (soma localnet next)".to_owned(),
        |ends| {
            format!(
                "{:.1} s left by block time",
                ends.0.saturating_sub(status.timestamp_ms.0) as f64 / 1e3
            )
        },
    );
    let supply = &status.supply;
    let tip = match status.tip_per_kib.0 {
        0 => String::new(),
        tip => format!(", tip {} SOMA for each KiB", soma(tip)),
    };
    let troubles: String = status.troubles.iter().map(trouble).collect();
    let rules = next_rules(&status.rules);
    let ready = if status.ready { "ready" } else { "NOT READY" };
    let conserved = if supply.conserved { "conserved" } else { "NOT CONSERVED" };
    format!(
        "chain    {}\n         {}\nheight   {}\nepoch    {}, phase {}, {left}{rules}\n\
         models   {} active\ntargets  {} open\npool     {} transactions{tip}\n\
         peers    {} connected\naudits   {}\n\
         supply   {} in the reserve, {} held, {} burned: {conserved}\nnode     {ready}{troubles}",
        status.chain,
        status.chain_id,
        status.height,
        status.clock.epoch,
        phase(&status.clock),
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

/// The rules that are scheduled, if there are any: a line.
fn next_rules(rules: &types::Rules) -> String {
    let types::Rules { version, next, min, max } = *rules;
    next.map_or_else(String::new, |next| {
        format!(
            "\nrules    {version}, and {} from epoch {} on; the node executes {}",
            next.version,
            next.from_epoch,
            RulesRange { min, max }
        )
    })
}

/// The phase, for people.
pub(crate) fn phase(clock: &types::Clock) -> String {
    let phase = clock.phase.to_string();
    match phase.split_once(':').map(|(name, rank)| (name, rank.parse::<u32>())) {
        Some((name, Ok(rank))) => format!("{name} (part {})", rank.saturating_add(1)),
        _ => phase,
    }
}

/// Something that the node's operator should know.
fn trouble(trouble: &types::Trouble) -> String {
    format!("\n         {}: {}\n         hint: {}", trouble.code, trouble.message, trouble.hint)
}

/// Audits by the node's validator, and their cost.
pub(crate) fn audited(audits: &types::Audits) -> String {
    let postponed = match audits.put_off.0 {
        0 => String::new(),
        count => format!(", {count} postponed"),
    };
    format!(
        "{} waiting, {} valid, {} invalid{postponed}; {} scores in {:.1} s",
        audits.waiting,
        audits.valid,
        audits.invalid,
        audits.scores,
        audits.spent_ms.0 as f64 / 1e3
    )
}

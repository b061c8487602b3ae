//! `soma demo`: a complete competition on this machine.
//!
//! Specialists are trained, published by commit and reveal, and compete on documents that none of
//! them has seen, on a real network in a temporary folder, with the same client, API and consensus
//! as everywhere. A phase is ended by command once its transactions are finalized, so the result
//! must never depend on time: one seed gives one result.

mod embedded;
mod domains;
mod specialist;
mod report;
mod competition;

use std::path::PathBuf;

use soma_codes::Code;
use soma_model::Architecture;
use soma_node::Node;

use crate::commands::localnet;
use crate::error::{Error, Result};
use crate::global::Global;
use crate::model_flags::EngineArgs;
use crate::network;
use crate::output::Output;
use crate::seed::Seed;

/// Run a complete competition on this machine.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma demo --data poems/ --data code/ --data letters/")]
pub(crate) struct Demo {
    /// Folder of files of one kind; repeat for each domain [default: sources and pages of Soma, and
    /// JSON, which are in the program].
    #[arg(long, value_name = "DIR")]
    data: Vec<PathBuf>,
    /// The same seed gives the same result: an integer, or 64 hex digits.
    #[arg(long, default_value = "0")]
    seed: Seed,
    /// Training steps of each specialist.
    #[arg(long, default_value_t = specialist::STEPS)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Keep the network and its page up afterwards, until interrupted.
    #[arg(long)]
    keep: bool,
    #[command(flatten)]
    engine: EngineArgs,
}

impl Demo {
    pub(crate) fn run(self, _: &Global, output: &Output) -> Result {
        if self.data.len() == 1 {
            return Err(Error::usage("a competition needs two or more domains")
                .hint("name two or more folders: --data DIR --data DIR"));
        }
        let architecture = Architecture::nano();
        let domains =
            domains::gather(&self.data, architecture.positions as usize, &self.seed.0, output)?;
        let engine = self.engine.build()?;
        let folder = tempfile::tempdir()
            .map_err(|error| Error::file(&std::env::temp_dir(), "write to", &error))?;

        output.heading("1. Train one specialist per domain");
        let specialists = domains
            .iter()
            .map(|domain| {
                specialist::train(&engine, domain, self.seed, self.steps, folder.path(), output)
            })
            .collect::<Result<Vec<_>>>()?;

        let (report, node) = network::block_on(competition::run(
            &engine,
            &domains,
            &specialists,
            self.seed,
            folder.path(),
            output,
        ))?;
        output.result(report.tables(output), &report)?;
        output.heading("What next");
        for (command, purpose) in WHAT_NEXT {
            output.say(format_args!("  {command:42}  {purpose}"));
        }
        let kept = if self.keep { keep(&node, output) } else { Ok(()) };
        node.shutdown();
        kept?;
        if !report.supply_conserved {
            return Err(Error::new(Code::Supply, "the supply is not conserved"));
        }
        Ok(())
    }
}

/// Commands to try after the demo.
const WHAT_NEXT: [(&str, &str); 4] = [
    ("soma demo --keep", "see such a network in a browser"),
    ("soma demo --data DIR --data DIR", "the same with your own files"),
    ("soma localnet", "a network that stays up"),
    ("soma train --arch nano --data DIR -o FILE", "a model of your own data"),
];

/// Keeps the network up until a signal.
fn keep(node: &Node, output: &Output) -> Result {
    output.heading("The network stays up");
    output.say(format_args!("  page  {}/", node.url()));
    output.say(format_args!("  API   {}", node.url()));
    output.say("  Ctrl-C stops it and deletes it.\n");
    let urls = [node.url().to_owned()];
    network::block_on(localnet::watch(&urls, output, || localnet::check_node(node)))
}

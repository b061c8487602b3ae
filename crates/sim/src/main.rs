//! `soma-sim`: runs histories of a whole network, seed after seed, until the first violation.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::process::ExitCode;

use clap::Parser;
use soma_sim::{Plant, Report, Settings, run};

/// Simulate a whole network with all its faults, seed after seed.
#[derive(Debug, Parser)]
#[command(name = "soma-sim", version, about, arg_required_else_help = true)]
struct Arguments {
    /// First seed
    #[arg(long)]
    seed: u64,
    /// Number of seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Plant a bug in every node, for the checker to find
    #[arg(long)]
    bug: bool,
    /// Leave out a defense of the rules or of the pools, for the checker to find
    #[arg(long, value_name = "NAME", conflicts_with = "bug")]
    without: Option<Plant>,
    /// Run every history twice and compare the results
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plant = arguments.without.or(arguments.bug.then_some(Plant::Counterfeit));
    // Nodes panic when their disk fails; violations are printed below.
    std::panic::set_hook(Box::new(|_| {}));
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let settings = Settings { seed, plant, join_height: None };
        let report = match run(settings) {
            Ok(report) => report,
            Err(violation) => {
                eprintln!("seed {seed}: {violation}");
                let planted = match plant {
                    None => String::new(),
                    Some(Plant::Counterfeit) => " --bug".into(),
                    Some(plant) => format!(" --without {plant}"),
                };
                eprintln!("reproduce: cargo run --release -p soma-sim -- --seed {seed}{planted}");
                return ExitCode::FAILURE;
            }
        };
        if arguments.twice && run(settings).as_ref() != Ok(&report) {
            eprintln!("seed {seed}: the same seed gave a different history");
            return ExitCode::FAILURE;
        }
        println!("{}", line(&report));
    }
    ExitCode::SUCCESS
}

fn line(report: &Report) -> String {
    format!(
        "seed {}: {} blocks, {} of {} transactions accepted, {} crashes, {} disk failures, \
         {} power losses, {} joins, adversary {:?}, attackers {:?}, {}",
        report.seed,
        report.blocks,
        report.accepted,
        report.transactions,
        report.crashes,
        report.disk_failures,
        report.power_losses,
        report.joins,
        report.adversary,
        report.attackers,
        &report.fingerprint[..16.min(report.fingerprint.len())],
    )
}

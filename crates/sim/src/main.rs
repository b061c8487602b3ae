//! `soma-sim`: plays histories of a whole network, seed after seed, and stops at the first one that
//! goes wrong; `soma-sim economy` plays who earns what. What it prints says how to play it again.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::process::ExitCode;

use clap::Parser;
use soma_sim::{Settings, run};

/// Simulate a whole network with all its faults, seed after seed.
#[derive(Debug, Parser)]
#[command(name = "soma-sim", version, about, arg_required_else_help = true)]
struct Arguments {
    /// The first seed
    #[arg(long)]
    seed: u64,
    /// How many seeds, from the first one on
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Plants an arithmetic slip in every node, for the checks to find
    #[arg(long)]
    bug: bool,
    /// Plays every history twice and compares them
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let bug = arguments.bug;
    // Nodes are made to panic, as they do when a disk fails; a violation is told below.
    std::panic::set_hook(Box::new(|_| {}));
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.seeds) {
        let settings = Settings {
            seed,
            bug,
            late: None,
        };
        let report = match run(settings) {
            Ok(report) => report,
            Err(violation) => {
                eprintln!("seed {seed}: {violation}");
                let planted = if bug { " --bug" } else { "" };
                eprintln!("again: cargo run -p soma-sim -- --seed {seed}{planted}");
                return ExitCode::FAILURE;
            }
        };
        if arguments.twice && run(settings).as_ref() != Ok(&report) {
            eprintln!("seed {seed}: the same seed gave another history");
            return ExitCode::FAILURE;
        }
        println!(
            "seed {seed}: {} blocks, {} of {} transactions accepted, {} crashes, {} failures of \
             disks, {} losses of power, {} joins, cheat {:?}, {}",
            report.blocks,
            report.accepted,
            report.transactions,
            report.crashes,
            report.disk_failures,
            report.power_losses,
            report.joins,
            report.cheat,
            &report.fingerprint[..16.min(report.fingerprint.len())],
        );
    }
    ExitCode::SUCCESS
}

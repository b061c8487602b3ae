//! `soma-sim`: plays histories of a whole network, seed after seed, and stops at the first one that
//! goes wrong; `soma-sim economy` plays who earns what. What it prints says how to play it again.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use soma_sim::economy::plot::Chart;
use soma_sim::economy::sweep::{self, Sweep};
use soma_sim::economy::{self, pictures};
use soma_sim::{Settings, run};

/// Plays a whole network: with all its faults, or for what its people earn.
#[derive(Debug, Parser)]
#[command(name = "soma-sim", version, about)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    play: Option<Play>,
    #[command(flatten)]
    network: Option<Network>,
}

#[derive(Debug, Subcommand)]
enum Play {
    /// Histories with all their faults; what is played when nothing is said
    Network(Network),
    /// A thousand epochs of the real rules: who earns what
    Economy(Economy),
}

#[derive(Debug, Args)]
struct Network {
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

#[derive(Debug, Args)]
struct Economy {
    /// How many epochs
    #[arg(long, default_value_t = 1_000)]
    epochs: u32,
    /// Where chance comes from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Plays once for each of several values of one number
    #[arg(long, value_enum)]
    sweep: Option<Sweep>,
    /// Prints JSON
    #[arg(long)]
    json: bool,
    /// Draws pictures into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match (arguments.play, arguments.network) {
        (Some(Play::Economy(economy)), _) => match play_economy(&economy) {
            Ok(text) => {
                println!("{text}");
                ExitCode::SUCCESS
            }
            Err(reason) => {
                eprintln!("{reason}");
                ExitCode::FAILURE
            }
        },
        (Some(Play::Network(network)), _) | (None, Some(network)) => play_network(&network),
        (None, None) => ExitCode::FAILURE,
    }
}

fn play_network(arguments: &Network) -> ExitCode {
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

fn play_economy(arguments: &Economy) -> Result<String, Box<dyn std::error::Error>> {
    let settings = economy::Settings::new(arguments.epochs, arguments.seed);
    let (text, charts) = if let Some(sweep) = arguments.sweep {
        let lines = sweep.run(&settings)?;
        let text = if arguments.json {
            serde_json::to_string(&lines)?
        } else {
            sweep::table(sweep, &lines)
        };
        (
            text,
            pictures::of_sweep(sweep, &lines).into_iter().collect(),
        )
    } else {
        let report = economy::run(&settings)?;
        let text = if arguments.json {
            serde_json::to_string(&report)?
        } else {
            report.to_string()
        };
        (text, pictures::of_report(&report))
    };
    if let Some(folder) = &arguments.plots {
        draw(folder, &charts)?;
    }
    Ok(text)
}

fn draw(folder: &Path, charts: &[(&str, Chart)]) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    for (name, chart) in charts {
        let path = folder.join(name);
        std::fs::write(&path, chart.svg())?;
        eprintln!("drawn: {}", path.display());
    }
    Ok(())
}

//! `soma-economy`: simulates who earns what under the rules, and prints tables, JSON or charts.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it is a command")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use soma_economy::charts;
use soma_economy::plot::Chart;
use soma_economy::sweep::{self, Sweep};
use soma_economy::{Settings, run};

/// Simulate who earns what under the rules of the network.
#[derive(Debug, Parser)]
#[command(name = "soma-economy", version, about)]
struct Arguments {
    /// Number of epochs
    #[arg(long, default_value_t = 1_000)]
    epochs: u32,
    /// Seed of all random numbers
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Vary one number, and simulate the economy once for each of its values
    #[arg(long, value_enum)]
    sweep: Option<Sweep>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Draw charts into this folder
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

fn main() -> ExitCode {
    match simulate(&Arguments::parse()) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(arguments: &Arguments) -> Result<String, Box<dyn Error>> {
    let settings = Settings::new(arguments.epochs, arguments.seed);
    let (text, charts) = if let Some(sweep) = arguments.sweep {
        let lines = sweep.run(&settings)?;
        let text = if arguments.json {
            serde_json::to_string(&lines)?
        } else {
            sweep::table(sweep, &lines)
        };
        let chart = charts::of_sweep(sweep, &lines);
        (text, chart.into_iter().collect())
    } else {
        let report = run(&settings)?;
        let text =
            if arguments.json { serde_json::to_string(&report)? } else { report.to_string() };
        (text, charts::of_report(&report))
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
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

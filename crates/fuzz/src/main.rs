//! Random bytes against everything that reads bytes from outside.
//!
//! `cargo run --release -p soma-fuzz -- --inputs 10000000` tries each decoder with as many; CI gives it a minute. An input is
//! named by its seed and number, and is made again from them.

mod random;
mod targets;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};

use random::Random;
use targets::{Api, Blocks, Rules, Target, Transactions};

/// Random bytes against everything that reads bytes from outside.
#[derive(Debug, Parser)]
struct Args {
    /// What to try; all when none is named.
    #[arg(value_enum)]
    targets: Vec<Name>,
    /// Inputs for each target.
    #[arg(long, default_value_t = 10_000_000)]
    inputs: u64,
    /// Seconds for each target at most.
    #[arg(long, default_value_t = u64::MAX)]
    seconds: u64,
    /// Where the sequence begins.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Number of the first input: with `--inputs 1`, one again.
    #[arg(long, default_value_t = 0)]
    from: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The decoders of transactions and of batches.
    Transactions,
    /// The decoder of blocks.
    Blocks,
    /// The rules, on transactions that mean anything.
    Rules,
    /// The API of a running node.
    Api,
}

impl Name {
    fn target(self) -> Result<Box<dyn Target>, String> {
        Ok(match self {
            Self::Transactions => Box::new(Transactions::new()),
            Self::Blocks => Box::new(Blocks::new()?),
            Self::Rules => Box::new(Rules::new()?),
            Self::Api => Box::new(Api::new()?),
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let targets = if args.targets.is_empty() {
        Name::value_variants().to_vec()
    } else {
        args.targets.clone()
    };
    for name in targets {
        let line = match fuzz(name, &args) {
            Ok((inputs, elapsed)) => format!(
                "{name:?}: {inputs} inputs in {:.1} s, nothing found\n",
                elapsed.as_secs_f64()
            ),
            Err(found) => {
                // Whoever reads it may be gone.
                let _gone = writeln!(std::io::stderr(), "{name:?}: {found}");
                return ExitCode::FAILURE;
            }
        };
        let _gone = std::io::stdout().write_all(line.as_bytes());
    }
    ExitCode::SUCCESS
}

/// Tries inputs until one is found that breaks something, or until there are enough.
fn fuzz(name: Name, args: &Args) -> Result<(u64, Duration), String> {
    let mut target = name.target()?;
    let (begun, limit) = (Instant::now(), Duration::from_secs(args.seconds));
    for tried in 0..args.inputs {
        if tried.is_multiple_of(64) && begun.elapsed() > limit {
            return Ok((tried, begun.elapsed()));
        }
        let number = args.from + tried;
        let mut random = Random::new(args.seed, number);
        let outcome = catch_unwind(AssertUnwindSafe(|| target.try_one(&mut random)));
        let found = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(found)) => found,
            Err(_) => "panicked".to_owned(),
        };
        return Err(format!("seed {} input {number}: {found}", args.seed));
    }
    Ok((args.inputs, begun.elapsed()))
}

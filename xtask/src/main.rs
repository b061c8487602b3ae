//! Repository checks that the compiler and clippy cannot make, and networks of real processes on
//! hosts of their own. It has no dependencies, so that the fast checks start within seconds on a
//! fresh clone.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command-line tool writes to the terminal"
)]

use std::path::Path;
use std::process::{Command, ExitCode};

mod json;
mod tree;

mod features;
mod tidy;

mod hosts;

mod chaos;
mod guide;

const USAGE: &str = "\
usage: cargo xtask COMMAND
  tidy      check layers, manifests, sources, wording and links
  features  check that third-party features do not depend on which crate is built
  guide     follow the operators' guide on hosts of their own: [--soma PATH]
  chaos     run a network on hosts of their own under faults, and check what it promises
            --minutes N [--seed S] [--faults KIND,..] [--soma PATH] [--json] [--log FILE]";

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    let mut words = std::env::args().skip(1);
    let faults = match words.next().as_deref() {
        Some("tidy") => tidy::check(root),
        Some("features") => features::check(root),
        Some("guide") => {
            return match guide::Arguments::parse(root, words) {
                Ok(arguments) => guide::guide(root, &arguments),
                Err(error) => usage(&error),
            };
        }
        Some("chaos") => {
            return match chaos::Arguments::parse(root, words) {
                Ok(arguments) => chaos::chaos(root, &arguments),
                Err(error) => usage(&error),
            };
        }
        _ => return usage("unknown command"),
    };
    match faults {
        Ok(faults) if faults.is_empty() => {
            println!("ok");
            ExitCode::SUCCESS
        }
        Ok(faults) => {
            for fault in &faults {
                eprintln!("{fault}");
            }
            eprintln!("error: {} faults", faults.len());
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage(error: &str) -> ExitCode {
    eprintln!("error: {error}\n{USAGE}");
    ExitCode::from(2)
}

/// The standard output of a command, which must succeed.
fn output(command: &mut Command) -> Result<String, String> {
    let done = command.output().map_err(|error| error.to_string())?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    String::from_utf8(done.stdout).map_err(|error| error.to_string())
}

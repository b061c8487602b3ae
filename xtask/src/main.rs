//! Chores with logic in them. `cargo xtask tidy` checks what the compiler and clippy cannot see:
//! who may depend on whom, and a few rules of STYLE.md.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to a terminal"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

mod tidy;

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map_or_else(PathBuf::new, Path::to_owned);
    if std::env::args().nth(1).as_deref() == Some("tidy") {
        return report(&tidy::check(&root));
    }
    eprintln!("usage: cargo xtask tidy");
    ExitCode::from(2)
}

fn report(faults: &[String]) -> ExitCode {
    for fault in faults {
        eprintln!("tidy: {fault}");
    }
    if faults.is_empty() {
        println!("tidy: dependencies, headers, lengths and floats are as STYLE.md says");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// The output of a command that must succeed.
fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    match command.output() {
        Ok(done) if done.status.success() => Ok(done.stdout),
        Ok(done) => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
        Err(error) => Err(error.to_string()),
    }
}

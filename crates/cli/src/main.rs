//! The `soma` binary: commands for people and scripts.
//!
//! A command reads its flags, calls the libraries (`soma-model` for numbers, `soma-compete` and
//! `soma-sdk` for the network) and prints the result through `output`. It must never decide a rule
//! of the competition. Modules are listed in reading order; later ones use earlier ones.

#![expect(clippy::cast_precision_loss, reason = "floats here are only displayed")]

use std::process::ExitCode;

use clap::Parser;

mod panics;
mod error;
mod signals;
mod harmless;
mod output;
mod global;
mod seed;
mod model_flags;
mod home;
mod network;
mod local_nodes;
mod commands;
mod args;

use args::Args;
use output::Output;

fn main() -> ExitCode {
    panics::report_in_one_line();
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(refusal) => return refuse(&refusal),
    };
    let global = args.global;
    let output = Output::new(global.json, global.quiet, global.no_progress, global.color);
    match args.command.run(&global, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            error.exit.into()
        }
    }
}

/// Prints help and version as results, and invalid arguments as an error, with `--json` in JSON.
fn refuse(refusal: &clap::Error) -> ExitCode {
    if refusal.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let text = refusal.to_string();
        let lines = text.lines().take_while(|line| !line.is_empty());
        let lines = lines.map(str::trim).collect::<Vec<_>>().join(" ");
        let message = lines.strip_prefix("error: ").unwrap_or(&lines);
        let error = error::Error::usage(message);
        Output::new(true, false, true, output::Color::Never).error(&error);
    } else if refusal.print().is_err() {
        return ExitCode::FAILURE;
    }
    if refusal.use_stderr() { soma_codes::Exit::Usage.into() } else { ExitCode::SUCCESS }
}

//! The `soma` binary: words in, words out.
//!
//! A command reads its flags, asks `soma-model` for numbers and `soma-sdk` for the network, and
//! hands what it found to `output`. Rules of the competition never live here.

#![expect(
    clippy::cast_precision_loss,
    reason = "floats here are figures for people"
)]

use std::process::ExitCode;

use clap::Parser;

mod error;
mod signals;
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

/// Help and version are results; a command line that makes no sense is an error, also in JSON.
fn refuse(refusal: &clap::Error) -> ExitCode {
    if refusal.use_stderr() && std::env::args_os().any(|argument| argument == "--json") {
        let told = refusal.to_string();
        let lines = told.lines().take_while(|line| !line.is_empty());
        let lines = lines.map(str::trim).collect::<Vec<_>>().join(" ");
        let message = lines.strip_prefix("error: ").unwrap_or(&lines);
        let error = error::Error::usage(message);
        Output::new(true, false, true, output::Color::Never).error(&error);
    } else if refusal.print().is_err() {
        return ExitCode::FAILURE;
    }
    if refusal.use_stderr() {
        soma_codes::Exit::Usage.into()
    } else {
        ExitCode::SUCCESS
    }
}

//! The `soma` binary: commands for people and scripts.
//!
//! A command reads its flags, calls the libraries (`soma-model` for numbers, `soma-compete` and
//! `soma-sdk` for the network) and prints the result through `output`. It must never decide a rule
//! of the competition. Modules are listed in reading order; later ones use earlier ones.

#![expect(clippy::cast_precision_loss, reason = "floats here are only displayed")]

use std::io::Write as _;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};

mod panics;
mod error;
mod keyboard;
mod harmless;
mod output;
mod output_file;
mod signals;
mod data;
mod global;
mod seed;
mod model_flags;
mod endpoint_flags;
mod home;
mod network;
mod offline;
mod local_nodes;
mod commands;
mod args;

use args::Args;
use output::Output;
use soma_sdk::client::without_logins;

fn main() -> ExitCode {
    panics::report_in_one_line();
    let args = match parse() {
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

/// Reads the command line, and what it leaves out from the environment, where an empty variable is
/// one that is not set.
fn parse() -> Result<Args, clap::Error> {
    // First without the environment: an error then shows what the command itself needs.
    match Args::command().mut_args(|arg| arg.env(None::<&str>)).try_get_matches() {
        // Help shows the variables as well.
        Err(refusal)
            if !matches!(refusal.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) =>
        {
            return Err(refusal);
        }
        Ok(_) | Err(_) => {}
    }
    let is_empty = |name: &std::ffi::OsStr| std::env::var_os(name).is_some_and(|it| it.is_empty());
    let set = |arg: clap::Arg| {
        if arg.get_env().is_some_and(is_empty) { arg.env(None::<&str>) } else { arg }
    };
    let mut command = Args::command().mut_args(set);
    let matches = command.try_get_matches_from_mut(std::env::args_os())?;
    Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
}

/// Whether what was asked for is help, or nothing was asked for.
fn is_help(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::DisplayHelp
            | ErrorKind::DisplayVersion
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    )
}

/// Prints help and version as results, and invalid arguments as an error, with `--json` in JSON. An
/// argument may be a URL with a password.
fn refuse(refusal: &clap::Error) -> ExitCode {
    if is_help(refusal.kind()) {
        // Also where nothing was asked for.
        let printed = write!(anstream::stdout(), "{}", refusal.render().ansi());
        return if printed.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let text = without_logins(&refusal.to_string());
        let lines = text.lines().take_while(|line| !line.is_empty());
        let lines = lines.map(str::trim).collect::<Vec<_>>().join(" ");
        let message = lines.strip_prefix("error: ").unwrap_or(&lines);
        let error = error::Error::usage(message);
        Output::new(true, false, true, output::Color::Never).error(&error);
    } else {
        // With code and hint, as all errors.
        let text = without_logins(&refusal.render().ansi().to_string());
        let text = text.replacen("error:", "error[usage]:", 1);
        let text = text.replace("For more information, try", "hint: for more information, try");
        if write!(anstream::stderr(), "{text}").is_err() {
            return ExitCode::FAILURE;
        }
    }
    soma_codes::Exit::Usage.into()
}

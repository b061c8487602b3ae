//! Hosts of their own on one Linux machine: each is a network namespace with an address and a disk,
//! and all are plugged into one bridge.
//!
//! They live in a sandbox of namespaces of its own (`sandbox`): whatever ends the process, Ctrl-C
//! and a panic among it, the kernel removes hosts, processes, disks and links.

pub(crate) mod host;
pub(crate) mod http;
pub(crate) mod node;
pub(crate) mod sandbox;

use std::process::Command;

/// Runs a program that must succeed; returns what it printed.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let name = format!("{command:?}").replace('"', "");
    crate::output(command).map_err(|error| format!("{name}: {}", error.trim_end()))
}

/// Runs a line of words that must succeed.
pub(crate) fn words(line: &str) -> Result<String, String> {
    let mut words = line.split(' ');
    run(Command::new(words.next().unwrap_or_default()).args(words))
}

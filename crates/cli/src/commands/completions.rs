//! `soma completions SHELL`: prints a completion script.

use crate::error::{Error, Result};

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: soma completions bash > ~/.local/share/bash-completion/completions/soma"
)]
pub(crate) struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

impl Completions {
    /// `soma` is the whole command line.
    pub(crate) fn run(self, soma: &mut clap::Command) -> Result {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, soma, "soma", &mut script);
        match std::io::Write::write_all(&mut std::io::stdout(), &script) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                Err(Error::file(std::path::Path::new("standard output"), "write", &error))
            }
            _ => Ok(()),
        }
    }
}

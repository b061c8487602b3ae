//! `soma bench`: what this machine can do, measured with the code that does the work.

mod engine;

use crate::error::Result;
use crate::output::Output;

/// Measure what this machine can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Measure the model engine as a share of what the processor can do at most.
    Engine(engine::BenchEngine),
}

impl Bench {
    pub(crate) fn run(self, output: &Output) -> Result {
        match self {
            Self::Engine(command) => command.run(output),
        }
    }
}

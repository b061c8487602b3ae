//! `soma bench`: what this machine can do, measured with the code that does the work.

mod chain;
mod engine;
mod instructions;
mod load;
mod routing;

use crate::error::Result;
use crate::output::Output;

/// Measure what this machine can do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Measure the model engine as a share of what the processor can do at most.
    Engine(engine::BenchEngine),
    /// Measure how long it takes to route an epoch's targets to models, on one core.
    Routing(routing::BenchRouting),
    /// Measure a network of validators on this machine: throughput, and time to finality at half of it.
    Chain(chain::Chain),
}

impl Bench {
    pub(crate) fn run(self, output: &Output) -> Result {
        match self {
            Self::Engine(command) => command.run(output),
            Self::Routing(command) => command.run(output),
            Self::Chain(command) => command.run(output),
        }
    }
}

//! `soma bench`: measures this machine with the code that does the work.

mod chain;
mod engine;
mod instructions;
mod load;
mod routing;

use crate::error::Result;
use crate::output::Output;

/// Measure the performance of this machine.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Bench {
    /// Measure the model engine as a share of the processor's peak.
    Engine(engine::BenchEngine),
    /// Measure the routing of an epoch's targets to models, on one core.
    Routing(routing::BenchRouting),
    /// Measure a network of validators on this machine: throughput, and finality at half load.
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

//! `soma bench routing`: the time of exact routing of an epoch's targets to models, on one core.

use std::hint::black_box;
use std::time::Instant;

use serde::Serialize;
use soma_protocol::routing::{RoutableModel, Routing};
use soma_protocol::{Amount, Epoch, ModelId};

use crate::error::Result;
use crate::output::Output;

/// Measure the routing of an epoch's targets to models, on one core.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: soma bench routing --models 20000\n\nEmbeddings are random, about \
                  as long as real ones, and need two bytes of memory per component."
)]
pub(crate) struct BenchRouting {
    /// Number of active models.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    models: u32,
    /// Targets per epoch.
    #[arg(long, default_value_t = 100, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    targets: u32,
    /// Components of an embedding.
    #[arg(long, default_value_t = 2048, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=65_536))]
    dim: u32,
    /// Models per target.
    #[arg(long, default_value_t = 4, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    models_per_target: u32,
}

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    seconds: f64,
    models: u32,
    targets: u32,
    dim: u32,
    models_per_target: u32,
}

impl BenchRouting {
    pub(crate) fn run(&self, output: &Output) -> Result {
        let spinner = output.spinner("drawing embeddings");
        let dim = self.dim as usize;
        let embeddings = vectors("models", self.models, dim);
        let directions = vectors("targets", self.targets, dim);
        let directions = directions.chunks_exact(dim).map(<[i16]>::to_vec).collect();
        spinner.set_message("routing");
        let start = Instant::now();
        let mut routing = Routing::new(directions, self.models_per_target as usize);
        for (model, embedding) in (1..).map(ModelId).zip(embeddings.chunks_exact(dim)) {
            routing.offer(&RoutableModel {
                model,
                activated: Epoch(0),
                stake: Amount(1_000_000_000 + u64::from(model.0)),
                specialization: embedding,
            });
        }
        black_box(routing.finish().collect::<Vec<_>>());
        let seconds = start.elapsed().as_secs_f64();
        spinner.finish_and_clear();
        let report = Report {
            schema: "bench-routing/1",
            seconds,
            models: self.models,
            targets: self.targets,
            dim: self.dim,
            models_per_target: self.models_per_target,
        };
        let text = format!(
            "{} targets over {} models of {} components: {seconds:.2} s on one core",
            self.targets, self.models, self.dim
        );
        output.result(text, &report)
    }
}

/// `count` vectors with random components, about as long as a unit vector of the network.
fn vectors(name: &str, count: u32, dim: usize) -> Vec<i16> {
    let mut bytes = vec![0; count as usize * dim];
    blake3::Hasher::new().update(name.as_bytes()).finalize_xof().fill(&mut bytes);
    // A random byte is 74 long on average, and all of them together are to be 32767 long.
    let factor = (443 / dim.isqrt()).clamp(1, 255);
    let factor = i16::try_from(factor).unwrap_or(1);
    bytes.into_iter().map(|byte| i16::from(byte.cast_signed()).saturating_mul(factor)).collect()
}

//! `soma bench engine`: the machine's limits first, then the engine as a share of them.
//!
//! Only work that the result needs is counted: of attention, the pairs of positions that causality allows.

use serde::Serialize;
use soma_model::bench::{self, Measured};
use soma_model::{Architecture, Engine, Weights};

use crate::error::Result;
use crate::model_files::EngineArgs;
use crate::output::{Output, Unit};

/// Measure the model engine as a share of what the processor can do at most.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: soma bench engine --threads 2\n\nThe best of some rounds counts. Useful work is what the result needs: of attention, the pairs of positions that causality allows."
)]
pub(crate) struct BenchEngine {
    /// Measure only this; repeat for more [default: everything].
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Layers of V1 that the forward pass has; all 24 need 5 GB of memory.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=24))]
    layers: u16,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What is measured besides the machine's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Products of matrices.
    Kernels,
    /// Logits of a chunk of bytes.
    Forward,
    /// A step of the optimizer.
    Train,
}

const PARTS: [Part; 3] = [Part::Kernels, Part::Forward, Part::Train];
/// Rows, depth and columns: the products of a V1 layer, of a `nano` batch, and of the gradient of its weights.
const PRODUCTS: [[usize; 3]; 6] = [
    [1024, 2048, 8192],
    [1024, 8192, 2048],
    [1024, 2048, 2048],
    [101, 2048, 8192],
    [4096, 128, 512],
    [128, 4096, 512],
];
/// Positions of a whole chunk, and of 100 bytes with their end.
const FORWARD_POSITIONS: [usize; 2] = [1024, 101];
/// Windows of a training step.
const BATCH: usize = 16;

/// The result.
#[derive(Serialize)]
struct Report {
    schema: &'static str,
    kernel: &'static str,
    threads: usize,
    peak_gflops: f64,
    memory_gb_per_second: f64,
    kernels: Vec<Product>,
    forward: Vec<Forward>,
    train: Vec<Train>,
}

/// One measurement, by its best round.
#[derive(Serialize)]
struct Figures {
    seconds: f64,
    /// Of all threads; absent where the system does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds: Option<f64>,
    useful_gflop: f64,
    gflops: f64,
    /// Useful work per second as a share of the fma peak.
    of_peak: f64,
}

#[derive(Serialize)]
struct Product {
    rows: usize,
    depth: usize,
    columns: usize,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize)]
struct Forward {
    arch: &'static str,
    layers: usize,
    positions: usize,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Serialize)]
struct Train {
    arch: &'static str,
    batch: usize,
    positions: usize,
    tokens_per_second: f64,
    #[serde(flatten)]
    figures: Figures,
}

impl BenchEngine {
    pub(crate) fn run(self, output: &Output) -> Result {
        let engine = self.engine.build()?;
        let measures = |part| self.only.is_empty() || self.only.contains(&part);
        let count = |part| match part {
            Part::Kernels => PRODUCTS.len(),
            Part::Forward => FORWARD_POSITIONS.len(),
            Part::Train => 1,
        };
        let parts = PARTS.into_iter().filter(|part| measures(*part));
        let bar = output.bar(
            2 + parts.map(count).sum::<usize>() as u64,
            "measuring",
            Unit::Items,
        );
        let next = |what: &str| {
            bar.set_message(what.to_owned());
            bar.tick();
        };
        let rounds = usize::from(self.rounds);
        next("fma peak");
        let peak = bench::peak_gflops(&engine, rounds);
        bar.inc(1);
        next("memory");
        let memory = bench::memory_gb_per_second(&engine, rounds);
        bar.inc(1);
        let mut report = Report {
            schema: "bench/1",
            kernel: engine.kernel().name(),
            threads: engine.threads(),
            peak_gflops: peak,
            memory_gb_per_second: memory,
            kernels: Vec::new(),
            forward: Vec::new(),
            train: Vec::new(),
        };
        if measures(Part::Kernels) {
            for [rows, depth, columns] in PRODUCTS {
                next(&format!("{rows}x{depth}x{columns}"));
                let mut product = bench::Product::new([rows, depth, columns]);
                let measured = product.measure(&engine, rounds);
                let figures = Figures::of(measured, peak);
                report.kernels.push(Product {
                    rows,
                    depth,
                    columns,
                    figures,
                });
                bar.inc(1);
            }
        }
        if measures(Part::Forward) {
            next("V1's layers");
            report.forward = self.forward(&engine, peak, || bar.inc(1))?;
        }
        if measures(Part::Train) {
            next("training nano");
            report.train.push(train(&engine, peak, rounds)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        output.result(text(&report, output), &report)
    }

    /// Some layers of V1 with random weights.
    fn forward(&self, engine: &Engine, peak: f64, done: impl Fn()) -> Result<Vec<Forward>> {
        let layers = usize::from(self.layers);
        let architecture = Architecture {
            layers,
            ..Architecture::v1()
        };
        let weights = Weights::init(&architecture, [0; 32])?;
        let measure = |positions| {
            let measured = bench::forward(engine, &weights, positions, usize::from(self.rounds));
            done();
            Forward {
                arch: "v1",
                layers,
                positions,
                figures: Figures::of(measured, peak),
            }
        };
        Ok(FORWARD_POSITIONS.map(measure).into())
    }
}

fn train(engine: &Engine, peak: f64, rounds: usize) -> Result<Train> {
    let architecture = Architecture::nano();
    let weights = Weights::init(&architecture, [0; 32])?;
    let measured = bench::training_step(engine, &weights, BATCH, rounds)?;
    let positions = architecture.positions;
    Ok(Train {
        arch: "nano",
        batch: BATCH,
        positions,
        tokens_per_second: (BATCH * positions) as f64 / measured.seconds,
        figures: Figures::of(measured, peak),
    })
}

impl Figures {
    fn of(measured: Measured, peak_gflops: f64) -> Self {
        Self {
            seconds: measured.seconds,
            cpu_seconds: measured.cpu_seconds,
            useful_gflop: measured.useful_gflop,
            gflops: measured.gflops(),
            of_peak: measured.gflops() / peak_gflops,
        }
    }

    /// A line for people: bar, share, speed, time.
    fn line(&self, name: &str, output: &Output) -> String {
        let share = 100.0 * self.of_peak;
        format!(
            "  {name:<26} {}  {share:5.1} %  {:7.1} GFLOP/s  {:9.2} ms\n",
            output.share(self.of_peak),
            self.gflops,
            1e3 * self.seconds
        )
    }
}

fn text(report: &Report, output: &Output) -> String {
    let mut text = format!(
        "{} on {} threads\n  fma peak  {:7.1} GFLOP/s\n  memory    {:7.1} GB/s\n",
        output.strong(report.kernel),
        report.threads,
        report.peak_gflops,
        report.memory_gb_per_second
    );
    let mut section = |title: &str, lines: Vec<String>| {
        if !lines.is_empty() {
            text += &format!("{}\n{}", output.strong(title), lines.concat());
        }
    };
    let kernels = report.kernels.iter().map(|product| {
        let name = format!("{}x{}x{}", product.rows, product.depth, product.columns);
        product.figures.line(&name, output)
    });
    section("products", kernels.collect());
    let forward = report.forward.iter().map(|forward| {
        let name = format!("v1, {} layers, {} bytes", forward.layers, forward.positions);
        forward.figures.line(&name, output)
    });
    section("forward", forward.collect());
    let train = report.train.iter().map(|train| {
        let name = format!(
            "{}, {} x {} bytes",
            train.arch, train.batch, train.positions
        );
        train.figures.line(&name, output)
    });
    section("training step", train.collect());
    text
}

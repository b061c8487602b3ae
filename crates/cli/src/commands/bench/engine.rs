//! `soma bench engine`: the machine's peak first, then the model engine as a share of it.
//!
//! It must only count work that the result needs: of attention, the pairs of positions that
//! causality allows.

use serde::Serialize;
use soma_model::bench::{self, Measured, Meter};
use soma_model::{Architecture, Engine, Weights};

use super::instructions::Instructions;
use crate::error::Result;
use crate::model_flags::{self, EngineArgs};
use crate::output::{Output, Unit};

/// Measure the model engine as a share of the processor's peak.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: soma bench engine --threads 2\n\nThe best of several rounds counts. \
                  Useful work is what the result needs: of attention, the pairs of positions \
                  that causality allows."
)]
pub(crate) struct BenchEngine {
    /// Measure only this; repeat for more [default: everything].
    #[arg(long, value_enum, value_name = "PART")]
    only: Vec<Part>,
    /// Rounds of each measurement.
    #[arg(long, default_value_t = 5, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Number of V1 layers in the forward pass; all 24 need 5 GB of memory.
    #[arg(long, default_value_t = 4, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=24))]
    layers: u16,
    #[command(flatten)]
    engine: EngineArgs,
}

/// What is measured besides the machine's peak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Matrix products.
    Kernels,
    /// A forward pass to the logits.
    Forward,
    /// A training step.
    Train,
}

const PARTS: [Part; 3] = [Part::Kernels, Part::Forward, Part::Train];
/// Rows, depth and columns: the products of a V1 layer, of a `nano` batch, and of the gradient of
/// its weights.
const PRODUCTS: [[usize; 3]; 6] = [
    [1024, 2048, 8192],
    [1024, 8192, 2048],
    [1024, 2048, 2048],
    [101, 2048, 8192],
    [4096, 128, 512],
    [128, 4096, 512],
];
/// Positions of a full chunk, and of 100 bytes with their end-of-sequence token.
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
    /// Total of all threads; absent where the system does not provide it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_seconds: Option<f64>,
    /// Total of all threads; absent where the system does not count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    instructions: Option<u64>,
    useful_gflop: f64,
    gflops: f64,
    /// Useful work per second as a share of the fma peak, the highest peak seen in the run.
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
        // The counter includes threads that this thread starts later.
        let instructions = Instructions::count();
        let engine = self.engine.build()?;
        let meter = Meter {
            rounds: usize::from(self.rounds),
            instructions: &|| instructions.as_ref().and_then(Instructions::total),
        };
        let bar = output.bar(self.measurements(), "measuring", Unit::Items);
        let next = |what: &str| {
            bar.set_message(what.to_owned());
            bar.tick();
        };
        next("the machine");
        let mut report = Report::of_machine(&engine, meter);
        bar.inc(2);
        if self.measures(Part::Kernels) {
            for shape in PRODUCTS {
                next(&shape.map(|extent| extent.to_string()).join("x"));
                report.kernels.push(product(&engine, shape, meter));
                report.update_peak(&engine, meter);
                bar.inc(1);
            }
        }
        if self.measures(Part::Forward) {
            next("V1's layers");
            let weights = self.layers_of_v1()?;
            for positions in FORWARD_POSITIONS {
                let forward = forward(&engine, &weights, positions, meter);
                report.forward.push(forward);
                report.update_peak(&engine, meter);
                bar.inc(1);
            }
        }
        if self.measures(Part::Train) {
            next("training nano");
            report.train.push(train(&engine, meter)?);
            report.update_peak(&engine, meter);
            bar.inc(1);
        }
        bar.finish_and_clear();
        report.relate_to_peak();
        output.result(text(&report, output), &report)
    }

    fn measures(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    /// The number of measurements, including the machine's peak.
    fn measurements(&self) -> u64 {
        let count = |part| match part {
            Part::Kernels => PRODUCTS.len(),
            Part::Forward => FORWARD_POSITIONS.len(),
            Part::Train => 1,
        };
        let parts = PARTS.into_iter().filter(|part| self.measures(*part));
        2 + parts.map(count).sum::<usize>() as u64
    }

    /// Some layers of V1 with random weights.
    fn layers_of_v1(&self) -> Result<Weights> {
        let architecture = Architecture { layers: self.layers.into(), ..Architecture::v1() };
        Ok(Weights::init(&architecture, [0; 32])?)
    }
}

impl Report {
    fn of_machine(engine: &Engine, meter: Meter<'_>) -> Self {
        Self {
            schema: "bench/1",
            kernel: engine.kernel().name(),
            threads: engine.threads(),
            peak_gflops: bench::peak_gflops(engine, meter),
            memory_gb_per_second: bench::memory_gb_per_second(engine, meter),
            kernels: Vec::new(),
            forward: Vec::new(),
            train: Vec::new(),
        }
    }

    /// Measures the peak again: a shared machine, or one with a varying clock, may show more later.
    fn update_peak(&mut self, engine: &Engine, meter: Meter<'_>) {
        let peak = bench::peak_gflops(engine, meter);
        self.peak_gflops = self.peak_gflops.max(peak);
    }

    fn relate_to_peak(&mut self) {
        let kernels = self.kernels.iter_mut().map(|part| &mut part.figures);
        let forward = self.forward.iter_mut().map(|part| &mut part.figures);
        let train = self.train.iter_mut().map(|part| &mut part.figures);
        for figures in kernels.chain(forward).chain(train) {
            figures.of_peak = figures.gflops / self.peak_gflops;
        }
    }
}

fn product(engine: &Engine, shape: [usize; 3], meter: Meter<'_>) -> Product {
    let [rows, depth, columns] = shape;
    let measured = bench::Product::new(shape).measure(engine, meter);
    Product { rows, depth, columns, figures: measured.into() }
}

fn forward(engine: &Engine, weights: &Weights, positions: usize, meter: Meter<'_>) -> Forward {
    Forward {
        arch: "v1",
        layers: weights.architecture().layers as usize,
        positions,
        figures: bench::forward(engine, weights, positions, meter).into(),
    }
}

fn train(engine: &Engine, meter: Meter<'_>) -> Result<Train> {
    let architecture = Architecture::nano();
    let weights = Weights::init(&architecture, [0; 32])?;
    let measured = bench::training_step(engine, &weights, BATCH, meter)?;
    let positions = architecture.positions as usize;
    Ok(Train {
        arch: "nano",
        batch: BATCH,
        positions,
        tokens_per_second: (BATCH * positions) as f64 / measured.seconds,
        figures: measured.into(),
    })
}

impl From<Measured> for Figures {
    fn from(measured: Measured) -> Self {
        Self {
            seconds: measured.seconds,
            cpu_seconds: measured.cpu_seconds,
            instructions: measured.instructions,
            useful_gflop: measured.useful_gflop,
            gflops: measured.gflops(),
            of_peak: f64::NAN,
        }
    }
}

impl Figures {
    /// A line of text: bar, share, speed, time.
    fn line(&self, name: &str, output: &Output) -> String {
        let share = 100.0 * self.of_peak;
        let instructions = self.instructions.map(|count| count as f64 * 1e-9);
        let instructions = instructions.map(|count| format!("  {count:7.3} G instructions"));
        format!(
            "  {name:<26} {}  {share:5.1} %  {:7.1} GFLOP/s  {:9.2} ms{}\n",
            output.share(self.of_peak),
            self.gflops,
            1e3 * self.seconds,
            instructions.unwrap_or_default()
        )
    }
}

fn text(report: &Report, output: &Output) -> String {
    let mut text = format!(
        "{} on {}\n  fma peak  {:7.1} GFLOP/s\n  memory    {:7.1} GB/s\n",
        output.strong(report.kernel),
        model_flags::threads(report.threads),
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
        let name = format!("{}, {} x {} bytes", train.arch, train.batch, train.positions);
        train.figures.line(&name, output)
    });
    section("training step", train.collect());
    text
}

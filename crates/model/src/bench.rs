//! This machine's peak and what the kernels reach of it: the measurements of `soma bench engine`.
//!
//! Wall-clock time is read only here in this crate; no score may ever depend on it.

#![expect(
    clippy::cast_precision_loss,
    reason = "speeds are approximate, and counts are far below 2^53"
)]

pub mod hostile;

use std::fmt;
use std::fs;
use std::hint::black_box;
use std::time::Instant;

use crate::error::Error;
use crate::forward::{Forward, logits};
use crate::kernels::{Engine, Epilogue, Matrix, MatrixMut, matmul};
use crate::layers::sigreg::Directions;
use crate::score::score;
use crate::simd::KernelKind;
use crate::simd::{LANES, Operation, Simd};
use crate::sizes::Sizes;
use crate::train::{Corpus, Recipe, Trainer};
use crate::weights::Weights;

/// Multiply-adds per chain in one measurement of the peak.
const STEPS: usize = 1 << 20;
/// Elements of the buffer for measuring memory: 256 MiB, more than caches hold.
const MEMORY_ELEMENTS: usize = 64 << 20;

/// How to measure.
#[derive(Clone, Copy)]
pub struct Meter<'a> {
    /// Rounds of the same work, of which the best counts.
    pub rounds: usize,
    /// Instructions that all threads have retired so far, if something counts them.
    pub instructions: &'a dyn Fn() -> Option<u64>,
}

impl fmt::Debug for Meter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter").field("rounds", &self.rounds).finish_non_exhaustive()
    }
}

/// The best of several rounds of the same work.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// Wall-clock seconds.
    pub seconds: f64,
    /// CPU seconds of all threads in that round; `None` where the system does not report them.
    /// On a shared machine, they are more meaningful than wall-clock time.
    pub cpu_seconds: Option<f64>,
    /// Instructions that all threads retired in that round, if they were counted.
    pub instructions: Option<u64>,
    /// Floating-point operations that the result needs, in units of 10^9, not counting pairs that
    /// causality hides.
    pub useful_gflop: f64,
}

impl Measured {
    /// Useful work per wall-clock second, in GFLOP/s.
    pub fn gflops(&self) -> f64 {
        self.useful_gflop / self.seconds
    }
}

/// Runs chains of fma that touch no memory; returns how many multiply-adds of 16 lanes it did.
struct Peak;

impl Operation for Peak {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        // Enough chains to hide the latency, but few enough to fit in the registers.
        if S::TILE_VECTORS == 2 { chains::<S, 12>(simd) } else { chains::<S, 6>(simd) }
    }
}

#[expect(clippy::inline_always, reason = "inlined into the function that enables the CPU features")]
#[inline(always)]
fn chains<S: Simd, const N: usize>(simd: S) -> usize {
    let (x, y) = (simd.splat(black_box(0.999)), simd.splat(black_box(0.001)));
    let mut chains = [simd.splat(black_box(1.0)); N];
    for _ in 0..STEPS {
        for chain in &mut chains {
            *chain = simd.fma(x, *chain, y);
        }
    }
    let mut sum = simd.splat(0.0);
    for chain in chains {
        sum = simd.add(sum, chain);
    }
    black_box(simd.fold(sum));
    N * STEPS
}

/// The fma peak of the engine's kernel on all its threads, in GFLOP/s, as the best of the meter's
/// rounds.
pub fn peak_gflops(engine: &Engine, meter: Meter<'_>) -> f64 {
    let threads = engine.threads();
    let flops = 2.0 * 16.0 * (engine.run(Peak) * threads) as f64;
    let measured = best(meter, flops, || {
        engine.for_each(vec![(); threads], |()| _ = engine.run(Peak));
    });
    measured.gflops()
}

/// Adds up memory, sixteen chains at a time.
struct Read<'a>(&'a [f32]);

impl Operation for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let mut sums = [simd.splat(0.0); 4];
        for block in self.0.as_chunks::<{ 4 * LANES }>().0 {
            for (sum, lanes) in sums.iter_mut().zip(block.as_chunks::<LANES>().0) {
                *sum = simd.add(*sum, simd.load(lanes));
            }
        }
        let [a, b, c, d] = sums;
        simd.fold(simd.add(simd.add(a, b), simd.add(c, d)))
    }
}

/// How fast all threads together read memory that no cache holds, in GB/s, as the best of the
/// meter's rounds.
pub fn memory_gb_per_second(engine: &Engine, meter: Meter<'_>) -> f64 {
    let memory = vec![1.0_f32; MEMORY_ELEMENTS];
    let share = engine.share(memory.len()).next_multiple_of(4 * LANES);
    let measured = best(meter, 0.0, || {
        engine.for_each(memory.chunks(share).collect(), |part| {
            black_box(engine.run(Read(part)));
        });
    });
    (MEMORY_ELEMENTS * size_of::<f32>()) as f64 * 1e-9 / measured.seconds
}

/// An engine of one thread for counting instructions under an emulator, whose arithmetic may be
/// inexact: its kernel is not compared with the reference, and its results are meaningless.
///
/// # Errors
/// [`Error::Unavailable`] if this CPU cannot run the kernel.
pub fn untested_engine(kind: KernelKind) -> Result<Engine, Error> {
    Engine::untested(kind)
}

/// A product of matrices, ready to be computed repeatedly.
#[derive(Debug)]
pub struct Product {
    shape: [usize; 3],
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Product {
    /// The product of `rows` x `depth` and `depth` x `columns`.
    pub fn new(shape: [usize; 3]) -> Self {
        let [rows, depth, columns] = shape;
        let fill = |len: usize| (0..len).map(|i| (i % 251) as f32 * 0.01 - 1.0).collect();
        Self {
            shape,
            a: fill(rows * depth),
            b: fill(depth * columns),
            c: vec![0.0; rows * columns],
        }
    }

    /// Computes the product.
    pub fn run(&mut self, engine: &Engine) {
        let [rows, depth, columns] = self.shape;
        let a = Matrix::new(&self.a, rows, depth);
        let b = Matrix::new(&self.b, depth, columns);
        let c = MatrixMut::new(&mut self.c, rows, columns);
        matmul(engine, a, b, c, false, Epilogue::None);
        black_box(&mut self.c);
    }

    /// Measures the product.
    pub fn measure(&mut self, engine: &Engine, meter: Meter<'_>) -> Measured {
        let flops = 2.0 * self.shape.iter().map(|&extent| extent as f64).product::<f64>();
        best(meter, flops, || self.run(engine))
    }
}

/// Measures the logits of a chunk of this length: embedding, layers, last norm and predictor.
pub fn forward(engine: &Engine, weights: &Weights, positions: usize, meter: Meter<'_>) -> Measured {
    let chunk = [text(positions).into_iter().map(u16::from).collect()];
    let (mut forward, mut out) = (Forward::default(), Vec::new());
    let flops = forward_flops(weights.sizes(), positions);
    best(meter, flops, || {
        let representations = forward.representations(engine, weights, &chunk);
        logits(engine, weights, representations, &mut out);
        black_box(&mut out);
    })
}

/// Measures an optimizer step on `batch` full windows: forward, backward, SIGReg, clip and `AdamW`.
///
/// # Errors
/// [`Error::NonFinite`] if the weights cannot be trained.
pub fn training_step(
    engine: &Engine,
    weights: &Weights,
    batch: usize,
    meter: Meter<'_>,
) -> Result<Measured, Error> {
    let sizes = weights.sizes();
    let recipe = Recipe { batch, micro_batches: 1, ..Recipe::default() };
    let mut corpus = Corpus::new();
    let bytes = batch * sizes.positions * 4;
    corpus.push(&text(bytes));
    let mut trainer = Trainer::new(engine, weights, recipe, corpus)?;
    // Backward costs twice forward: one product for the inputs' gradient, one for the weights'.
    let flops = 3.0 * batch as f64 * forward_flops(sizes, sizes.positions);
    let mut outcome = Ok(());
    let measured = best(meter, flops, || {
        if let Err(error) = trainer.step() {
            outcome = Err(error);
        }
    });
    outcome.map(|()| measured)
}

/// How many times as long as with the first weights a score of this many bytes takes with the
/// second: CPU seconds where the system reports them, the best of alternating rounds. It does not
/// matter whether there is a score.
pub fn score_ratio(engine: &Engine, weights: [&Weights; 2], bytes: usize, rounds: usize) -> f64 {
    let data = text(bytes);
    let directions = Directions::new(weights[0].architecture(), [0; 32]);
    let mut best = [f64::INFINITY; 2];
    // The first round is a warm-up.
    for round in 0..=rounds {
        for (weights, best) in weights.iter().zip(&mut best) {
            let (cpu, start) = (cpu_seconds(), Instant::now());
            let _ = black_box(score(engine, weights, &data, &directions));
            let elapsed = start.elapsed().as_secs_f64();
            let seconds = cpu.and_then(|cpu| Some(cpu_seconds()? - cpu)).unwrap_or(elapsed);
            if round > 0 && seconds < *best {
                *best = seconds;
            }
        }
    }
    best[1] / best[0]
}

/// Bytes to compute with.
fn text(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| (i * i / 7).to_le_bytes()[0]).collect()
}

/// Floating-point operations that the logits of one chunk need: two per matrix weight and position,
/// plus those for the pairs of positions that causality allows.
fn forward_flops(sizes: Sizes, positions: usize) -> f64 {
    let (dim, ffn) = (sizes.dim as f64, sizes.ffn as f64);
    let layers = sizes.layers as f64;
    let weights = layers * (4.0 * dim * dim + 2.0 * dim * ffn) + dim * sizes.vocabulary as f64;
    let positions = positions as f64;
    let pairs = positions * (positions + 1.0) / 2.0;
    2.0 * (weights * positions + layers * 2.0 * dim * pairs)
}

/// The fastest of the meter's runs, after a warm-up run that does not count.
fn best(meter: Meter<'_>, flops: f64, mut run: impl FnMut()) -> Measured {
    run();
    let mut best = Measured {
        seconds: f64::INFINITY,
        cpu_seconds: None,
        instructions: None,
        useful_gflop: flops * 1e-9,
    };
    for _ in 0..meter.rounds.max(1) {
        let (cpu, instructions) = (cpu_seconds(), (meter.instructions)());
        let start = Instant::now();
        run();
        let seconds = start.elapsed().as_secs_f64();
        if seconds < best.seconds {
            best.seconds = seconds;
            best.cpu_seconds = cpu.and_then(|cpu| Some(cpu_seconds()? - cpu));
            best.instructions =
                instructions.and_then(|before| Some((meter.instructions)()? - before));
        }
    }
    best
}

/// CPU seconds that the threads of this process have used so far; `None` where the system does not
/// report them.
fn cpu_seconds() -> Option<f64> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir("/proc/self/task").ok()? {
        // The first field is the nanoseconds on a CPU.
        let times = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += times.split(' ').next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 * 1e-9)
}

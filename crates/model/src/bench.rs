//! What this machine can do and what the kernels make of it: the measurements behind `soma bench engine`.
//!
//! Wall time is read here and nowhere else in this crate; no score may ever depend on it.

#![expect(
    clippy::cast_precision_loss,
    reason = "speeds are for people, and counts are far below 2^53"
)]

use std::hint::black_box;
use std::time::Instant;

use crate::architecture::Architecture;
use crate::kernels::{Engine, Epilogue, Matrix, MatrixMut, matmul};
use crate::simd::{Operation, Simd};

const STEPS: usize = 1 << 20;

/// Chains of fma that touch no memory; returns how many multiply-adds of 16 lanes it did.
struct Peak;

impl Operation for Peak {
    type Output = usize;

    #[expect(
        clippy::inline_always,
        reason = "inlined into the function that enables the CPU features"
    )]
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> usize {
        // As many chains as hide the latency and still fit the registers.
        if S::TILE_VECTORS == 2 {
            chains::<S, 12>(simd)
        } else {
            chains::<S, 6>(simd)
        }
    }
}

#[expect(
    clippy::inline_always,
    reason = "inlined into the function that enables the CPU features"
)]
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

/// The fma peak of the engine's kernel on all its threads, in GFLOP/s: the best of `rounds` measurements.
pub fn peak_gflops(engine: &Engine, rounds: usize) -> f64 {
    let threads = engine.threads();
    let flops = 2.0 * 16.0 * (engine.run(Peak) * threads) as f64;
    best(
        rounds,
        || engine.for_each(vec![(); threads], |()| _ = engine.run(Peak)),
        flops,
    )
}

/// The product of `rows` x `depth` with `depth` x `columns`, in GFLOP/s: the best of `rounds` measurements.
pub fn product_gflops(
    engine: &Engine,
    rows: usize,
    depth: usize,
    columns: usize,
    rounds: usize,
) -> f64 {
    let fill = |len: usize| {
        (0..len)
            .map(|i| (i % 251) as f32 * 0.01 - 1.0)
            .collect::<Vec<_>>()
    };
    let (a, b) = (fill(rows * depth), fill(depth * columns));
    let mut c = vec![0.0; rows * columns];
    let flops = 2.0 * rows as f64 * depth as f64 * columns as f64;
    best(
        rounds,
        || {
            let a = Matrix::new(&a, rows, depth);
            let b = Matrix::new(&b, depth, columns);
            matmul(
                engine,
                a,
                b,
                MatrixMut::new(&mut c, rows, columns),
                false,
                Epilogue::None,
            );
            black_box(&mut c);
        },
        flops,
    )
}

/// Useful floating-point operations of scoring chunks with this many positions in all: two for each weight of a matrix
/// and position, and the pairs of positions that causality allows.
pub fn forward_flops(architecture: &Architecture, positions: usize) -> f64 {
    let (dim, ffn) = (architecture.dim as f64, architecture.ffn as f64);
    let weights = architecture.layers as f64 * (4.0 * dim * dim + 2.0 * dim * ffn);
    let predictor = dim * (architecture.vocabulary + architecture.sigreg_slices) as f64;
    let chunk = architecture.positions as f64;
    let (whole, rest) = (
        positions / architecture.positions,
        positions % architecture.positions,
    );
    let pairs = |n: f64| n * (n + 1.0) / 2.0;
    let pairs = whole as f64 * pairs(chunk) + pairs(rest as f64);
    let attention = architecture.layers as f64 * 2.0 * dim * pairs;
    2.0 * ((weights + predictor) * positions as f64 + attention)
}

fn best(rounds: usize, mut run: impl FnMut(), flops: f64) -> f64 {
    (0..rounds.max(1))
        .map(|_| {
            let start = Instant::now();
            run();
            flops / start.elapsed().as_secs_f64() * 1e-9
        })
        .fold(0.0, |best, speed| if speed > best { speed } else { best })
}

//! LayerNorm of rows.
//!
//! Order: `mean = sum / d`; `c = x - mean`; `variance = (chain of fma(c, c, lane)) / d`;
//! `inverse = 1 / sqrt(variance + 1e-5)`; `y = fma(c * inverse, gamma, beta)`. Sums are the 16 lanes of `math::sum_row`.
#![expect(
    clippy::inline_always,
    reason = "lane operations must be inlined into the function that enables their CPU features"
)]

use crate::kernels::Engine;
use crate::math::sum_row;
use crate::simd::{LANES, Operation, Simd};
use crate::weights::Norm;

/// Added to the variance.
const EPSILON: f32 = 1e-5;

/// What the backward pass needs to know of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct RowStatistics {
    /// Mean of the row.
    pub(crate) mean: f32,
    /// `1 / sqrt(variance + epsilon)`
    pub(crate) inverse: f32,
}

/// Normalizes one row.
struct NormRow<'a> {
    x: &'a [f32],
    norm: Norm<'a>,
    out: &'a mut [f32],
}

impl Operation for NormRow<'_> {
    type Output = RowStatistics;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> RowStatistics {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a width is at most 65536, which is exact"
        )]
        let width = self.x.len() as f32;
        let mean = sum_row(simd, self.x) / width;
        let variance = sum_of_squares(simd, self.x, mean) / width;
        let inverse = 1.0 / (variance + EPSILON).sqrt();
        let (shift, scale) = (simd.splat(mean), simd.splat(inverse));
        let (xs, x_tail) = self.x.as_chunks::<LANES>();
        let (gammas, gamma_tail) = self.norm.gamma.as_chunks::<LANES>();
        let (betas, beta_tail) = self.norm.beta.as_chunks::<LANES>();
        let (outs, out_tail) = self.out.as_chunks_mut::<LANES>();
        for (((x, gamma), beta), out) in xs.iter().zip(gammas).zip(betas).zip(outs) {
            let centred = simd.sub(simd.load(x), shift);
            let y = simd.fma(simd.mul(centred, scale), simd.load(gamma), simd.load(beta));
            simd.store(y, out);
        }
        if !x_tail.is_empty() {
            let centred = simd.sub(simd.load_partial(x_tail, 0.0), shift);
            let gamma = simd.load_partial(gamma_tail, 0.0);
            let beta = simd.load_partial(beta_tail, 0.0);
            simd.store_partial(simd.fma(simd.mul(centred, scale), gamma, beta), out_tail);
        }
        RowStatistics { mean, inverse }
    }
}

/// `sum (x - mean)^2` in 16 lanes of fma.
#[inline(always)]
fn sum_of_squares<S: Simd>(simd: S, x: &[f32], mean: f32) -> f32 {
    let shift = simd.splat(mean);
    let (chunks, tail) = x.as_chunks::<LANES>();
    let mut sum = simd.splat(0.0);
    for chunk in chunks {
        let centred = simd.sub(simd.load(chunk), shift);
        sum = simd.fma(centred, centred, sum);
    }
    if !tail.is_empty() {
        let centred = simd.sub(simd.load_partial(tail, 0.0), shift);
        let longer = simd.fma(centred, centred, sum);
        sum = simd.select(simd.first(tail.len()), longer, sum);
    }
    simd.fold(sum)
}

/// LayerNorm of every row of `x` (`[rows, gamma.len()]`) into `out`; the statistics of the rows into `statistics`.
pub(crate) fn layer_norm(
    engine: &Engine,
    x: &[f32],
    norm: Norm<'_>,
    out: &mut [f32],
    statistics: &mut [RowStatistics],
) {
    let width = norm.gamma.len();
    let share = engine.share(statistics.len());
    let tasks = x
        .chunks(share * width)
        .zip(out.chunks_mut(share * width))
        .zip(statistics.chunks_mut(share))
        .collect();
    engine.for_each(tasks, |((x, out), statistics)| {
        let rows = x.chunks_exact(width).zip(out.chunks_exact_mut(width));
        for ((x, out), statistics) in rows.zip(statistics) {
            *statistics = engine.run(NormRow { x, norm, out });
        }
    });
}

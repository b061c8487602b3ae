//! LayerNorm of rows.
//!
//! Order: `mean = operand(sum / d)`; `c = operand(x - mean)`; `variance = (lanes of fma(c, c,
//! lane), folded) / d`; `inverse = operand(1 / sqrt(variance + 1e-5))`; `y = operand(fma(c *
//! inverse, gamma, beta))`. Sums are the 16 lanes of `math::sum_row`.

use super::{dot, part};
use crate::kernels::Engine;
use crate::math::sum_row;
use crate::simd::{LANES, Operation, Simd, load_lanes, operand, store_lanes};
use crate::weights::Norm;

/// Added to the variance.
const EPSILON: f32 = 1e-5;

/// LayerNorm of rows, `[rows, width]` like the outputs.
pub(crate) struct Normalize<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) norm: Norm<'a>,
    pub(crate) outputs: &'a mut [f32],
}

impl Operation for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Norm { gamma, beta } = self.norm;
        let width = gamma.len();
        let rows = self.rows.chunks_exact(width);
        for (row, output) in rows.zip(self.outputs.chunks_exact_mut(width)) {
            let (mean, inverse) = mean_and_inverse(s, row);
            let (mean, inverse) = (s.splat(mean), s.splat(inverse));
            let parts = row.chunks(LANES).zip(output.chunks_mut(LANES));
            for ((x, y), (gamma, beta)) in parts.zip(gamma.chunks(LANES).zip(beta.chunks(LANES))) {
                let centered = s.operand(s.sub(load_lanes(s, x), mean));
                let normal = s.mul(centered, inverse);
                let value = s.fma(normal, load_lanes(s, gamma), load_lanes(s, beta));
                store_lanes(s, s.operand(value), y);
            }
        }
    }
}

/// Mean of a row, and `1 / sqrt(variance + epsilon)`, both as operands.
#[inline(always)]
fn mean_and_inverse<S: Simd>(s: S, row: &[f32]) -> (f32, f32) {
    #[expect(clippy::cast_precision_loss, reason = "a width is at most 65536, which is exact")]
    let width = row.len() as f32;
    let mean = operand(sum_row(s, row) / width);
    let shift = s.splat(mean);
    let mut sum = s.splat(0.0);
    for x in row.chunks(LANES) {
        let centered = s.operand(s.sub(load_lanes(s, x), shift));
        let longer = s.fma(centered, centered, sum);
        sum = s.select(s.first(x.len()), longer, sum);
    }
    let variance = s.fold(sum) / width;
    (mean, operand(1.0 / (variance + EPSILON).sqrt()))
}

/// LayerNorm of every row of `x` (`[rows, width]`), on all threads.
pub(crate) fn layer_norm(engine: &Engine, x: &[f32], norm: Norm<'_>, out: &mut [f32]) {
    let width = norm.gamma.len();
    let share = engine.share(x.len() / width) * width;
    let tasks = x.chunks(share).zip(out.chunks_mut(share)).collect();
    engine.for_each(tasks, |(rows, outputs)| {
        engine.run(Normalize { rows, norm, outputs });
    });
}

/// Backward pass of a layer norm: replaces its input, `rows`, with its gradient plus `gradient`.
pub(crate) struct NormBackward<'a> {
    pub(crate) rows: &'a mut [f32],
    /// The gradient along the residual, which flows into the same rows. `None` for the last
    /// norm.
    pub(crate) gradient: Option<&'a [f32]>,
    pub(crate) d_outputs: &'a [f32],
    pub(crate) gamma: &'a [f32],
    pub(crate) d_gamma: &'a mut [f32],
    pub(crate) d_beta: &'a mut [f32],
    /// Room for two rows.
    pub(crate) scratch: &'a mut [f32],
}

impl Operation for NormBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.gamma.len();
        let (normal, weighted) = self.scratch[..2 * width].split_at_mut(width);
        self.d_gamma.fill(0.0);
        self.d_beta.fill(0.0);
        let rows = self.rows.chunks_exact_mut(width).zip(self.d_outputs.chunks_exact(width));
        for (n, (row, d_output)) in rows.enumerate() {
            let (mean, inverse) = mean_and_inverse(s, row);
            let (mean, inverse) = (s.splat(mean), s.splat(inverse));
            for (x, z) in row.chunks(LANES).zip(normal.chunks_mut(LANES)) {
                store_lanes(s, s.mul(s.sub(load_lanes(s, x), mean), inverse), z);
            }
            add_products(s, d_output, normal, self.d_gamma);
            add_products(s, d_output, &[], self.d_beta);
            for (i, w) in weighted.chunks_mut(LANES).enumerate() {
                let [d, g] = part(s, i, [d_output, self.gamma]);
                store_lanes(s, s.mul(d, g), w);
            }
            #[expect(
                clippy::cast_precision_loss,
                reason = "a width is at most 65536, which is exact"
            )]
            let share = 1.0 / width as f32;
            let mean = s.splat(sum_row(s, weighted) * share);
            let slope = s.splat(dot(s, weighted, normal) * share);
            for (i, x) in row.chunks_mut(LANES).enumerate() {
                let [w, z] = part(s, i, [weighted, normal]);
                let centered = s.sub(s.sub(w, mean), s.mul(z, slope));
                let gradient = s.mul(inverse, centered);
                let total = match self.gradient {
                    Some(other) => s.add(part(s, i, [&other[n * width..][..width]])[0], gradient),
                    None => gradient,
                };
                store_lanes(s, total, x);
            }
        }
    }
}

/// `sums = fma(a, b, sums)`, or `sums + a` where b is empty.
#[inline(always)]
fn add_products<S: Simd>(s: S, a: &[f32], b: &[f32], sums: &mut [f32]) {
    for (i, sum) in sums.chunks_mut(LANES).enumerate() {
        let [x] = part(s, i, [a]);
        let old = load_lanes(s, sum);
        let new = if b.is_empty() { s.add(old, x) } else { s.fma(x, part(s, i, [b])[0], old) };
        store_lanes(s, new, sum);
    }
}

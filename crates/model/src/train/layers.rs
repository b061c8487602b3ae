//! What lies between the matrix products of a training step, over all rows of one window.
//!
//! Sums over positions are one chain, positions ascending; sums along a row are the 16 lanes of the numerics.
#![expect(
    clippy::inline_always,
    reason = "lane operations must be inlined into the function that enables their CPU features"
)]

use super::data::NO_TARGET;
use crate::math::{gelu, gelu_derivative, ln, softmax_row, sum_row};
use crate::simd::{LANES, Operation, Simd};

/// Sixteen numbers of a row; what a short end lacks is zero.
#[inline(always)]
pub(super) fn get<S: Simd>(s: S, x: &[f32]) -> S::F {
    match x.first_chunk() {
        Some(whole) => s.load(whole),
        None => s.load_partial(x, 0.0),
    }
}

/// Writes sixteen numbers of a row, or as many as there is room for.
#[inline(always)]
pub(super) fn put<S: Simd>(s: S, v: S::F, to: &mut [f32]) {
    match to.first_chunk_mut() {
        Some(whole) => s.store(v, whole),
        None => s.store_partial(v, to),
    }
}

/// `rows = rows + bias`
pub(super) struct AddBias<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) bias: &'a [f32],
}

impl Operation for AddBias<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for row in self.rows.chunks_exact_mut(self.bias.len()) {
            for (x, bias) in row.chunks_mut(LANES).zip(self.bias.chunks(LANES)) {
                let sum = s.add(get(s, x), get(s, bias));
                put(s, sum, x);
            }
        }
    }
}

/// `rows = residual + (rows + bias)`
pub(super) struct AddBiasAndResidual<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) bias: &'a [f32],
    pub(super) residual: &'a [f32],
}

impl Operation for AddBiasAndResidual<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.bias.len();
        let rows = self
            .rows
            .chunks_exact_mut(width)
            .zip(self.residual.chunks_exact(width));
        for (row, residual) in rows {
            let parts = row.chunks_mut(LANES).zip(self.bias.chunks(LANES));
            for ((x, bias), residual) in parts.zip(residual.chunks(LANES)) {
                let sum = s.add(get(s, x), get(s, bias));
                put(s, s.add(get(s, residual), sum), x);
            }
        }
    }
}

/// `slopes = gelu'(rows + bias)`, then `rows = gelu(rows + bias)`
pub(super) struct AddBiasAndGelu<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) bias: &'a [f32],
    pub(super) slopes: &'a mut [f32],
}

impl Operation for AddBiasAndGelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.bias.len();
        let rows = self
            .rows
            .chunks_exact_mut(width)
            .zip(self.slopes.chunks_exact_mut(width));
        for (row, slopes) in rows {
            let parts = row.chunks_mut(LANES).zip(slopes.chunks_mut(LANES));
            for ((x, slope), bias) in parts.zip(self.bias.chunks(LANES)) {
                let sum = s.add(get(s, x), get(s, bias));
                put(s, gelu_derivative(s, sum), slope);
                put(s, gelu(s, sum), x);
            }
        }
    }
}

/// `rows = rows * factors`
pub(super) struct Multiply<'a> {
    pub(super) rows: &'a mut [f32],
    pub(super) factors: &'a [f32],
}

impl Operation for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, factor) in self.rows.chunks_mut(LANES).zip(self.factors.chunks(LANES)) {
            let product = s.mul(get(s, x), get(s, factor));
            put(s, product, x);
        }
    }
}

/// `sums[column] = chain over the rows of sum + row[column]`
pub(super) struct ColumnSums<'a> {
    pub(super) rows: &'a [f32],
    pub(super) sums: &'a mut [f32],
}

impl Operation for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.sums.fill(0.0);
        for row in self.rows.chunks_exact(self.sums.len()) {
            for (sum, x) in self.sums.chunks_mut(LANES).zip(row.chunks(LANES)) {
                let longer = s.add(get(s, sum), get(s, x));
                put(s, longer, sum);
            }
        }
    }
}

/// A layer norm: the operations of the forward pass of a score.
pub(super) struct Normalize<'a> {
    pub(super) rows: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) beta: &'a [f32],
    pub(super) outputs: &'a mut [f32],
}

impl Operation for Normalize<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.gamma.len();
        let rows = self
            .rows
            .chunks_exact(width)
            .zip(self.outputs.chunks_exact_mut(width));
        for (row, output) in rows {
            standardize(s, row, output);
            for (i, y) in output.chunks_mut(LANES).enumerate() {
                let [gamma, beta] = part(s, i, [self.gamma, self.beta]);
                put(s, s.fma(get(s, y), gamma, beta), y);
            }
        }
    }
}

/// Backward of a layer norm: `rows`, its input, becomes `gradient` plus the gradient of that input.
pub(super) struct NormBackward<'a> {
    pub(super) rows: &'a mut [f32],
    /// What else flows into the same rows: the gradient along the residual. Nothing for the last norm.
    pub(super) gradient: Option<&'a [f32]>,
    pub(super) d_outputs: &'a [f32],
    pub(super) gamma: &'a [f32],
    pub(super) d_gamma: &'a mut [f32],
    pub(super) d_beta: &'a mut [f32],
    /// Two rows of room.
    pub(super) scratch: &'a mut [f32],
}

impl Operation for NormBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.gamma.len();
        let (normal, weighted) = self.scratch[..2 * width].split_at_mut(width);
        self.d_gamma.fill(0.0);
        self.d_beta.fill(0.0);
        let rows = self
            .rows
            .chunks_exact_mut(width)
            .zip(self.d_outputs.chunks_exact(width));
        for (n, (row, d_output)) in rows.enumerate() {
            let inverse = standardize(s, row, normal);
            add_products(s, d_output, normal, self.d_gamma);
            add_products(s, d_output, &[], self.d_beta);
            for (i, w) in weighted.chunks_mut(LANES).enumerate() {
                let [d, g] = part(s, i, [d_output, self.gamma]);
                put(s, s.mul(d, g), w);
            }
            let share = 1.0 / width as f32;
            let mean = s.splat(sum_row(s, weighted) * share);
            let slope = s.splat(dot(s, weighted, normal) * share);
            let inverse = s.splat(inverse);
            for (i, x) in row.chunks_mut(LANES).enumerate() {
                let [w, z] = part(s, i, [weighted, normal]);
                let centred = s.sub(s.sub(w, mean), s.mul(z, slope));
                let gradient = s.mul(inverse, centred);
                let total = match self.gradient {
                    Some(other) => s.add(part(s, i, [&other[n * width..][..width]])[0], gradient),
                    None => gradient,
                };
                put(s, total, x);
            }
        }
    }
}

/// Writes the standardized row, and returns 1 / deviation: the operations of the forward pass.
#[inline(always)]
fn standardize<S: Simd>(s: S, row: &[f32], normal: &mut [f32]) -> f32 {
    let width = row.len() as f32;
    let mean = s.splat(sum_row(s, row) / width);
    for (x, centred) in row.chunks(LANES).zip(normal.chunks_mut(LANES)) {
        put(s, s.sub(get(s, x), mean), centred);
    }
    let variance = dot(s, normal, normal) / width;
    let inverse = 1.0 / (variance + 1e-5).sqrt();
    for x in normal.chunks_mut(LANES) {
        put(s, s.mul(get(s, x), s.splat(inverse)), x);
    }
    inverse
}

/// `sums = fma(a, b, sums)`, or `sums + a` where b is empty.
#[inline(always)]
fn add_products<S: Simd>(s: S, a: &[f32], b: &[f32], sums: &mut [f32]) {
    for (i, sum) in sums.chunks_mut(LANES).enumerate() {
        let [x] = part(s, i, [a]);
        let old = get(s, sum);
        let new = if b.is_empty() {
            s.add(old, x)
        } else {
            s.fma(x, part(s, i, [b])[0], old)
        };
        put(s, new, sum);
    }
}

/// The i-th 16 elements of some rows; missing ones are zero.
#[inline(always)]
fn part<S: Simd, const N: usize>(s: S, i: usize, rows: [&[f32]; N]) -> [S::F; N] {
    let mut parts = [s.splat(0.0); N];
    for (part, row) in parts.iter_mut().zip(rows) {
        *part = get(s, &row[i * LANES..]);
    }
    parts
}

/// `sum = fma(a, b, sum)` in the 16 lanes of a row sum.
#[inline(always)]
pub(super) fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        let longer = s.fma(get(s, a), get(s, b), sum);
        sum = s.select(s.first(a.len()), longer, sum);
    }
    s.fold(sum)
}

/// Replaces logits by the gradient of `weight` times the sum of the negative log likelihoods, and returns that sum.
pub(super) struct CrossEntropy<'a> {
    pub(super) logits: &'a mut [f32],
    pub(super) targets: &'a [u16],
    pub(super) weight: f32,
}

impl Operation for CrossEntropy<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let width = self.logits.len() / self.targets.len().max(1);
        let mut total = 0.0;
        for (row, &target) in self.logits.chunks_exact_mut(width.max(1)).zip(self.targets) {
            if target == NO_TARGET {
                row.fill(0.0);
                continue;
            }
            let logit = row[usize::from(target)];
            let (most, sum) = softmax_row(s, row);
            let mut lanes = [0.0; LANES];
            s.store(ln(s, s.splat(sum)), &mut lanes);
            total += f64::from(lanes[0] - (logit - most));
            let factor = s.splat(self.weight / sum);
            for x in row.chunks_mut(LANES) {
                put(s, s.mul(get(s, x), factor), x);
            }
            row[usize::from(target)] -= self.weight;
        }
        total
    }
}

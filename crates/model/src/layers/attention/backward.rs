//! Backward pass of causal attention, one head of one document at a time.
//!
//! The weights are recomputed from queries and keys instead of being kept: a block of rows fits in
//! the cache, whereas a whole matrix would not. As in the forward pass, masked pairs are never part
//! of a chain.
#![expect(
    clippy::needless_range_loop,
    reason = "rows and vectors of a register tile are counted, so that the loops are unrolled"
)]

use crate::layers::dot;
use crate::math::softmax_row;
use crate::simd::{LANES, Operation, Simd, store_lanes};

/// Number of query rows whose weights are held at once.
const BLOCK: usize = 32;

/// Buffers for one head, kept between steps.
#[derive(Debug)]
pub(crate) struct HeadScratch {
    /// `[positions / panel][head_dim][panel]`: columns are keys.
    keys_transposed: Vec<f32>,
    values_transposed: Vec<f32>,
    /// `[head_dim / panel][positions][panel]`: rows are positions.
    queries: Vec<f32>,
    keys: Vec<f32>,
    d_outputs: Vec<f32>,
    d_keys: Vec<f32>,
    d_values: Vec<f32>,
    /// `[BLOCK][positions]`, rounded up to whole panels.
    weights: Vec<f32>,
    d_scores: Vec<f32>,
}

/// The widest panel of any lane implementation.
const WIDEST: usize = 2 * LANES;
/// The largest number of rows in any tile.
const TALLEST: usize = 8;

impl HeadScratch {
    pub(crate) fn new(positions: usize, head_dim: usize) -> Self {
        let across = positions.next_multiple_of(WIDEST);
        let deep = head_dim.next_multiple_of(WIDEST);
        let rows = positions.next_multiple_of(TALLEST);
        let zeros = |n| vec![0.0; n];
        Self {
            keys_transposed: zeros(across * head_dim),
            values_transposed: zeros(across * head_dim),
            queries: zeros(rows * deep),
            keys: zeros(rows * deep),
            d_outputs: zeros(rows * deep),
            d_keys: zeros(rows * deep),
            d_values: zeros(rows * deep),
            weights: zeros(BLOCK * across),
            d_scores: zeros(BLOCK * across),
        }
    }
}

/// One head's columns within rows of `dim` numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadColumns {
    pub(crate) dim: usize,
    pub(crate) first: usize,
    pub(crate) width: usize,
}

impl HeadColumns {
    #[inline(always)]
    fn row<'a>(&self, x: &'a [f32], row: usize) -> &'a [f32] {
        &x[row * self.dim + self.first..][..self.width]
    }

    #[inline(always)]
    fn row_mut<'a>(&self, x: &'a mut [f32], row: usize) -> &'a mut [f32] {
        &mut x[row * self.dim + self.first..][..self.width]
    }
}

/// Replaces queries, keys and values (`[positions, dim]`, queries and keys rotated) with their
/// gradients.
#[derive(Debug)]
pub(crate) struct AttentionBackward<'a> {
    pub(crate) positions: usize,
    pub(crate) columns: HeadColumns,
    pub(crate) scale: f32,
    pub(crate) outputs: &'a [f32],
    pub(crate) d_outputs: &'a [f32],
    pub(crate) queries: &'a mut [f32],
    pub(crate) keys: &'a mut [f32],
    pub(crate) values: &'a mut [f32],
    pub(crate) scratch: &'a mut HeadScratch,
}

impl Operation for AttentionBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::TILE_VECTORS == 2 {
            self.head::<S, 8, 2>(simd);
        } else {
            self.head::<S, 4, 1>(simd);
        }
    }
}

impl AttentionBackward<'_> {
    #[inline(always)]
    fn head<S: Simd, const R: usize, const V: usize>(mut self, s: S) {
        self.pack(V * LANES);
        for start in (0..self.positions).step_by(BLOCK) {
            let rows = BLOCK.min(self.positions - start);
            let whole = rows - rows % R;
            for row in (0..whole).step_by(R) {
                self.scores::<S, R, V>(s, start, row);
            }
            for row in whole..rows {
                self.scores::<S, 1, V>(s, start, row);
            }
            for row in 0..rows {
                self.softmax(s, start, row, V * LANES);
            }
            for row in (0..whole).step_by(R) {
                self.query_gradients::<S, R, V>(s, start, row);
            }
            for row in whole..rows {
                self.query_gradients::<S, 1, V>(s, start, row);
            }
            for first in (0..start + rows).step_by(R) {
                self.key_gradients::<S, R, V>(s, start, rows, first);
            }
        }
        self.unpack(V * LANES);
    }

    /// Lays the head out in panels.
    #[inline(always)]
    fn pack(&mut self, panel: usize) {
        let Self { positions, columns, scratch, .. } = self;
        let n = *positions;
        for position in 0..n {
            let transposed = [
                (&*self.keys, &mut scratch.keys_transposed),
                (&*self.values, &mut scratch.values_transposed),
            ];
            let at = position / panel * columns.width * panel + position % panel;
            for (from, to) in transposed {
                for (k, &x) in columns.row(from, position).iter().enumerate() {
                    to[at + k * panel] = x;
                }
            }
            let rows = [
                (&*self.queries, &mut scratch.queries),
                (&*self.keys, &mut scratch.keys),
                (self.d_outputs, &mut scratch.d_outputs),
            ];
            for (from, to) in rows {
                for (p, part) in columns.row(from, position).chunks(panel).enumerate() {
                    to[(p * n + position) * panel..][..part.len()].copy_from_slice(part);
                }
            }
        }
        scratch.d_keys.fill(0.0);
        scratch.d_values.fill(0.0);
    }

    /// Writes the gradients of keys and values over their columns; those of the queries are already
    /// there.
    #[inline(always)]
    fn unpack(&mut self, panel: usize) {
        let rows = self.positions.next_multiple_of(TALLEST);
        for position in 0..self.positions {
            let outputs = [
                (&self.scratch.d_keys, &mut *self.keys),
                (&self.scratch.d_values, &mut *self.values),
            ];
            for (from, to) in outputs {
                let to = self.columns.row_mut(to, position);
                for (p, part) in to.chunks_mut(panel).enumerate() {
                    part.copy_from_slice(&from[(p * rows + position) * panel..][..part.len()]);
                }
            }
        }
    }

    /// Scores and weight gradients of `R` rows against all keys, up to and including the last row's
    /// own key.
    #[inline(always)]
    fn scores<S: Simd, const R: usize, const V: usize>(&mut self, s: S, start: usize, row: usize) {
        let (panel, depth) = (V * LANES, self.columns.width);
        let across = self.positions.next_multiple_of(panel);
        let scale = s.splat(self.scale);
        let queries: [&[f32]; R] =
            core::array::from_fn(|r| self.columns.row(self.queries, start + row + r));
        let d_outputs: [&[f32]; R] =
            core::array::from_fn(|r| self.columns.row(self.d_outputs, start + row + r));
        let scratch = &mut *self.scratch;
        for first in (0..start + row + R).step_by(panel) {
            let at = first * depth..(first + panel) * depth;
            let zero = [[s.splat(0.0); V]; R];
            let scores = chain_rows(s, zero, queries, &scratch.keys_transposed[at.clone()]);
            let d_weights = chain_rows(s, zero, d_outputs, &scratch.values_transposed[at]);
            for r in 0..R {
                let to = (row + r) * across + first;
                for v in 0..V {
                    let at = to + v * LANES;
                    let score = s.mul(s.operand(scores[r][v]), scale);
                    s.store(score, vector_mut(&mut scratch.weights, at));
                    s.store(d_weights[r][v], vector_mut(&mut scratch.d_scores, at));
                }
            }
        }
    }

    /// Turns a row of scores into weights, and the weights' gradients into those of the scores.
    #[inline(always)]
    fn softmax<S: Simd>(&mut self, s: S, start: usize, row: usize, panel: usize) {
        let across = self.positions.next_multiple_of(panel);
        let keys = start + row + 1;
        let vectors = keys.div_ceil(LANES);
        let d_output = self.columns.row(self.d_outputs, start + row);
        let output = self.columns.row(self.outputs, start + row);
        let shared = s.splat(dot(s, d_output, output));
        let weights = &mut self.scratch.weights[row * across..][..vectors * LANES];
        let d_scores = &mut self.scratch.d_scores[row * across..][..vectors * LANES];
        let (_, sum) = softmax_row(s, &mut weights[..keys]);
        let inverse = s.splat(1.0 / sum);
        let scale = s.splat(self.scale);
        for v in 0..vectors {
            let weight = s.mul(s.load(vector(weights, v * LANES)), inverse);
            let d_weight = s.load(vector(d_scores, v * LANES));
            let d_score = s.mul(s.mul(weight, s.sub(d_weight, shared)), scale);
            s.store(weight, vector_mut(weights, v * LANES));
            s.store(d_score, vector_mut(d_scores, v * LANES));
        }
    }

    /// Gradients of `R` queries: a chain over the keys that each query may see.
    #[inline(always)]
    fn query_gradients<S: Simd, const R: usize, const V: usize>(
        &mut self,
        s: S,
        start: usize,
        row: usize,
    ) {
        let panel = V * LANES;
        let across = self.positions.next_multiple_of(panel);
        let shared_keys = start + row + 1;
        let d_scores: [&[f32]; R] =
            core::array::from_fn(|r| &self.scratch.d_scores[(row + r) * across..][..across]);
        for first in (0..self.columns.width).step_by(panel) {
            let keys = &self.scratch.keys[first * self.positions..][..self.positions * panel];
            let visible = d_scores.map(|row| &row[..shared_keys]);
            let zero = [[s.splat(0.0); V]; R];
            let mut sums = chain_rows(s, zero, visible, &keys[..shared_keys * panel]);
            for key in shared_keys..shared_keys + R - 1 {
                for r in (1..R).filter(|r| key < shared_keys + r) {
                    let factor = s.splat(d_scores[r][key]);
                    for v in 0..V {
                        let x = s.load(vector(keys, key * panel + v * LANES));
                        sums[r][v] = s.fma(factor, x, sums[r][v]);
                    }
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                let to = self.columns.row_mut(self.queries, start + row + r);
                for (v, part) in to[first..].chunks_mut(LANES).take(V).enumerate() {
                    store_lanes(s, sum[v], part);
                }
            }
        }
    }

    /// Adds this block's rows to the gradients of `R` keys and values: a chain over the queries
    /// that see each key.
    #[inline(always)]
    fn key_gradients<S: Simd, const R: usize, const V: usize>(
        &mut self,
        s: S,
        start: usize,
        rows: usize,
        first_key: usize,
    ) {
        let panel = V * LANES;
        let across = self.positions.next_multiple_of(panel);
        let padded = self.positions.next_multiple_of(TALLEST);
        // Below `partial`, no row of the block sees any of the keys; from `all` on, each row sees
        // all of them.
        let partial = first_key.saturating_sub(start).min(rows);
        let all = (first_key + R - 1).saturating_sub(start).min(rows);
        let HeadScratch { weights, d_scores, queries, d_outputs, d_keys, d_values, .. } =
            &mut *self.scratch;
        for first in (0..self.columns.width).step_by(panel) {
            let products =
                [(&*weights, &*d_outputs, &mut *d_values), (&*d_scores, &*queries, &mut *d_keys)];
            for (factors, rows_of_b, sums) in products {
                let b = &rows_of_b[first * self.positions + start * panel..][..rows * panel];
                let c = &mut sums[first * padded + first_key * panel..][..R * panel];
                let mut acc = [[s.splat(0.0); V]; R];
                for r in 0..R {
                    for v in 0..V {
                        acc[r][v] = s.load(vector(c, r * panel + v * LANES));
                    }
                }
                for row in partial..all {
                    for r in (0..R).filter(|r| first_key + r <= start + row) {
                        let factor = s.splat(factors[row * across + first_key + r]);
                        for v in 0..V {
                            let x = s.load(vector(b, row * panel + v * LANES));
                            acc[r][v] = s.fma(factor, x, acc[r][v]);
                        }
                    }
                }
                let columns = &factors[all * across..rows * across];
                acc = chain_columns(s, acc, columns, across, first_key, &b[all * panel..]);
                for r in 0..R {
                    for v in 0..V {
                        s.store(acc[r][v], vector_mut(c, r * panel + v * LANES));
                    }
                }
            }
        }
    }
}

/// `acc[r] = fma(a[r][k], b[k], acc[r])` for k ascending; `b` holds one panel row per k.
#[inline(always)]
fn chain_rows<S: Simd, const R: usize, const V: usize>(
    s: S,
    mut acc: [[S::F; V]; R],
    a: [&[f32]; R],
    b: &[f32],
) -> [[S::F; V]; R] {
    for (k, b) in b.chunks_exact(V * LANES).enumerate() {
        let b = load_panel_row::<S, V>(s, b);
        for r in 0..R {
            let factor = s.splat(a[r][k]);
            for v in 0..V {
                acc[r][v] = s.fma(factor, b[v], acc[r][v]);
            }
        }
    }
    acc
}

/// `acc[r] = fma(a[k][first + r], b[k], acc[r])` for k ascending; `a` has rows of `stride` numbers.
#[inline(always)]
fn chain_columns<S: Simd, const R: usize, const V: usize>(
    s: S,
    mut acc: [[S::F; V]; R],
    a: &[f32],
    stride: usize,
    first: usize,
    b: &[f32],
) -> [[S::F; V]; R] {
    for (a, b) in a.chunks_exact(stride).zip(b.chunks_exact(V * LANES)) {
        let a = &a[first..][..R];
        let b = load_panel_row::<S, V>(s, b);
        for r in 0..R {
            let factor = s.splat(a[r]);
            for v in 0..V {
                acc[r][v] = s.fma(factor, b[v], acc[r][v]);
            }
        }
    }
    acc
}

/// Not a closure, because that would not be compiled for the lanes' CPU features.
#[inline(always)]
fn load_panel_row<S: Simd, const V: usize>(s: S, x: &[f32]) -> [S::F; V] {
    let mut row = [s.splat(0.0); V];
    for v in 0..V {
        row[v] = s.load(vector(x, v * LANES));
    }
    row
}

#[inline(always)]
fn vector(x: &[f32], at: usize) -> &[f32; LANES] {
    match x[at..].first_chunk() {
        Some(lanes) => lanes,
        None => unreachable!("panels are whole vectors"),
    }
}

#[inline(always)]
fn vector_mut(x: &mut [f32], at: usize) -> &mut [f32; LANES] {
    match x[at..].first_chunk_mut() {
        Some(lanes) => lanes,
        None => unreachable!("panels are whole vectors"),
    }
}

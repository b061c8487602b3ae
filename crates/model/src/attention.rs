//! Causal attention of one chunk, head by head, in blocks of rows.
//!
//! Order: `score = chain(q . k) * scale`; `weight = exp(score - max)`; `out = chain(weight * v, keys ascending) / sum`.
//! What causality hides is not computed: there is no large negative constant that weights could out-shout.
#![expect(
    clippy::inline_always,
    reason = "lane operations must be inlined into the function that enables their CPU features"
)]

use crate::kernels::{Buffer, Engine, Matrix, MatrixMut, SCORES, Triangle, matmul_here};
use crate::math::softmax_row;
use crate::simd::{LANES, Operation, Simd};

/// Rows of queries that one task takes.
const ROW_BLOCK: usize = 128;

/// Queries, keys and values of all heads: row-major, `[positions, dim]`, a head is a block of columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads<'a> {
    /// Of the new positions.
    pub(crate) query: &'a [f32],
    /// Of all positions so far, the new ones last.
    pub(crate) key: &'a [f32],
    /// As the keys.
    pub(crate) value: &'a [f32],
    /// Width of all heads together.
    pub(crate) dim: usize,
    /// Width of one head.
    pub(crate) head_dim: usize,
}

impl<'a> Heads<'a> {
    fn of(self, data: &'a [f32], first_row: usize, rows: usize, first_column: usize) -> Matrix<'a> {
        let data = &data[first_row * self.dim + first_column..];
        Matrix::strided(data, rows, self.head_dim, self.dim, 1)
    }

    /// `1 / sqrt(head_dim)`
    pub(crate) fn scale(self) -> f32 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a width is at most 65536, which is exact"
        )]
        let width = self.head_dim as f32;
        1.0 / width.sqrt()
    }

    /// The work of one chunk, to be given to [`Engine::for_each`] and [`attend`]; `out` is `[new positions, dim]`.
    pub(crate) fn tasks(self, out: &'a mut [f32]) -> Vec<Task<'a>> {
        let new = self.query.len() / self.dim;
        MatrixMut::new(out, new, self.dim)
            .into_grid(ROW_BLOCK, self.head_dim)
            .into_iter()
            .rev()
            .map(|out| Task { heads: self, out })
            .collect()
    }
}

/// A block of rows of one head.
#[derive(Debug)]
pub(crate) struct Task<'a> {
    heads: Heads<'a>,
    out: MatrixMut<'a>,
}

/// Scales one row of scores and makes softmax weights of them; returns (max, sum).
struct WeighRow<'a> {
    row: &'a mut [f32],
    scale: f32,
}

impl Operation for WeighRow<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f32, f32) {
        let scale = simd.splat(self.scale);
        for start in (0..self.row.len()).step_by(LANES) {
            let end = self.row.len().min(start + LANES);
            let part = &mut self.row[start..end];
            simd.store_partial(simd.mul(simd.load_partial(part, 0.0), scale), part);
        }
        softmax_row(simd, self.row)
    }
}

/// Divides a row by a number.
struct DivideRow<'a> {
    row: &'a mut [f32],
    by: f32,
}

impl Operation for DivideRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let by = simd.splat(self.by);
        for start in (0..self.row.len()).step_by(LANES) {
            let end = self.row.len().min(start + LANES);
            let part = &mut self.row[start..end];
            simd.store_partial(simd.div(simd.load_partial(part, 0.0), by), part);
        }
    }
}

/// Scores of a block of query rows, then their softmax weights without the division.
///
/// Row r of `weights` (`[rows, keys]`) sees the keys up to `shift + r`; what is beyond holds anything.
/// `finished(r, max, sum)` is called for every row.
pub(crate) fn weigh(
    engine: &Engine,
    query: Matrix<'_>,
    key: Matrix<'_>,
    scale: f32,
    shift: usize,
    weights: &mut [f32],
    mut finished: impl FnMut(usize, f32, f32),
) {
    let (rows, keys) = (query.rows(), key.rows());
    let scores = MatrixMut::new(weights, rows, keys);
    matmul_here(
        engine,
        query,
        key.transposed(),
        scores,
        false,
        Triangle::LowerOutput { shift },
    );
    for (r, row) in weights.chunks_exact_mut(keys).enumerate() {
        let row = &mut row[..keys.min(shift + r + 1)];
        let (max, sum) = engine.run(WeighRow { row, scale });
        finished(r, max, sum);
    }
}

/// Runs one task.
pub(crate) fn attend(engine: &Engine, task: Task<'_>) {
    let Task { heads, mut out } = task;
    let (first, rows, column) = (out.first_row(), out.rows(), out.first_column());
    let past = heads.key.len() / heads.dim - heads.query.len() / heads.dim;
    let shift = past + first;
    let keys = shift + rows;
    let query = heads.of(heads.query, first, rows, column);
    let key = heads.of(heads.key, 0, keys, column);
    let value = heads.of(heads.value, 0, keys, column);
    let mut buffer = Buffer::take(&SCORES, rows * keys);
    let weights = &mut buffer.floats()[..rows * keys];
    let mut sums = [0.0; ROW_BLOCK];
    weigh(
        engine,
        query,
        key,
        heads.scale(),
        shift,
        weights,
        |r, _, sum| sums[r] = sum,
    );
    let weights = Matrix::new(weights, rows, keys);
    let triangle = Triangle::LowerDepth { shift };
    matmul_here(engine, weights, value, out.reborrow(), false, triangle);
    for (r, &sum) in sums[..rows].iter().enumerate() {
        engine.run(DivideRow {
            row: out.row_mut(r),
            by: sum,
        });
    }
}

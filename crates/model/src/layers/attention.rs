//! Causal attention of one chunk, head by head, in blocks of rows.
//!
//! Order: `score = operand(chain(q . k)) * scale`; `weight = operand(exp(score - max))`; `out =
//! operand(operand(chain(weight * v, keys ascending)) / sum)`; queries, keys and values are
//! operands already. Pairs that causality hides are not computed, so there is no large negative
//! constant that a score could exceed.

mod backward;

pub(crate) use backward::{AttentionBackward, HeadColumns, HeadScratch};

use crate::kernels::{Buffer, Engine, Epilogue, Matrix, MatrixMut, SCORES, Triangle, matmul_here};
use crate::math::{exponentials, scale_row};
use crate::simd::{LANES, Operation, Simd};

/// Number of query rows that one task takes.
const ROW_BLOCK: usize = 128;

/// Queries, keys and values of all heads: row-major, `[positions, dim]`, where a head is a block of
/// columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heads<'a> {
    /// Queries of the new positions.
    pub(crate) query: &'a [f32],
    /// Keys of all positions so far, the new ones last.
    pub(crate) key: &'a [f32],
    /// Values of the same positions.
    pub(crate) value: &'a [f32],
    /// Total width of all heads.
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
        #[expect(clippy::cast_precision_loss, reason = "a width is at most 65536, which is exact")]
        let width = self.head_dim as f32;
        1.0 / width.sqrt()
    }

    /// The work of one chunk, to be given to [`Engine::for_each`] and [`attend`]; `out` is `[new
    /// positions, dim]`.
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

/// Scales one row of scores and turns them into softmax weights; returns the sum of the weights.
struct WeighRow<'a> {
    row: &'a mut [f32],
    scale: f32,
}

impl Operation for WeighRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let max = scale_row(simd, self.row, self.scale);
        exponentials(simd, self.row, max)
    }
}

/// `row[i] = operand(operand(row[i]) / by)`
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
            let quotient = simd.div(simd.operand(simd.load_partial(part, 0.0)), by);
            simd.store_partial(simd.operand(quotient), part);
        }
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
    let scores = MatrixMut::new(weights, rows, keys);
    let hidden = Triangle::LowerOutput { shift };
    let none = Epilogue::None;
    matmul_here(engine, query, key.transposed(), scores, false, hidden, none);
    let mut sums = [0.0; ROW_BLOCK];
    for (r, row) in weights.chunks_exact_mut(keys).enumerate() {
        let (row, scale) = (&mut row[..=shift + r], heads.scale());
        sums[r] = engine.run(WeighRow { row, scale });
    }
    let weights = Matrix::new(weights, rows, keys);
    let hidden = Triangle::LowerDepth { shift };
    matmul_here(engine, weights, value, out.reborrow(), false, hidden, none);
    for (r, &by) in sums[..rows].iter().enumerate() {
        let row = out.row_mut(r);
        engine.run(DivideRow { row, by });
    }
}

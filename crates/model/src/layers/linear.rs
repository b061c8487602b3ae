//! Linear maps: `y = x weight + bias`, where the weight is `[in, out]`.
//!
//! The gradients of inputs and weights are also products (`train::pass`, `train`); that of the
//! bias is [`ColumnSums`].

use crate::kernels::{Engine, Epilogue, Matrix, MatrixMut, matmul};
use crate::simd::{LANES, Operation, Simd, load_lanes, store_lanes};
use crate::weights::{Linear, Weight, matmul_half};

/// `out = x weight + bias`
pub(crate) fn linear(engine: &Engine, x: &[f32], map: Linear<'_>, out: &mut [f32]) {
    product(engine, x, map, out, Epilogue::Bias(map.bias));
}

/// `out = operand(x weight + bias)`, for what the next products take.
pub(crate) fn linear_operand(engine: &Engine, x: &[f32], map: Linear<'_>, out: &mut [f32]) {
    product(engine, x, map, out, Epilogue::BiasOperand(map.bias));
}

/// `out = residual + (x weight + bias)`
pub(crate) fn linear_residual(
    engine: &Engine,
    x: &[f32],
    map: Linear<'_>,
    residual: &[f32],
    out: &mut [f32],
) {
    let outputs = map.bias.len();
    let residual = Matrix::new(residual, residual.len() / outputs, outputs);
    product(engine, x, map, out, Epilogue::BiasResidual(map.bias, residual));
}

/// The map with any epilogue.
pub(crate) fn product(
    engine: &Engine,
    x: &[f32],
    map: Linear<'_>,
    out: &mut [f32],
    epilogue: Epilogue<'_>,
) {
    let inputs = map.weight.inputs();
    let rows = x.len() / inputs;
    let x = Matrix::new(x, rows, inputs);
    let out = MatrixMut::new(out, rows, map.bias.len());
    match map.weight {
        Weight::Float(weight) => matmul(engine, x, weight, out, false, epilogue),
        Weight::Half(weight) => matmul_half(engine, x, weight, out, epilogue),
    }
}

/// `sums[column] = chain over the rows of sum + row[column]`
pub(crate) struct ColumnSums<'a> {
    pub(crate) rows: &'a [f32],
    pub(crate) sums: &'a mut [f32],
}

impl Operation for ColumnSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.sums.fill(0.0);
        for row in self.rows.chunks_exact(self.sums.len()) {
            for (sum, x) in self.sums.chunks_mut(LANES).zip(row.chunks(LANES)) {
                let longer = s.add(load_lanes(s, sum), load_lanes(s, x));
                store_lanes(s, longer, sum);
            }
        }
    }
}

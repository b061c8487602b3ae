//! The definition of the matrix product: one chain per output, `k` ascending. Deliberately slow.
//!
//! It must never be reordered, blocked or vectorized by hand.

use super::{Epilogue, Matrix, MatrixMut, Triangle};
use crate::math;
use crate::simd::{fused_multiply_add, operand};

/// `C[m][n] = chain over k ascending of fma(A[m][k], B[k][n], acc)`, then the epilogue.
pub(super) fn matmul(
    a: Matrix<'_>,
    b: Matrix<'_>,
    mut c: MatrixMut<'_>,
    accumulate: bool,
    triangle: Triangle,
    epilogue: Epilogue<'_>,
) {
    let (first_row, first_column) = (c.first_row(), c.first_column());
    for m in 0..a.rows() {
        let (outputs, depth) = match triangle {
            Triangle::Full => (b.columns(), 0..a.columns()),
            Triangle::LowerOutput { shift } => (b.columns().min(m + shift + 1), 0..a.columns()),
            Triangle::LowerDepth { shift } => (b.columns(), 0..a.columns().min(m + shift + 1)),
            Triangle::UpperDepth => (b.columns(), m.min(a.columns())..a.columns()),
        };
        for n in 0..outputs {
            let mut acc = if accumulate { c.row(m)[n] } else { 0.0 };
            for k in depth.clone() {
                acc = fused_multiply_add(a.at(m, k), b.at(k, n), acc);
            }
            c.row_mut(m)[n] = finish(epilogue, acc, first_row + m, first_column + n);
        }
    }
}

/// The epilogue of element (m, n).
fn finish(epilogue: Epilogue<'_>, chain: f32, m: usize, n: usize) -> f32 {
    match epilogue {
        Epilogue::None => chain,
        Epilogue::Bias(bias) => chain + bias[n],
        Epilogue::BiasOperand(bias) => operand(chain + bias[n]),
        Epilogue::BiasGelu(bias) => operand(math::gelu_scalar(operand(chain + bias[n]))),
        Epilogue::BiasResidual(bias, residual) => residual.at(m, n) + (chain + bias[n]),
    }
}

//! What lies between the two maps of the feed-forward network: GELU.
//!
//! A score needs only the value, and computes it in the epilogue of the product.

use crate::math::{gelu, gelu_derivative};
use crate::simd::{LANES, Operation, Simd, load_lanes, store_lanes};

/// `x = operand(rows + bias)`, `slopes = gelu'(x)`, `rows = operand(gelu(x))`
pub(crate) struct BiasGelu<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) slopes: &'a mut [f32],
}

impl Operation for BiasGelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let width = self.bias.len();
        let rows = self.rows.chunks_exact_mut(width).zip(self.slopes.chunks_exact_mut(width));
        for (row, slopes) in rows {
            let parts = row.chunks_mut(LANES).zip(slopes.chunks_mut(LANES));
            for ((x, slope), bias) in parts.zip(self.bias.chunks(LANES)) {
                let sum = s.operand(s.add(load_lanes(s, x), load_lanes(s, bias)));
                store_lanes(s, gelu_derivative(s, sum), slope);
                store_lanes(s, s.operand(gelu(s, sum)), x);
            }
        }
    }
}

/// Backward pass: `rows = rows * factors`, the slopes times the gradient of the outputs.
pub(crate) struct Multiply<'a> {
    pub(crate) rows: &'a mut [f32],
    pub(crate) factors: &'a [f32],
}

impl Operation for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (x, factor) in self.rows.chunks_mut(LANES).zip(self.factors.chunks(LANES)) {
            let product = s.mul(load_lanes(s, x), load_lanes(s, factor));
            store_lanes(s, product, x);
        }
    }
}

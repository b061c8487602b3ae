//! Rotary position embedding: tables from float64, applied to queries and keys in half-split form.
//!
//! The angle of pair i at position p is `p / 10000^(2i / head_dim)`, with the power computed as
//! `exp((2i / head_dim) * ln 10000)`.

use soma_architecture::Architecture;

use crate::math64;
use crate::simd::{LANES, Operation, Simd, operand};
use crate::sizes::Sizes;

/// ln(10000)
const LN_BASE: f64 = f64::from_bits(0x4022_6bb1_bbb5_5516);

/// cos and sin of every position and pair, `[positions, head_dim / 2]` each.
#[derive(Clone, Debug)]
pub struct Rope {
    half: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// The tables of an architecture.
    pub fn new(architecture: &Architecture) -> Self {
        let sizes = Sizes::from(architecture);
        let half = sizes.head_dim() / 2;
        let powers: Vec<f64> = (0..half)
            .map(|i| {
                #[expect(clippy::cast_precision_loss, reason = "widths are at most 65536")]
                let exponent = (2 * i) as f64 / sizes.head_dim() as f64;
                math64::exp(exponent * LN_BASE)
            })
            .collect();
        let mut tables = Self { half, cos: Vec::new(), sin: Vec::new() };
        for position in 0..sizes.positions {
            for power in &powers {
                #[expect(clippy::cast_precision_loss, reason = "positions are at most 65536")]
                let (sin, cos) = math64::sin_cos(position as f64 / power);
                #[expect(clippy::cast_possible_truncation, reason = "the tables are float32")]
                {
                    tables.cos.push(operand(cos as f32));
                    tables.sin.push(operand(sin as f32));
                }
            }
        }
        tables
    }

    /// BLAKE3 of the tables: for every position, for every pair, cos and sin as little-endian
    /// float32.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for (cos, sin) in self.cos.iter().zip(&self.sin) {
            hasher.update(&cos.to_le_bytes()).update(&sin.to_le_bytes());
        }
        hasher.finalize().into()
    }

    /// The tables the other way round, `[head_dim / 2, positions]`: cos and sin.
    pub(crate) fn by_pair(&self) -> [Vec<f32>; 2] {
        [&self.cos, &self.sin].map(|table| {
            (0..self.half)
                .flat_map(|pair| table.iter().skip(pair).step_by(self.half).copied())
                .collect()
        })
    }

    /// Rotates one row of all heads at this position: forward, which gives operands, or backward
    /// (by the negated angle) for gradients.
    pub(crate) fn rotate<'a>(
        &'a self,
        row: &'a mut [f32],
        position: usize,
        back: bool,
    ) -> Rotate<'a> {
        let at = position * self.half..(position + 1) * self.half;
        Rotate { row, cos: &self.cos[at.clone()], sin: &self.sin[at], back }
    }
}

/// The rotation of one row: `a' = operand(fma(-b, sin, a * cos))`, `b' = operand(fma(a, sin, b *
/// cos))` for the two halves of a head.
pub(crate) struct Rotate<'a> {
    row: &'a mut [f32],
    cos: &'a [f32],
    sin: &'a [f32],
    back: bool,
}

impl Operation for Rotate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let half = self.cos.len();
        for head in self.row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for start in (0..half).step_by(LANES) {
                let part = start..half.min(start + LANES);
                let (a, b) = (&mut first[part.clone()], &mut second[part.clone()]);
                let cos = simd.load_partial(&self.cos[part.clone()], 0.0);
                let sin = simd.load_partial(&self.sin[part], 0.0);
                let (x, y) = (simd.load_partial(a, 0.0), simd.load_partial(b, 0.0));
                let (x_cos, y_cos) = (simd.mul(x, cos), simd.mul(y, cos));
                let (x_new, y_new) = if self.back {
                    (simd.fma(y, sin, x_cos), simd.fnma(x, sin, y_cos))
                } else {
                    let (x_new, y_new) = (simd.fnma(y, sin, x_cos), simd.fma(x, sin, y_cos));
                    (simd.operand(x_new), simd.operand(y_new))
                };
                simd.store_partial(x_new, a);
                simd.store_partial(y_new, b);
            }
        }
    }
}

#[cfg(test)]
mod tests;

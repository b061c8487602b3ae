//! Weights of half the size, bfloat16 and IEEE binary16: used in place in the file, and widened on
//! the way to a product.
//!
//! Widening is exact, and what is below 2^-40 in magnitude becomes `+0` as in every product; values
//! that are not finite were rejected earlier. It is written here, not taken from a library, because
//! of that and because it runs on the lanes of the kernel.

use crate::kernels::{Buffer, Engine, Epilogue, Matrix, MatrixMut, WIDENED, matmul};
use crate::simd::{OPERAND_MIN, Operation, Simd};

/// Elements that are widened at once (16 MiB of float32): they stay in the last-level cache until
/// they are used.
const SLAB_ELEMENTS: usize = 4 << 20;
/// Elements that one task widens.
const TASK_ELEMENTS: usize = 1 << 16;

/// The format of the sixteen bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HalfKind {
    /// The upper half of a float32.
    Bf16,
    /// IEEE binary16: every value is a float32, and all but the zeros are at least 2^-24.
    F16,
}

/// A row-major matrix without gaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HalfMatrix<'a> {
    pub(crate) bits: &'a [u16],
    pub(crate) kind: HalfKind,
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl HalfKind {
    /// The float32 of a finite value, with small ones as `+0`.
    #[inline(always)]
    pub(crate) fn widen(self, bits: u16) -> f32 {
        let sign = u32::from(bits >> 15) << 31;
        let rest = u32::from(bits & 0x7fff);
        match self {
            Self::Bf16 => {
                f32::from_bits(if rest < OPERAND_MIN >> 16 { 0 } else { sign | rest << 16 })
            }
            Self::F16 => {
                // Ten bits of mantissa below five of exponent, moved to float32's places, where
                // the bias is larger by 112. A subnormal one is what its mantissa adds to the least
                // exponent: no subnormal float32 appears on the way.
                let moved = rest << 13;
                let least = 113 << 23;
                let added = f32::from_bits(moved + least) - f32::from_bits(least);
                let magnitude = if rest < 1 << 10 { added.to_bits() } else { moved + (112 << 23) };
                f32::from_bits(if rest == 0 { 0 } else { sign | magnitude })
            }
        }
    }

    /// Whether the bits are neither an infinity nor a NaN.
    pub(crate) fn is_finite(self, bits: u16) -> bool {
        let exponent = match self {
            Self::Bf16 => 0x7f80,
            Self::F16 => 0x7c00,
        };
        bits & exponent != exponent
    }
}

/// Widens elements one by one; the compiler vectorizes it.
struct Widen<'a> {
    from: &'a [u16],
    to: &'a mut [f32],
    kind: HalfKind,
}

impl Operation for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let pairs = self.to.iter_mut().zip(self.from);
        match self.kind {
            HalfKind::Bf16 => pairs.for_each(|(to, from)| *to = HalfKind::Bf16.widen(*from)),
            HalfKind::F16 => pairs.for_each(|(to, from)| *to = HalfKind::F16.widen(*from)),
        }
    }
}

/// [`matmul`] with a half-precision matrix, some rows of it at a time, so that only its own bytes
/// come from memory.
///
/// Every chain is stored and resumed, as within a float32 product, which gives the same bits as
/// widening the whole matrix first.
pub(crate) fn matmul_half(
    engine: &Engine,
    a: Matrix<'_>,
    b: HalfMatrix<'_>,
    mut c: MatrixMut<'_>,
    epilogue: Epilogue<'_>,
) {
    let height = (SLAB_ELEMENTS / b.columns.max(1)).clamp(1, b.rows.max(1));
    let mut buffer = Buffer::take(&WIDENED, height * b.columns);
    let slab = buffer.floats();
    for first in (0..b.rows).step_by(height) {
        let count = height.min(b.rows - first);
        let from = &b.bits[first * b.columns..(first + count) * b.columns];
        let to = &mut slab[..from.len()];
        let tasks = from.chunks(TASK_ELEMENTS).zip(to.chunks_mut(TASK_ELEMENTS));
        let kind = b.kind;
        engine.for_each(tasks.collect(), |(from, to)| {
            engine.run(Widen { from, to, kind });
        });
        let epilogue = if first + count == b.rows { epilogue } else { Epilogue::None };
        let a = a.columns_from(first, count);
        let b = Matrix::new(to, count, b.columns);
        matmul(engine, a, b, c.reborrow(), first > 0, epilogue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value by definition: sign, exponent and mantissa.
    fn defined(kind: HalfKind, bits: u16) -> f64 {
        let (exponent_bits, mantissa_bits, bias) = match kind {
            HalfKind::Bf16 => (8, 7, 127),
            HalfKind::F16 => (5, 10, 15),
        };
        let exponent = i32::from(bits >> mantissa_bits & ((1 << exponent_bits) - 1));
        let mantissa = f64::from(bits & ((1 << mantissa_bits) - 1)) / f64::from(1 << mantissa_bits);
        let power = |n: i32| f64::from_bits(u64::try_from(1023 + n).unwrap() << 52);
        let magnitude = if exponent == 0 {
            mantissa * power(1 - bias)
        } else {
            (1.0 + mantissa) * power(exponent - bias)
        };
        if bits >> 15 == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn every_half_is_widened_to_its_value_and_small_ones_to_zero() {
        for kind in [HalfKind::Bf16, HalfKind::F16] {
            for bits in 0..=u16::MAX {
                let exponent_is_full = match kind {
                    HalfKind::Bf16 => bits >> 7 & 0xff == 0xff,
                    HalfKind::F16 => bits >> 10 & 0x1f == 0x1f,
                };
                assert_eq!(kind.is_finite(bits), !exponent_is_full, "{kind:?} {bits:04x}");
                if exponent_is_full {
                    continue;
                }
                let (got, value) = (kind.widen(bits), defined(kind, bits));
                if value.abs() < f64::from(f32::from_bits(OPERAND_MIN)) {
                    assert_eq!(got.to_bits(), 0, "{kind:?} {bits:04x}");
                } else {
                    let got = f64::from(got).to_bits();
                    assert_eq!(got, value.to_bits(), "{kind:?} {bits:04x}");
                }
            }
        }
    }
}

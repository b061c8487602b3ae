//! The lanes in plain Rust: the definition that the other implementations must equal.
//!
//! It must never use a CPU feature or a function of the platform's mathematics library.

use super::{LANES, OPERAND_MIN, Operation, Simd};

/// `a * b + c` with one rounding, on any CPU.
///
/// The product of two float32 values is exact in float64. The sum is rounded to odd in float64,
/// which has more than two bits to spare, so that the final rounding to float32 is the only one
/// (Boldo and Melquiond, 2008).
#[inline(always)]
pub(crate) fn fused_multiply_add(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let addend = f64::from(c);
    let sum = product + addend;
    // Knuth's TwoSum: `error` is exactly what the rounded sum lost.
    let back = sum - product;
    let error = (product - (sum - back)) + (addend - back);
    let bits = sum.to_bits();
    let inexact = error != 0.0 && sum.is_finite();
    let toward_zero = (error > 0.0) != (sum > 0.0);
    let truncated = if inexact && toward_zero { bits.wrapping_sub(1) } else { bits };
    let odd = if inexact { truncated | 1 } else { bits };
    #[expect(
        clippy::cast_possible_truncation,
        reason = "this is the one rounding of the operation"
    )]
    {
        f64::from_bits(odd) as f32
    }
}

/// `x` as an operand of a product: `+0` if its magnitude is below 2^-40.
#[inline(always)]
pub(crate) fn operand(x: f32) -> f32 {
    if x.to_bits() & 0x7fff_ffff < OPERAND_MIN { 0.0 } else { x }
}

/// Rounds to the nearest integer, ties to even, without a library call.
#[inline(always)]
fn round_to_integer(x: f64) -> f64 {
    /// 2^52: above it every float64 is an integer.
    const INTEGERS: f64 = 4_503_599_627_370_496.0;
    let magnitude = f64::from_bits(x.to_bits() & !(1 << 63));
    if magnitude < INTEGERS {
        let rounded = (magnitude + INTEGERS) - INTEGERS;
        f64::from_bits(rounded.to_bits() | (x.to_bits() & (1 << 63)))
    } else {
        x
    }
}

/// Sixteen lanes as an array.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

macro_rules! lanes {
    ($i:ident => $value:expr) => {{
        let mut out = [Default::default(); LANES];
        for $i in 0..LANES {
            out[$i] = $value;
        }
        out
    }};
}

impl Simd for Portable {
    type F = [f32; LANES];
    type U = [u32; LANES];
    type M = [bool; LANES];
    const TILE_ROWS: usize = 4;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    fn dispatch<O: Operation>(self, operation: O) -> O::Output {
        operation.run(self)
    }
    operations! {
        splat(x: f32) -> Self::F = [x; LANES];
        load(x: &[f32; LANES]) -> Self::F = *x;
    }
    #[inline(always)]
    fn store(self, v: Self::F, to: &mut [f32; LANES]) {
        *to = v;
    }
    operations! {
        add(a: Self::F, b: Self::F) -> Self::F = lanes!(i => a[i] + b[i]);
        sub(a: Self::F, b: Self::F) -> Self::F = lanes!(i => a[i] - b[i]);
        mul(a: Self::F, b: Self::F) -> Self::F = lanes!(i => a[i] * b[i]);
        div(a: Self::F, b: Self::F) -> Self::F = lanes!(i => a[i] / b[i]);
        sqrt(a: Self::F) -> Self::F = lanes!(i => a[i].sqrt());
        fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F
            = lanes!(i => fused_multiply_add(a[i], b[i], c[i]));
        fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F
            = lanes!(i => fused_multiply_add(-a[i], b[i], c[i]));
        operand(a: Self::F) -> Self::F = lanes!(i => operand(a[i]));
        less(a: Self::F, b: Self::F) -> Self::M = lanes!(i => a[i] < b[i]);
        first(n: usize) -> Self::M = lanes!(i => i < n);
        select(m: Self::M, a: Self::F, b: Self::F) -> Self::F
            = lanes!(i => if m[i] { a[i] } else { b[i] });
    }
    #[inline(always)]
    fn turn(self, p: Self::F, scale: f64) -> Self::F {
        lanes!(i => {
            let turns = f64::from(p[i]) * scale;
            #[expect(clippy::cast_possible_truncation, reason = "the definition rounds here")]
            { (turns - round_to_integer(turns)) as f32 }
        })
    }
    operations! {
        bits(a: Self::F) -> Self::U = lanes!(i => a[i].to_bits());
        with_bits(a: Self::U) -> Self::F = lanes!(i => f32::from_bits(a[i]));
        splat_bits(x: u32) -> Self::U = [x; LANES];
        add_bits(a: Self::U, b: Self::U) -> Self::U = lanes!(i => a[i].wrapping_add(b[i]));
        sub_bits(a: Self::U, b: Self::U) -> Self::U = lanes!(i => a[i].wrapping_sub(b[i]));
        and_bits(a: Self::U, b: Self::U) -> Self::U = lanes!(i => a[i] & b[i]);
        or_bits(a: Self::U, b: Self::U) -> Self::U = lanes!(i => a[i] | b[i]);
    }
    #[inline(always)]
    fn shl_bits<const N: u32>(self, a: Self::U) -> Self::U {
        lanes!(i => a[i] << N)
    }
    #[inline(always)]
    fn sar_bits<const N: u32>(self, a: Self::U) -> Self::U {
        lanes!(i => (a[i].cast_signed() >> N).cast_unsigned())
    }
}

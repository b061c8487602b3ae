//! Our own exp, ln, erf, GELU, sin and cos, made of range reduction and a polynomial in a fixed
//! order of operations.
//!
//! Nothing here may call the platform's mathematics library. Constants are given by their bits;
//! docs/numerics.md lists them with every order of operations, and the measured errors.

use crate::simd::{LANES, Portable, Simd, fold_lanes, load_lanes, store_lanes};

const fn f(bits: u32) -> f32 {
    f32::from_bits(bits)
}

/// 1.5 * 2^23: adding it rounds to an integer, which ends up in the low bits.
const ROUNDER: f32 = f(0x4b40_0000);
/// log2(e)
const LOG2_E: f32 = f(0x3fb8_aa3b);
/// High part of ln(2): a multiple of 2^-9, so its product with an exponent is exact.
const LN2_HIGH: f32 = f(0x3f31_8000);
/// ln(2) - `LN2_HIGH`
const LN2_LOW: f32 = f(0xb95e_8083);
/// The smallest float32 whose exponential is at least 2^-126.
const EXP_MIN: f32 = f(0xc2ae_ac4f);
/// The largest float32 whose exponential is finite.
const EXP_MAX: f32 = f(0x42b1_7217);
/// Arguments of a softmax's exponentials stop here, where the result is far below 2^-40 and counts
/// as zero, but is not subnormal.
const SOFTMAX_MIN: f32 = -64.0;
/// (e^r - 1 - r) / r^2 on |r| <= ln(2) / 2, highest power first.
const EXP: [f32; 5] =
    [f(0x3ab5_61b6), f(0x3c09_1ed3), f(0x3d2a_ac2c), f(0x3e2a_aa46), f(0x3eff_fffe)];
/// (ln(1 + r) - r + r^2 / 2) / r^3 on sqrt(1/2) - 1 <= r < sqrt(2) - 1.
const LN: [f32; 9] = [
    f(0x3d5a_e9c5),
    f(0xbddf_a773),
    f(0x3df8_0125),
    f(0xbe00_8228),
    f(0x3e11_817c),
    f(0xbe2a_9788),
    f(0x3e4c_d2a1),
    f(0xbe80_0038),
    f(0x3eaa_aaa4),
];
/// Bits of the float32 next to sqrt(1/2), where the mantissa of ln starts.
const SQRT_HALF: u32 = 0x3f35_04f3;
/// erf(x) / x - 1 as a polynomial in x^2 for |x| <= `ERF_SPLIT`.
const ERF_NEAR: [f32; 7] = [
    f(0x38a3_b8ff),
    f(0xba51_a8af),
    f(0x3ba9_f912),
    f(0xbcdb_fb8d),
    f(0x3de7_1673),
    f(0xbec0_939f),
    f(0x3e03_75d4),
];
/// -ln(1 - erf(x)) / x - 1 for `ERF_SPLIT` < x < 4.
const ERF_FAR: [f32; 7] = [
    f(0x3741_5529),
    f(0xb9aa_c811),
    f(0x3b6f_7f50),
    f(0xbcc2_ddf5),
    f(0x3dd9_a23b),
    f(0x3f22_981a),
    f(0x3e03_bd97),
];
/// Where the two forms of erf meet.
const ERF_SPLIT: f32 = f(0x3f6d_8000);
/// 1 / sqrt(2)
const SQRT_HALF_VALUE: f32 = f(0x3f35_04f3);
/// 1 / sqrt(2 pi)
const NORMAL_DENSITY: f32 = f(0x3ecc_422a);
/// sin(2 pi g) / g as a polynomial in g^2 for |g| <= 1/8.
const SIN: [f32; 5] =
    [f(0x42f5_0833), f(0xc29f_22be), f(0x42a3_4736), f(0xc225_5e0e), f(0x40c9_0fdb)];
/// cos(2 pi g) as a polynomial in g^2 for |g| <= 1/8.
const COS: [f32; 5] =
    [f(0x426a_3ea3), f(0xc2aa_d8a3), f(0x4281_e0d7), f(0xc19d_e9e6), f(0x3f80_0000)];

/// Horner's rule with fma, highest power first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, x: S::F, coefficients: [f32; N]) -> S::F {
    let mut sum = simd.splat(coefficients[0]);
    for &coefficient in &coefficients[1..] {
        sum = simd.fma(sum, x, simd.splat(coefficient));
    }
    sum
}

/// (p, n) with e^x = p * 2^n, for x whose exponential is a normal number; NaN gives NaN.
#[inline(always)]
fn exp_parts<S: Simd>(simd: S, x: S::F) -> (S::F, S::U) {
    let shifted = simd.fma(x, simd.splat(LOG2_E), simd.splat(ROUNDER));
    let n = simd.sub(shifted, simd.splat(ROUNDER));
    let r = simd.fnma(n, simd.splat(LN2_HIGH), x);
    let r = simd.fnma(n, simd.splat(LN2_LOW), r);
    let q = polynomial(simd, r, EXP);
    // 1 + r and what its rounding lost: below 1, where a unit is half as large, that decides the
    // last bit.
    let sum = simd.add(simd.splat(1.0), r);
    let lost = simd.sub(r, simd.sub(sum, simd.splat(1.0)));
    let p = simd.add(sum, simd.fma(simd.mul(r, r), q, lost));
    (p, simd.sub_bits(simd.bits(shifted), simd.splat_bits(0x4b40_0000)))
}

/// e^x within 1 ulp; results below 2^-126 are `+0`.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    let (p, n) = exp_parts(simd, x);
    // 2^n in two factors, because 2^128 is not a float32.
    let half = simd.sar_bits::<1>(n);
    let result = simd.mul(p, power_of_two(simd, half));
    let result = simd.mul(result, power_of_two(simd, simd.sub_bits(n, half)));
    let result = simd.select(simd.less(x, simd.splat(EXP_MIN)), simd.splat(0.0), result);
    simd.select(simd.less(simd.splat(EXP_MAX), x), simd.splat(f32::INFINITY), result)
}

/// 2^n for -126 <= n <= 127.
#[inline(always)]
fn power_of_two<S: Simd>(simd: S, n: S::U) -> S::F {
    simd.with_bits(simd.shl_bits::<23>(simd.add_bits(n, simd.splat_bits(127))))
}

/// The natural logarithm within 1 ulp, including for subnormals.
#[inline(always)]
pub(crate) fn ln<S: Simd>(simd: S, x: S::F) -> S::F {
    let tiny = simd.less(x, simd.splat(f32::MIN_POSITIVE));
    let scaled = simd.select(tiny, simd.mul(x, simd.splat(8_388_608.0)), x);
    let from_start = simd.sub_bits(simd.bits(scaled), simd.splat_bits(SQRT_HALF));
    let exponent = simd.sar_bits::<23>(from_start);
    let mantissa = simd.sub_bits(simd.bits(scaled), simd.shl_bits::<23>(exponent));
    let r = simd.sub(simd.with_bits(mantissa), simd.splat(1.0));
    let e = simd.with_bits(simd.add_bits(exponent, simd.splat_bits(0x4b40_0000)));
    let e = simd.sub(e, simd.splat(ROUNDER));
    let e = simd.select(tiny, simd.sub(e, simd.splat(23.0)), e);
    let square = simd.mul(r, r);
    let y = simd.mul(simd.mul(r, square), polynomial(simd, r, LN));
    let y = simd.fma(e, simd.splat(LN2_LOW), y);
    let y = simd.fnma(simd.splat(0.5), square, y);
    let y = simd.add(r, y);
    let y = simd.fma(e, simd.splat(LN2_HIGH), y);
    // Handles NaN, negative and infinite x: x - x is NaN for the last, so infinity is restored.
    let zero = simd.splat(0.0);
    let y = simd.select(simd.less(zero, x), y, simd.splat(f32::NEG_INFINITY));
    let y = simd.select(simd.less(x, zero), simd.splat(f32::NAN), y);
    let finite = simd.less(simd.abs(x), simd.splat(f32::INFINITY));
    let infinite_or_nan = simd.select(simd.less(x, zero), simd.splat(f32::NAN), x);
    simd.select(finite, y, infinite_or_nan)
}

/// The error function within 1 ulp.
#[inline(always)]
pub(crate) fn erf<S: Simd>(simd: S, x: S::F) -> S::F {
    let t = simd.abs(x);
    let near = polynomial(simd, simd.mul(x, x), ERF_NEAR);
    let near = simd.fma(near, x, x);
    let t = simd.select(simd.less(simd.splat(4.0), t), simd.splat(4.0), t);
    let q = polynomial(simd, t, ERF_FAR);
    let u = simd.fma(q, t, t);
    let lost = simd.fma(q, t, simd.sub(t, u));
    let rest = exp(simd, simd.sub(simd.splat(0.0), u));
    let rest = simd.fnma(rest, lost, rest);
    let far = simd.copy_sign(simd.sub(simd.splat(1.0), rest), x);
    simd.select(simd.less(simd.splat(ERF_SPLIT), t), far, near)
}

/// `(0.5 * x) * (1 + erf(x * c))` with c the float32 next to 1 / sqrt(2).
#[inline(always)]
pub(crate) fn gelu<S: Simd>(simd: S, x: S::F) -> S::F {
    let e = erf(simd, simd.mul(x, simd.splat(SQRT_HALF_VALUE)));
    simd.mul(simd.mul(simd.splat(0.5), x), simd.add(simd.splat(1.0), e))
}

/// The derivative of [`gelu`]: `fma(x, density, 0.5 * (1 + erf(x * c)))` with
/// `density = exp((-0.5 * x) * x) / sqrt(2 pi)`.
#[inline(always)]
pub(crate) fn gelu_derivative<S: Simd>(simd: S, x: S::F) -> S::F {
    let e = erf(simd, simd.mul(x, simd.splat(SQRT_HALF_VALUE)));
    let below = simd.mul(simd.splat(0.5), simd.add(simd.splat(1.0), e));
    let density = exp(simd, simd.mul(simd.mul(simd.splat(-0.5), x), x));
    let density = simd.mul(density, simd.splat(NORMAL_DENSITY));
    simd.fma(x, density, below)
}

/// (sin, cos) of 2 pi f for |f| <= 1/2, where f comes from [`Simd::turn`].
#[inline(always)]
pub(crate) fn sin_cos_turn<S: Simd>(simd: S, turn: S::F) -> (S::F, S::F) {
    let shifted = simd.fma(turn, simd.splat(4.0), simd.splat(ROUNDER));
    let quarters = simd.sub(shifted, simd.splat(ROUNDER));
    let g = simd.fnma(quarters, simd.splat(0.25), turn);
    let square = simd.mul(g, g);
    let sin = simd.mul(g, polynomial(simd, square, SIN));
    let cos = polynomial(simd, square, COS);
    // The low two bits count quarter turns: the first exchanges sin and cos, the second gives the
    // signs.
    let count = simd.bits(shifted);
    let one = simd.splat_bits(1);
    let straight = simd.sub_bits(simd.and_bits(count, one), one);
    let crossed = simd.sub_bits(simd.splat_bits(0), simd.and_bits(count, one));
    let sign_bit = simd.splat_bits(0x8000_0000);
    let sin_sign = simd.and_bits(simd.shl_bits::<30>(count), sign_bit);
    let cos_sign = simd.and_bits(simd.shl_bits::<30>(simd.add_bits(count, one)), sign_bit);
    let (s, c) = (simd.bits(sin), simd.bits(cos));
    let sin = simd.or_bits(simd.and_bits(s, straight), simd.and_bits(c, crossed));
    let cos = simd.or_bits(simd.and_bits(c, straight), simd.and_bits(s, crossed));
    (flip_sign(simd, sin, sin_sign), flip_sign(simd, cos, cos_sign))
}

/// `bits` with its sign bit flipped where that of `sign` is set (adding the sign bit wraps around,
/// which flips it).
#[inline(always)]
fn flip_sign<S: Simd>(simd: S, bits: S::U, sign: S::U) -> S::F {
    simd.with_bits(simd.add_bits(bits, sign))
}

/// [`exp`] of x - max as an operand, a term of a softmax; x is at most max.
#[inline(always)]
pub(crate) fn softmax_term<S: Simd>(simd: S, x: S::F, max: S::F) -> S::F {
    // The exponential of anything this small is 1, but its square could be subnormal.
    let x = simd.operand(simd.sub(x, max));
    let (p, n) = exp_parts(simd, simd.max(simd.splat(SOFTMAX_MIN), x));
    simd.operand(simd.mul(p, power_of_two(simd, n)))
}

/// [`gelu`] of one number, on the portable lanes.
pub(crate) fn gelu_scalar(x: f32) -> f32 {
    gelu(Portable, [x; LANES])[0]
}

/// `row[i] = row[i] + other[i]`
#[inline(always)]
pub(crate) fn add_row<S: Simd>(simd: S, row: &mut [f32], other: &[f32]) {
    let (chunks, tail) = row.as_chunks_mut::<LANES>();
    let (others, other_tail) = other.as_chunks::<LANES>();
    for (chunk, other) in chunks.iter_mut().zip(others) {
        simd.store(simd.add(simd.load(chunk), simd.load(other)), chunk);
    }
    for (x, y) in tail.iter_mut().zip(other_tail) {
        *x += *y;
    }
}

/// `row[i] = operand(row[i] + other[i])`
#[inline(always)]
pub(crate) fn add_row_operand<S: Simd>(simd: S, row: &mut [f32], other: &[f32]) {
    for (x, y) in row.chunks_mut(LANES).zip(other.chunks(LANES)) {
        let sum = simd.add(load_lanes(simd, x), load_lanes(simd, y));
        store_lanes(simd, simd.operand(sum), x);
    }
}

/// `row[i] = operand(gelu(operand(row[i] + other[i])))`
#[inline(always)]
pub(crate) fn add_row_gelu<S: Simd>(simd: S, row: &mut [f32], other: &[f32]) {
    for (x, y) in row.chunks_mut(LANES).zip(other.chunks(LANES)) {
        let sum = simd.add(load_lanes(simd, x), load_lanes(simd, y));
        let value = gelu(simd, simd.operand(sum));
        store_lanes(simd, simd.operand(value), x);
    }
}

/// Sum of a row in 16 strided lanes: lane l starts at `+0.0` and adds elements l, l + 16, ...; a
/// tail touches only its own lanes; then the lanes are folded 8, 4, 2, 1.
#[inline(always)]
pub(crate) fn sum_row<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let (chunks, tail) = row.as_chunks::<LANES>();
    let mut sum = simd.splat(0.0);
    for chunk in chunks {
        sum = simd.add(sum, simd.load(chunk));
    }
    if !tail.is_empty() {
        let longer = simd.add(sum, simd.load_partial(tail, 0.0));
        sum = simd.select(simd.first(tail.len()), longer, sum);
    }
    simd.fold(sum)
}

/// Largest element of a row, found with `max(largest, x) = largest < x ? x : largest` in 16 strided
/// lanes that start at minus infinity and are folded the same way.
#[inline(always)]
pub(crate) fn max_row<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let (chunks, tail) = row.as_chunks::<LANES>();
    let mut largest = simd.splat(f32::NEG_INFINITY);
    for chunk in chunks {
        largest = simd.max(simd.load(chunk), largest);
    }
    if !tail.is_empty() {
        largest = simd.max(simd.load_partial(tail, f32::NEG_INFINITY), largest);
    }
    fold_largest(simd, largest)
}

/// The largest of the lanes, found by folding them as a sum is.
#[inline(always)]
fn fold_largest<S: Simd>(simd: S, largest: S::F) -> f32 {
    let mut lanes = [0.0; LANES];
    simd.store(largest, &mut lanes);
    fold_lanes(lanes, |a, b| if a < b { b } else { a })
}

/// `row[i] = operand(row[i]) * scale`; returns the largest of them, as [`max_row`].
#[inline(always)]
pub(crate) fn scale_row<S: Simd>(simd: S, row: &mut [f32], scale: f32) -> f32 {
    let scale = simd.splat(scale);
    let (chunks, tail) = row.as_chunks_mut::<LANES>();
    let mut largest = simd.splat(f32::NEG_INFINITY);
    for chunk in chunks {
        let scaled = simd.mul(simd.operand(simd.load(chunk)), scale);
        largest = simd.max(scaled, largest);
        simd.store(scaled, chunk);
    }
    if !tail.is_empty() {
        let scaled = simd.mul(simd.operand(simd.load_partial(tail, 0.0)), scale);
        largest = simd.select(simd.first(tail.len()), simd.max(scaled, largest), largest);
        simd.store_partial(scaled, tail);
    }
    fold_largest(simd, largest)
}

/// The softmax of a row without its division: `row[i] = operand(exp(row[i] - max))`; returns (max,
/// sum of the row).
#[inline(always)]
pub(crate) fn softmax_row<S: Simd>(simd: S, row: &mut [f32]) -> (f32, f32) {
    let max = max_row(simd, row);
    (max, exponentials(simd, row, max))
}

/// `row[i] = operand(exp(row[i] - max))`; returns the sum of the row.
#[inline(always)]
pub(crate) fn exponentials<S: Simd>(simd: S, row: &mut [f32], max: f32) -> f32 {
    let shift = simd.splat(max);
    let (chunks, tail) = row.as_chunks_mut::<LANES>();
    let mut sum = simd.splat(0.0);
    for chunk in chunks {
        let weight = softmax_term(simd, simd.load(chunk), shift);
        sum = simd.add(sum, weight);
        simd.store(weight, chunk);
    }
    if !tail.is_empty() {
        let weight = softmax_term(simd, simd.load_partial(tail, max), shift);
        sum = simd.select(simd.first(tail.len()), simd.add(sum, weight), sum);
        simd.store_partial(weight, tail);
    }
    simd.fold(sum)
}

#[cfg(test)]
mod tests;

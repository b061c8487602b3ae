//! float64 exp, sin and cos for tables and constants, using only `+ - * /`, each rounded by itself.
//!
//! They run once per table, so they are short rather than fast; nothing here may use a fused
//! operation.

/// 1.5 * 2^52: adding it rounds to an integer, which ends up in the low bits.
const ROUNDER: f64 = f64::from_bits(0x4338_0000_0000_0000);
/// 1 / ln(2)
const LOG2_E: f64 = f64::from_bits(0x3ff7_1547_652b_82fe);
/// High part of ln(2): its product with an exponent is exact.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
/// ln(2) - `LN2_HIGH`
const LN2_LOW: f64 = f64::from_bits(0x3dea_39ef_3579_3c76);
/// 2 / pi
const TWO_OVER_PI: f64 = f64::from_bits(0x3fe4_5f30_6dc9_c883);
/// pi / 2 in three parts; the products of the first two with a count of quarter turns below 2^20
/// are exact.
const HALF_PI: [f64; 3] = [
    f64::from_bits(0x3ff9_21fb_5440_0000),
    f64::from_bits(0x3dd0_b461_1a60_0000),
    f64::from_bits(0x3ba3_198a_2e03_7073),
];

/// e^x for |x| < 700: `n = rint(x / ln 2)`, `r = (x - n * high) - n * low`, the Taylor series to
/// r^15 from its end, `p = 1 + (r * p) / k`, times 2^n.
pub(crate) fn exp(x: f64) -> f64 {
    let shifted = x * LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let mut p = 1.0;
    for k in (1..=15_u32).rev() {
        p = 1.0 + (r * p) / f64::from(k);
    }
    let exponent = shifted.to_bits().wrapping_sub(ROUNDER.to_bits()).wrapping_add(1023);
    p * f64::from_bits(exponent << 52)
}

/// (sin x, cos x) for 0 <= x < 2^19: `n = rint(x * 2/pi)`, `r = ((x - n * h0) - n * h1) - n * h2`,
/// the Taylor series to r^19 and r^20 from their ends, then the quadrant.
pub(crate) fn sin_cos(x: f64) -> (f64, f64) {
    let shifted = x * TWO_OVER_PI + ROUNDER;
    let n = shifted - ROUNDER;
    let r = ((x - n * HALF_PI[0]) - n * HALF_PI[1]) - n * HALF_PI[2];
    let square = r * r;
    let (mut sin, mut cos) = (1.0, 1.0);
    for k in (1..=9_u32).rev() {
        sin = 1.0 - (square * sin) / f64::from(2 * k * (2 * k + 1));
    }
    for k in (1..=10_u32).rev() {
        cos = 1.0 - (square * cos) / f64::from((2 * k - 1) * (2 * k));
    }
    sin *= r;
    match shifted.to_bits() & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

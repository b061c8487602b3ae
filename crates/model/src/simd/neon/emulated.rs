//! The NEON instructions that `neon.rs` uses, in plain Rust, so that tests run its kernels on every
//! CPU. Each function does what the Arm reference defines for the instruction of the same name.
//!
//! It must never be compiled outside tests.
#![expect(
    non_camel_case_types,
    reason = "types and functions have the names of the instruction set"
)]

use crate::simd::fused_multiply_add;

pub(super) type float32x4_t = [f32; 4];
pub(super) type uint32x4_t = [u32; 4];
pub(super) type int32x4_t = [i32; 4];
pub(super) type float32x2_t = [f32; 2];
pub(super) type float64x2_t = [f64; 2];

/// One operation per lane.
macro_rules! lanewise {
    ($($name:ident($($a:ident: $from:ty),+) -> $to:ty = $lane:expr;)*) => {
        $(pub(super) fn $name($($a: $from),+) -> $to {
            std::array::from_fn(|i| $lane($($a[i]),+))
        })*
    };
}

lanewise! {
    vaddq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = |a: f32, b: f32| a + b;
    vsubq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = |a: f32, b: f32| a - b;
    vmulq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = |a: f32, b: f32| a * b;
    vdivq_f32(a: float32x4_t, b: float32x4_t) -> float32x4_t = |a: f32, b: f32| a / b;
    vsqrtq_f32(a: float32x4_t) -> float32x4_t = f32::sqrt;
    vfmaq_f32(c: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t =
        |c: f32, a: f32, b: f32| fused_multiply_add(a, b, c);
    vfmsq_f32(c: float32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t =
        |c: f32, a: f32, b: f32| fused_multiply_add(-a, b, c);
    vcltq_f32(a: float32x4_t, b: float32x4_t) -> uint32x4_t =
        |a: f32, b: f32| if a < b { u32::MAX } else { 0 };
    vbslq_f32(m: uint32x4_t, a: float32x4_t, b: float32x4_t) -> float32x4_t =
        |m: u32, a: f32, b: f32| f32::from_bits(m & a.to_bits() | !m & b.to_bits());
    vreinterpretq_u32_f32(a: float32x4_t) -> uint32x4_t = f32::to_bits;
    vreinterpretq_f32_u32(a: uint32x4_t) -> float32x4_t = f32::from_bits;
    vreinterpretq_s32_u32(a: uint32x4_t) -> int32x4_t = u32::cast_signed;
    vreinterpretq_u32_s32(a: int32x4_t) -> uint32x4_t = i32::cast_unsigned;
    vaddq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = u32::wrapping_add;
    vsubq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = u32::wrapping_sub;
    vandq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = |a: u32, b: u32| a & b;
    vorrq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t = |a: u32, b: u32| a | b;
    vcgeq_u32(a: uint32x4_t, b: uint32x4_t) -> uint32x4_t =
        |a: u32, b: u32| if a >= b { u32::MAX } else { 0 };
    vshlq_u32(a: uint32x4_t, by: int32x4_t) -> uint32x4_t =
        |a: u32, by: i32| if by < 0 { a >> -by } else { a << by };
    vshlq_s32(a: int32x4_t, by: int32x4_t) -> int32x4_t =
        |a: i32, by: i32| if by < 0 { a >> -by } else { a << by };
    vmulq_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t = |a: f64, b: f64| a * b;
    vsubq_f64(a: float64x2_t, b: float64x2_t) -> float64x2_t = |a: f64, b: f64| a - b;
    vrndnq_f64(a: float64x2_t) -> float64x2_t = f64::round_ties_even;
    vcvt_f64_f32(a: float32x2_t) -> float64x2_t = f64::from;
}

pub(super) fn vdupq_n_f32(x: f32) -> float32x4_t {
    [x; 4]
}

pub(super) fn vdupq_n_u32(x: u32) -> uint32x4_t {
    [x; 4]
}

pub(super) fn vdupq_n_s32(x: i32) -> int32x4_t {
    [x; 4]
}

pub(super) fn vdupq_n_f64(x: f64) -> float64x2_t {
    [x; 2]
}

pub(super) fn vget_low_f32(a: float32x4_t) -> float32x2_t {
    [a[0], a[1]]
}

pub(super) fn vcvt_high_f64_f32(a: float32x4_t) -> float64x2_t {
    vcvt_f64_f32([a[2], a[3]])
}

#[expect(clippy::cast_possible_truncation, reason = "the rounding of the instruction")]
pub(super) fn vcvt_f32_f64(a: float64x2_t) -> float32x2_t {
    a.map(|x| x as f32)
}

pub(super) fn vcvt_high_f32_f64(low: float32x2_t, high: float64x2_t) -> float32x4_t {
    let high = vcvt_f32_f64(high);
    [low[0], low[1], high[0], high[1]]
}

/// # Safety
/// Four values can be read at `p`.
#[expect(unsafe_code, reason = "as the instruction, from a pointer")]
pub(super) unsafe fn vld1q_f32(p: *const f32) -> float32x4_t {
    // SAFETY: the caller's promise; an array needs no more alignment than its elements.
    unsafe { *p.cast() }
}

/// # Safety
/// Four values can be read at `p`.
#[expect(unsafe_code, reason = "as the instruction, from a pointer")]
pub(super) unsafe fn vld1q_u32(p: *const u32) -> uint32x4_t {
    // SAFETY: the caller's promise; an array needs no more alignment than its elements.
    unsafe { *p.cast() }
}

/// # Safety
/// Four values can be written at `p`.
#[expect(unsafe_code, reason = "as the instruction, to a pointer")]
pub(super) unsafe fn vst1q_f32(p: *mut f32, v: float32x4_t) {
    // SAFETY: the caller's promise; an array needs no more alignment than its elements.
    unsafe { *p.cast() = v }
}

//! The lanes on 64-bit ARM: four NEON registers, which every such CPU has. Tests on other CPUs run
//! the same code on emulated instructions.
//!
//! It must never use the pairwise or estimate instructions, which are not one IEEE operation per
//! lane.
#![expect(unsafe_code, reason = "vector instructions; NEON is part of the base instruction set")]
#![cfg_attr(
    not(target_arch = "aarch64"),
    expect(unused_unsafe, reason = "emulated, only loads and stores are unsafe")
)]

#[cfg(not(target_arch = "aarch64"))]
mod emulated;

#[cfg(target_arch = "aarch64")]
#[expect(
    clippy::wildcard_imports,
    reason = "a hundred instructions, all with the prefix of their set"
)]
use core::arch::aarch64::*;

#[cfg(not(target_arch = "aarch64"))]
use emulated::*;

use super::{LANES, OPERAND_MIN, Operation, Simd};

/// Calls an instruction whose CPU feature the token type proves.
macro_rules! proven {
    ($call:expr) => {
        // SAFETY: NEON is part of the base instruction set of this target; pointers come from
        // references.
        unsafe { $call }
    };
}

/// NEON.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon(());

impl Neon {
    /// The token; every 64-bit ARM CPU has NEON.
    #[expect(clippy::unnecessary_wraps, reason = "the signature of every lane implementation")]
    pub(crate) fn detect() -> Option<Self> {
        Some(Self(()))
    }
}

macro_rules! quarters {
    ($f:ident, $a:expr) => {
        proven!([$f($a[0]), $f($a[1]), $f($a[2]), $f($a[3])])
    };
    ($f:ident, $a:expr, $b:expr) => {
        proven!([$f($a[0], $b[0]), $f($a[1], $b[1]), $f($a[2], $b[2]), $f($a[3], $b[3])])
    };
    ($f:ident, $a:expr, $b:expr, $c:expr) => {
        proven!([
            $f($a[0], $b[0], $c[0]),
            $f($a[1], $b[1], $c[1]),
            $f($a[2], $b[2], $c[2]),
            $f($a[3], $b[3], $c[3])
        ])
    };
}

#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn turn_two(p: float64x2_t, scale: f64) -> float64x2_t {
    let turns = vmulq_f64(p, vdupq_n_f64(scale));
    vsubq_f64(turns, vrndnq_f64(turns))
}

#[inline]
#[cfg_attr(target_arch = "aarch64", target_feature(enable = "neon"))]
fn turn_four(p: float32x4_t, scale: f64) -> float32x4_t {
    let low = turn_two(vcvt_f64_f32(vget_low_f32(p)), scale);
    let high = turn_two(vcvt_high_f64_f32(p), scale);
    vcvt_high_f32_f64(vcvt_f32_f64(low), high)
}

impl Simd for Neon {
    type F = [float32x4_t; 4];
    type U = [uint32x4_t; 4];
    type M = [uint32x4_t; 4];
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    fn dispatch<O: Operation>(self, operation: O) -> O::Output {
        operation.run(self)
    }
    #[inline(always)]
    fn load(self, x: &[f32; LANES]) -> Self::F {
        let p = x.as_ptr();
        proven!([vld1q_f32(p), vld1q_f32(p.add(4)), vld1q_f32(p.add(8)), vld1q_f32(p.add(12))])
    }
    #[inline(always)]
    fn store(self, v: Self::F, to: &mut [f32; LANES]) {
        let p = to.as_mut_ptr();
        proven!({
            vst1q_f32(p, v[0]);
            vst1q_f32(p.add(4), v[1]);
            vst1q_f32(p.add(8), v[2]);
            vst1q_f32(p.add(12), v[3]);
        });
    }
    #[inline(always)]
    fn operand(self, a: Self::F) -> Self::F {
        let bits = quarters!(vreinterpretq_u32_f32, a);
        let magnitude = self.and_bits(bits, self.splat_bits(0x7fff_ffff));
        let kept = quarters!(vcgeq_u32, magnitude, self.splat_bits(OPERAND_MIN));
        self.with_bits(self.and_bits(bits, kept))
    }
    operations! {
        splat(x: f32) -> Self::F = proven!([vdupq_n_f32(x); 4]);
        add(a: Self::F, b: Self::F) -> Self::F = quarters!(vaddq_f32, a, b);
        sub(a: Self::F, b: Self::F) -> Self::F = quarters!(vsubq_f32, a, b);
        mul(a: Self::F, b: Self::F) -> Self::F = quarters!(vmulq_f32, a, b);
        div(a: Self::F, b: Self::F) -> Self::F = quarters!(vdivq_f32, a, b);
        sqrt(a: Self::F) -> Self::F = quarters!(vsqrtq_f32, a);
        fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F = quarters!(vfmaq_f32, c, a, b);
        fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F = quarters!(vfmsq_f32, c, a, b);
        less(a: Self::F, b: Self::F) -> Self::M = quarters!(vcltq_f32, a, b);
        select(m: Self::M, a: Self::F, b: Self::F) -> Self::F = quarters!(vbslq_f32, m, a, b);
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self::M {
        let mut lanes = [0_u32; LANES];
        for lane in lanes.iter_mut().take(n) {
            *lane = u32::MAX;
        }
        let p = lanes.as_ptr();
        proven!([vld1q_u32(p), vld1q_u32(p.add(4)), vld1q_u32(p.add(8)), vld1q_u32(p.add(12))])
    }
    #[inline(always)]
    fn turn(self, p: Self::F, scale: f64) -> Self::F {
        proven!([
            turn_four(p[0], scale),
            turn_four(p[1], scale),
            turn_four(p[2], scale),
            turn_four(p[3], scale)
        ])
    }
    operations! {
        bits(a: Self::F) -> Self::U = quarters!(vreinterpretq_u32_f32, a);
        with_bits(a: Self::U) -> Self::F = quarters!(vreinterpretq_f32_u32, a);
        splat_bits(x: u32) -> Self::U = proven!([vdupq_n_u32(x); 4]);
        add_bits(a: Self::U, b: Self::U) -> Self::U = quarters!(vaddq_u32, a, b);
        sub_bits(a: Self::U, b: Self::U) -> Self::U = quarters!(vsubq_u32, a, b);
        and_bits(a: Self::U, b: Self::U) -> Self::U = quarters!(vandq_u32, a, b);
        or_bits(a: Self::U, b: Self::U) -> Self::U = quarters!(vorrq_u32, a, b);
    }
    #[inline(always)]
    fn shl_bits<const N: u32>(self, a: Self::U) -> Self::U {
        #[expect(clippy::cast_possible_wrap, reason = "a shift below 32")]
        let count = N as i32;
        let by = proven!([vdupq_n_s32(count); 4]);
        quarters!(vshlq_u32, a, by)
    }
    #[inline(always)]
    fn sar_bits<const N: u32>(self, a: Self::U) -> Self::U {
        #[expect(clippy::cast_possible_wrap, reason = "a shift below 32")]
        let count = -(N as i32);
        let by = proven!([vdupq_n_s32(count); 4]);
        let signed = quarters!(vreinterpretq_s32_u32, a);
        let shifted = quarters!(vshlq_s32, signed, by);
        quarters!(vreinterpretq_u32_s32, shifted)
    }
}

//! Sixteen float32 lanes behind one trait: elementwise code is written once and is, by
//! construction, equal to the bit on every CPU.
//!
//! Every operation here is one IEEE-754 operation per lane (or a bit operation), so an
//! implementation has no freedom. It must never hold an operation whose result differs between
//! CPUs: no reciprocal estimates, no horizontal sums, no platform `min`/`max` but the one that does
//! what [`Simd::max`] defines (others differ for NaN and for zeros).

/// Operations that are one expression: each is inlined, with its signature in [`Simd`].
macro_rules! operations {
    ($($name:ident($($x:ident: $from:ty),+) -> $to:ty = $value:expr;)+) => {$(
        #[inline(always)]
        fn $name(self, $($x: $from),+) -> $to {
            $value
        }
    )+};
}

#[cfg(any(target_arch = "aarch64", test))]
mod neon;
mod kind;
mod portable;
#[cfg(test)]
mod watched;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use kind::KernelKind;
#[cfg(any(target_arch = "aarch64", test))]
pub(crate) use neon::Neon;
pub(crate) use portable::{Portable, fused_multiply_add, operand};
#[cfg(test)]
pub(crate) use watched::{Watched, subnormals};
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

/// Lanes of a vector on every CPU: the numerics define row sums with this width.
pub(crate) const LANES: usize = 16;

/// Bits of 2^-40: a number of smaller magnitude counts as `+0` where it is multiplied, so that no
/// product meets a subnormal number (docs/numerics.md, section 1).
pub(crate) const OPERAND_MIN: u32 = 0x2b80_0000;

/// A computation that runs on any lane implementation.
pub(crate) trait Operation {
    /// The type of its result.
    type Output;
    /// The computation itself; implementations are marked `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Sixteen float32 lanes. A value of an implementing type is proof that this CPU has its features.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// Sixteen float32 values.
    type F: Copy;
    /// Sixteen 32-bit patterns.
    type U: Copy;
    /// Sixteen truth values.
    type M: Copy;
    /// Rows of C that the matrix product keeps in registers.
    const TILE_ROWS: usize;
    /// Vectors of 16 columns of C that the matrix product keeps in registers (1 or 2).
    const TILE_VECTORS: usize;

    /// Runs `operation` inside a function that enables the CPU features of this implementation.
    fn dispatch<O: Operation>(self, operation: O) -> O::Output;

    /// The same value in every lane.
    fn splat(self, x: f32) -> Self::F;
    /// Loads the lanes from an array.
    fn load(self, x: &[f32; LANES]) -> Self::F;
    /// Stores the lanes in an array.
    fn store(self, v: Self::F, to: &mut [f32; LANES]);

    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The correctly rounded square root.
    fn sqrt(self, a: Self::F) -> Self::F;
    /// `a * b + c` with one rounding.
    fn fma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `c - a * b` with one rounding.
    fn fnma(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;

    /// `a` as an operand of a product: `+0` where its magnitude is below 2^-40. It must be made of
    /// bit operations, which cost the same for every number.
    fn operand(self, a: Self::F) -> Self::F;

    /// `a < b`; false where either is NaN.
    fn less(self, a: Self::F, b: Self::F) -> Self::M;
    /// True in the first `n` lanes.
    fn first(self, n: usize) -> Self::M;
    /// `a` where the mask is true, otherwise `b`.
    fn select(self, m: Self::M, a: Self::F, b: Self::F) -> Self::F;
    /// With `u = p * scale` in float64, `u - rint(u)` rounded to float32: the fractional part of a
    /// phase in turns.
    fn turn(self, p: Self::F, scale: f64) -> Self::F;

    /// The bits of the lanes.
    fn bits(self, a: Self::F) -> Self::U;
    /// The lanes with these bits.
    fn with_bits(self, a: Self::U) -> Self::F;
    /// The same bits in every lane.
    fn splat_bits(self, x: u32) -> Self::U;
    /// Wrapping sum.
    fn add_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// Wrapping difference.
    fn sub_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// Bitwise and.
    fn and_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// Bitwise or.
    fn or_bits(self, a: Self::U, b: Self::U) -> Self::U;
    /// Shift left by a constant.
    fn shl_bits<const N: u32>(self, a: Self::U) -> Self::U;
    /// Arithmetic shift right by a constant.
    fn sar_bits<const N: u32>(self, a: Self::U) -> Self::U;

    /// Asks for the memory at an address, which need not be mapped, to be prefetched. This is only
    /// a hint that never changes a value.
    #[inline(always)]
    fn prefetch(self, _: *const f32) {}

    /// Transposes sixteen vectors as a square matrix: bits move, but nothing is computed.
    #[inline(always)]
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
        let mut from = [[0.0; LANES]; LANES];
        for (row, to) in rows.into_iter().zip(&mut from) {
            self.store(row, to);
        }
        core::array::from_fn(|column| self.load(&core::array::from_fn(|row| from[row][column])))
    }

    /// The larger of the two; `b` where neither is larger (and hence where either is NaN).
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        self.select(self.less(b, a), a, b)
    }

    /// The absolute value.
    #[inline(always)]
    fn abs(self, a: Self::F) -> Self::F {
        self.with_bits(self.and_bits(self.bits(a), self.splat_bits(0x7fff_ffff)))
    }

    /// The magnitude of `a` with the sign of `b`.
    #[inline(always)]
    fn copy_sign(self, a: Self::F, b: Self::F) -> Self::F {
        let magnitude = self.and_bits(self.bits(a), self.splat_bits(0x7fff_ffff));
        let sign = self.and_bits(self.bits(b), self.splat_bits(0x8000_0000));
        self.with_bits(self.or_bits(magnitude, sign))
    }

    /// Up to 16 values from a slice; missing lanes are `fill`.
    #[inline(always)]
    fn load_partial(self, x: &[f32], fill: f32) -> Self::F {
        if let Some(full) = x.first_chunk() {
            return self.load(full);
        }
        let mut lanes = [fill; LANES];
        let n = x.len().min(LANES);
        lanes[..n].copy_from_slice(&x[..n]);
        self.load(&lanes)
    }

    /// Writes as many lanes as `to` has room for (at most 16).
    #[inline(always)]
    fn store_partial(self, v: Self::F, to: &mut [f32]) {
        if let Some(full) = to.first_chunk_mut() {
            return self.store(v, full);
        }
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        let n = to.len().min(LANES);
        to[..n].copy_from_slice(&lanes[..n]);
    }

    /// The lanes folded in halves of h = 8, 4, 2, 1: `lane[i] += lane[i + h]`.
    #[inline(always)]
    fn fold(self, v: Self::F) -> f32 {
        let mut lanes = [0.0; LANES];
        self.store(v, &mut lanes);
        fold_lanes(lanes, |a, b| a + b)
    }
}

/// The lanes folded in halves of 8, 4, 2, 1: lane i with lane `i + half`.
#[inline(always)]
pub(crate) fn fold_lanes(lanes: [f32; LANES], combine: impl Fn(f32, f32) -> f32) -> f32 {
    let eight: [f32; 8] = core::array::from_fn(|i| combine(lanes[i], lanes[i + 8]));
    let four: [f32; 4] = core::array::from_fn(|i| combine(eight[i], eight[i + 4]));
    combine(combine(four[0], four[2]), combine(four[1], four[3]))
}

/// Up to sixteen numbers from the front of a slice; missing ones are zero.
#[inline(always)]
pub(crate) fn load_lanes<S: Simd>(simd: S, x: &[f32]) -> S::F {
    match x.first_chunk() {
        Some(whole) => simd.load(whole),
        None => simd.load_partial(x, 0.0),
    }
}

/// Writes sixteen numbers to the front of a slice, or as many as there is room for.
#[inline(always)]
pub(crate) fn store_lanes<S: Simd>(simd: S, v: S::F, to: &mut [f32]) {
    match to.first_chunk_mut() {
        Some(whole) => simd.store(v, whole),
        None => simd.store_partial(v, to),
    }
}

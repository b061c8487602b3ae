//! The lanes on x86-64: two AVX2 registers with FMA, or one AVX-512 register.
//!
//! A value of [`Avx2`] or [`Avx512`] must never exist on a CPU without the features: `detect` is
//! the only way to obtain one.
#![expect(
    unsafe_code,
    reason = "vector instructions; each token type proves that the CPU has them"
)]

#[cfg_attr(
    not(test),
    expect(
        clippy::wildcard_imports,
        reason = "a hundred instructions, all with the prefix of their set"
    )
)]
use core::arch::x86_64::*;

use super::{LANES, OPERAND_MIN, Operation, Simd};

/// Calls an instruction whose CPU feature the token type proves.
macro_rules! proven {
    ($call:expr) => {
        // SAFETY: a token of this type exists only after its CPU features were detected; pointers
        // come from references.
        unsafe { $call }
    };
}

/// AVX2 with FMA.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2(());

impl Avx2 {
    /// The token, on a CPU that has AVX2 and FMA.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Self(()))
    }
}

/// Two half vectors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair<T>(T, T);

macro_rules! halves {
    ($f:path, $($x:expr),+) => {
        proven!(Pair($f($($x.0),+), $f($($x.1),+)))
    };
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn turn_quarter(p: __m128, scale: f64) -> __m128 {
    let turns = _mm256_mul_pd(_mm256_cvtps_pd(p), _mm256_set1_pd(scale));
    let whole = _mm256_round_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(turns);
    _mm256_cvtpd_ps(_mm256_sub_pd(turns, whole))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn turn_half(p: __m256, scale: f64) -> __m256 {
    let low = turn_quarter(_mm256_castps256_ps128(p), scale);
    let high = turn_quarter(_mm256_extractf128_ps::<1>(p), scale);
    _mm256_set_m128(high, low)
}

/// Transposes sixteen rows of eight columns: column c as its first eight and its last eight rows.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose_halves(rows: &[__m256; LANES]) -> [Pair<__m256>; 8] {
    let mut columns = [Pair(_mm256_setzero_ps(), _mm256_setzero_ps()); 8];
    for (half, rows) in rows.as_chunks::<8>().0.iter().enumerate() {
        // Four rows become four vectors that hold their columns j and j + 4.
        let four = |r: [__m256; 4]| {
            let (a, b) = (_mm256_unpacklo_ps(r[0], r[1]), _mm256_unpackhi_ps(r[0], r[1]));
            let (c, d) = (_mm256_unpacklo_ps(r[2], r[3]), _mm256_unpackhi_ps(r[2], r[3]));
            [
                _mm256_shuffle_ps::<0x44>(a, c),
                _mm256_shuffle_ps::<0xee>(a, c),
                _mm256_shuffle_ps::<0x44>(b, d),
                _mm256_shuffle_ps::<0xee>(b, d),
            ]
        };
        let upper = four([rows[0], rows[1], rows[2], rows[3]]);
        let lower = four([rows[4], rows[5], rows[6], rows[7]]);
        for j in 0..4 {
            let near = _mm256_permute2f128_ps::<0x20>(upper[j], lower[j]);
            let far = _mm256_permute2f128_ps::<0x31>(upper[j], lower[j]);
            if half == 0 {
                (columns[j].0, columns[j + 4].0) = (near, far);
            } else {
                (columns[j].1, columns[j + 4].1) = (near, far);
            }
        }
    }
    columns
}

impl Simd for Avx2 {
    type F = Pair<__m256>;
    type U = Pair<__m256i>;
    type M = Pair<__m256>;
    const TILE_ROWS: usize = 6;
    const TILE_VECTORS: usize = 1;

    #[inline(always)]
    fn dispatch<O: Operation>(self, operation: O) -> O::Output {
        #[target_feature(enable = "avx2,fma")]
        fn enabled<O: Operation>(simd: Avx2, operation: O) -> O::Output {
            operation.run(simd)
        }
        proven!(enabled(self, operation))
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(at.cast()));
    }
    #[inline(always)]
    fn transpose(self, rows: [Self::F; LANES]) -> [Self::F; LANES] {
        proven!({
            let near = transpose_halves(&rows.map(|row| row.0));
            let far = transpose_halves(&rows.map(|row| row.1));
            core::array::from_fn(|column| if column < 8 { near[column] } else { far[column - 8] })
        })
    }
    operations! {
        splat(x: f32) -> Self::F = proven!(Pair(_mm256_set1_ps(x), _mm256_set1_ps(x)));
        load(x: &[f32; LANES]) -> Self::F
            = proven!(Pair(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))));
    }
    #[inline(always)]
    fn store(self, v: Self::F, to: &mut [f32; LANES]) {
        proven!({
            _mm256_storeu_ps(to.as_mut_ptr(), v.0);
            _mm256_storeu_ps(to.as_mut_ptr().add(8), v.1);
        });
    }
    #[inline(always)]
    fn operand(self, a: Self::F) -> Self::F {
        // Magnitudes are not negative as integers, so that a signed comparison compares them.
        let below = self.splat_bits(OPERAND_MIN - 1);
        let magnitude = self.and_bits(self.bits(a), self.splat_bits(0x7fff_ffff));
        let kept = halves!(_mm256_cmpgt_epi32, magnitude, below);
        self.with_bits(self.and_bits(self.bits(a), kept))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // By definition `a > b ? a : b`, also for NaN and zeros.
        halves!(_mm256_max_ps, a, b)
    }
    operations! {
        add(a: Self::F, b: Self::F) -> Self::F = halves!(_mm256_add_ps, a, b);
        sub(a: Self::F, b: Self::F) -> Self::F = halves!(_mm256_sub_ps, a, b);
        mul(a: Self::F, b: Self::F) -> Self::F = halves!(_mm256_mul_ps, a, b);
        div(a: Self::F, b: Self::F) -> Self::F = halves!(_mm256_div_ps, a, b);
        sqrt(a: Self::F) -> Self::F = halves!(_mm256_sqrt_ps, a);
        fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F = halves!(_mm256_fmadd_ps, a, b, c);
        fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F = halves!(_mm256_fnmadd_ps, a, b, c);
        less(a: Self::F, b: Self::F) -> Self::M = halves!(_mm256_cmp_ps::<_CMP_LT_OQ>, a, b);
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self::M {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_possible_wrap,
            reason = "at most 16"
        )]
        let n = n.min(LANES) as i32;
        proven!({
            let index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
            Pair(
                _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n), index)),
                _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), index)),
            )
        })
    }
    operations! {
        select(m: Self::M, a: Self::F, b: Self::F) -> Self::F
            = halves!(_mm256_blendv_ps, b, a, m);
        turn(p: Self::F, scale: f64) -> Self::F
            = proven!(Pair(turn_half(p.0, scale), turn_half(p.1, scale)));
        bits(a: Self::F) -> Self::U = halves!(_mm256_castps_si256, a);
        with_bits(a: Self::U) -> Self::F = halves!(_mm256_castsi256_ps, a);
    }
    #[inline(always)]
    fn splat_bits(self, x: u32) -> Self::U {
        let x = x.cast_signed();
        proven!(Pair(_mm256_set1_epi32(x), _mm256_set1_epi32(x)))
    }
    operations! {
        add_bits(a: Self::U, b: Self::U) -> Self::U = halves!(_mm256_add_epi32, a, b);
        sub_bits(a: Self::U, b: Self::U) -> Self::U = halves!(_mm256_sub_epi32, a, b);
        and_bits(a: Self::U, b: Self::U) -> Self::U = halves!(_mm256_and_si256, a, b);
        or_bits(a: Self::U, b: Self::U) -> Self::U = halves!(_mm256_or_si256, a, b);
    }
    #[inline(always)]
    fn shl_bits<const N: u32>(self, a: Self::U) -> Self::U {
        #[expect(clippy::cast_possible_wrap, reason = "a shift below 32")]
        let count = N as i32;
        proven!({
            let count = _mm_cvtsi32_si128(count);
            Pair(_mm256_sll_epi32(a.0, count), _mm256_sll_epi32(a.1, count))
        })
    }
    #[inline(always)]
    fn sar_bits<const N: u32>(self, a: Self::U) -> Self::U {
        #[expect(clippy::cast_possible_wrap, reason = "a shift below 32")]
        let count = N as i32;
        proven!({
            let count = _mm_cvtsi32_si128(count);
            Pair(_mm256_sra_epi32(a.0, count), _mm256_sra_epi32(a.1, count))
        })
    }
}

/// AVX-512 (only the foundation subset is used).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512(());

impl Avx512 {
    /// The token, on a CPU that has AVX-512F.
    pub(crate) fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx2"))
            .then_some(Self(()))
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn turn_eight(p: __m256, scale: f64) -> __m256 {
    let turns = _mm512_mul_pd(_mm512_cvtps_pd(p), _mm512_set1_pd(scale));
    let whole = _mm512_roundscale_pd::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(turns);
    _mm512_cvtpd_ps(_mm512_sub_pd(turns, whole))
}

#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn turn_sixteen(p: __m512, scale: f64) -> __m512 {
    let low = turn_eight(_mm512_castps512_ps256(p), scale);
    let upper =
        _mm512_castpd_ps(_mm512_castpd256_pd512(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(p))));
    let high = turn_eight(_mm512_castps512_ps256(upper), scale);
    let low = _mm512_castps_pd(_mm512_castps256_ps512(low));
    _mm512_castpd_ps(_mm512_insertf64x4::<1>(low, _mm256_castps_pd(high)))
}

/// Transposes sixteen rows of sixteen columns.
#[inline]
#[target_feature(enable = "avx512f,avx2")]
fn transpose_square(rows: &[__m512; LANES]) -> [__m512; LANES] {
    // Four rows become four vectors that hold their columns j, j + 4, j + 8 and j + 12.
    let four = |r: &[__m512; 4]| {
        let (a, b) = (_mm512_unpacklo_ps(r[0], r[1]), _mm512_unpackhi_ps(r[0], r[1]));
        let (c, d) = (_mm512_unpacklo_ps(r[2], r[3]), _mm512_unpackhi_ps(r[2], r[3]));
        [
            _mm512_shuffle_ps::<0x44>(a, c),
            _mm512_shuffle_ps::<0xee>(a, c),
            _mm512_shuffle_ps::<0x44>(b, d),
            _mm512_shuffle_ps::<0xee>(b, d),
        ]
    };
    let mut columns = [_mm512_setzero_ps(); LANES];
    let (groups, _) = rows.as_chunks::<4>();
    let [p, q, r, s] = [four(&groups[0]), four(&groups[1]), four(&groups[2]), four(&groups[3])];
    for j in 0..4 {
        let near =
            (_mm512_shuffle_f32x4::<0x44>(p[j], q[j]), _mm512_shuffle_f32x4::<0x44>(r[j], s[j]));
        let far =
            (_mm512_shuffle_f32x4::<0xee>(p[j], q[j]), _mm512_shuffle_f32x4::<0xee>(r[j], s[j]));
        columns[j] = _mm512_shuffle_f32x4::<0x88>(near.0, near.1);
        columns[j + 4] = _mm512_shuffle_f32x4::<0xdd>(near.0, near.1);
        columns[j + 8] = _mm512_shuffle_f32x4::<0x88>(far.0, far.1);
        columns[j + 12] = _mm512_shuffle_f32x4::<0xdd>(far.0, far.1);
    }
    columns
}

impl Simd for Avx512 {
    type F = __m512;
    type U = __m512i;
    type M = __mmask16;
    const TILE_ROWS: usize = 14;
    const TILE_VECTORS: usize = 2;

    #[inline(always)]
    fn dispatch<O: Operation>(self, operation: O) -> O::Output {
        #[target_feature(enable = "avx512f,avx2")]
        fn enabled<O: Operation>(simd: Avx512, operation: O) -> O::Output {
            operation.run(simd)
        }
        proven!(enabled(self, operation))
    }
    #[inline(always)]
    fn prefetch(self, at: *const f32) {
        proven!(_mm_prefetch::<_MM_HINT_T0>(at.cast()));
    }
    operations! {
        transpose(rows: [Self::F; LANES]) -> [Self::F; LANES] = proven!(transpose_square(&rows));
        splat(x: f32) -> Self::F = proven!(_mm512_set1_ps(x));
        load(x: &[f32; LANES]) -> Self::F = proven!(_mm512_loadu_ps(x.as_ptr()));
    }
    #[inline(always)]
    fn store(self, v: Self::F, to: &mut [f32; LANES]) {
        proven!(_mm512_storeu_ps(to.as_mut_ptr(), v));
    }
    #[inline(always)]
    fn operand(self, a: Self::F) -> Self::F {
        // Without the sign, and both sides twice as large.
        let twice = self.shl_bits::<1>(self.bits(a));
        let least = self.splat_bits(OPERAND_MIN << 1);
        proven!(_mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(twice, least), a))
    }
    #[inline(always)]
    fn max(self, a: Self::F, b: Self::F) -> Self::F {
        // By definition `a > b ? a : b`, also for NaN and zeros.
        proven!(_mm512_max_ps(a, b))
    }
    operations! {
        add(a: Self::F, b: Self::F) -> Self::F = proven!(_mm512_add_ps(a, b));
        sub(a: Self::F, b: Self::F) -> Self::F = proven!(_mm512_sub_ps(a, b));
        mul(a: Self::F, b: Self::F) -> Self::F = proven!(_mm512_mul_ps(a, b));
        div(a: Self::F, b: Self::F) -> Self::F = proven!(_mm512_div_ps(a, b));
        sqrt(a: Self::F) -> Self::F = proven!(_mm512_sqrt_ps(a));
        fma(a: Self::F, b: Self::F, c: Self::F) -> Self::F = proven!(_mm512_fmadd_ps(a, b, c));
        fnma(a: Self::F, b: Self::F, c: Self::F) -> Self::F = proven!(_mm512_fnmadd_ps(a, b, c));
        less(a: Self::F, b: Self::F) -> Self::M = proven!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b));
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self::M {
        #[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are the mask")]
        {
            ((1_u32 << n.min(LANES)) - 1) as __mmask16
        }
    }
    operations! {
        select(m: Self::M, a: Self::F, b: Self::F) -> Self::F
            = proven!(_mm512_mask_blend_ps(m, b, a));
        turn(p: Self::F, scale: f64) -> Self::F = proven!(turn_sixteen(p, scale));
        bits(a: Self::F) -> Self::U = proven!(_mm512_castps_si512(a));
        with_bits(a: Self::U) -> Self::F = proven!(_mm512_castsi512_ps(a));
        splat_bits(x: u32) -> Self::U = proven!(_mm512_set1_epi32(x.cast_signed()));
        add_bits(a: Self::U, b: Self::U) -> Self::U = proven!(_mm512_add_epi32(a, b));
        sub_bits(a: Self::U, b: Self::U) -> Self::U = proven!(_mm512_sub_epi32(a, b));
        and_bits(a: Self::U, b: Self::U) -> Self::U = proven!(_mm512_and_si512(a, b));
        or_bits(a: Self::U, b: Self::U) -> Self::U = proven!(_mm512_or_si512(a, b));
    }
    #[inline(always)]
    fn shl_bits<const N: u32>(self, a: Self::U) -> Self::U {
        proven!(_mm512_slli_epi32::<N>(a))
    }
    #[inline(always)]
    fn sar_bits<const N: u32>(self, a: Self::U) -> Self::U {
        proven!(_mm512_srai_epi32::<N>(a))
    }
}

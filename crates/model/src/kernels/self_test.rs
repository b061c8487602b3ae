//! The start-up comparison of a kernel with the reference, once per kernel and process.
//!
//! It must never be skipped: a compiler or emulator that gets an instruction wrong would split the
//! network.

use std::sync::OnceLock;

use super::{Epilogue, KernelKind, Lanes, Matrix, MatrixMut, Triangle, fast, reference, run_on};
use crate::math;
use crate::simd::{LANES, Operation, Simd};

/// Whether the kernel produces the bits of the reference.
pub(super) fn passes(kind: KernelKind, lanes: Lanes) -> bool {
    static AVX2: OnceLock<bool> = OnceLock::new();
    static AVX512: OnceLock<bool> = OnceLock::new();
    static NEON: OnceLock<bool> = OnceLock::new();
    let once = match kind {
        KernelKind::Reference => return true,
        KernelKind::Avx2 => &AVX2,
        KernelKind::Avx512 => &AVX512,
        KernelKind::Neon => &NEON,
    };
    *once.get_or_init(|| products_equal(lanes) && functions_equal(lanes))
}

/// Values whose bits never repeat, including zeros of both signs, subnormals, numbers about 2^-40
/// and huge values.
pub(crate) fn values(seed: u8, count: usize) -> Vec<f32> {
    values_of(&[seed], count)
}

/// [`values`] of a longer seed.
pub(crate) fn values_of(seed: &[u8], count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * 4];
    blake3::Hasher::new().update(seed).finalize_xof().fill(&mut bytes);
    let (words, _) = bytes.as_chunks::<4>();
    words
        .iter()
        .map(|&word| {
            let word = u32::from_le_bytes(word);
            let fraction = word & 0x807f_ffff;
            match word >> 23 & 0xff {
                0..4 => f32::from_bits(word & 0x8000_0000),
                4..8 => f32::from_bits(fraction),
                8..10 => f32::from_bits(fraction | 250 << 23),
                10..16 => f32::from_bits(fraction | 86 << 23),
                16..22 => f32::from_bits(fraction | 87 << 23),
                exponent => f32::from_bits(fraction | (119 + exponent % 16) << 23),
            }
        })
        .collect()
}

/// Whether all numbers have the same bits, but for those of a NaN.
pub(crate) fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().zip(b).all(|(x, y)| x.to_bits() == y.to_bits() || (x.is_nan() && y.is_nan()))
}

fn products_equal(lanes: Lanes) -> bool {
    let (rows, depth, columns) = (29, 67, 85);
    let a = values(1, rows * depth);
    let b = values(2, depth * columns);
    let start = values(3, rows * columns);
    let triangles = [
        Triangle::Full,
        Triangle::LowerOutput { shift: 3 },
        Triangle::LowerDepth { shift: 5 },
        Triangle::UpperDepth,
    ];
    let layouts = [Matrix::new(&b, depth, columns), Matrix::new(&b, columns, depth).transposed()];
    let cases = triangles.into_iter().flat_map(|triangle| layouts.map(|b| (triangle, b)));
    let cases = cases.flat_map(|(triangle, b)| [false, true].map(|raw| (triangle, b, raw)));
    cases.into_iter().all(|(triangle, b, raw)| {
        let (mut expected, mut got) = (start.clone(), start.clone());
        let (a, b) = (Matrix::new(&a, rows, depth).raw(raw), b.raw(raw));
        let c = MatrixMut::new(&mut expected, rows, columns);
        reference::matmul(a, b, c, true, triangle, Epilogue::None);
        let c = MatrixMut::new(&mut got, rows, columns);
        fast::matmul_here(lanes, a, b, c, true, triangle, Epilogue::None);
        (0..rows).all(|m| {
            let needed = match triangle {
                Triangle::LowerOutput { shift } => columns.min(m + shift + 1),
                _ => columns,
            };
            let row = m * columns..m * columns + needed;
            same_bits(&expected[row.clone()], &got[row])
        })
    })
}

/// Every function of a number that a score uses, for finite ones of both signs.
#[inline(always)]
pub(crate) fn functions<S: Simd>(simd: S, x: S::F) -> [S::F; 8] {
    let positive = simd.abs(x);
    let (sin, cos) = math::sin_cos_turn(simd, simd.turn(x, 0.3));
    [
        math::exp(simd, x),
        math::ln(simd, positive),
        math::erf(simd, x),
        math::gelu(simd, x),
        sin,
        cos,
        simd.div(simd.sqrt(positive), simd.max(x, simd.splat(0.75))),
        simd.operand(x),
    ]
}

/// Every lane operation at once.
struct Functions<'a>(&'a [f32; LANES]);

impl Operation for Functions<'_> {
    type Output = [[f32; LANES]; 9];

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let x = simd.load(self.0);
        let turn = simd.turn(x, 0.3);
        let [exp, ln, erf, gelu, sin, cos, quotient, operand] = functions(simd, x);
        let zero = simd.max(simd.mul(x, simd.splat(-0.0)), simd.sub(turn, turn));
        let results = [exp, ln, erf, gelu, sin, cos, quotient, operand, zero];
        let mut out = [[0.0; LANES]; 9];
        for (row, result) in out.iter_mut().zip(results) {
            simd.store(result, row);
        }
        out
    }
}

fn functions_equal(lanes: Lanes) -> bool {
    let samples = values(4, LANES * 64);
    let (chunks, _) = samples.as_chunks::<LANES>();
    chunks.iter().all(|chunk| {
        let expected = run_on(Lanes::Portable(crate::simd::Portable), Functions(chunk));
        let got = run_on(lanes, Functions(chunk));
        expected.iter().zip(&got).all(|(e, g)| same_bits(e, g))
    })
}

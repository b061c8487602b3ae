//! Compares every kernel of this CPU with the reference, on random shapes and values.

use proptest::prelude::*;

use super::*;
use crate::simd::{OPERAND_MIN, fused_multiply_add, operand};

/// Values of every kind: zeros of both signs, subnormal, ordinary, tiny and huge values, and many
/// about 2^-40; where `wild`, a few that are infinite or NaN.
fn values(seed: u64, count: usize, wild: bool) -> Vec<f32> {
    let mut bytes = vec![0; count * 5];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
        .as_chunks::<5>()
        .0
        .iter()
        .map(|&[kind, rest @ ..]| {
            let bits = u32::from_le_bytes(rest);
            let fraction = bits & 0x807f_ffff;
            let exponent = match kind {
                0..8 => return f32::from_bits(bits & 0x8000_0000),
                8..16 => 0,
                16..20 => 1 + (bits >> 23 & 0x1f),
                20..24 => 222 + (bits >> 23 & 0x1f),
                24..72 => 86 + (bits >> 23 & 1),
                255 if wild && bits.is_multiple_of(8) => {
                    return f32::from_bits(bits & 0xff80_0000 | 255 << 23);
                }
                255 if wild && bits & 7 == 1 => return f32::NAN,
                _ => 117 + (bits >> 23 & 0xf),
            };
            f32::from_bits(fraction | exponent << 23)
        })
        .collect()
}

/// The fast kernels of this CPU; says which ones it cannot try.
fn fast_engines(threads: usize) -> Vec<Engine> {
    let (here, absent): (Vec<_>, Vec<_>) =
        KernelKind::ALL.into_iter().partition(|kind| kind.is_available());
    for kind in absent {
        println!("skipped: this CPU cannot run the kernel `{kind}`");
    }
    here.into_iter()
        .filter(|&kind| kind != KernelKind::Reference)
        .map(|kind| Engine::new(KernelChoice::Kind(kind), threads).unwrap())
        .collect()
}

fn reference() -> Engine {
    Engine::new(KernelChoice::Kind(KernelKind::Reference), 1).unwrap()
}

fn bits(values: &[f32]) -> Vec<u32> {
    // All NaNs compare equal: their payload is not defined and never becomes visible.
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

fn view(data: &[f32], rows: usize, columns: usize, transposed: bool) -> Matrix<'_> {
    if transposed {
        Matrix::new(data, columns, rows).transposed()
    } else {
        Matrix::new(data, rows, columns)
    }
}

#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a case")]
struct Case {
    m: usize,
    k: usize,
    n: usize,
    a_transposed: bool,
    b_transposed: bool,
    raw: bool,
    accumulate: bool,
    wild: bool,
    seed: u64,
}

fn cases(most: usize, deepest: usize) -> impl Strategy<Value = Case> {
    let shape = (1..=most, 0..=deepest, 1..=most);
    (shape, any::<[bool; 5]>(), any::<u64>()).prop_map(
        |((m, k, n), [a_transposed, b_transposed, raw, accumulate, wild], seed)| Case {
            m,
            k,
            n,
            a_transposed,
            b_transposed,
            raw,
            accumulate,
            wild,
            seed,
        },
    )
}

/// The factors of a case.
fn factors(case: Case) -> [Vec<f32>; 2] {
    let Case { m, k, n, wild, seed, .. } = case;
    [values(seed, m * k, wild), values(seed ^ 1, k * n, wild)]
}

/// The factors as the matrices of a case; both are raw or neither.
fn views(case: Case, [a, b]: &[Vec<f32>; 2]) -> [Matrix<'_>; 2] {
    let Case { m, k, n, .. } = case;
    let a = view(a, m, k, case.a_transposed).raw(case.raw);
    [a, view(b, k, n, case.b_transposed).raw(case.raw)]
}

/// The product of a case with one kind of epilogue.
fn product(engine: &Engine, case: Case, epilogue: u8) -> Vec<f32> {
    let Case { m, n, .. } = case;
    let factors = factors(case);
    let bias = values(case.seed ^ 2, n, case.wild);
    let residual = values(case.seed ^ 3, m * n, case.wild);
    let mut c = values(case.seed ^ 4, m * n, case.wild);
    let epilogue = match epilogue {
        0 => Epilogue::None,
        1 => Epilogue::Bias(&bias),
        2 => Epilogue::BiasGelu(&bias),
        3 => Epilogue::BiasOperand(&bias),
        _ => Epilogue::BiasResidual(&bias, Matrix::new(&residual, m, n)),
    };
    let [a, b] = views(case, &factors);
    matmul(engine, a, b, MatrixMut::new(&mut c, m, n), case.accumulate, epilogue);
    c
}

/// The part of a triangular product that is defined.
fn triangle(engine: &Engine, case: Case, triangle: Triangle) -> Vec<f32> {
    let Case { m, n, .. } = case;
    let factors = factors(case);
    let mut c = values(case.seed ^ 4, m * n, case.wild);
    let [a, b] = views(case, &factors);
    matmul_here(
        engine,
        a,
        b,
        MatrixMut::new(&mut c, m, n),
        case.accumulate,
        triangle,
        Epilogue::None,
    );
    if let Triangle::LowerOutput { shift } = triangle {
        for (row, c) in c.chunks_exact_mut(n).enumerate() {
            c[n.min(row + shift + 1)..].fill(0.0);
        }
    }
    c
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_product_has_the_bits_of_the_reference(case in cases(70, 90), epilogue in 0_u8..5) {
        let expected = bits(&product(&reference(), case, epilogue));
        for engine in fast_engines(2) {
            let got = bits(&product(&engine, case, epilogue));
            prop_assert_eq!(&got, &expected, "{}", engine.kernel());
        }
    }

    #[test]
    fn products_deeper_than_a_slab_have_the_bits_of_the_reference(case in cases(70, 4500)) {
        let expected = bits(&product(&reference(), case, 0));
        for engine in fast_engines(1) {
            prop_assert_eq!(&bits(&product(&engine, case, 0)), &expected, "{}", engine.kernel());
        }
    }

    #[test]
    fn triangles_have_the_bits_of_the_reference(
        case in cases(70, 300),
        kind in 0_u8..3,
        shift in 0_usize..80,
    ) {
        let kind = match kind {
            0 => Triangle::LowerOutput { shift },
            1 => Triangle::LowerDepth { shift },
            _ => Triangle::UpperDepth,
        };
        let expected = bits(&triangle(&reference(), case, kind));
        for engine in fast_engines(1) {
            let got = bits(&triangle(&engine, case, kind));
            prop_assert_eq!(&got, &expected, "{}", engine.kernel());
        }
    }

    #[test]
    fn one_two_three_and_seven_threads_give_the_same_bits(seed: u64, wide in 1_usize..700) {
        let (a_transposed, b_transposed) = (false, false);
        let (raw, accumulate, wild) = (seed % 2 == 0, false, false);
        let (m, k, n) = (150, 40, wide);
        let case = Case { m, k, n, a_transposed, b_transposed, raw, accumulate, wild, seed };
        let expected = bits(&product(&reference(), case, 2));
        for threads in [1, 2, 3, 7] {
            for engine in fast_engines(threads) {
                let got = bits(&product(&engine, case, 2));
                prop_assert_eq!(&got, &expected, "{}", engine.kernel());
            }
        }
    }
}

proptest! {
    #[test]
    fn a_chain_of_operands_is_never_subnormal(
        pairs in prop::collection::vec((any::<(u32, u32)>(), any::<bool>()), 1..200),
    ) {
        // Mostly the smallest operands, of either sign, so that chains cancel and stay small.
        let number = |bits: u32, any: bool| {
            let about = bits & 0x807f_ffff | (86 + (bits >> 23 & 3)) << 23;
            operand(f32::from_bits(if any { bits } else { about }))
        };
        let mut chain = 0.0;
        for ((a, b), any) in pairs {
            let (a, b) = (number(a, any && a % 8 == 0), number(b, false));
            chain = fused_multiply_add(a, b, chain);
            prop_assert!(!chain.is_subnormal(), "{a:e} {b:e} {chain:e}");
        }
    }
}

#[test]
fn the_smallest_product_of_operands_is_a_normal_number_and_smaller_numbers_count_as_zero() {
    let least = f32::from_bits(OPERAND_MIN);
    assert_eq!(f64::from(least).to_bits(), 0x3d70_0000_0000_0000, "2^-40");
    assert_eq!(operand(least).to_bits(), least.to_bits());
    assert_eq!(operand(-least).to_bits(), (-least).to_bits());
    for small in [least.next_down(), -least.next_down(), f32::from_bits(1), 0.0, -0.0] {
        assert_eq!(operand(small).to_bits(), 0);
    }
    assert!(operand(f32::NAN).is_nan() && operand(f32::NEG_INFINITY) < 0.0);
    // The difference of neighboring products is a multiple of 2^-126, the least normal number.
    let next = least.next_up();
    let difference = fused_multiply_add(next, next, -(least * least));
    assert!(difference >= f32::MIN_POSITIVE);
    let difference = fused_multiply_add(next, next, -(next * next));
    assert_eq!(difference.to_bits(), f32::MIN_POSITIVE.to_bits());
}

#[test]
fn a_triangle_never_reads_what_is_hidden() {
    let (m, k, n) = (37, 37, 19);
    for (triangle, hidden) in [
        (Triangle::LowerDepth { shift: 0 }, (|m, k| k > m) as fn(usize, usize) -> bool),
        (Triangle::UpperDepth, |m, k| k < m),
    ] {
        let clean = values(7, m * k, false);
        let mut poisoned = clean.clone();
        for (i, value) in poisoned.iter_mut().enumerate() {
            if hidden(i / k, i % k) {
                *value = f32::NAN;
            }
        }
        let b = values(8, k * n, false);
        for engine in fast_engines(1).iter().chain([&reference()]) {
            let run = |a: &[f32]| {
                let mut c = vec![0.0; m * n];
                let (a, b) = (Matrix::new(a, m, k), Matrix::new(&b, k, n));
                let out = MatrixMut::new(&mut c, m, n);
                matmul_here(engine, a, b, out, false, triangle, Epilogue::None);
                bits(&c)
            };
            assert_eq!(run(&clean), run(&poisoned), "{}", engine.kernel());
        }
    }
}

#[test]
fn a_kernel_has_one_name_and_unknown_ones_are_refused() {
    for kind in KernelKind::ALL {
        assert_eq!(kind.name().parse::<KernelChoice>().unwrap(), KernelChoice::Kind(kind));
    }
    assert_eq!("auto".parse::<KernelChoice>().unwrap(), KernelChoice::Auto);
    assert!(matches!("cuda".parse::<KernelChoice>(), Err(Error::UnknownKernel { .. })));
}

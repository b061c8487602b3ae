//! Compares the functions with float64, and every lane implementation of this CPU with the
//! portable one.
#![expect(
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a test of bits and of small numbers"
)]

use proptest::prelude::*;

use super::*;
use crate::kernels::{Engine, KernelChoice};
use crate::simd::KernelKind;
use crate::simd::{Operation, fused_multiply_add, operand};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Function {
    Exp,
    Ln,
    Erf,
}

const FUNCTIONS: [Function; 3] = [Function::Exp, Function::Ln, Function::Erf];

impl Function {
    /// The value in float64, from an implementation with an error below one unit of float64: 2^-29
    /// ulp of float32.
    fn exact(self, x: f32) -> f64 {
        let x = f64::from(x);
        match self {
            Self::Exp => libm::exp(x),
            Self::Ln => libm::log(x),
            Self::Erf => libm::erf(x),
        }
    }
}

struct Apply<'a>(Function, &'a mut [f32; LANES]);

impl Operation for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let x = simd.load(self.1);
        let y = match self.0 {
            Function::Exp => exp(simd, x),
            Function::Ln => ln(simd, x),
            Function::Erf => erf(simd, x),
        };
        simd.store(y, self.1);
    }
}

/// Distance between float32 neighbors around a value.
fn ulp(exact: f64) -> f64 {
    let exponent = (exact.abs().to_bits() >> 52).saturating_sub(1023 - 126).max(1);
    f64::from_bits((exponent + 1023 - 126 - 23) << 52)
}

/// Error in units in the last place; 0 where both are the same infinity, NaN or the documented
/// flush to zero.
fn error(function: Function, x: f32, y: f32) -> f64 {
    let exact = function.exact(x);
    let flushed = function == Function::Exp && exact < f64::from(f32::MIN_POSITIVE);
    let overflows = exact.abs() > f64::from(f32::MAX) + ulp(f64::from(f32::MAX)) / 2.0;
    if exact.is_nan() {
        return if y.is_nan() { 0.0 } else { f64::INFINITY };
    }
    if flushed {
        return if y.to_bits() == 0 { 0.0 } else { f64::INFINITY };
    }
    if overflows || exact.is_infinite() {
        return if f64::from(y) == exact.signum() * f64::INFINITY { 0.0 } else { f64::INFINITY };
    }
    if exact == 0.0 {
        return if y == 0.0 { 0.0 } else { f64::INFINITY };
    }
    (f64::from(y) - exact).abs() / ulp(exact)
}

fn best_engine() -> Engine {
    Engine::new(KernelChoice::Auto, 1).unwrap()
}

/// The largest error over the bit patterns `start, start + step, ...`, and where it occurs.
fn worst(engine: &Engine, function: Function, start: u32, step: u32, end: u64) -> (f64, f32) {
    let mut worst = (0.0, 0.0);
    let mut bits = u64::from(start);
    while bits < end {
        let mut inputs = [0.0; LANES];
        for (lane, input) in inputs.iter_mut().enumerate() {
            *input = f32::from_bits((bits + lane as u64 * u64::from(step)) as u32);
        }
        let mut outputs = inputs;
        engine.run(Apply(function, &mut outputs));
        for (x, y) in inputs.into_iter().zip(outputs) {
            let error = error(function, x, y);
            if error > worst.0 {
                worst = (error, x);
            }
        }
        bits += LANES as u64 * u64::from(step);
    }
    worst
}

#[test]
fn exp_ln_and_erf_are_within_one_ulp_on_a_sample_of_all_float32() {
    let engine = best_engine();
    for function in FUNCTIONS {
        let (error, x) = worst(&engine, function, 5, 4093, 1 << 32);
        assert!(error <= 1.0, "{function:?}({x:e}) is {error} ulp off");
    }
}

#[test]
#[ignore = "all 2^32 inputs take minutes; docs/numerics.md has the result"]
fn exp_ln_and_erf_are_within_one_ulp_on_all_float32() {
    use rayon::prelude::*;
    let engine = best_engine();
    for function in FUNCTIONS {
        let blocks = 0..1_u64 << 12;
        let (error, x) = blocks
            .into_par_iter()
            .map(|block| worst(&engine, function, (block << 20) as u32, 1, (block + 1) << 20))
            .reduce(|| (0.0, 0.0), |a, b| if b.0 > a.0 { b } else { a });
        println!("{function:?}: at most {error:.4} ulp, at {x:e} ({:#010x})", x.to_bits());
        assert!(error <= 1.0);
    }
}

#[test]
fn exp_flushes_below_the_smallest_normal_number_and_overflows_to_infinity() {
    let exp_of = |x: f32| exp(Portable, [x; LANES])[0];
    assert!(exp_of(EXP_MIN) >= f32::MIN_POSITIVE);
    assert_eq!(exp_of(EXP_MIN.next_down()).to_bits(), 0);
    assert!(exp_of(EXP_MAX).is_finite());
    assert_eq!(exp_of(EXP_MAX.next_up()), f32::INFINITY);
    assert_eq!(exp_of(f32::NEG_INFINITY).to_bits(), 0);
    assert!(exp_of(f32::NAN).is_nan());
}

struct Softmax(Vec<f32>);

impl Operation for Softmax {
    type Output = (Vec<f32>, f32, f32);

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) -> Self::Output {
        let (max, sum) = softmax_row(simd, &mut self.0);
        (self.0, max, sum)
    }
}

proptest! {
    #[test]
    fn the_terms_of_a_softmax_are_exponentials_as_operands(
        row in prop::collection::vec(
            prop_oneof![-120.0..0.0_f32, -1e-6..1e-6_f32, any::<u32>().prop_map(f32::from_bits)],
            1..60,
        ),
    ) {
        let (terms, max, sum) = Softmax(row.clone()).run(Portable);
        for (x, term) in row.iter().zip(&terms) {
            let expected = operand(exp(Portable, [x - max; LANES])[0]);
            prop_assert!(same(*term, expected), "{x:e} {max:e}: {term:e} {expected:e}");
        }
        prop_assert!(same(sum, SumRow(&terms).run(Portable)));
        for kind in KernelKind::ALL.into_iter().filter(|kind| kind.is_available()) {
            let engine = Engine::new(KernelChoice::Kind(kind), 1).unwrap();
            let (got, max_got, sum_got) = engine.run(Softmax(row.clone()));
            prop_assert!(same(max_got, max) && same(sum_got, sum), "{kind}");
            prop_assert!(got.iter().zip(&terms).all(|(a, b)| same(*a, *b)), "{kind}");
        }
    }
}

/// Every lane operation on three vectors.
struct Everything<'a>(&'a [[f32; LANES]; 3]);

impl Operation for Everything<'_> {
    type Output = Vec<[f32; LANES]>;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> Self::Output {
        let [a, b, c] = [0, 1, 2].map(|i| simd.load(&self.0[i]));
        let turn = simd.turn(a, 0.029_841_551_829_730_38);
        let (sin, cos) = sin_cos_turn(simd, turn);
        let all = [
            simd.add(a, b),
            simd.sub(a, b),
            simd.mul(a, b),
            simd.div(a, b),
            simd.sqrt(simd.abs(a)),
            simd.fma(a, b, c),
            simd.fnma(a, b, c),
            simd.max(a, b),
            simd.max(simd.mul(a, simd.splat(-0.0)), simd.splat(0.0)),
            simd.operand(a),
            softmax_term(simd, simd.sub(simd.splat(0.0), simd.abs(a)), simd.splat(0.0)),
            simd.copy_sign(a, b),
            simd.select(simd.first(11), a, b),
            simd.with_bits(simd.sar_bits::<9>(simd.bits(a))),
            turn,
            sin,
            cos,
            exp(simd, a),
            ln(simd, a),
            erf(simd, a),
            gelu(simd, a),
            gelu_derivative(simd, a),
        ];
        all.iter()
            .map(|&v| {
                let mut lanes = [0.0; LANES];
                simd.store(v, &mut lanes);
                lanes
            })
            .collect()
    }
}

fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_lane_operation_has_the_same_bits_on_every_kernel(
        input in prop::array::uniform3(prop::array::uniform16(any::<u32>())),
        near in any::<bool>(),
    ) {
        // Arbitrary bits or, for more ordinary sums, exponents around zero and a few about -40.
        let narrow = |bits: u32| match near {
            false => bits,
            true if bits.is_multiple_of(4) => bits & 0x80ff_ffff | 0x2b00_0000,
            true => bits & 0x81ff_ffff | 0x3e00_0000,
        };
        let input = input.map(|lanes| lanes.map(|bits| f32::from_bits(narrow(bits))));
        let expected = Everything(&input).run(Portable);
        for kind in KernelKind::ALL.into_iter().filter(|kind| kind.is_available()) {
            let engine = Engine::new(KernelChoice::Kind(kind), 1).unwrap();
            let got = engine.run(Everything(&input));
            for (index, (e, g)) in expected.iter().zip(&got).enumerate() {
                for lane in 0..LANES {
                    let (e, g) = (e[lane], g[lane]);
                    prop_assert!(same(e, g), "{kind}, operation {index}: {e} {g}");
                }
            }
        }
    }
}

#[test]
fn the_portable_fma_rounds_once() {
    // One ulp above 1, squared, plus something that breaks a tie in the final rounding.
    let x = 1.0 + f32::EPSILON;
    let cases = [
        (x, x, f32::EPSILON * f32::EPSILON / 4.0),
        (x, x, -f32::EPSILON * f32::EPSILON / 4.0),
        (x, x, -1.0),
        (1e-30, 1e-30, 0.0),
        (-1e-30, 1e-30, 0.0),
        (f32::MAX, f32::MAX, f32::NEG_INFINITY),
        (f32::MAX, 2.0, -f32::MAX),
        (f32::MIN_POSITIVE, 0.5, f32::from_bits(1)),
        (f32::from_bits(0x0080_0001), 0.5, 0.0),
        (-0.0, 1.0, -0.0),
        (0.0, -1.0, 0.0),
    ];
    for (a, b, c) in cases {
        #[expect(
            clippy::disallowed_methods,
            reason = "the library's fma is the independent reference"
        )]
        let expected = f32::mul_add(a, b, c);
        assert_eq!(
            fused_multiply_add(a, b, c).to_bits(),
            expected.to_bits(),
            "fma({a:e}, {b:e}, {c:e})"
        );
    }
}

#[test]
fn sums_of_rows_add_strided_lanes_and_fold_by_halves() {
    for len in [1, 7, 16, 17, 40, 129] {
        let row: Vec<f32> =
            (0..len).map(|i| (i as f32 * 0.37).fract() * 1e3_f32.powi_of(i % 5)).collect();
        let mut lanes = [0.0_f32; LANES];
        for (i, x) in row.iter().enumerate() {
            lanes[i % LANES] += x;
        }
        for half in [8, 4, 2, 1] {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
        }
        for kind in KernelKind::ALL.into_iter().filter(|kind| kind.is_available()) {
            let engine = Engine::new(KernelChoice::Kind(kind), 1).unwrap();
            assert_eq!(engine.run(SumRow(&row)).to_bits(), lanes[0].to_bits(), "{kind}, {len}");
        }
    }
}

struct SumRow<'a>(&'a [f32]);

impl Operation for SumRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        sum_row(simd, self.0)
    }
}

trait PowerOf {
    fn powi_of(self, n: usize) -> f32;
}

impl PowerOf for f32 {
    fn powi_of(self, n: usize) -> f32 {
        (0..n).fold(1.0, |product, _| product * self)
    }
}

//! SIGReg (LeJEPA, arXiv 2511.08544): how far projections of the representations are from being
//! normally distributed.
//!
//! The mean of the characteristic function is taken over the samples of each direction, never over
//! directions, which would reward collapse.

mod training;

pub(crate) use training::{CharacteristicFunction, DocumentSums};

use std::sync::Arc;

use soma_architecture::Architecture;

use crate::device::Kept;
use crate::kernels::{Engine, Epilogue, Matrix, MatrixMut, matmul};
use crate::math::sin_cos_turn;
use crate::math64;
use crate::simd::{LANES, Operation, Simd, operand};
use crate::sizes::Sizes;

/// 1 / (2 pi)
const TURNS_PER_RADIAN: f64 = f64::from_bits(0x3fc4_5f30_6dc9_c883);

/// The unit directions derived from a seed, `[dim, slices]`.
#[derive(Clone, Debug)]
pub struct Directions {
    values: Vec<f32>,
    slices: usize,
    /// What cards keep of them.
    kept: Arc<Kept>,
}

impl Directions {
    /// Components are +-1, from the bits of BLAKE3's stream over the seed, times 1 / sqrt(dim).
    ///
    /// Each is given by bit `row * slices + column`, least significant first; a set bit is +1.
    pub fn new(architecture: &Architecture, seed: [u8; 32]) -> Self {
        let Sizes { dim, slices, .. } = Sizes::from(architecture);
        let mut bits = vec![0; (dim * slices).div_ceil(8)];
        blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut bits);
        #[expect(clippy::cast_precision_loss, reason = "a width is at most 65536, which is exact")]
        let component = 1.0 / (dim as f32).sqrt();
        let values = (0..dim * slices)
            .map(|bit| if bits[bit / 8] >> (bit % 8) & 1 == 1 { component } else { -component })
            .collect();
        Self { values, slices, kept: Arc::default() }
    }

    /// Directions `[dim, slices]`, columns of length 1; `None` if their number does not match
    /// the architecture.
    pub fn from_columns(architecture: &Architecture, values: Vec<f32>) -> Option<Self> {
        let Sizes { dim, slices, .. } = Sizes::from(architecture);
        if values.len() != dim * slices {
            return None;
        }
        let values = values.into_iter().map(operand).collect();
        Some(Self { values, slices, kept: Arc::default() })
    }

    /// What cards keep of them.
    pub(crate) fn kept(&self) -> &Arc<Kept> {
        &self.kept
    }

    /// The matrix, `[dim, slices]`.
    pub(crate) fn matrix(&self) -> Matrix<'_> {
        Matrix::new(&self.values, self.values.len() / self.slices, self.slices)
    }
}

/// Nodes and weights of the integral over t.
#[derive(Clone, Debug)]
pub(crate) struct Nodes {
    /// Turns of the phase at the first node, for a projection of 1: `dt / 2 pi`.
    pub(crate) turns: f64,
    /// `exp(-t^2 / 2)` of the nodes, from the second on.
    pub(crate) phi: Vec<f64>,
    /// `phi * dt * (2 inside, 1 at the end)`.
    pub(crate) weights: Vec<f64>,
}

impl Nodes {
    /// The nodes `t_j = t_max * j / (points - 1)` without the first, which contributes nothing.
    pub(crate) fn new(architecture: &Architecture) -> Self {
        let t_max = f64::from(architecture.sig_reg_t_max_thousandths) / 1e3;
        let last = architecture.sig_reg_points - 1;
        let intervals = f64::from(last);
        let step = t_max / intervals;
        let (mut phi, mut weights) = (Vec::new(), Vec::new());
        for j in 1..=last {
            let t = t_max * f64::from(j) / intervals;
            let value = math64::exp(-(t * t) / 2.0);
            let ends = if j == last { 1.0 } else { 2.0 };
            phi.push(value);
            weights.push(value * step * ends);
        }
        Self { turns: step * TURNS_PER_RADIAN, phi, weights }
    }
}

/// Cosine and sine of the next node from those of this one and of the first, by complex
/// multiplication: `c' = fma(-s, s1, c * c1)`, `s' = fma(c, s1, s * c1)`.
#[inline(always)]
fn next_node<S: Simd>(s: S, node: (S::F, S::F), first: (S::F, S::F)) -> (S::F, S::F) {
    let cos = s.fnma(node.1, first.1, s.mul(node.0, first.0));
    let sin = s.fma(node.0, first.1, s.mul(node.1, first.0));
    (cos, sin)
}

/// Sums over samples of cos and sin of `t_j p`, for up to 16 directions.
///
/// One chain of additions per node over the samples in order.
struct CharacteristicSums<'a> {
    /// `[samples, directions]`, starting at the first of these directions.
    projections: Matrix<'a>,
    turns: f64,
    /// `[nodes][16]` of cos, then of sin; starts as zeros.
    sums: &'a mut [[f32; LANES]],
}

impl Operation for CharacteristicSums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (cos_sums, sin_sums) = self.sums.split_at_mut(self.sums.len() / 2);
        for sample in 0..self.projections.rows() {
            let row = &self.projections.data()[sample * self.projections.row_stride()..];
            let row = &row[..self.projections.columns()];
            let turn = simd.turn(simd.operand(simd.load_partial(row, 0.0)), self.turns);
            let (sin_1, cos_1) = sin_cos_turn(simd, turn);
            let (mut sin, mut cos) = (sin_1, cos_1);
            for (cos_sum, sin_sum) in cos_sums.iter_mut().zip(sin_sums.iter_mut()) {
                simd.store(simd.add(simd.load(cos_sum), cos), cos_sum);
                simd.store(simd.add(simd.load(sin_sum), sin), sin_sum);
                (cos, sin) = next_node(simd, (cos, sin), (cos_1, sin_1));
            }
        }
    }
}

/// Projections of representations on the directions, `[samples, slices]`.
pub(crate) fn project(
    engine: &Engine,
    representations: &[f32],
    directions: &Directions,
    projections: &mut Vec<f32>,
) {
    let matrix = directions.matrix();
    let samples = representations.len() / matrix.rows();
    projections.resize(samples * matrix.columns(), 0.0);
    matmul(
        engine,
        Matrix::new(representations, samples, matrix.rows()),
        matrix,
        MatrixMut::new(projections, samples, matrix.columns()),
        false,
        Epilogue::None,
    );
}

/// D of samples, from their projections `[samples, slices]`: the mean over directions of the
/// weighted squared distance between their characteristic function and that of the normal
/// distribution. In float64, over nodes and then directions, in order.
pub(crate) fn distance_from_normal(engine: &Engine, nodes: &Nodes, projections: Matrix<'_>) -> f64 {
    let samples = projections.rows();
    let mut distances = vec![0.0; projections.columns()];
    let tasks = distances.chunks_mut(LANES).enumerate().collect();
    engine.for_each(tasks, |(group, distances): (usize, &mut [f64])| {
        let mut sums = vec![[0.0; LANES]; 2 * nodes.phi.len()];
        let projections = projections.columns_from(group * LANES, distances.len());
        engine.run(CharacteristicSums { projections, turns: nodes.turns, sums: &mut sums });
        for (lane, distance) in distances.iter_mut().enumerate() {
            *distance = weighted_distance(nodes, |j| sums[j][lane], samples);
        }
    });
    mean_distance(&distances)
}

/// `sum_j w_j ((mean cos - phi_j)^2 + (mean sin)^2)` of one direction; `sum_of` gives its sums of
/// cos at the nodes, and then of sin.
fn weighted_distance(nodes: &Nodes, sum_of: impl Fn(usize) -> f32, samples: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "samples are far below 2^53")]
    let samples = samples as f64;
    let count = nodes.phi.len();
    (0..count).fold(0.0, |sum, j| {
        let cos = f64::from(sum_of(j)) / samples - nodes.phi[j];
        let sin = f64::from(sum_of(count + j)) / samples;
        sum + nodes.weights[j] * (cos * cos + sin * sin)
    })
}

/// The mean of the directions' distances, added up in order.
fn mean_distance(distances: &[f64]) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "directions are at most 16384")]
    let count = distances.len() as f64;
    distances.iter().fold(0.0, |sum, distance| sum + distance) / count
}

/// [`distance_from_normal`] from the sums over samples at the nodes, `[2 nodes, slices]`: of cos,
/// then of sin.
pub(crate) fn distance_of_sums(nodes: &Nodes, sums: &[f32], samples: usize) -> f64 {
    let slices = sums.len() / (2 * nodes.phi.len());
    let distances: Vec<f64> = (0..slices)
        .map(|slice| weighted_distance(nodes, |j| sums[j * slices + slice], samples))
        .collect();
    mean_distance(&distances)
}

#[cfg(test)]
mod tests;

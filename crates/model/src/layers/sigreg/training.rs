//! `SIGReg` over all positions of a micro-batch, and its gradient.
//!
//! Samples are the positions of many documents together, which is what spreads documents apart.
//! Sums run over the positions of a document in float32, then over documents in order in float64.
#![expect(
    clippy::cast_precision_loss,
    reason = "positions, directions and nodes are far below 2^53"
)]

use soma_architecture::Architecture;

use super::{Nodes, next_node};
use crate::math::sin_cos_turn;
use crate::simd::{LANES, Operation, Simd, load_lanes, store_lanes};

/// The sums of the samples at the nodes of the integral, and the gradient coefficients derived
/// from them.
#[derive(Debug)]
pub(crate) struct CharacteristicFunction {
    slices: usize,
    nodes: Nodes,
    /// Real and imaginary sums, `[nodes][slices]` each.
    sums: [Vec<f64>; 2],
    /// `[nodes][slices]`: what multiplies the cosine and the sine of each node in the gradient.
    coefficients: [Vec<f32>; 2],
}

/// Sums of one document, `[nodes][slices]`, of cosines and of sines.
pub(crate) type DocumentSums = [Vec<f32>; 2];

impl CharacteristicFunction {
    pub(crate) fn new(architecture: &Architecture) -> Self {
        let (slices, nodes) = (architecture.sig_reg_slices as usize, Nodes::new(architecture));
        let size = nodes.phi.len() * slices;
        let sums = [vec![0.0; size], vec![0.0; size]];
        let coefficients = [vec![0.0; size], vec![0.0; size]];
        Self { slices, nodes, sums, coefficients }
    }

    /// Room for the sums of one document.
    pub(crate) fn document_sums(&self) -> DocumentSums {
        [vec![0.0; self.sums[0].len()], vec![0.0; self.sums[1].len()]]
    }

    /// Turns projections (`[positions, slices]`, in `cosines`) into the cosine and sine of their
    /// first node, and adds up all nodes over the positions.
    pub(crate) fn samples<'a>(
        &self,
        cosines: &'a mut [f32],
        sines: &'a mut [f32],
        sums: &'a mut DocumentSums,
    ) -> Samples<'a> {
        let Nodes { turns, ref phi, .. } = self.nodes;
        Samples { slices: self.slices, nodes: phi.len(), turns, cosines, sines, sums }
    }

    /// The distance D, averaged over directions, of `positions` samples; prepares the gradient of
    /// `weight * D`.
    #[expect(clippy::cast_possible_truncation, reason = "coefficients are rounded once, here")]
    pub(crate) fn distance<'a>(
        &mut self,
        documents: impl Iterator<Item = &'a DocumentSums>,
        positions: usize,
        weight: f64,
    ) -> f64 {
        for sums in &mut self.sums {
            sums.fill(0.0);
        }
        for document in documents {
            for (sums, part) in self.sums.iter_mut().zip(document) {
                for (sum, part) in sums.iter_mut().zip(part) {
                    *sum += f64::from(*part);
                }
            }
        }
        let share = 1.0 / positions as f64;
        let slope = 2.0 * weight * share / self.slices as f64;
        let mut total = 0.0;
        let nodes = self.nodes.phi.iter().zip(&self.nodes.weights);
        for (j, (phi, node_weight)) in nodes.enumerate() {
            let t = self.nodes.turns * core::f64::consts::TAU * (j + 1) as f64;
            for i in j * self.slices..(j + 1) * self.slices {
                let real = self.sums[0][i] * share - phi;
                let imaginary = self.sums[1][i] * share;
                total += node_weight * (real * real + imaginary * imaginary);
                self.coefficients[0][i] = (slope * node_weight * t * imaginary) as f32;
                self.coefficients[1][i] = (slope * node_weight * t * real) as f32;
            }
        }
        total / self.slices as f64
    }

    /// Replaces the cosines of a document's samples with the gradient of its projections.
    pub(crate) fn gradient<'a>(&'a self, cosines: &'a mut [f32], sines: &'a [f32]) -> Gradient<'a> {
        Gradient { slices: self.slices, coefficients: &self.coefficients, cosines, sines }
    }
}

/// See [`CharacteristicFunction::samples`].
#[derive(Debug)]
pub(crate) struct Samples<'a> {
    slices: usize,
    nodes: usize,
    turns: f64,
    cosines: &'a mut [f32],
    sines: &'a mut [f32],
    sums: &'a mut DocumentSums,
}

impl Operation for Samples<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let [cosine_sums, sine_sums] = self.sums;
        cosine_sums.fill(0.0);
        sine_sums.fill(0.0);
        let rows = self.cosines.chunks_mut(self.slices).zip(self.sines.chunks_mut(self.slices));
        for (cosines, sines) in rows {
            for (p, (cosine, sine)) in
                cosines.chunks_mut(LANES).zip(sines.chunks_mut(LANES)).enumerate()
            {
                let turn = s.turn(s.operand(load_lanes(s, cosine)), self.turns);
                let (d, c) = sin_cos_turn(s, turn);
                store_lanes(s, c, cosine);
                store_lanes(s, d, sine);
                let (mut real, mut imaginary) = (c, d);
                for node in 0..self.nodes {
                    let at = node * self.slices + p * LANES;
                    let sum = &mut cosine_sums[at..][..cosine.len()];
                    store_lanes(s, s.add(load_lanes(s, sum), real), sum);
                    let sum = &mut sine_sums[at..][..cosine.len()];
                    store_lanes(s, s.add(load_lanes(s, sum), imaginary), sum);
                    (real, imaginary) = next_node(s, (real, imaginary), (c, d));
                }
            }
        }
    }
}

/// See [`CharacteristicFunction::gradient`].
#[derive(Debug)]
pub(crate) struct Gradient<'a> {
    slices: usize,
    coefficients: &'a [Vec<f32>; 2],
    cosines: &'a mut [f32],
    sines: &'a [f32],
}

impl Operation for Gradient<'_> {
    type Output = ();

    /// The real part of `sum_j (b_j + i a_j) z^j` by Horner's rule, where `z` is the sample's point
    /// on the unit circle.
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let nodes = self.coefficients[0].len() / self.slices;
        let rows = self.cosines.chunks_mut(self.slices).zip(self.sines.chunks(self.slices));
        for (cosines, sines) in rows {
            for (p, (cosine, sine)) in
                cosines.chunks_mut(LANES).zip(sines.chunks(LANES)).enumerate()
            {
                let (c, d) = (load_lanes(s, cosine), load_lanes(s, sine));
                let (mut real, mut imaginary) = (s.splat(0.0), s.splat(0.0));
                for node in (0..nodes).rev() {
                    let at = node * self.slices + p * LANES;
                    let b = load_lanes(s, &self.coefficients[0][at..][..sine.len()]);
                    let a = load_lanes(s, &self.coefficients[1][at..][..sine.len()]);
                    let (x, y) = (s.add(real, b), s.add(imaginary, a));
                    real = s.fnma(y, d, s.mul(x, c));
                    imaginary = s.fma(x, d, s.mul(y, c));
                }
                store_lanes(s, real, cosine);
            }
        }
    }
}

//! What a score takes from a forward pass over chunks: per chunk, the cost of its tokens, the sum
//! of its representations, and how far they are from being normally distributed.
//!
//! This is the pass on the CPU, and the definition of the one on a card (`card`).

use crate::forward::{Forward, logits};
use crate::kernels::{Engine, Matrix};
use crate::layers::loss::negative_log_likelihood;
use crate::layers::sigreg::{Directions, Nodes, distance_from_normal, project};
use crate::sizes::Sizes;
use crate::weights::Weights;

/// What computes: a model, and what SIGReg measures with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) weights: &'a Weights,
    pub(crate) directions: &'a Directions,
    pub(crate) nodes: &'a Nodes,
}

/// What a pass gives for a chunk.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Outcome {
    /// The nll of every predicted position.
    pub(crate) nll: Vec<f32>,
    /// The sum of the representations over the positions, in order.
    pub(crate) representation: Vec<f64>,
    /// D of SIGReg.
    pub(crate) distance: f64,
}

/// The rows of a pass, for whoever compares them: `[positions, dim]` and `[positions, vocabulary]`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) representations: Vec<f32>,
    pub(crate) logits: Vec<f32>,
}

/// Buffers of a pass, kept from call to call.
#[derive(Debug, Default)]
pub(crate) struct Pass {
    forward: Forward,
    logits: Vec<f32>,
    projections: Vec<f32>,
}

impl Pass {
    /// Computes chunks of tokens, one outcome for each: `None` if a representation or a logit is
    /// not finite.
    pub(crate) fn run(
        &mut self,
        engine: &Engine,
        subject: Subject<'_>,
        chunks: &[Vec<u16>],
        rows: Option<&mut Rows>,
    ) -> Vec<Option<Outcome>> {
        let Subject { weights, directions, nodes } = subject;
        let Sizes { dim, vocabulary, slices, .. } = weights.sizes();
        let representations = self.forward.representations(engine, weights, chunks);
        logits(engine, weights, representations, &mut self.logits);
        project(engine, representations, directions, &mut self.projections);
        if let Some(rows) = rows {
            rows.representations.extend_from_slice(representations);
            rows.logits.extend_from_slice(&self.logits);
        }
        let mut first = 0;
        let outcomes = chunks.iter().map(|tokens| {
            let rows = first..first + tokens.len();
            first = rows.end;
            let representations = &representations[rows.start * dim..rows.end * dim];
            let logits = &mut self.logits[rows.start * vocabulary..rows.end * vocabulary];
            if !(all_finite(representations) && all_finite(logits)) {
                return None;
            }
            let mut nll = vec![0.0; tokens.len() - 1];
            let predicted = &mut logits[..nll.len() * vocabulary];
            negative_log_likelihood(engine, predicted, &tokens[1..], &mut nll);
            let projections = &self.projections[rows.start * slices..rows.end * slices];
            let projections = Matrix::new(projections, tokens.len(), slices);
            let distance = distance_from_normal(engine, nodes, projections);
            Some(Outcome { nll, representation: sum_of_rows(representations, dim), distance })
        });
        outcomes.collect()
    }
}

/// The sum of rows in float64, in order.
fn sum_of_rows(rows: &[f32], dim: usize) -> Vec<f64> {
    let mut sum = vec![0.0; dim];
    for row in rows.chunks_exact(dim) {
        for (sum, &value) in sum.iter_mut().zip(row) {
            *sum += f64::from(value);
        }
    }
    sum
}

fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

//! Negative log likelihood of the next token.
//!
//! Order: `nll = ln(sum) - (logit - max)`, with max and sum of `exp(logit - max)` over the whole
//! vocabulary as in `math::softmax_row`.

use crate::kernels::Engine;
use crate::math::{ln, softmax_row};
use crate::simd::{LANES, Operation, Simd, load_lanes, store_lanes};

/// Means "this position predicts nothing" where a target is expected.
pub(crate) const NO_TARGET: u16 = u16::MAX;

/// The nll of one row and the sum of `exp(logit - max)`, whose terms replace the logits.
#[inline(always)]
fn likelihood<S: Simd>(s: S, logits: &mut [f32], target: usize) -> (f32, f32) {
    let logit = logits[target];
    let (max, sum) = softmax_row(s, logits);
    let mut lanes = [0.0; LANES];
    s.store(ln(s, s.splat(sum)), &mut lanes);
    (lanes[0] - (logit - max), sum)
}

/// The nll of some rows, `[targets.len(), vocabulary]`.
struct Likelihoods<'a> {
    logits: &'a mut [f32],
    targets: &'a [u16],
    nll: &'a mut [f32],
}

impl Operation for Likelihoods<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let vocabulary = self.logits.len() / self.targets.len();
        let rows = self.logits.chunks_exact_mut(vocabulary).zip(self.targets);
        for ((logits, &target), nll) in rows.zip(self.nll) {
            (*nll, _) = likelihood(s, logits, usize::from(target));
        }
    }
}

/// The nll of every target, in nats; `logits` is `[targets.len(), vocabulary]` and is overwritten
/// with `exp(logit - max)`.
pub(crate) fn negative_log_likelihood(
    engine: &Engine,
    logits: &mut [f32],
    targets: &[u16],
    nll: &mut [f32],
) {
    if targets.is_empty() {
        return;
    }
    let vocabulary = logits.len() / targets.len();
    let share = engine.share(targets.len());
    let tasks = logits
        .chunks_mut(share * vocabulary)
        .zip(targets.chunks(share))
        .zip(nll.chunks_mut(share))
        .collect();
    engine.for_each(tasks, |((logits, targets), nll)| {
        engine.run(Likelihoods { logits, targets, nll });
    });
}

/// Replaces logits with the gradient of `weight` times the sum of the negative log likelihoods, and
/// returns that sum.
pub(crate) struct CrossEntropy<'a> {
    pub(crate) logits: &'a mut [f32],
    pub(crate) targets: &'a [u16],
    pub(crate) weight: f32,
}

impl Operation for CrossEntropy<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f64 {
        let width = self.logits.len() / self.targets.len().max(1);
        let mut total = 0.0;
        for (row, &target) in self.logits.chunks_exact_mut(width.max(1)).zip(self.targets) {
            if target == NO_TARGET {
                row.fill(0.0);
                continue;
            }
            let (nll, sum) = likelihood(s, row, usize::from(target));
            total += f64::from(nll);
            let factor = s.splat(self.weight / sum);
            for x in row.chunks_mut(LANES) {
                store_lanes(s, s.mul(load_lanes(s, x), factor), x);
            }
            row[usize::from(target)] -= self.weight;
        }
        total
    }
}

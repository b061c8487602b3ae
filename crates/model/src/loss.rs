//! Negative log likelihood of the next token.
//!
//! Order: `nll = ln(sum) - (logit - max)`, with max and sum of `exp(logit - max)` over the whole vocabulary as in
//! `math::softmax_row`.
#![expect(
    clippy::inline_always,
    reason = "lane operations must be inlined into the function that enables their CPU features"
)]

use crate::kernels::Engine;
use crate::math::{ln, softmax_row};
use crate::simd::{Operation, Simd};

/// The likelihood of one row; leaves `exp(logit - max)` in it.
struct Likelihood<'a> {
    logits: &'a mut [f32],
    target: usize,
}

impl Operation for Likelihood<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let logit = self.logits[self.target];
        let (max, sum) = softmax_row(simd, self.logits);
        let mut lanes = [0.0; crate::simd::LANES];
        simd.store(ln(simd, simd.splat(sum)), &mut lanes);
        lanes[0] - (logit - max)
    }
}

/// nll in nats of every target; `logits` is `[targets.len(), vocabulary]` and is overwritten by `exp(logit - max)`.
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
        let rows = logits.chunks_exact_mut(vocabulary).zip(targets);
        for ((logits, &target), nll) in rows.zip(nll) {
            *nll = engine.run(Likelihood {
                logits,
                target: usize::from(target),
            });
        }
    });
}

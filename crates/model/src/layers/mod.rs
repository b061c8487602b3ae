//! The layers of a model, one file each, with forward and backward side by side.
//!
//! Scores and training steps use the same layers in two arrangements. A score keeps nothing: it
//! runs the products of many chunks together on all threads, straight from the weights file
//! (`forward`). Training keeps what the backward pass needs: one window on one thread
//! (`train::pass`). The bits of both are the same up to the loss, whose sum over windows training
//! defines on its own (`docs/training.md`).

pub(crate) mod attention;
pub(crate) mod feed_forward;
pub(crate) mod linear;
pub(crate) mod loss;
pub(crate) mod norm;
pub(crate) mod sigreg;

use crate::simd::{LANES, Simd, load_lanes};

/// The i-th 16 elements of each of some rows; missing ones are zero.
#[inline(always)]
fn part<S: Simd, const N: usize>(s: S, i: usize, rows: [&[f32]; N]) -> [S::F; N] {
    let mut parts = [s.splat(0.0); N];
    for (part, row) in parts.iter_mut().zip(rows) {
        *part = load_lanes(s, &row[i * LANES..]);
    }
    parts
}

/// `sum = fma(a, b, sum)` in the 16 lanes of a row sum.
#[inline(always)]
fn dot<S: Simd>(s: S, a: &[f32], b: &[f32]) -> f32 {
    let mut sum = s.splat(0.0);
    for (a, b) in a.chunks(LANES).zip(b.chunks(LANES)) {
        let longer = s.fma(load_lanes(s, a), load_lanes(s, b), sum);
        sum = s.select(s.first(a.len()), longer, sum);
    }
    s.fold(sum)
}

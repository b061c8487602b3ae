//! Copying A and B into the order in which the register tile reads them.
//!
//! A panel holds, one depth step after another, the rows of A (or columns of B) of one tile:
//! `panel[k * width + lane]`. Packing moves bits and never computes; of a raw matrix, it turns
//! small numbers into the zeros that they count as. Missing lanes are filled with zeros, and their
//! outputs are not stored.

use std::ops::Range;

use super::Matrix;
use crate::simd::{LANES, Operation, Simd, operand};

/// Packs panels of `TILE_ROWS` rows of A: panel p, depth k, row r is at `(p * depth + k) *
/// TILE_ROWS + r`.
pub(super) struct PackRows<'a, 'b> {
    pub(super) a: Matrix<'a>,
    pub(super) panels: &'b mut [f32],
}

impl Operation for PackRows<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (rows, depth) = (self.a.rows(), self.a.columns());
        if depth == 0 {
            return;
        }
        let panels = self.panels.chunks_exact_mut(S::TILE_ROWS * depth);
        for (panel, first) in panels.zip((0..rows).step_by(S::TILE_ROWS)) {
            let count = S::TILE_ROWS.min(rows - first);
            let lanes = self.a.rows_from(first, count);
            pack(simd, lanes, 0..depth, S::TILE_ROWS, panel);
        }
    }
}

/// `panel[k * width + lane] = lanes[lane][k]` for the given steps of the depth.
#[inline(always)]
pub(super) fn pack<S: Simd>(
    simd: S,
    lanes: Matrix<'_>,
    steps: Range<usize>,
    width: usize,
    panel: &mut [f32],
) {
    if steps.is_empty() {
        return;
    }
    let part = lanes.columns_from(steps.start, steps.len());
    let panel = &mut panel[steps.start * width..steps.end * width];
    if part.row_stride() == 1 {
        copy(simd, part, width, panel);
    } else if part.column_stride() == 1 {
        transpose(simd, part, width, panel);
    } else {
        gather(part, width, panel);
    }
}

/// Packs when the lanes of a step lie side by side.
#[inline(always)]
fn copy<S: Simd>(simd: S, part: Matrix<'_>, width: usize, panel: &mut [f32]) {
    let (lanes, stride) = (part.rows(), part.column_stride());
    if lanes < width {
        for (k, to) in panel.chunks_exact_mut(width).enumerate() {
            to[..lanes].copy_from_slice(&part.data()[k * stride..][..lanes]);
            if part.is_raw() {
                to[..lanes].iter_mut().for_each(|x| *x = operand(*x));
            }
            to[lanes..].fill(0.0);
        }
        return;
    }
    for k in 0..part.columns() {
        for first in (0..width).step_by(LANES) {
            let wide = LANES.min(width - first);
            let from = &part.data()[k * stride + first..];
            let line = match from.first_chunk() {
                Some(from) => simd.load(from),
                None => simd.load_partial(&from[..wide], 0.0),
            };
            let line = if part.is_raw() { simd.operand(line) } else { line };
            put(simd, line, wide, width, &mut panel[k * width + first..]);
        }
    }
}

/// Turns small numbers of a packed panel into the zeros that they count as.
#[inline(always)]
pub(super) fn operands<S: Simd>(simd: S, panel: &mut [f32]) {
    for part in panel.as_chunks_mut::<LANES>().0 {
        simd.store(simd.operand(simd.load(part)), part);
    }
}

/// Writes `wide` lanes and possibly beyond, into the next steps, which are written afterwards.
#[inline(always)]
fn put<S: Simd>(simd: S, line: S::F, wide: usize, width: usize, to: &mut [f32]) {
    match to.first_chunk_mut() {
        Some(to) if width < LANES || wide == LANES => simd.store(line, to),
        _ => simd.store_partial(line, &mut to[..wide]),
    }
}

/// Packs when a lane's steps lie side by side, transposing blocks of 16 x 16 in registers.
#[inline(always)]
fn transpose<S: Simd>(simd: S, part: Matrix<'_>, width: usize, panel: &mut [f32]) {
    let steps = part.columns();
    for first_lane in (0..width).step_by(LANES) {
        let present = part.rows().saturating_sub(first_lane).min(LANES);
        let wide = LANES.min(width - first_lane);
        for first in (0..steps).step_by(LANES) {
            let count = LANES.min(steps - first);
            let mut block = [simd.splat(0.0); LANES];
            for (lane, row) in block.iter_mut().enumerate().take(present) {
                let from = &part.data()[(first_lane + lane) * part.row_stride() + first..];
                *row = simd.load_partial(&from[..count], 0.0);
                if part.is_raw() {
                    *row = simd.operand(*row);
                }
            }
            let block = simd.transpose(block);
            for (k, step) in block.into_iter().enumerate().take(count) {
                let to = &mut panel[(first + k) * width + first_lane..];
                put(simd, step, wide, width, to);
            }
        }
    }
}

/// Packs with any strides.
#[inline(always)]
fn gather(part: Matrix<'_>, width: usize, panel: &mut [f32]) {
    for (k, to) in panel.chunks_exact_mut(width).enumerate() {
        for (lane, to) in to.iter_mut().enumerate() {
            *to = if lane < part.rows() { part.at(lane, k) } else { 0.0 };
        }
    }
}

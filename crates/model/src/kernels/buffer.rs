//! Aligned scratch buffers, kept per thread, so that nothing is allocated after the first call.
//!
//! A buffer holds whatever its last use left in it, so its user must write before reading.
#![expect(unsafe_code, reason = "a buffer of aligned lines is read as the floats it is made of")]

use std::cell::Cell;
use std::thread::LocalKey;

use crate::simd::LANES;

/// A cache line, so that packed panels are aligned.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; LANES]);

/// Where a thread keeps a buffer between calls.
pub(crate) type ScratchCell = LocalKey<Cell<Vec<Line>>>;

thread_local! {
    /// Packed rows of A.
    pub(crate) static PACKED_A: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Packed columns of B.
    pub(crate) static PACKED_B: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Widened rows of a half-precision matrix.
    pub(crate) static WIDENED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Scores of a block of queries with its keys.
    pub(crate) static SCORES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// A buffer that the thread keeps between calls. While it is taken, a second one is allocated.
#[derive(Debug)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    cell: &'static ScratchCell,
}

impl Buffer {
    /// At least `len` floats with unspecified values.
    pub(crate) fn take(cell: &'static ScratchCell, len: usize) -> Self {
        let mut lines = cell.take();
        if lines.len() * LANES < len {
            lines.resize(len.div_ceil(LANES), Line([0.0; LANES]));
        }
        Self { lines, cell }
    }

    /// The whole buffer.
    pub(crate) fn floats(&mut self) -> &mut [f32] {
        let (start, len) = (self.lines.as_mut_ptr().cast::<f32>(), self.lines.len() * LANES);
        // SAFETY: a `Line` is exactly 16 floats without padding.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.cell.set(std::mem::take(&mut self.lines));
    }
}

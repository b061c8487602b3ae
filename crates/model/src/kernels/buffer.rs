//! Aligned room for a computation, kept by each thread, so that nothing is allocated after the first call.
//!
//! What is in a buffer is left over from its last use: whoever takes one writes before reading.
#![expect(
    unsafe_code,
    reason = "a buffer of aligned lines is read as the floats it is made of"
)]

use std::cell::Cell;
use std::thread::LocalKey;

use crate::simd::LANES;

/// A cache line, so that packed panels are aligned.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line([f32; LANES]);

/// Where a thread keeps a buffer from call to call.
pub(crate) type Home = LocalKey<Cell<Vec<Line>>>;

thread_local! {
    /// Packed rows of A.
    pub(crate) static PACKED_A: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Packed columns of B.
    pub(crate) static PACKED_B: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Rows of a matrix of half precision, widened.
    pub(crate) static WIDENED: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// Scores of a block of queries with its keys.
    pub(crate) static SCORES: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Room that the thread keeps from call to call; taken twice at once, the second is new.
#[derive(Debug)]
pub(crate) struct Buffer {
    lines: Vec<Line>,
    home: &'static Home,
}

impl Buffer {
    /// At least `len` floats of anything.
    pub(crate) fn take(home: &'static Home, len: usize) -> Self {
        let mut lines = home.take();
        if lines.len() * LANES < len {
            lines.resize(len.div_ceil(LANES), Line([0.0; LANES]));
        }
        Self { lines, home }
    }

    /// All of it.
    pub(crate) fn floats(&mut self) -> &mut [f32] {
        let (start, len) = (
            self.lines.as_mut_ptr().cast::<f32>(),
            self.lines.len() * LANES,
        );
        // SAFETY: a `Line` is exactly 16 floats without padding.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.set(std::mem::take(&mut self.lines));
    }
}

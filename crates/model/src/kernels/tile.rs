//! The register tile: some rows times one or two vectors of columns of C, with all their chains in
//! registers at once.
//!
//! A chain takes its steps in ascending order and is stored and resumed, never summed in parts.
#![expect(unsafe_code, reason = "the register tile reads packed panels through pointers")]

use super::Triangle;
use crate::simd::{LANES, Operation, Simd};

/// Number of rows of B that are copied at a time.
const LOAD: usize = 4;
/// Number of rows between the one being copied and the one being prefetched into the cache.
const ROWS_AHEAD: usize = 4 * LOAD;

/// Rows of B that a tile copies into the next packed panel, a few at a time between its steps.
/// Rows are prefetched some loads before they are copied, which hides the latency of memory behind
/// the arithmetic, and the copies run alongside the multiply-adds, whereas a separate loop would
/// wait for the caches.
#[derive(Clone, Copy)]
pub(super) struct Prefetch {
    /// The first row to copy.
    from: *const f32,
    /// Distance between rows, in elements.
    stride: usize,
    /// Where the first row goes; the others follow without gaps.
    to: *mut f32,
    /// Number of rows.
    rows: usize,
    /// Number of steps between two loads.
    gap: usize,
}

impl Prefetch {
    /// Copies `rows` rows in the course of `steps` steps.
    ///
    /// # Safety
    /// All rows can be read at `from` and written at `to`, as many vectors wide as the tile that
    /// copies them.
    pub(super) unsafe fn new(
        from: *const f32,
        stride: usize,
        to: *mut f32,
        rows: usize,
        steps: usize,
    ) -> Self {
        let gap = (steps * LOAD / rows.max(1)).max(1);
        Self { from, stride, to, rows, gap }
    }

    /// For tiles that have nothing to copy.
    pub(super) fn none() -> Self {
        Self {
            from: std::ptr::null(),
            stride: 0,
            to: std::ptr::null_mut(),
            rows: 0,
            gap: usize::MAX,
        }
    }

    /// Copies the rows from `first` on that belong to one load.
    #[inline(always)]
    fn copy<S: Simd, const V: usize>(self, simd: S, first: usize) {
        for row in first..self.rows.min(first.wrapping_add(LOAD)) {
            // Nothing here can overflow, and a check between the steps would keep the accumulators
            // out of registers.
            let from = self.from.wrapping_add(row.wrapping_mul(self.stride));
            let ahead = from.wrapping_add(self.stride.wrapping_mul(ROWS_AHEAD));
            let to = self.to.wrapping_add(row.wrapping_mul(V * LANES));
            for v in 0..V {
                simd.prefetch(ahead.wrapping_add(v * LANES));
                // SAFETY: the caller of `new` promised that the row can be read and written.
                unsafe {
                    let line = simd.load(&*from.wrapping_add(v * LANES).cast());
                    simd.store(line, &mut *to.wrapping_add(v * LANES).cast());
                }
            }
        }
    }
}

/// One register tile of C: up to `TILE_ROWS` rows and `TILE_VECTORS` vectors of columns.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// The rows of A, side by side for each step.
    pub(super) a: *const f32,
    /// Distance between steps of A.
    pub(super) a_stride: usize,
    /// The columns of B.
    pub(super) b: *const f32,
    /// Distance between steps of B.
    pub(super) b_stride: usize,
    /// Element (0, 0) of the tile in C.
    pub(super) c: *mut f32,
    /// Distance between rows of C.
    pub(super) stride: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) prefetch: Prefetch,
}

impl Tile {
    /// Runs depths `first..first + count`, less what the triangle removes from the rows `row..`.
    #[inline(always)]
    pub(super) fn part<S: Simd>(
        self,
        simd: S,
        triangle: Triangle,
        row: usize,
        first: usize,
        count: usize,
        resume: bool,
    ) {
        let end = first + count;
        match triangle {
            Triangle::Full | Triangle::LowerOutput { .. } => self.chain(simd, 0, count, resume),
            Triangle::LowerDepth { shift } => {
                // All rows run together up to the depth of the first one, then each on its own.
                let common = (row + shift + 1).clamp(first, end);
                self.chain(simd, 0, common - first, resume);
                for r in 0..self.rows {
                    let own = (row + r + shift + 1).clamp(common, end);
                    self.row(r).chain(simd, common - first, own - common, true);
                }
            }
            Triangle::UpperDepth => {
                // Each row runs on its own until the last one starts, then all run together.
                let common = (row + self.rows - 1).clamp(first, end);
                for r in 0..self.rows {
                    let own = (row + r).clamp(first, common);
                    self.row(r).chain(simd, own - first, common - own, resume);
                }
                self.chain(simd, common - first, end - common, true);
            }
        }
    }

    /// Runs row r alone.
    #[inline(always)]
    fn row(self, r: usize) -> Self {
        debug_assert!(r < self.rows, "a row of the tile");
        // SAFETY: row r of the panel and of C exist.
        unsafe { Self { a: self.a.add(r), c: self.c.add(r * self.stride), rows: 1, ..self } }
    }

    /// Runs `count` steps of the chains, from `skip` on.
    #[inline(always)]
    fn chain<S: Simd>(self, simd: S, skip: usize, count: usize, resume: bool) {
        if count == 0 && resume {
            return;
        }
        // SAFETY: the panels hold `skip + count` depths.
        let tile = unsafe {
            Self {
                a: self.a.add(skip * self.a_stride),
                b: self.b.add(skip * self.b_stride),
                ..self
            }
        };
        simd.dispatch(Chain { tile, count, resume });
    }

    /// The tile itself: `R` x `V` accumulators in registers.
    ///
    /// # Safety
    /// The panels hold `count` depths, and C has `R` rows and `V` vectors of columns here, the last
    /// one possibly only in part.
    #[inline(always)]
    unsafe fn fixed<S: Simd, const R: usize, const V: usize>(
        self,
        simd: S,
        count: usize,
        resume: bool,
    ) {
        let mut acc = [[simd.splat(0.0); V]; R];
        if resume {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: row r and vector v of the tile are inside C.
                    *acc = unsafe { self.load(simd, r, v) };
                }
            }
        }
        // The next tile is the one below.
        let below = self.c.wrapping_add(S::TILE_ROWS * self.stride);
        for r in 0..R {
            for v in 0..V {
                simd.prefetch(below.wrapping_add(r * self.stride + v * LANES));
            }
        }
        let (mut a, mut b) = (self.a, self.b);
        let (mut left, mut carried) = (count, 0);
        while left > 0 {
            self.prefetch.copy::<S, V>(simd, carried);
            carried = carried.wrapping_add(LOAD);
            let steps = left.min(self.prefetch.gap);
            left = left.wrapping_sub(steps);
            // SAFETY: the panels hold `count` depths.
            (acc, a, b) = unsafe { self.steps(simd, acc, a, b, steps) };
        }
        for (r, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                // SAFETY: as for the loads.
                unsafe { self.store(simd, *acc, r, v) };
            }
        }
    }

    /// Runs some steps of all chains; returns the chains and the positions in A and B that follow.
    ///
    /// # Safety
    /// `count` steps of A and B can be read.
    #[inline(always)]
    unsafe fn steps<S: Simd, const R: usize, const V: usize>(
        self,
        simd: S,
        mut acc: [[S::F; V]; R],
        mut a: *const f32,
        mut b: *const f32,
        count: usize,
    ) -> ([[S::F; V]; R], *const f32, *const f32) {
        for _ in 0..count {
            // SAFETY: passed on to the caller.
            unsafe {
                let mut columns = [simd.splat(0.0); V];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = simd.load(&*b.add(v * LANES).cast());
                }
                for (r, acc) in acc.iter_mut().enumerate() {
                    let x = simd.splat(*a.add(r));
                    for (acc, column) in acc.iter_mut().zip(columns) {
                        *acc = simd.fma(x, column, *acc);
                    }
                }
            }
            a = a.wrapping_add(self.a_stride);
            b = b.wrapping_add(self.b_stride);
        }
        (acc, a, b)
    }

    /// Vector v of row r of C; lanes beyond its columns are zero.
    ///
    /// # Safety
    /// The row and the first column of the vector are inside the tile.
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, r: usize, v: usize) -> S::F {
        // SAFETY: the vector's first `columns - v * 16` elements are inside C.
        unsafe {
            let at = self.c.add(r * self.stride + v * LANES);
            let left = self.columns - v * LANES;
            if left >= LANES {
                simd.load(&*at.cast())
            } else {
                simd.load_partial(std::slice::from_raw_parts(at, left), 0.0)
            }
        }
    }

    /// Writes vector v of row r of C.
    ///
    /// # Safety
    /// As for `load`.
    #[inline(always)]
    unsafe fn store<S: Simd>(self, simd: S, vector: S::F, r: usize, v: usize) {
        // SAFETY: as for `load`.
        unsafe {
            let at = self.c.add(r * self.stride + v * LANES);
            let left = self.columns - v * LANES;
            if left >= LANES {
                simd.store(vector, &mut *at.cast());
            } else {
                simd.store_partial(vector, std::slice::from_raw_parts_mut(at, left));
            }
        }
    }
}

/// `count` steps of the chains of a tile. It is an operation of its own, so that the code of all
/// tiles exists only once.
struct Chain {
    tile: Tile,
    count: usize,
    resume: bool,
}

impl Operation for Chain {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::TILE_VECTORS == 2 && self.tile.columns > LANES {
            self.by_rows::<S, 2>(simd);
        } else {
            self.by_rows::<S, 1>(simd);
        }
    }
}

impl Chain {
    /// Chooses the tile with this number of rows.
    #[inline(always)]
    fn by_rows<S: Simd, const V: usize>(self, simd: S) {
        macro_rules! choose {
            ($($rows:literal)+) => {
                match self.tile.rows {
                    $($rows if $rows <= S::TILE_ROWS => {
                        // SAFETY: the caller promised that the pointers of the tile are valid.
                        unsafe { self.tile.fixed::<S, $rows, V>(simd, self.count, self.resume) }
                    })+
                    _ => unreachable!("a tile has 1 to {} rows", S::TILE_ROWS),
                }
            };
        }
        choose!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }
}

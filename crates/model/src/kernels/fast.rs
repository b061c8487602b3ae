//! The matrix product at the machine's speed: packed panels and a register tile, vectors across columns.
//!
//! Every output keeps the one chain of the reference: depth is cut into blocks with the accumulator stored and reloaded,
//! never summed in parts, and never padded. Packing pads rows and columns only; what those compute is not stored.
#![expect(
    unsafe_code,
    reason = "the register tile reads packed panels through pointers"
)]
#![expect(
    clippy::inline_always,
    reason = "the tile must be inlined into the function that enables the CPU features"
)]

use std::cell::Cell;
use std::thread::LocalKey;

use super::{Engine, Epilogue, Lanes, Matrix, MatrixMut, Triangle, run_on};
use crate::math;
use crate::simd::{LANES, Operation, Simd};

/// Depth of a packed block of B: a panel of it stays in the first-level cache.
const DEPTH_BLOCK: usize = 256;
/// Columns of a task: its packed block of B stays in the second-level cache.
const COLUMN_BLOCK: usize = 256;
/// Rows of A that are packed at once, times depth, in elements: 32 MiB.
const PACKED_ELEMENTS: usize = 8 << 20;

/// A cache line, so that packed panels are aligned.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

thread_local! {
    static PACKED_A: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    static PACKED_B: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// A packing buffer that the thread keeps from call to call.
struct Buffer {
    lines: Vec<Line>,
    home: &'static LocalKey<Cell<Vec<Line>>>,
}

impl Buffer {
    /// At least `len` floats of anything.
    fn take(home: &'static LocalKey<Cell<Vec<Line>>>, len: usize) -> Self {
        let mut lines = home.take();
        if lines.len() * LANES < len {
            lines.resize(len.div_ceil(LANES), Line([0.0; LANES]));
        }
        Self { lines, home }
    }

    fn floats(&mut self) -> &mut [f32] {
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

/// The product of one block of columns with all packed rows.
struct Block<'a> {
    a: PackedRows<'a>,
    b: Matrix<'a>,
    c: MatrixMut<'a>,
    accumulate: bool,
    triangle: Triangle,
    epilogue: Epilogue<'a>,
}

/// Rows of A in panels of `TILE_ROWS`: panel p, depth k, row r is at `(p * depth + k) * TILE_ROWS + r`.
#[derive(Clone, Copy)]
struct PackedRows<'a> {
    panels: &'a [f32],
    depth: usize,
}

/// Packs panels of rows of A.
struct PackRows<'a, 'b> {
    a: Matrix<'a>,
    panels: &'b mut [f32],
}

impl Operation for PackRows<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let (rows, depth) = (self.a.rows(), self.a.columns());
        if depth == 0 {
            return;
        }
        let panels = self.panels.chunks_exact_mut(S::TILE_ROWS * depth);
        for (panel, first) in panels.zip((0..rows).step_by(S::TILE_ROWS)) {
            let count = S::TILE_ROWS.min(rows - first);
            pack_panel::<S>(self.a.rows_from(first, count), panel);
        }
    }
}

/// One panel of A: `panel[k * TILE_ROWS + r] = a[r][k]`.
#[inline(always)]
fn pack_panel<S: Simd>(a: Matrix<'_>, panel: &mut [f32]) {
    let (row_stride, column_stride) = (a.row_stride(), a.column_stride());
    let data = a.data();
    if row_stride == 1 && a.rows() == S::TILE_ROWS {
        for (k, to) in panel.chunks_exact_mut(S::TILE_ROWS).enumerate() {
            to.copy_from_slice(&data[k * column_stride..][..S::TILE_ROWS]);
        }
    } else {
        interleave(a, S::TILE_ROWS, panel);
    }
}

/// `to[k * width + r] = rows[r][k]`, four rows at a time where they lie without gaps.
#[inline(always)]
fn interleave(rows: Matrix<'_>, width: usize, to: &mut [f32]) {
    let row = |r: usize| &rows.data()[r * rows.row_stride()..];
    let mut done = 0;
    while rows.column_stride() == 1 && done + 4 <= rows.rows() {
        let [a, b, c, d]: [&[f32]; 4] = std::array::from_fn(|r| &row(done + r)[..rows.columns()]);
        let records = to.chunks_exact_mut(width).zip(a).zip(b).zip(c).zip(d);
        for ((((record, a), b), c), d) in records {
            record[done..done + 4].copy_from_slice(&[*a, *b, *c, *d]);
        }
        done += 4;
    }
    for r in done..rows.rows() {
        let from = row(r).iter().step_by(rows.column_stride());
        for (to, from) in to[r..].iter_mut().step_by(width).zip(from) {
            *to = *from;
        }
    }
}

/// Packs a block of B into panels of `width` columns: panel p, depth k, column j is at `(p * depth + k) * width + j`.
#[inline(always)]
fn pack_columns(b: Matrix<'_>, width: usize, panels: &mut [f32]) {
    let (depth, columns) = (b.rows(), b.columns());
    if depth == 0 {
        return;
    }
    let panels = panels.chunks_exact_mut(width * depth);
    for (panel, first) in panels.zip((0..columns).step_by(width)) {
        let count = width.min(columns - first);
        let part = b.columns_from(first, count);
        if part.column_stride() == 1 && count == width {
            for (k, to) in panel.chunks_exact_mut(width).enumerate() {
                to.copy_from_slice(&part.data()[k * part.row_stride()..][..width]);
            }
        } else {
            pack_scattered(part, width, panel);
        }
    }
}

/// A panel whose columns are incomplete or strided.
#[inline(always)]
fn pack_scattered(part: Matrix<'_>, width: usize, panel: &mut [f32]) {
    interleave(part.transposed(), width, panel);
    for j in part.columns()..width {
        panel[j..]
            .iter_mut()
            .step_by(width)
            .for_each(|to| *to = 0.0);
    }
}

impl Operation for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let width = S::TILE_VECTORS * LANES;
        let depth = self.b.rows();
        let columns = self.b.columns();
        let mut buffer = Buffer::take(&PACKED_B, DEPTH_BLOCK * columns.next_multiple_of(width));
        let packed = buffer.floats();
        let mut first = 0;
        loop {
            let count = DEPTH_BLOCK.min(depth - first);
            pack_columns(self.b.rows_from(first, count), width, packed);
            let resume = self.accumulate || first > 0;
            self.product(simd, first, count, packed, resume);
            first += count;
            if first == depth {
                break;
            }
        }
        apply_epilogue(simd, self.epilogue, self.c);
    }
}

impl Block<'_> {
    /// Depths `first..first + count` of the chains of every tile.
    #[inline(always)]
    fn product<S: Simd>(
        &mut self,
        simd: S,
        first: usize,
        count: usize,
        packed: &[f32],
        resume: bool,
    ) {
        let width = S::TILE_VECTORS * LANES;
        let (rows, columns, stride) = (self.c.rows(), self.c.columns(), self.c.row_stride());
        let c = self.c.as_mut_ptr();
        for column in (0..columns).step_by(width) {
            let b = packed[column * count..][..width * count].as_ptr();
            for row in (0..rows).step_by(S::TILE_ROWS) {
                let tile_rows = S::TILE_ROWS.min(rows - row);
                if let Triangle::LowerOutput { shift } = self.triangle
                    && self.c.first_column() + column > row + tile_rows - 1 + shift
                {
                    continue;
                }
                let a = &self.a.panels[(row * self.a.depth + first * S::TILE_ROWS)..];
                let tile = Tile {
                    a: a[..count * S::TILE_ROWS].as_ptr(),
                    b,
                    // SAFETY: (row, column) is inside C.
                    c: unsafe { c.add(row * stride + column) },
                    stride,
                    rows: tile_rows,
                    columns: width.min(columns - column),
                };
                tile.part(simd, self.triangle, row, first, count, resume);
            }
        }
    }
}

/// One register tile of C: up to `TILE_ROWS` rows and `TILE_VECTORS` vectors of columns.
#[derive(Clone, Copy)]
struct Tile {
    a: *const f32,
    b: *const f32,
    c: *mut f32,
    stride: usize,
    rows: usize,
    columns: usize,
}

impl Tile {
    /// Depths `first..first + count`, less what the triangle takes away from the rows `row..`.
    #[inline(always)]
    fn part<S: Simd>(
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
                // All rows together as far as the first one goes, then each on its own.
                let common = (row + shift + 1).clamp(first, end);
                self.chain(simd, 0, common - first, resume);
                for r in 0..self.rows {
                    let own = (row + r + shift + 1).clamp(common, end);
                    self.row(r).chain(simd, common - first, own - common, true);
                }
            }
            Triangle::UpperDepth => {
                // Each row on its own until the last one starts, then all together.
                let common = (row + self.rows - 1).clamp(first, end);
                for r in 0..self.rows {
                    let own = (row + r).clamp(first, common);
                    self.row(r).chain(simd, own - first, common - own, resume);
                }
                self.chain(simd, common - first, end - common, true);
            }
        }
    }

    /// Row r alone.
    #[inline(always)]
    fn row(self, r: usize) -> Self {
        debug_assert!(r < self.rows, "a row of the tile");
        // SAFETY: row r of the panel and of C exist.
        unsafe {
            Self {
                a: self.a.add(r),
                c: self.c.add(r * self.stride),
                rows: 1,
                ..self
            }
        }
    }

    /// `count` steps of the chains from `skip` on.
    #[inline(always)]
    fn chain<S: Simd>(self, simd: S, skip: usize, count: usize, resume: bool) {
        if count == 0 && resume {
            return;
        }
        // SAFETY: the panels hold `skip + count` depths, and C `rows` x `columns` elements.
        unsafe {
            let tile = Self {
                a: self.a.add(skip * S::TILE_ROWS),
                b: self.b.add(skip * S::TILE_VECTORS * LANES),
                ..self
            };
            if S::TILE_VECTORS == 2 && self.columns > LANES {
                tile.by_rows::<S, 2>(simd, count, resume);
            } else {
                tile.by_rows::<S, 1>(simd, count, resume);
            }
        }
    }

    /// Chooses the tile with this number of rows.
    ///
    /// # Safety
    /// As for `chain`.
    #[inline(always)]
    unsafe fn by_rows<S: Simd, const V: usize>(self, simd: S, count: usize, resume: bool) {
        macro_rules! choose {
            ($($rows:literal)+) => {
                match self.rows {
                    $($rows if $rows <= S::TILE_ROWS => {
                        // SAFETY: passed on to the caller.
                        unsafe { self.fixed::<S, $rows, V>(simd, count, resume) }
                    })+
                    _ => unreachable!("a tile has 1 to {} rows", S::TILE_ROWS),
                }
            };
        }
        choose!(1 2 3 4 5 6 7 8 9 10 11 12 13 14);
    }

    /// The tile itself: `R` x `V` accumulators in registers.
    ///
    /// # Safety
    /// As for `chain`.
    #[inline(always)]
    unsafe fn fixed<S: Simd, const R: usize, const V: usize>(
        self,
        simd: S,
        count: usize,
        resume: bool,
    ) {
        let full = self.columns >= V * LANES;
        let mut acc = [[simd.splat(0.0); V]; R];
        if resume {
            for (r, acc) in acc.iter_mut().enumerate() {
                for (v, acc) in acc.iter_mut().enumerate() {
                    // SAFETY: the vector's first `columns - v * 16` elements are inside C.
                    *acc = unsafe {
                        let at = self.c.add(r * self.stride + v * LANES);
                        if full {
                            simd.load(&*at.cast())
                        } else {
                            let left = (self.columns - v * LANES).min(LANES);
                            simd.load_partial(std::slice::from_raw_parts(at, left), 0.0)
                        }
                    };
                }
            }
        }
        let (mut a, mut b) = (self.a, self.b);
        for _ in 0..count {
            // SAFETY: the panels hold `count` depths.
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
                a = a.add(S::TILE_ROWS);
                b = b.add(S::TILE_VECTORS * LANES);
            }
        }
        for (r, acc) in acc.iter().enumerate() {
            for (v, acc) in acc.iter().enumerate() {
                // SAFETY: as for the loads.
                unsafe {
                    let at = self.c.add(r * self.stride + v * LANES);
                    if full {
                        simd.store(*acc, &mut *at.cast());
                    } else {
                        let left = (self.columns - v * LANES).min(LANES);
                        simd.store_partial(*acc, std::slice::from_raw_parts_mut(at, left));
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn apply_epilogue<S: Simd>(simd: S, epilogue: Epilogue<'_>, mut c: MatrixMut<'_>) {
    let (first_row, first_column) = (c.first_row(), c.first_column());
    let columns = first_column..first_column + c.columns();
    for m in 0..c.rows() {
        match epilogue {
            Epilogue::None => return,
            Epilogue::Bias(bias) => math::add_row(simd, c.row_mut(m), &bias[columns.clone()]),
            Epilogue::BiasGelu(bias) => {
                math::add_row(simd, c.row_mut(m), &bias[columns.clone()]);
                math::gelu_row(simd, c.row_mut(m));
            }
            Epilogue::BiasResidual(bias, residual) => {
                math::add_row(simd, c.row_mut(m), &bias[columns.clone()]);
                let at = (first_row + m) * residual.row_stride() + first_column;
                math::add_row(simd, c.row_mut(m), &residual.data()[at..][..columns.len()]);
            }
        }
    }
}

/// Rows of a packed panel on these lanes.
struct TileRows;

impl Operation for TileRows {
    type Output = usize;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> usize {
        S::TILE_ROWS
    }
}

/// The whole product on all threads.
pub(super) fn matmul(
    engine: &Engine,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: MatrixMut<'_>,
    accumulate: bool,
    epilogue: Epilogue<'_>,
) {
    let panel_rows = run_on(engine.lanes, TileRows);
    let depth = a.columns();
    let group = (PACKED_ELEMENTS / depth.max(1)).max(panel_rows) / panel_rows * panel_rows;
    for c in c.into_grid(group, usize::MAX) {
        let first = c.first_row();
        let a = a.rows_from(first, c.rows());
        let elements = c.rows().next_multiple_of(panel_rows) * depth;
        let mut buffer = Buffer::take(&PACKED_A, elements);
        let panels = &mut buffer.floats()[..elements];
        pack_rows(engine, a, panels, panel_rows);
        let panels = &*panels;
        let (rows, columns) = task_shape(engine, c.rows(), c.columns(), panel_rows);
        engine.for_each(c.into_grid(rows, columns), |block| {
            let offset = (block.first_row() - first) * depth;
            run_on(
                engine.lanes,
                Block {
                    a: PackedRows {
                        panels: &panels[offset..],
                        depth,
                    },
                    b: b.columns_from(block.first_column(), block.columns()),
                    c: block,
                    accumulate,
                    triangle: Triangle::Full,
                    epilogue,
                },
            );
        });
    }
}

/// Packs A on all threads.
fn pack_rows(engine: &Engine, a: Matrix<'_>, panels: &mut [f32], panel_rows: usize) {
    let share = engine.share(a.rows()).next_multiple_of(panel_rows);
    let depth = a.columns();
    let tasks = panels
        .chunks_mut((share * depth).max(1))
        .enumerate()
        .collect();
    engine.for_each(tasks, |(index, panels)| {
        let first = index * share;
        let a = a.rows_from(first, share.min(a.rows() - first));
        run_on(engine.lanes, PackRows { a, panels });
    });
}

/// Rows and columns of a task: whole columns if there are enough of them for all threads.
fn task_shape(engine: &Engine, rows: usize, columns: usize, panel_rows: usize) -> (usize, usize) {
    let wanted = if engine.threads() == 1 {
        1
    } else {
        engine.threads() * 4
    };
    let width = COLUMN_BLOCK
        .min(columns.div_ceil(wanted).next_multiple_of(2 * LANES))
        .max(2 * LANES);
    let strips = columns.div_ceil(width).max(1);
    let groups = wanted
        .div_ceil(strips)
        .min(rows.div_ceil(8 * panel_rows))
        .max(1);
    (rows.div_ceil(groups).next_multiple_of(panel_rows), width)
}

/// The product on the calling thread.
pub(super) fn matmul_here(
    lanes: Lanes,
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: MatrixMut<'_>,
    accumulate: bool,
    triangle: Triangle,
) {
    let panel_rows = run_on(lanes, TileRows);
    let depth = a.columns();
    let elements = a.rows().next_multiple_of(panel_rows) * depth;
    let mut buffer = Buffer::take(&PACKED_A, elements);
    let panels = &mut buffer.floats()[..elements];
    run_on(lanes, PackRows { a, panels });
    let panels = &*panels;
    for c in c.into_grid(usize::MAX, COLUMN_BLOCK) {
        let b = b.columns_from(c.first_column(), c.columns());
        let a = PackedRows { panels, depth };
        run_on(
            lanes,
            Block {
                a,
                b,
                c,
                accumulate,
                triangle,
                epilogue: Epilogue::None,
            },
        );
    }
}

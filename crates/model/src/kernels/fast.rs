//! The matrix product at the machine's full speed: packed panels and a register tile, with vectors
//! across columns.
//!
//! Every output keeps the single chain of the reference: depth is cut into slabs between which the
//! accumulator is stored and resumed; it is never summed in parts and never padded. Packing pads
//! only rows and columns, whose outputs are not stored.
//!
//! Rows of A are packed once for all columns. A thread holds two panels of B: while the tiles of
//! one run down the rows, they pack the next one piece by piece. So B is read once, straight from a
//! weights file, and the latency of memory is hidden behind the arithmetic.
#![expect(unsafe_code, reason = "tiles are given as pointers into panels and C")]

use super::buffer::{Buffer, PACKED_A, PACKED_B};
use super::pack::{PackRows, operands, pack};
use super::tile::{Prefetch, Tile};
use super::{Engine, Epilogue, Lanes, Matrix, MatrixMut, Triangle, run_on};
use crate::math;
use crate::simd::{LANES, Operation, Simd};

/// Depth of a slab: two groups of panels of B and one panel of A of this depth fit in a
/// second-level cache.
const SLAB: usize = 1024;
/// Panels of B that a tile of rows is multiplied by in succession, so that A is read from the outer
/// cache once for all of them.
const GROUP: usize = 2;
/// Columns of a task.
const COLUMN_BLOCK: usize = 512;
/// Elements of A that are packed at once (12 MiB): they stay in the last-level cache.
const PACKED_ELEMENTS: usize = 3 << 20;

/// Elements that are read in place (512 KiB), because they fit in a second-level cache along with
/// everything else that a product needs.
const NEAR_ELEMENTS: usize = 128 << 10;

/// Rows of A as the tiles read them.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    /// Distance between the rows of one tile and those of the next.
    panel: usize,
    /// Distance between steps.
    stride: usize,
}

impl<'a> Rows<'a> {
    /// Packed rows: panel p, step k, row r is at `(p * depth + k) * panel_rows + r`.
    fn packed(panels: &'a [f32], depth: usize, panel_rows: usize) -> Self {
        Self { data: panels, panel: depth * panel_rows, stride: panel_rows }
    }

    /// Rows read in place, if the rows of a step are adjacent, everything is near, and small
    /// numbers need not become zeros.
    fn near(a: Matrix<'a>, panel_rows: usize) -> Option<Self> {
        let near = a.columns() * a.column_stride() <= NEAR_ELEMENTS;
        (a.row_stride() == 1 && near && !a.is_raw()).then(|| Self {
            data: a.data(),
            panel: panel_rows,
            stride: a.column_stride(),
        })
    }

    /// The rows after this many tiles.
    fn skip_tiles(self, tiles: usize) -> Self {
        let start = (tiles * self.panel).min(self.data.len());
        Self { data: &self.data[start..], ..self }
    }
}

/// The product of one slab of a block of columns with all packed rows.
struct Block<'a> {
    a: Rows<'a>,
    b: Matrix<'a>,
    c: MatrixMut<'a>,
    /// Depth at which the slab starts.
    first: usize,
    /// Whether the chains continue from what C holds.
    resume: bool,
    triangle: Triangle,
    epilogue: Epilogue<'a>,
}

impl Operation for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let width = S::TILE_VECTORS * LANES;
        let (depth, columns) = (self.b.rows(), self.b.columns());
        let mut start = 0;
        let once = self.c.rows() <= S::TILE_ROWS;
        let near = depth * self.b.row_stride() <= NEAR_ELEMENTS;
        if self.b.column_stride() == 1 && (once || near) && !self.b.is_raw() {
            while start + width <= columns {
                self.direct(simd, start);
                start += width;
            }
        }
        let mut buffer = Buffer::take(&PACKED_B, 2 * GROUP * depth * width);
        let (mut current, mut next) = buffer.floats().split_at_mut(GROUP * depth * width);
        for (panel, column) in (start..columns).step_by(width).take(GROUP).enumerate() {
            let to = &mut current[panel * depth * width..];
            pack(simd, self.lanes(column, width), 0..depth, width, to);
        }
        for column in (start..columns).step_by(GROUP * width) {
            self.group(simd, column, current, next);
            std::mem::swap(&mut current, &mut next);
        }
    }
}

impl Block<'_> {
    /// Up to `width` columns of B, one row for each.
    fn lanes(&self, column: usize, width: usize) -> Matrix<'_> {
        let count = width.min(self.b.columns() - column);
        self.b.columns_from(column, count).transposed()
    }

    /// Computes all rows of a group of panels, packing the next group along the way.
    #[inline(always)]
    fn group<S: Simd>(&mut self, simd: S, first: usize, packed: &[f32], next: &mut [f32]) {
        let width = S::TILE_VECTORS * LANES;
        let (rows, depth, columns) = (self.c.rows(), self.b.rows(), self.b.columns());
        let tiles = rows.div_ceil(S::TILE_ROWS);
        for (index, row) in (0..rows).step_by(S::TILE_ROWS).enumerate() {
            let steps = index * depth / tiles..(index + 1) * depth / tiles;
            for (panel, column) in (first..columns).step_by(width).take(GROUP).enumerate() {
                let upcoming = column + GROUP * width;
                let at = panel * depth * width;
                let to = &mut next[at + steps.start * width..at + steps.end * width];
                let carries = self.carries::<S>(upcoming) && !steps.is_empty();
                let prefetch = if carries {
                    let b =
                        self.b.columns_from(upcoming, width).rows_from(steps.start, steps.len());
                    // SAFETY: these rows of B and their places are `width` columns wide.
                    unsafe {
                        let (from, stride) = (b.data().as_ptr(), b.row_stride());
                        Prefetch::new(from, stride, to.as_mut_ptr(), steps.len(), depth)
                    }
                } else {
                    Prefetch::none()
                };
                let b = packed[panel * depth * width..].as_ptr();
                self.tile(simd, row, column, b, width, prefetch);
                if carries && self.b.is_raw() {
                    // The tile itself has no registers left for this.
                    operands(simd, to);
                }
            }
        }
        let upcoming = (first + GROUP * width..columns).step_by(width).take(GROUP);
        for (panel, column) in upcoming.enumerate() {
            if !self.carries::<S>(column) {
                let to = &mut next[panel * depth * width..];
                pack(simd, self.lanes(column, width), 0..depth, width, to);
            }
        }
    }

    /// Whether the tiles themselves can pack the panel at this column: it is whole, its rows have
    /// no gaps, and every tile takes all steps.
    #[inline(always)]
    fn carries<S: Simd>(&self, column: usize) -> bool {
        column + S::TILE_VECTORS * LANES <= self.b.columns()
            && self.b.column_stride() == 1
            && self.triangle == Triangle::Full
    }

    /// Computes all rows of a whole panel of columns that is read in place, because it is near or
    /// needed only once.
    #[inline(always)]
    fn direct<S: Simd>(&mut self, simd: S, column: usize) {
        let part = self.b.columns_from(column, S::TILE_VECTORS * LANES);
        let (b, stride) = (part.data().as_ptr(), part.row_stride());
        for row in (0..self.c.rows()).step_by(S::TILE_ROWS) {
            self.tile(simd, row, column, b, stride, Prefetch::none());
        }
    }

    /// Computes the tile at (row, column), and finishes it if this is the last slab.
    #[inline(always)]
    fn tile<S: Simd>(
        &mut self,
        simd: S,
        row: usize,
        column: usize,
        b: *const f32,
        b_stride: usize,
        prefetch: Prefetch,
    ) {
        let depth = self.b.rows();
        let rows = S::TILE_ROWS.min(self.c.rows() - row);
        let columns = (S::TILE_VECTORS * LANES).min(self.c.columns() - column);
        if let Triangle::LowerOutput { shift } = self.triangle
            && self.c.first_column() + column > row + rows - 1 + shift
        {
            return;
        }
        let stride = self.c.row_stride();
        let tile = Tile {
            a: self.a.skip_tiles(row / S::TILE_ROWS).data.as_ptr(),
            a_stride: self.a.stride,
            b,
            b_stride,
            // SAFETY: (row, column) is inside C.
            c: unsafe { self.c.as_mut_ptr().add(row * stride + column) },
            stride,
            rows,
            columns,
            prefetch,
        };
        tile.part(simd, self.triangle, row, self.first, depth, self.resume);
        for row in row..row + rows {
            self.finish(simd, row, column, columns);
        }
    }

    /// Applies the epilogue to a piece of a row.
    #[inline(always)]
    fn finish<S: Simd>(&mut self, simd: S, row: usize, column: usize, columns: usize) {
        let (m, n) = (self.c.first_row() + row, self.c.first_column() + column);
        let c = &mut self.c.row_mut(row)[column..column + columns];
        match self.epilogue {
            Epilogue::None => {}
            Epilogue::Bias(bias) => math::add_row(simd, c, &bias[n..n + columns]),
            Epilogue::BiasOperand(bias) => math::add_row_operand(simd, c, &bias[n..n + columns]),
            Epilogue::BiasGelu(bias) => math::add_row_gelu(simd, c, &bias[n..n + columns]),
            Epilogue::BiasResidual(bias, residual) => {
                math::add_row(simd, c, &bias[n..n + columns]);
                let at = m * residual.row_stride() + n;
                math::add_row(simd, c, &residual.data()[at..][..columns]);
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

/// The slabs of a depth as (first, count); a depth of zero has one too, because its chains are
/// the zeros they start from.
fn slabs(depth: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..depth.max(1)).step_by(SLAB).map(move |first| (first, SLAB.min(depth - first)))
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
    let groups = (c.rows() * depth.min(SLAB)).div_ceil(PACKED_ELEMENTS);
    let group = c.rows().div_ceil(groups.max(1));
    for mut c in c.into_grid(group.next_multiple_of(panel_rows), usize::MAX) {
        let first_row = c.first_row();
        let a = a.rows_from(first_row, c.rows());
        let (rows, columns) = task_shape(engine, c.rows(), c.columns(), panel_rows);
        for (first, count) in slabs(depth) {
            let a = a.columns_from(first, count);
            let elements = c.rows().next_multiple_of(panel_rows) * count;
            let mut buffer = Buffer::take(&PACKED_A, elements);
            let panels = &mut buffer.floats()[..elements];
            let a = Rows::near(a, panel_rows).unwrap_or_else(|| {
                pack_rows(engine, a, panels, panel_rows);
                Rows::packed(panels, count, panel_rows)
            });
            let b = b.rows_from(first, count);
            let last = first + count == depth;
            engine.for_each(c.reborrow().into_grid(rows, columns), |block| {
                let tile = (block.first_row() - first_row) / panel_rows;
                run_on(
                    engine.lanes,
                    Block {
                        a: a.skip_tiles(tile),
                        b: b.columns_from(block.first_column(), block.columns()),
                        c: block,
                        first,
                        resume: accumulate || first > 0,
                        triangle: Triangle::Full,
                        epilogue: if last { epilogue } else { Epilogue::None },
                    },
                );
            });
        }
    }
}

/// Packs A on all threads.
fn pack_rows(engine: &Engine, a: Matrix<'_>, panels: &mut [f32], panel_rows: usize) {
    let share = engine.share(a.rows()).next_multiple_of(panel_rows);
    let depth = a.columns();
    let tasks = panels.chunks_mut((share * depth).max(1)).enumerate().collect();
    engine.for_each(tasks, |(index, panels)| {
        let first = index * share;
        let a = a.rows_from(first, share.min(a.rows() - first));
        run_on(engine.lanes, PackRows { a, panels });
    });
}

/// Rows and columns of a task: whole columns if there are enough of them for all threads.
fn task_shape(engine: &Engine, rows: usize, columns: usize, panel_rows: usize) -> (usize, usize) {
    let wanted = if engine.threads() == 1 { 1 } else { engine.threads() * 4 };
    let width =
        COLUMN_BLOCK.min(columns.div_ceil(wanted).next_multiple_of(2 * LANES)).max(2 * LANES);
    let strips = columns.div_ceil(width).max(1);
    let groups = wanted.div_ceil(strips).min(rows.div_ceil(8 * panel_rows)).max(1);
    (rows.div_ceil(groups).next_multiple_of(panel_rows), width)
}

/// The product on the calling thread.
pub(super) fn matmul_here(
    lanes: Lanes,
    a: Matrix<'_>,
    b: Matrix<'_>,
    mut c: MatrixMut<'_>,
    accumulate: bool,
    triangle: Triangle,
    epilogue: Epilogue<'_>,
) {
    let panel_rows = run_on(lanes, TileRows);
    for (first, count) in slabs(a.columns()) {
        let elements = a.rows().next_multiple_of(panel_rows) * count;
        let mut buffer = Buffer::take(&PACKED_A, elements);
        let panels = &mut buffer.floats()[..elements];
        let last = first + count == a.columns();
        let a = a.columns_from(first, count);
        let a = Rows::near(a, panel_rows).unwrap_or_else(|| {
            run_on(lanes, PackRows { a, panels });
            Rows::packed(panels, count, panel_rows)
        });
        run_on(
            lanes,
            Block {
                a,
                b: b.rows_from(first, count),
                c: c.reborrow(),
                first,
                resume: accumulate || first > 0,
                triangle,
                epilogue: if last { epilogue } else { Epilogue::None },
            },
        );
    }
}

//! Views of matrices: strided to read, row-major to write, and cut into disjoint blocks for
//! threads.
//!
//! A view must never reach outside the slice it was made from; the constructors check it once.
#![expect(unsafe_code, reason = "disjoint blocks of one matrix are written by different threads")]

use std::marker::PhantomData;

use crate::simd::operand;

/// A matrix to read: element (m, n) is `data[m * row_stride + n * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
    raw: bool,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix without gaps.
    pub(crate) fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns, 1)
    }

    /// A matrix with any strides.
    pub(crate) fn strided(
        data: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
        column_stride: usize,
    ) -> Self {
        let needed = if rows == 0 || columns == 0 {
            0
        } else {
            (rows - 1) * row_stride + (columns - 1) * column_stride + 1
        };
        assert!(needed <= data.len(), "a matrix must lie inside its slice");
        Self { data, rows, columns, row_stride, column_stride, raw: false }
    }

    /// The same matrix, of whose elements those below 2^-40 in magnitude count as `+0`, as they do
    /// in products. Other matrices hold none, or are multiplied as they are.
    #[must_use]
    pub(crate) fn raw(self, raw: bool) -> Self {
        Self { raw, ..self }
    }

    /// Whether small elements count as zero.
    pub(crate) fn is_raw(self) -> bool {
        self.raw
    }

    /// The transpose, for free.
    #[must_use]
    pub(crate) fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            raw: self.raw,
        }
    }

    /// `count` rows from `first` on.
    #[must_use]
    pub(crate) fn rows_from(self, first: usize, count: usize) -> Self {
        assert!(first + count <= self.rows, "rows outside the matrix");
        let data = &self.data[(first * self.row_stride).min(self.data.len())..];
        Self { data, rows: count, ..self }
    }

    /// `count` columns from `first` on.
    #[must_use]
    pub(crate) fn columns_from(self, first: usize, count: usize) -> Self {
        self.transposed().rows_from(first, count).transposed()
    }

    /// Number of rows.
    pub(crate) fn rows(self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn columns(self) -> usize {
        self.columns
    }

    /// Distance between rows in the slice.
    pub(crate) fn row_stride(self) -> usize {
        self.row_stride
    }

    /// Distance between columns in the slice.
    pub(crate) fn column_stride(self) -> usize {
        self.column_stride
    }

    /// Element (m, n).
    pub(crate) fn at(self, m: usize, n: usize) -> f32 {
        let element = self.data[m * self.row_stride + n * self.column_stride];
        if self.raw { operand(element) } else { element }
    }

    /// The slice, starting at element (0, 0), with its small elements.
    pub(crate) fn data(self) -> &'a [f32] {
        self.data
    }
}

/// A row-major matrix to write, possibly a block of a larger one.
#[derive(Debug)]
pub(crate) struct MatrixMut<'a> {
    start: *mut f32,
    first_row: usize,
    first_column: usize,
    rows: usize,
    columns: usize,
    row_stride: usize,
    lifetime: PhantomData<&'a mut [f32]>,
}

// SAFETY: a `MatrixMut` is an exclusive borrow of its elements, like `&mut [f32]`.
unsafe impl Send for MatrixMut<'_> {}
// SAFETY: a shared `&MatrixMut` only reads.
unsafe impl Sync for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    /// A row-major matrix without gaps.
    pub(crate) fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// A matrix whose rows are `row_stride` apart.
    pub(crate) fn strided(
        data: &'a mut [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        let needed = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * row_stride + columns };
        assert!(needed <= data.len(), "a matrix must lie inside its slice");
        assert!(columns <= row_stride || rows < 2, "rows must not overlap");
        Self {
            start: data.as_mut_ptr(),
            first_row: 0,
            first_column: 0,
            rows,
            columns,
            row_stride,
            lifetime: PhantomData,
        }
    }

    /// Number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(crate) fn columns(&self) -> usize {
        self.columns
    }

    /// Distance between rows.
    pub(crate) fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Row of this block in the matrix that [`Self::into_grid`] cut.
    pub(crate) fn first_row(&self) -> usize {
        self.first_row
    }

    /// Column of this block in the matrix that [`Self::into_grid`] cut.
    pub(crate) fn first_column(&self) -> usize {
        self.first_column
    }

    /// Address of element (0, 0).
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.start
    }

    /// Row m.
    pub(crate) fn row(&self, m: usize) -> &[f32] {
        assert!(m < self.rows, "a row outside the matrix");
        // SAFETY: the constructor checked that all rows lie inside the borrowed slice.
        unsafe { std::slice::from_raw_parts(self.start.add(m * self.row_stride), self.columns) }
    }

    /// Row m, to write.
    pub(crate) fn row_mut(&mut self, m: usize) -> &mut [f32] {
        assert!(m < self.rows, "a row outside the matrix");
        // SAFETY: as in `row`, and `&mut self` makes the borrow exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(m * self.row_stride), self.columns) }
    }

    /// The same matrix, with its coordinates counted from zero.
    #[must_use]
    pub(crate) fn at_origin(self) -> Self {
        Self { first_row: 0, first_column: 0, ..self }
    }

    /// The same matrix, borrowed for a shorter time.
    pub(crate) fn reborrow(&mut self) -> MatrixMut<'_> {
        MatrixMut { lifetime: PhantomData, ..*self }
    }

    /// Disjoint blocks of at most `rows` x `columns`, row by row; they know their coordinates in
    /// this matrix.
    pub(crate) fn into_grid(self, rows: usize, columns: usize) -> Vec<Self> {
        let mut blocks = Vec::new();
        for first_row in (0..self.rows).step_by(rows.clamp(1, self.rows.max(1))) {
            for first_column in (0..self.columns).step_by(columns.clamp(1, self.columns.max(1))) {
                blocks.push(Self {
                    // SAFETY: the element (first_row, first_column) lies inside the matrix.
                    start: unsafe { self.start.add(first_row * self.row_stride + first_column) },
                    first_row: self.first_row + first_row,
                    first_column: self.first_column + first_column,
                    rows: rows.min(self.rows - first_row),
                    columns: columns.min(self.columns - first_column),
                    row_stride: self.row_stride,
                    lifetime: PhantomData,
                });
            }
        }
        blocks
    }
}

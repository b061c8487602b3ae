//! Where every tensor of a model lies in one flat list of numbers; parameters, gradients and
//! moments share this layout.

use std::ops::Range;

use soma_architecture::{Architecture, Linear, Norm, Tensor};

/// One tensor's place.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) tensor: Tensor,
    /// `[rows, columns]` of a matrix, `[1, columns]` of a vector.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Where it lies among all numbers.
    pub(crate) range: Range<usize>,
    /// Where a vector lies among the numbers of all vectors; empty for a matrix.
    pub(crate) vector_range: Range<usize>,
}

impl Place {
    pub(crate) fn len(&self) -> usize {
        self.rows * self.columns
    }
}

/// The places of an architecture's tensors, in the order of a weights file.
#[derive(Debug)]
pub(crate) struct Layout {
    places: Vec<Place>,
    layers: usize,
}

impl Layout {
    pub(crate) fn new(architecture: &Architecture) -> Self {
        let mut places = Vec::new();
        let (mut start, mut vector_start) = (0, 0);
        for spec in architecture.tensors() {
            let columns = spec.shape.last().copied().unwrap_or(1);
            let end = start + spec.elements();
            let in_vectors = if spec.tensor.is_matrix() { 0 } else { columns };
            places.push(Place {
                tensor: spec.tensor,
                rows: spec.elements() / columns,
                columns,
                range: start..end,
                vector_range: vector_start..vector_start + in_vectors,
            });
            (start, vector_start) = (end, vector_start + in_vectors);
        }
        Self { places, layers: architecture.layers as usize }
    }

    /// Count of numbers in all tensors.
    pub(crate) fn len(&self) -> usize {
        self.places.last().map_or(0, |place| place.range.end)
    }

    /// Count of numbers in all vectors.
    pub(crate) fn vectors_len(&self) -> usize {
        self.places.last().map_or(0, |place| place.vector_range.end)
    }

    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    pub(crate) fn place(&self, tensor: Tensor) -> &Place {
        &self.places[tensor.index(self.layers)]
    }

    /// Weight and bias.
    pub(crate) fn linear(&self, linear: Linear) -> [&Place; 2] {
        [Tensor::Weight(linear), Tensor::Bias(linear)].map(|tensor| self.place(tensor))
    }

    /// Gamma and beta.
    pub(crate) fn norm(&self, norm: Norm) -> [&Place; 2] {
        [Tensor::Gamma(norm), Tensor::Beta(norm)].map(|tensor| self.place(tensor))
    }
}

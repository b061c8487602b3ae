//! Where every tensor of a model lies in one flat list of numbers: parameters, gradients and moments share it.
//!
//! The order is that of the forward pass; it decides the order in which the gradient's norm is added up.

use std::ops::Range;

use crate::architecture::{Architecture, TENSORS_BEFORE_LAYERS, TENSORS_PER_LAYER};

/// A linear layer; the number is the layer it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Linear {
    Query(usize),
    Key(usize),
    Value(usize),
    Output(usize),
    Inner(usize),
    Outer(usize),
    Predictor,
}

/// A layer norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Norm {
    First(usize),
    Second(usize),
    Final,
}

/// What a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Embedding,
    Weight(Linear),
    Bias(Linear),
    Gamma(Norm),
    Beta(Norm),
}

impl Role {
    /// Matrices decay; biases and norms do not.
    pub(crate) fn is_matrix(self) -> bool {
        matches!(self, Self::Embedding | Self::Weight(_))
    }
}

/// One tensor's place.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) role: Role,
    /// `[rows, columns]` of a matrix, `[1, columns]` of a vector.
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Where it lies among all numbers.
    pub(crate) range: Range<usize>,
    /// Where a vector lies among the numbers of all vectors; empty for a matrix.
    pub(crate) vector_range: Range<usize>,
}

impl Tensor {
    pub(crate) fn len(&self) -> usize {
        self.rows * self.columns
    }
}

/// All tensors of an architecture.
#[derive(Debug)]
pub(crate) struct Layout {
    tensors: Vec<Tensor>,
}

impl Layout {
    pub(crate) fn new(architecture: &Architecture) -> Self {
        let mut tensors = Vec::new();
        let (mut start, mut vector_start) = (0, 0);
        for (role, spec) in roles(architecture.layers)
            .into_iter()
            .zip(architecture.tensors())
        {
            let columns = spec.shape.last().copied().unwrap_or(1);
            let (range, in_vectors) = (
                start..start + spec.elements(),
                if role.is_matrix() { 0 } else { columns },
            );
            tensors.push(Tensor {
                role,
                rows: spec.elements() / columns,
                columns,
                vector_range: vector_start..vector_start + in_vectors,
                range: range.clone(),
            });
            (start, vector_start) = (range.end, vector_start + in_vectors);
        }
        Self { tensors }
    }

    /// Numbers in all tensors.
    pub(crate) fn len(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }

    /// Numbers in all vectors.
    pub(crate) fn vectors_len(&self) -> usize {
        self.tensors
            .last()
            .map_or(0, |tensor| tensor.vector_range.end)
    }

    pub(crate) fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    pub(crate) fn embedding(&self) -> &Tensor {
        &self.tensors[0]
    }

    /// Weight and bias.
    pub(crate) fn linear(&self, linear: Linear) -> [&Tensor; 2] {
        let first = match linear {
            Linear::Query(layer) => place(layer, 2),
            Linear::Key(layer) => place(layer, 4),
            Linear::Value(layer) => place(layer, 6),
            Linear::Output(layer) => place(layer, 8),
            Linear::Inner(layer) => place(layer, 12),
            Linear::Outer(layer) => place(layer, 14),
            Linear::Predictor => self.tensors.len() - 2,
        };
        [&self.tensors[first], &self.tensors[first + 1]]
    }

    /// Gamma and beta.
    pub(crate) fn norm(&self, norm: Norm) -> [&Tensor; 2] {
        let first = match norm {
            Norm::First(layer) => place(layer, 0),
            Norm::Second(layer) => place(layer, 10),
            Norm::Final => self.tensors.len() - 4,
        };
        [&self.tensors[first], &self.tensors[first + 1]]
    }
}

/// Place of a layer's tensor in the order of a weights file.
fn place(layer: usize, tensor: usize) -> usize {
    TENSORS_BEFORE_LAYERS + layer * TENSORS_PER_LAYER + tensor
}

/// The roles of all tensors, in the order of a weights file.
fn roles(layers: usize) -> Vec<Role> {
    let norm = |norm| [Role::Gamma(norm), Role::Beta(norm)];
    let linear = |linear| [Role::Weight(linear), Role::Bias(linear)];
    let layer = |layer| {
        [
            norm(Norm::First(layer)),
            linear(Linear::Query(layer)),
            linear(Linear::Key(layer)),
            linear(Linear::Value(layer)),
            linear(Linear::Output(layer)),
            norm(Norm::Second(layer)),
            linear(Linear::Inner(layer)),
            linear(Linear::Outer(layer)),
        ]
    };
    let last = [norm(Norm::Final), linear(Linear::Predictor)];
    let pairs = (0..layers).flat_map(layer).chain(last).flatten();
    std::iter::once(Role::Embedding).chain(pairs).collect()
}

//! Where every tensor of a model lies in one flat list of numbers: parameters, gradients and moments share it.
//!
//! The order is that of the forward pass; it decides the order in which the gradient's norm is added up.

use std::ops::Range;

use crate::architecture::Architecture;

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

    /// The tensor's name in a weights file.
    pub(crate) fn name(self) -> String {
        match self {
            Self::Embedding => "embedding.weight".to_owned(),
            Self::Weight(linear) => format!("{}.weight", linear.name()),
            Self::Bias(linear) => format!("{}.bias", linear.name()),
            Self::Gamma(norm) => format!("{}.gamma", norm.name()),
            Self::Beta(norm) => format!("{}.beta", norm.name()),
        }
    }
}

impl Linear {
    fn name(self) -> String {
        let (layer, part) = match self {
            Self::Query(layer) => (layer, "attention.query"),
            Self::Key(layer) => (layer, "attention.key"),
            Self::Value(layer) => (layer, "attention.value"),
            Self::Output(layer) => (layer, "attention.output"),
            Self::Inner(layer) => (layer, "pwff.linear_inner"),
            Self::Outer(layer) => (layer, "pwff.linear_outer"),
            Self::Predictor => return "predictor".to_owned(),
        };
        format!("encoder.layers.{layer}.{part}")
    }
}

impl Norm {
    fn name(self) -> String {
        match self {
            Self::First(layer) => format!("encoder.layers.{layer}.norm_1"),
            Self::Second(layer) => format!("encoder.layers.{layer}.norm_2"),
            Self::Final => "final_norm".to_owned(),
        }
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
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    tensors: Vec<Tensor>,
}

/// Tensors of one layer.
const PER_LAYER: usize = 16;

impl Layout {
    pub(crate) fn new(architecture: &Architecture) -> Self {
        let (dim, hidden) = (architecture.embedding_dim, architecture.pwff_hidden_dim);
        let vocabulary = architecture.vocab_size;
        let mut layout = Self { tensors: Vec::new() };
        layout.push(Role::Embedding, vocabulary, dim);
        for layer in 0..architecture.num_layers {
            layout.push_norm(Norm::First(layer), dim);
            for linear in [Linear::Query, Linear::Key, Linear::Value, Linear::Output] {
                layout.push_linear(linear(layer), dim, dim);
            }
            layout.push_norm(Norm::Second(layer), dim);
            layout.push_linear(Linear::Inner(layer), dim, hidden);
            layout.push_linear(Linear::Outer(layer), hidden, dim);
        }
        layout.push_norm(Norm::Final, dim);
        layout.push_linear(Linear::Predictor, dim, vocabulary);
        layout
    }

    fn push_norm(&mut self, norm: Norm, dim: usize) {
        self.push(Role::Gamma(norm), 1, dim);
        self.push(Role::Beta(norm), 1, dim);
    }

    fn push_linear(&mut self, linear: Linear, inputs: usize, outputs: usize) {
        self.push(Role::Weight(linear), inputs, outputs);
        self.push(Role::Bias(linear), 1, outputs);
    }

    fn push(&mut self, role: Role, rows: usize, columns: usize) {
        let start = self.len();
        let vectors = self.vectors_len();
        let in_vectors = if role.is_matrix() { 0 } else { columns };
        self.tensors.push(Tensor {
            role,
            rows,
            columns,
            range: start..start + rows * columns,
            vector_range: vectors..vectors + in_vectors,
        });
    }

    /// Numbers in all tensors.
    pub(crate) fn len(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.range.end)
    }

    /// Numbers in all vectors.
    pub(crate) fn vectors_len(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.vector_range.end)
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
            Linear::Query(layer) => self.layer(layer, 2),
            Linear::Key(layer) => self.layer(layer, 4),
            Linear::Value(layer) => self.layer(layer, 6),
            Linear::Output(layer) => self.layer(layer, 8),
            Linear::Inner(layer) => self.layer(layer, 12),
            Linear::Outer(layer) => self.layer(layer, 14),
            Linear::Predictor => self.tensors.len() - 2,
        };
        [&self.tensors[first], &self.tensors[first + 1]]
    }

    /// Gamma and beta.
    pub(crate) fn norm(&self, norm: Norm) -> [&Tensor; 2] {
        let first = match norm {
            Norm::First(layer) => self.layer(layer, 0),
            Norm::Second(layer) => self.layer(layer, 10),
            Norm::Final => self.tensors.len() - 4,
        };
        [&self.tensors[first], &self.tensors[first + 1]]
    }

    #[expect(clippy::unused_self, reason = "reads as a place in the layout")]
    fn layer(&self, layer: usize, tensor: usize) -> usize {
        1 + layer * PER_LAYER + tensor
    }
}

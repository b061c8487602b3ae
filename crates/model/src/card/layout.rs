//! Where the tensors of a model lie on a card, and how they come there.
//!
//! All of them are float32 operands. A matrix is row-major, `[in, out]`, with rows a multiple of
//! four numbers apart, so that sixteen bytes can be copied at a time; the maps to queries, keys and
//! values are one matrix.

use soma_architecture::{Linear, Norm, Tensor};

use crate::device::{Argument, Card, Kernel, Memory, Number, bytes_of};
use crate::error::DeviceFault;
use crate::sizes::Sizes;
use crate::weights::{HalfKind, Stored, Weights};

/// Numbers between which tensors begin: 256 bytes.
const ALIGNMENT: usize = 64;
/// Bytes that are copied and widened at a time.
const STAGING_BYTES: usize = 64 << 20;

/// A tensor on a card: its first number, and how far its rows are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) first: usize,
    pub(super) stride: usize,
}

/// A linear map on a card.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlacedLinear {
    pub(super) weight: Placed,
    pub(super) bias: Placed,
}

/// Gamma and beta on a card.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlacedNorm {
    pub(super) gamma: Placed,
    pub(super) beta: Placed,
}

/// The tensors of a layer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PlacedLayer {
    pub(super) norm_1: PlacedNorm,
    /// Queries, keys and values side by side.
    pub(super) projection: PlacedLinear,
    pub(super) output: PlacedLinear,
    pub(super) norm_2: PlacedNorm,
    pub(super) inner: PlacedLinear,
    pub(super) outer: PlacedLinear,
}

/// A model on a card.
#[derive(Debug)]
pub(super) struct Layout {
    dim: usize,
    pub(super) embedding: Placed,
    pub(super) layers: Vec<PlacedLayer>,
    pub(super) final_norm: PlacedNorm,
    pub(super) predictor: PlacedLinear,
    /// The rotary tables, `[head_dim / 2, positions]`.
    pub(super) cosines: Placed,
    pub(super) sines: Placed,
    numbers: usize,
}

/// Gives out places one after the other.
#[derive(Default)]
struct Places {
    numbers: usize,
}

impl Places {
    fn matrix(&mut self, rows: usize, columns: usize) -> Placed {
        let placed = Placed { first: self.numbers, stride: columns.next_multiple_of(4) };
        self.numbers += (rows * placed.stride).next_multiple_of(ALIGNMENT);
        placed
    }

    fn linear(&mut self, inputs: usize, outputs: usize) -> PlacedLinear {
        PlacedLinear { weight: self.matrix(inputs, outputs), bias: self.matrix(1, outputs) }
    }

    fn norm(&mut self, width: usize) -> PlacedNorm {
        PlacedNorm { gamma: self.matrix(1, width), beta: self.matrix(1, width) }
    }
}

impl Layout {
    /// The places of a model with these sizes.
    pub(super) fn new(sizes: Sizes) -> Self {
        let Sizes { dim, layers, ffn, vocabulary, positions, .. } = sizes;
        let half = sizes.head_dim() / 2;
        let mut places = Places::default();
        Self {
            dim,
            embedding: places.matrix(vocabulary, dim),
            layers: (0..layers)
                .map(|_| PlacedLayer {
                    norm_1: places.norm(dim),
                    projection: places.linear(dim, 3 * dim),
                    output: places.linear(dim, dim),
                    norm_2: places.norm(dim),
                    inner: places.linear(dim, ffn),
                    outer: places.linear(ffn, dim),
                })
                .collect(),
            final_norm: places.norm(dim),
            predictor: places.linear(dim, vocabulary),
            cosines: places.matrix(half, positions),
            sines: places.matrix(half, positions),
            numbers: places.numbers,
        }
    }

    /// Bytes of the whole model.
    pub(super) fn bytes(&self) -> usize {
        self.numbers * size_of::<f32>()
    }

    fn norm(&self, norm: Norm) -> PlacedNorm {
        match norm {
            Norm::First(layer) => self.layers[layer].norm_1,
            Norm::Second(layer) => self.layers[layer].norm_2,
            Norm::Final => self.final_norm,
        }
    }

    fn linear(&self, linear: Linear) -> PlacedLinear {
        let part = |layer: usize, index: usize| {
            let PlacedLinear { weight, bias } = self.layers[layer].projection;
            let shifted = |placed: Placed| Placed {
                first: placed.first + index * self.dim,
                stride: placed.stride,
            };
            PlacedLinear { weight: shifted(weight), bias: shifted(bias) }
        };
        match linear {
            Linear::Query(layer) => part(layer, 0),
            Linear::Key(layer) => part(layer, 1),
            Linear::Value(layer) => part(layer, 2),
            Linear::Output(layer) => self.layers[layer].output,
            Linear::Inner(layer) => self.layers[layer].inner,
            Linear::Outer(layer) => self.layers[layer].outer,
            Linear::Predictor => self.predictor,
        }
    }

    /// Where a tensor of a weights file lies.
    fn tensor(&self, tensor: Tensor) -> Placed {
        match tensor {
            Tensor::Embedding => self.embedding,
            Tensor::Gamma(norm) => self.norm(norm).gamma,
            Tensor::Beta(norm) => self.norm(norm).beta,
            Tensor::Weight(linear) => self.linear(linear).weight,
            Tensor::Bias(linear) => self.linear(linear).bias,
        }
    }

    /// Copies a model to its memory.
    pub(super) fn fill(
        &self,
        card: &Card,
        memory: &Memory,
        weights: &Weights,
    ) -> Result<(), DeviceFault> {
        let largest = weights.tensors().map(|(spec, _)| spec.elements() * 4).max().unwrap_or(0);
        let staging = card.allocate(largest.min(STAGING_BYTES))?;
        for (spec, stored) in weights.stored() {
            let to = self.tensor(spec.tensor);
            let columns = spec.shape.last().copied().unwrap_or(1);
            match stored {
                Stored::Float(values) => copy(card, &staging, values, 0, columns, memory, to)?,
                Stored::Half(values, kind) => {
                    let kind = match kind {
                        HalfKind::Bf16 => 1,
                        HalfKind::F16 => 2,
                    };
                    copy(card, &staging, values, kind, columns, memory, to)?;
                }
            }
        }
        let [cosines, sines] = weights.rope().by_pair();
        let positions = weights.sizes().positions;
        for (table, to) in [(cosines, self.cosines), (sines, self.sines)] {
            copy(card, &staging, &table, 0, positions, memory, to)?;
        }
        Ok(())
    }
}

/// Copies a matrix with rows of `columns` numbers, as float32 operands; `kind` is that of `widen`.
pub(super) fn copy<T: Number>(
    card: &Card,
    staging: &Memory,
    values: &[T],
    kind: usize,
    columns: usize,
    memory: &Memory,
    to: Placed,
) -> Result<(), DeviceFault> {
    let share = (staging.bytes() / size_of::<T>()).max(1);
    for (index, part) in values.chunks(share).enumerate() {
        debug_assert!(bytes_of(part).len() <= staging.bytes(), "a part fits");
        staging.write(part)?;
        card.launch(
            Kernel::Widen,
            [part.len().div_ceil(256), 1, 1],
            256,
            &[
                staging.start(),
                Argument::Count(kind),
                Argument::Count(part.len()),
                Argument::Long(index * share),
                Argument::Count(columns),
                Argument::Long(to.stride),
                memory.at::<f32>(to.first),
            ],
        )?;
    }
    Ok(())
}

//! Where the tensors of a model lie on a card, and how they come there.
//!
//! All of them are operands, in float32 or, if the file has them so, in half precision. A matrix is
//! row-major, `[in, out]`, with rows a multiple of sixteen bytes apart, which are copied at a time;
//! the maps to queries, keys and values are one matrix.
#![expect(unsafe_code, reason = "a kernel is launched")]

use soma_architecture::{Linear, Norm, Tensor};

use crate::device::{Argument, Card, Kernel, Memory, Number};
use crate::error::DeviceFault;
use crate::sizes::Sizes;
use crate::weights::{HalfKind, Stored, Weights};

/// Bytes of which tensors begin at a multiple.
const ALIGNMENT: usize = 256;
/// Bytes that are copied at a time by a kernel.
const GROUP: usize = 16;
/// Bytes that are copied to a card and placed there at a time.
const STAGING_BYTES: usize = 64 << 20;

/// What the elements of a matrix are, with the numbers that `arithmetic.cuh` gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    Float = 0,
    Bf16 = 1,
    F16 = 2,
}

impl Kind {
    fn of(stored: Stored<'_>) -> Self {
        match stored {
            Stored::Float(_) => Self::Float,
            Stored::Half(_, HalfKind::Bf16) => Self::Bf16,
            Stored::Half(_, HalfKind::F16) => Self::F16,
        }
    }

    fn bytes(self) -> usize {
        if self == Self::Float { 4 } else { 2 }
    }

    /// Numbers that a kernel copies at a time.
    fn group(self) -> usize {
        GROUP / self.bytes()
    }
}

/// A tensor on a card: its first byte, its extents, and how many numbers its rows are apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    first: usize,
    rows: usize,
    columns: usize,
    pub(super) stride: usize,
    pub(super) kind: Kind,
}

impl Placed {
    /// A matrix at this byte, which is a multiple of 16.
    pub(super) fn matrix(first: usize, rows: usize, columns: usize, kind: Kind) -> Self {
        Self { first, rows, columns, stride: columns.next_multiple_of(kind.group()), kind }
    }

    pub(super) fn rows(self) -> usize {
        self.rows
    }

    pub(super) fn columns(self) -> usize {
        self.columns
    }

    /// Bytes up to the end of its last row.
    pub(super) fn bytes(self) -> usize {
        self.rows * self.stride * self.kind.bytes()
    }

    /// Its address.
    pub(super) fn address(self, memory: &Memory) -> Argument {
        let before_last = self.rows.saturating_sub(1) * self.stride;
        let numbers = before_last + self.columns.next_multiple_of(self.kind.group());
        memory.span(self.first, numbers * self.kind.bytes())
    }

    /// Part `index` of three, side by side.
    fn third(self, index: usize) -> Self {
        let columns = self.columns / 3;
        Self { first: self.first + index * columns * self.kind.bytes(), columns, ..self }
    }
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
    pub(super) embedding: Placed,
    pub(super) layers: Vec<PlacedLayer>,
    pub(super) final_norm: PlacedNorm,
    pub(super) predictor: PlacedLinear,
    /// The rotary tables, `[head_dim / 2, positions]`.
    pub(super) cosines: Placed,
    pub(super) sines: Placed,
    bytes: usize,
}

/// Gives out places one after the other.
struct Places<'a> {
    weights: &'a Weights,
    bytes: usize,
}

impl Places<'_> {
    fn matrix(&mut self, rows: usize, columns: usize, kind: Kind) -> Placed {
        let placed = Placed::matrix(self.bytes, rows, columns, kind);
        self.bytes += placed.bytes().next_multiple_of(ALIGNMENT);
        placed
    }

    fn vector(&mut self, columns: usize) -> Placed {
        self.matrix(1, columns, Kind::Float)
    }

    /// A map of these weights, which are side by side: as in the file if all are alike there.
    fn linear<const N: usize>(
        &mut self,
        maps: [Linear; N],
        inputs: usize,
        outputs: usize,
    ) -> PlacedLinear {
        let kinds = maps.map(|map| Kind::of(self.weights.stored_at(Tensor::Weight(map))));
        let is_same = kinds.iter().all(|kind| *kind == kinds[0]);
        let kind = if is_same { kinds[0] } else { Kind::Float };
        PlacedLinear { weight: self.matrix(inputs, outputs, kind), bias: self.vector(outputs) }
    }

    fn norm(&mut self, width: usize) -> PlacedNorm {
        PlacedNorm { gamma: self.vector(width), beta: self.vector(width) }
    }
}

impl Layout {
    /// The places of a model.
    pub(super) fn new(weights: &Weights) -> Self {
        let sizes = weights.sizes();
        let Sizes { dim, layers, ffn, vocabulary, positions, .. } = sizes;
        let half = sizes.head_dim() / 2;
        let mut places = Places { weights, bytes: 0 };
        let embedding = places.matrix(vocabulary, dim, Kind::Float);
        let layers = (0..layers).map(|at| {
            let projection = [Linear::Query(at), Linear::Key(at), Linear::Value(at)];
            PlacedLayer {
                norm_1: places.norm(dim),
                projection: places.linear(projection, dim, 3 * dim),
                output: places.linear([Linear::Output(at)], dim, dim),
                norm_2: places.norm(dim),
                inner: places.linear([Linear::Inner(at)], dim, ffn),
                outer: places.linear([Linear::Outer(at)], ffn, dim),
            }
        });
        Self {
            embedding,
            layers: layers.collect(),
            final_norm: places.norm(dim),
            predictor: places.linear([Linear::Predictor], dim, vocabulary),
            cosines: places.matrix(half, positions, Kind::Float),
            sines: places.matrix(half, positions, Kind::Float),
            bytes: places.bytes,
        }
    }

    /// Bytes of the whole model.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
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
            PlacedLinear { weight: weight.third(index), bias: bias.third(index) }
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
        let staging = card.allocate(staging_bytes(weights))?;
        for (spec, stored) in weights.stored() {
            let to = self.tensor(spec.tensor);
            match stored {
                Stored::Float(values) => place(card, &staging, values, Kind::Float, memory, to)?,
                Stored::Half(halves, _) => {
                    place(card, &staging, halves, Kind::of(stored), memory, to)?;
                }
            }
        }
        let [cosines, sines] = weights.rope().by_pair();
        for (table, to) in [(cosines, self.cosines), (sines, self.sines)] {
            place(card, &staging, &table, Kind::Float, memory, to)?;
        }
        Ok(())
    }
}

/// Bytes for copying a model.
pub(super) fn staging_bytes(weights: &Weights) -> usize {
    let largest = weights.stored().map(|(spec, _)| spec.elements() * 4).max().unwrap_or(0);
    largest.min(STAGING_BYTES)
}

/// Copies a matrix without gaps to its place, as operands. Numbers of half precision become
/// float32 if the place has those.
pub(super) fn place<T: Number>(
    card: &Card,
    staging: &Memory,
    values: &[T],
    kind: Kind,
    memory: &Memory,
    to: Placed,
) -> Result<(), DeviceFault> {
    assert_eq!(values.len(), to.rows * to.columns, "the numbers of a matrix");
    assert_eq!(size_of::<T>(), kind.bytes(), "numbers of this kind");
    assert!(to.kind == Kind::Float || to.kind == kind, "floats do not become halves");
    let share = (staging.bytes() / size_of::<T>()).max(1);
    for (index, part) in values.chunks(share).enumerate() {
        staging.write(part)?;
        let arguments = [
            staging.of::<T>(part.len()),
            Argument::Count(kind as usize),
            Argument::Count(part.len()),
            Argument::Long(index * share),
            Argument::Count(to.columns),
            Argument::Long(to.stride),
            Argument::Count(to.kind as usize),
            to.address(memory),
        ];
        let grid = [part.len().div_ceil(256), 1, 1];
        // SAFETY: the kernel reads the part, whose elements lie in the matrix, and writes those.
        unsafe { card.launch(Kernel::PlaceWeights, grid, 256, &arguments)? };
    }
    Ok(())
}

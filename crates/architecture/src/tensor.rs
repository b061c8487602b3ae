//! The tensors of a weights file: their names, shapes and order.
//!
//! The order is that of the forward pass. It decides the bytes of a file, and the order in which
//! training adds up the norm of the gradient.

use crate::Architecture;

/// A layer norm; the number is the layer it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// The norm before attention.
    First(usize),
    /// The norm before the feed-forward network.
    Second(usize),
    /// The norm after the last layer.
    Final,
}

/// A linear map; the number is the layer it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linear {
    /// The map to attention's queries.
    Query(usize),
    /// The map to attention's keys.
    Key(usize),
    /// The map to attention's values.
    Value(usize),
    /// The map from the attended values to the residual stream.
    Output(usize),
    /// The map into the hidden layer of the feed-forward network.
    Inner(usize),
    /// The map from the hidden layer to the residual stream.
    Outer(usize),
    /// The map from representations to logits.
    Predictor,
}

/// What a tensor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tensor {
    /// One row for each token, `[vocabulary, dim]`.
    Embedding,
    /// Gain of a layer norm, `[dim]`.
    Gamma(Norm),
    /// Offset of a layer norm, `[dim]`.
    Beta(Norm),
    /// Weights of a linear map, `[in, out]`.
    Weight(Linear),
    /// Bias of a linear map, `[out]`.
    Bias(Linear),
}

/// A tensor with its name and shape in a weights file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// What it is.
    pub tensor: Tensor,
    /// Name, as in `encoder.layers.0.attention.query.weight`.
    pub name: String,
    /// Length of each axis.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().fold(1, |count, &extent| count.saturating_mul(extent))
    }
}

/// Number of tensors before the first layer: the embedding.
const BEFORE_LAYERS: usize = 1;
/// Number of tensors in a layer.
const PER_LAYER: usize = 16;

impl Norm {
    /// Index of its gamma, which is followed by its beta.
    const fn index(self, layers: usize) -> usize {
        match self {
            Self::First(layer) => place(layer, 0),
            Self::Second(layer) => place(layer, 10),
            Self::Final => place(layers, 0),
        }
    }

    fn name(self) -> String {
        match self {
            Self::First(layer) => format!("encoder.layers.{layer}.norm_1"),
            Self::Second(layer) => format!("encoder.layers.{layer}.norm_2"),
            Self::Final => "final_norm".to_owned(),
        }
    }
}

impl Linear {
    /// Index of its weights, which are followed by its bias.
    const fn index(self, layers: usize) -> usize {
        match self {
            Self::Query(layer) => place(layer, 2),
            Self::Key(layer) => place(layer, 4),
            Self::Value(layer) => place(layer, 6),
            Self::Output(layer) => place(layer, 8),
            Self::Inner(layer) => place(layer, 12),
            Self::Outer(layer) => place(layer, 14),
            Self::Predictor => place(layers, 2),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Query(layer) => format!("encoder.layers.{layer}.attention.query"),
            Self::Key(layer) => format!("encoder.layers.{layer}.attention.key"),
            Self::Value(layer) => format!("encoder.layers.{layer}.attention.value"),
            Self::Output(layer) => format!("encoder.layers.{layer}.attention.output"),
            Self::Inner(layer) => format!("encoder.layers.{layer}.pwff.linear_inner"),
            Self::Outer(layer) => format!("encoder.layers.{layer}.pwff.linear_outer"),
            Self::Predictor => "predictor".to_owned(),
        }
    }

    /// Number of inputs and outputs.
    fn shape(self, architecture: &Architecture) -> [u32; 2] {
        let (dim, ffn) = (architecture.dim, architecture.ffn);
        match self {
            Self::Query(_) | Self::Key(_) | Self::Value(_) | Self::Output(_) => [dim, dim],
            Self::Inner(_) => [dim, ffn],
            Self::Outer(_) => [ffn, dim],
            Self::Predictor => [dim, architecture.vocabulary],
        }
    }
}

/// Index of a layer's tensor in file order.
const fn place(layer: usize, tensor: usize) -> usize {
    BEFORE_LAYERS.saturating_add(layer.saturating_mul(PER_LAYER)).saturating_add(tensor)
}

impl Tensor {
    /// Its index, from 0, in the file order of a model with this many layers.
    pub const fn index(self, layers: usize) -> usize {
        match self {
            Self::Embedding => 0,
            Self::Gamma(norm) => norm.index(layers),
            Self::Beta(norm) => norm.index(layers).saturating_add(1),
            Self::Weight(linear) => linear.index(layers),
            Self::Bias(linear) => linear.index(layers).saturating_add(1),
        }
    }

    /// Whether it has two axes.
    pub const fn is_matrix(self) -> bool {
        matches!(self, Self::Embedding | Self::Weight(_))
    }

    fn spec(self, architecture: &Architecture) -> TensorSpec {
        let (name, shape) = match self {
            Self::Embedding => {
                let shape = vec![architecture.vocabulary, architecture.dim];
                ("embedding.weight".to_owned(), shape)
            }
            Self::Gamma(norm) => (norm.name() + ".gamma", vec![architecture.dim]),
            Self::Beta(norm) => (norm.name() + ".beta", vec![architecture.dim]),
            Self::Weight(linear) => {
                let shape = linear.shape(architecture).to_vec();
                (linear.name() + ".weight", shape)
            }
            Self::Bias(linear) => {
                let [_, outputs] = linear.shape(architecture);
                (linear.name() + ".bias", vec![outputs])
            }
        };
        TensorSpec {
            tensor: self,
            name,
            shape: shape.into_iter().map(|extent| extent as usize).collect(),
        }
    }
}

impl Architecture {
    /// Every tensor of a weights file, in the order in which they are written.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let norm = |norm| [Tensor::Gamma(norm), Tensor::Beta(norm)];
        let linear = |linear| [Tensor::Weight(linear), Tensor::Bias(linear)];
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
        let pairs = (0..self.layers as usize).flat_map(layer).chain(last);
        std::iter::once(Tensor::Embedding)
            .chain(pairs.flatten())
            .map(|tensor| tensor.spec(self))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_stand_at_their_index_and_have_as_many_elements_as_the_model_has_parameters() {
        for architecture in [Architecture::nano(), Architecture::v1()] {
            let specs = architecture.tensors();
            let mut elements = 0;
            for (index, spec) in specs.iter().enumerate() {
                assert_eq!(spec.tensor.index(architecture.layers as usize), index);
                assert_eq!(spec.tensor.is_matrix(), spec.shape.len() == 2);
                elements += spec.elements() as u64;
            }
            assert_eq!(elements, architecture.parameters());
        }
    }
}

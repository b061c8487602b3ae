//! The shape of a model: all numbers that a weights file, a score and a training run agree on.
//!
//! It must never hold anything that a single machine may choose (threads, kernels, batch sizes).

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::tokenizer;

/// Hyperparameters of a byte transformer; the JSON names are those of the public V1 configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Width of the residual stream and length of an embedding.
    #[serde(rename = "embedding_dim")]
    pub dim: usize,
    /// Attention heads; each is `dim / heads` wide.
    #[serde(rename = "num_heads")]
    pub heads: usize,
    /// Transformer layers.
    #[serde(rename = "num_layers")]
    pub layers: usize,
    /// Hidden width of the feed-forward network.
    #[serde(rename = "pwff_hidden_dim")]
    pub ffn: usize,
    /// Token ids in the softmax: 256 bytes, PAD, EOS and reserved ones.
    #[serde(rename = "vocab_size")]
    pub vocabulary: usize,
    /// Bytes of a chunk, which is also the number of positions.
    #[serde(rename = "max_seq_len")]
    pub positions: usize,
    /// Directions that SIGReg projects on.
    #[serde(rename = "sig_reg_slices")]
    pub sigreg_slices: usize,
    /// Nodes of SIGReg's integral, both ends included.
    #[serde(rename = "sig_reg_points")]
    pub sigreg_points: usize,
    /// Upper end of SIGReg's integral.
    #[serde(rename = "sig_reg_t_max")]
    pub sigreg_t_max: f64,
    /// Weight of SIGReg in the loss.
    #[serde(rename = "sig_reg_coefficient", default = "default_coefficient")]
    pub sigreg_coefficient: f64,
    /// Upper limit of SIGReg's factor, the number of samples.
    #[serde(rename = "sig_reg_cap", default = "default_cap")]
    pub sigreg_cap: usize,
}

fn default_coefficient() -> f64 {
    0.02
}

fn default_cap() -> usize {
    16
}

/// Name and shape of a tensor in a weights file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Name, as in `encoder.layers.0.attention.query.weight`.
    pub name: String,
    /// Extent of each axis; the weights of linear maps are `[in, out]`.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }
}

/// Tensors before the first layer: the embedding.
pub(crate) const TENSORS_BEFORE_LAYERS: usize = 1;
/// Tensors of a layer.
pub(crate) const TENSORS_PER_LAYER: usize = 16;

impl Architecture {
    /// The architecture of the network: 1,209,684,232 parameters.
    pub fn v1() -> Self {
        Self {
            dim: 2048,
            heads: 8,
            layers: 24,
            ffn: 8192,
            vocabulary: 264,
            positions: 1024,
            sigreg_slices: 256,
            sigreg_points: 17,
            sigreg_t_max: 3.0,
            sigreg_coefficient: default_coefficient(),
            sigreg_cap: default_cap(),
        }
    }

    /// Small enough to train on a CPU in minutes: 0.86 M parameters.
    pub fn nano() -> Self {
        Self {
            dim: 128,
            heads: 4,
            layers: 4,
            ffn: 512,
            positions: 256,
            ..Self::v1()
        }
    }

    /// The preset of this name.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "nano" => Some(Self::nano()),
            "v1" => Some(Self::v1()),
            _ => None,
        }
    }

    /// Reads and validates the JSON of an architecture.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        let architecture: Self = serde_json::from_str(text).map_err(Error::ArchitectureNotJson)?;
        architecture.validate()?;
        Ok(architecture)
    }

    /// The JSON, on one line.
    pub fn to_json(&self) -> String {
        serde_json::json!(self).to_string()
    }

    /// Width of a head.
    pub fn head_dim(&self) -> usize {
        self.dim / self.heads
    }

    /// Checks that every number is inside its bounds.
    pub fn validate(&self) -> Result<(), Error> {
        let first_id_after_eos = tokenizer::SPECIAL_IDS_END;
        let bounds = [
            ("embedding_dim", self.dim, 1, 1 << 16, "1 to 65536"),
            ("num_heads", self.heads, 1, self.dim, "1 to embedding_dim"),
            ("num_layers", self.layers, 1, 1 << 10, "1 to 1024"),
            ("pwff_hidden_dim", self.ffn, 1, 1 << 18, "1 to 262144"),
            (
                "vocab_size",
                self.vocabulary,
                first_id_after_eos,
                1 << 16,
                "258 to 65536",
            ),
            ("max_seq_len", self.positions, 2, 1 << 16, "2 to 65536"),
            (
                "sig_reg_slices",
                self.sigreg_slices,
                1,
                1 << 14,
                "1 to 16384",
            ),
            (
                "sig_reg_points",
                self.sigreg_points,
                2,
                1 << 10,
                "2 to 1024",
            ),
            ("sig_reg_cap", self.sigreg_cap, 1, 1 << 16, "1 to 65536"),
        ];
        for (field, value, least, most, text) in bounds {
            if !(least..=most).contains(&value) {
                return Err(out_of_bounds(field, &value, text));
            }
        }
        if !self.dim.is_multiple_of(self.heads) || !self.head_dim().is_multiple_of(2) {
            let text = "a divisor of embedding_dim with an even quotient";
            return Err(out_of_bounds("num_heads", &self.heads, text));
        }
        if !(self.sigreg_t_max > 0.0 && self.sigreg_t_max <= 16.0) {
            return Err(out_of_bounds(
                "sig_reg_t_max",
                &self.sigreg_t_max,
                "more than 0, at most 16",
            ));
        }
        if !(0.0..=1000.0).contains(&self.sigreg_coefficient) {
            return Err(out_of_bounds(
                "sig_reg_coefficient",
                &self.sigreg_coefficient,
                "0 to 1000",
            ));
        }
        Ok(())
    }

    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        let (dim, ffn, vocabulary) = (self.dim as u64, self.ffn as u64, self.vocabulary as u64);
        let attention = 4 * (dim * dim + dim);
        let feed_forward = 2 * dim * ffn + ffn + dim;
        let layer = attention + feed_forward + 4 * dim;
        vocabulary * dim + self.layers as u64 * layer + 2 * dim + dim * vocabulary + vocabulary
    }

    /// Every tensor of a weights file, in the order in which they are written.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let (dim, ffn) = (self.dim, self.ffn);
        let mut specs = Vec::new();
        let mut push = |name: String, shape: &[usize]| {
            specs.push(TensorSpec {
                name,
                shape: shape.to_vec(),
            });
        };
        push("embedding.weight".to_owned(), &[self.vocabulary, dim]);
        for layer in 0..self.layers {
            let mut push =
                |name: &str, shape: &[usize]| push(format!("encoder.layers.{layer}.{name}"), shape);
            push("norm_1.gamma", &[dim]);
            push("norm_1.beta", &[dim]);
            for map in ["query", "key", "value", "output"] {
                push(&format!("attention.{map}.weight"), &[dim, dim]);
                push(&format!("attention.{map}.bias"), &[dim]);
            }
            push("norm_2.gamma", &[dim]);
            push("norm_2.beta", &[dim]);
            push("pwff.linear_inner.weight", &[dim, ffn]);
            push("pwff.linear_inner.bias", &[ffn]);
            push("pwff.linear_outer.weight", &[ffn, dim]);
            push("pwff.linear_outer.bias", &[dim]);
        }
        push("final_norm.gamma".to_owned(), &[dim]);
        push("final_norm.beta".to_owned(), &[dim]);
        push("predictor.weight".to_owned(), &[dim, self.vocabulary]);
        push("predictor.bias".to_owned(), &[self.vocabulary]);
        specs
    }
}

fn out_of_bounds(field: &'static str, value: &impl ToString, bounds: &'static str) -> Error {
    Error::OutOfBounds {
        field,
        value: value.to_string(),
        bounds,
    }
}

//! What a model is, in integers: the one definition shared by the rules, the engine and all tools.
//!
//! Owns the hyperparameters with their bounds and presets, the version of the numerics, the names,
//! shapes and order of the tensors, and the arithmetic of embeddings. Whatever
//! [`Architecture::check`] accepts, `soma-model` can run. No floats, no input or output, no panics.
//!
//! Reading order: [`architecture`], [`configuration`] (its JSON form), [`tensor`], [`embedding`].

#![forbid(unsafe_code)]
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod architecture;
pub mod configuration;
pub mod embedding;
pub mod tensor;

mod error;

pub use architecture::{Architecture, DIM_MAX, HEADER_BYTES_MAX, NUMERICS_VERSION};
pub use configuration::Configuration;
pub use error::Error;
pub use tensor::{Linear, Norm, Tensor, TensorSpec};

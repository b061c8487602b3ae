//! Bytes in, integers out, the same bits everywhere: the transformer, its kernels, its score, its training.
//!
//! The way of the data: [`tokenizer`] cuts bytes into chunks, `forward` turns them into representations and logits with
//! the products of `kernels`, `loss` and [`sigreg`](Directions) judge them, [`score`] lets only integers out.
//! docs/numerics.md defines every bit of it.

mod attention;
pub mod bench;
mod error;
mod forward;
mod generate;
mod kernels;
mod loss;
mod math;
mod math64;
mod norm;
mod rope;
mod score;
mod sigreg;
mod simd;
mod sizes;
pub mod tokenizer;
pub mod train;
mod weights;

pub use error::Error;
pub use generate::{Sampling, generate};
pub use kernels::{Engine, KernelChoice, KernelKind};
pub use rope::Rope;
pub use score::{Dump, Report, Score, mean_embedding, score, score_all, score_with_dump};
pub use sigreg::Directions;
pub use soma_architecture::{Architecture, TensorSpec};
pub use weights::Weights;

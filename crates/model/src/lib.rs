//! Bytes in, integers out, with the same bits everywhere: the transformer, its kernels, its score
//! and its training.
//!
//! Owns all float arithmetic; floats leave it only for display. It never lets threads,
//! kernels, batches or the machine reach a result. `docs/numerics.md` and `docs/training.md` define
//! every bit.
//!
//! Reading order, bottom to top: lanes (`simd`), a card and its driver (`device`), functions
//! (`math`, `math64`), matrix products (`kernels`); bytes to tokens ([`tokenizer`]), and what
//! counting predicts ([`counting`]); the weights file (`weights`); each layer with its forward and
//! backward (`layers`); a forward pass (`forward`) and what a score takes from it (`pass`), the
//! same on a card (`card`); the [`score()`] made from it and its receipt (`receipt`), and bytes
//! sampled from it (`generate`); training ([`train`]); measurements (`bench`).

#![expect(
    clippy::inline_always,
    reason = "lane operations must be inlined into the function that enables their CPU features"
)]

mod simd;
mod look;
mod error;
mod device;
mod sizes;
mod math;
mod math64;
mod kernels;
pub mod tokenizer;
pub mod counting;
mod rope;
mod weights;
mod layers;
mod forward;
mod pass;
mod card;
mod score;
mod receipt;
mod generate;
pub mod train;
pub mod bench;

pub use card::CardInfo;
pub use device::DeviceChoice;
pub use error::{DeviceFault, Error};
pub use generate::{Sampling, generate};
pub use kernels::{Engine, KernelChoice};
pub use layers::sigreg::Directions;
pub use look::Look;
pub use receipt::{Difference, Place, Receipt, Subject};
pub use rope::Rope;
pub use score::{
    ByteReport, Dump, Report, Score, score, score_all, score_bytes, score_while, score_with_dump,
};
pub use simd::KernelKind;
pub use soma_architecture::{Architecture, TensorSpec};
pub use weights::Weights;

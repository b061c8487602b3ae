//! Bytes in, integers out, the same bits everywhere: the transformer, its kernels, its score, its training.

pub mod bench;
mod kernels;
mod math;
mod simd;

pub use kernels::{Engine, EngineError, KernelChoice, KernelKind};

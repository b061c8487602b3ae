//! The weights files that the chain needs: which ones, on disk or in a cold store, and their
//! uploads.
//!
//! It must never accept a byte that no commitment on chain asks for, nor count a file as held
//! before it has been hashed. Everything here blocks: call it from a thread that may block.

mod needed;
mod quota;
mod tree;
mod cold;
mod store;
mod room;
mod leave;
#[cfg(test)]
mod tests;
mod upload;

pub(crate) use cold::Cold;
pub(crate) use leave::run as tend_cold_store;
pub(crate) use needed::{Ciphertext, Needed, Revealed};
pub(crate) use store::{CHUNK_BYTES, WeightsFile, WeightsStore};
pub(crate) use upload::{Progress, Upload};

//! Random numbers: one stream per seed and purpose, the same on every machine.

use rand::SeedableRng as _;
use soma_protocol::Hash;

/// The generator of all streams. Its numbers change only with a new minor version of `rand`.
pub type SimRng = rand::rngs::Xoshiro256PlusPlus;

/// The stream for one purpose, independent of those for other purposes.
pub fn stream(seed: u64, purpose: &str) -> SimRng {
    SimRng::from_seed(Hash::of_parts(purpose, &[&seed.to_le_bytes()]).0)
}

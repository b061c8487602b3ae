//! What to simulate: how long, from which seed, and under which parameters.

use soma_protocol::{Architecture, Params};

use crate::weights::FILE_BYTES;

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Number of epochs.
    pub epochs: u32,
    /// Seed of all random numbers.
    pub seed: u64,
    /// Parameters of the rules.
    pub params: Params,
    /// Number of validators that never audit, each with the same stake as any other.
    pub silent: usize,
    /// Whether the attackers take part that try what the rules exclude.
    pub attackers: bool,
}

impl Settings {
    /// Settings with the default parameters of a network.
    pub fn new(epochs: u32, seed: u64) -> Self {
        Self { epochs, seed, params: params(), silent: 1, attackers: true }
    }
}

/// The parameters of a real network with fewer targets. The price of rent is scaled so that the
/// small files here cost as much as those of the full architecture.
fn params() -> Params {
    let network = Params::network();
    let scale = Architecture::v1().weights_bytes_max() / FILE_BYTES;
    Params {
        halt_ms: 86_400_000,
        targets_per_epoch: 20,
        rent_price_per_mib_epoch: network.rent_price_per_mib_epoch.times(scale),
        ..network
    }
}

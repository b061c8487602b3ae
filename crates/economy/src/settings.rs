//! What to simulate: how long, from which seed, under which parameters.

use soma_protocol::{Architecture, Params};

use crate::weights::FILE_BYTES;

/// What is played.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many epochs.
    pub epochs: u32,
    /// Where chance comes from.
    pub seed: u64,
    /// The parameters of the rules.
    pub params: Params,
    /// How many validators never audit, each with the stake of any other.
    pub silent: usize,
}

impl Settings {
    /// The default rules.
    pub fn new(epochs: u32, seed: u64) -> Self {
        Self {
            epochs,
            seed,
            params: params(),
            silent: 1,
        }
    }
}

/// The rules of a real network with fewer targets, and a price that makes the rent of the small files
/// here that of the full architecture's.
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

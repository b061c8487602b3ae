//! Faults of the network and of this machine, by seed, under the commands that people leave alone
//! for hours: no bond and no rent is lost, no result is wrong, and nothing ends in silence.
//!
//! Everything is real: a node, the binary, sockets and files. One seed decides the data, which
//! faults come and when; only the moment in which a process meets them differs between runs. A few
//! seeds run by default; CONTRIBUTING.md says how to run others.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap fails the test")]

#[path = "../support/mod.rs"]
mod support;

mod rng;

mod proxy;

mod machine;

mod command;

mod world;

#[cfg(test)]
mod competing;
#[cfg(test)]
mod promises;
#[cfg(test)]
mod scoring;
#[cfg(test)]
mod training;

use std::ops::Range;

use soma_architecture::Architecture;

/// How many seeds each test runs unless the environment says otherwise.
const SEEDS: u64 = 2;

/// The seeds to run: `SOMA_FAULT_SEEDS` many, the first of them `SOMA_FAULT_FIRST`.
pub(crate) fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let first = number("SOMA_FAULT_FIRST").unwrap_or(1);
    first..first + number("SOMA_FAULT_SEEDS").unwrap_or(SEEDS)
}

/// Models of 64 bytes a chunk and some thousand parameters.
pub(crate) fn tiny() -> Architecture {
    Architecture {
        name: "tiny".to_owned(),
        layers: 1,
        dim: 16,
        heads: 2,
        ffn: 32,
        positions: 64,
        sig_reg_slices: 16,
        ..Architecture::nano()
    }
}

//! Draws the faults of a history: which links, nodes and disks fail, when, and for how long. They
//! never depend on what the nodes do.

use rand::{RngExt as _, rngs::Xoshiro256PlusPlus};

use crate::checker::Checker;
use crate::cluster::{Cluster, LinkQuality};
use crate::genesis::NODES;
use crate::network::LinkFaults;

/// The faults of one history.
#[derive(Debug)]
pub struct Faults {
    rng: Xoshiro256PlusPlus,
    checker: Checker,
    /// The number of node crashes.
    pub crashes: u64,
}

impl Faults {
    /// Faults drawn from `rng`; the checker is told of each crash.
    pub const fn new(rng: Xoshiro256PlusPlus, checker: Checker) -> Self {
        Self { rng, checker, crashes: 0 }
    }

    /// How often the whole network loses power.
    pub fn power_losses(&mut self) -> u64 {
        self.rng.random_range(0..3)
    }

    /// Delay and loss of the links until the next power loss.
    pub fn link_quality(&mut self) -> LinkQuality {
        LinkQuality {
            latency_ms: self.rng.random_range(2..60),
            lost_percent: self.rng.random_range(0..12),
        }
    }

    /// How links distort the order of messages until the next power loss.
    pub fn link_faults(&mut self) -> LinkFaults {
        LinkFaults {
            duplicated: self.rng.random_range(0..100),
            reordered: self.rng.random_range(0..100),
        }
    }

    /// Draws and applies what fails in the next step.
    pub async fn inject(&mut self, cluster: &mut Cluster) {
        if self.rng.random_ratio(25, 1_000) {
            let node = self.rng.random_range(0..NODES);
            let down_ms = self.rng.random_range(150..3_000);
            self.crash(cluster, node, down_ms);
        }
        if !cluster.is_partitioned() && self.rng.random_ratio(20, 1_000) {
            let duration_ms = self.rng.random_range(500..4_000);
            cluster.partition(self.rng.random(), duration_ms).await;
        }
        if !cluster.disks_fail() && self.rng.random_ratio(12, 1_000) {
            let duration_ms = self.rng.random_range(50..400);
            cluster.fail_disks(self.rng.random_range(100..2_000), duration_ms);
        }
    }

    /// Crashes a node, if it is running, for a while.
    pub fn crash(&mut self, cluster: &mut Cluster, node: usize, down_ms: u64) {
        if cluster.crash(node, down_ms) {
            self.checker.stopped(node);
            self.crashes += 1;
        }
    }
}

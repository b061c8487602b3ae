//! The nodes between two power losses: the simulated network and disks that they share, with their
//! current faults, and which nodes are running.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{
    Manager as _,
    simulated::{self, Link, Network, Oracle},
};
use commonware_runtime::{
    Clock as _, Supervisor as _,
    deterministic::{Context, FaultConfig, PartialWriteMode, WriteConfig},
};
use commonware_utils::{NZU32, NZUsize, Probability, ordered::Set, probability};
use rand::rngs::Xoshiro256PlusPlus;
use soma_engine::{EngineError, generic::message_bytes_max};
use soma_protocol::VerifiedTransaction;

use crate::genesis::{NODES, peer_key};
use crate::mempool::Standing;
use crate::network::{LinkFaults, SharedLinkFaults};
use crate::node::{NodeSpec, RunningNode};

/// Delay and loss of all links.
#[derive(Clone, Copy, Debug)]
pub struct LinkQuality {
    /// Mean latency, in milliseconds.
    pub latency_ms: u64,
    /// Messages lost, in percent.
    pub lost_percent: u64,
}

impl LinkQuality {
    /// Fast and without loss.
    pub const GOOD: Self = Self { latency_ms: 5, lost_percent: 0 };

    fn link(self) -> Link {
        Link {
            latency: Duration::from_millis(self.latency_ms),
            jitter: Duration::from_millis(self.latency_ms / 3),
            success_rate: ratio(100 - self.lost_percent, 100),
        }
    }
}

fn ratio(part: u64, whole: u64) -> Probability {
    Probability::new(part, whole).unwrap_or(probability!(1.0))
}

enum Slot {
    Running(RunningNode),
    /// Down until a given time, then restarted.
    Down {
        until_ms: u64,
    },
}

/// All nodes on one network.
#[expect(missing_debug_implementations, reason = "a context has nothing to show")]
pub struct Cluster {
    context: Context,
    oracle: Oracle<PublicKey, Context>,
    link_faults: SharedLinkFaults,
    quality: LinkQuality,
    slots: Vec<Slot>,
    /// When the current partition ends, and when the current disk faults end.
    partitioned_until_ms: Option<u64>,
    disks_fail_until_ms: Option<u64>,
}

impl Cluster {
    /// A connected network on which no node runs yet.
    pub async fn new(context: Context, quality: LinkQuality, faults: LinkFaults) -> Self {
        let config = simulated::Config {
            max_size: message_bytes_max(NZU32!(8)),
            max_peers_per_set: NZUsize!(8),
            disconnect_on_block: true,
            tracked_peer_sets: NZUsize!(1),
        };
        let (network, oracle) = Network::new(context.child("network"), config);
        network.start();
        let peers = Set::from_iter_dedup((0..NODES).map(peer_key));
        oracle.manager().track(0, peers);
        let mut cluster = Self {
            context,
            oracle,
            link_faults: Arc::new(Mutex::new(faults)),
            quality,
            slots: (0..NODES).map(|_| Slot::Down { until_ms: 0 }).collect(),
            partitioned_until_ms: None,
            disks_fail_until_ms: None,
        };
        cluster.connect(|_, _| true).await;
        cluster
    }

    /// The simulated time, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        soma_os::clock::unix_ms(self.context.current())
    }

    /// Lets simulated time pass.
    pub async fn sleep_ms(&self, ms: u64) {
        self.context.sleep(Duration::from_millis(ms)).await;
    }

    /// Whether a node is running.
    pub fn is_running(&self, node: usize) -> bool {
        matches!(self.slots[node], Slot::Running(_))
    }

    /// The nodes that are running, with their numbers.
    pub fn running(&mut self) -> impl Iterator<Item = (usize, &mut RunningNode)> {
        let slots = self.slots.iter_mut().enumerate();
        slots.filter_map(|(node, slot)| match slot {
            Slot::Running(running) => Some((node, running)),
            Slot::Down { .. } => None,
        })
    }

    /// Sends a transaction to the running nodes that `receives` selects.
    pub fn send(
        &mut self,
        tx: &VerifiedTransaction,
        standing: Standing,
        mut receives: impl FnMut() -> bool,
    ) {
        for (_, running) in self.running() {
            if receives() {
                running.mempool.add(tx.clone(), standing);
                running.work.notify_one();
            }
        }
    }

    /// Starts a node if it is down and its time has come.
    pub async fn start(&mut self, spec: &NodeSpec, incarnation: u64, rng: Xoshiro256PlusPlus) {
        let (context, oracle) = (&self.context, &self.oracle);
        let running = spec.start(context, oracle, &self.link_faults, incarnation, rng);
        self.slots[spec.node] = Slot::Running(running.await);
    }

    /// Whether a node is down and may be restarted.
    pub fn is_due(&self, node: usize) -> bool {
        matches!(self.slots[node], Slot::Down { until_ms } if self.now_ms() >= until_ms)
    }

    /// Kills a node; it may be restarted after a while. Returns whether it was running.
    pub fn crash(&mut self, node: usize, down_ms: u64) -> bool {
        let until_ms = self.now_ms() + down_ms;
        let slot = std::mem::replace(&mut self.slots[node], Slot::Down { until_ms });
        match slot {
            Slot::Running(running) => {
                running.task.abort();
                true
            }
            Slot::Down { .. } => {
                self.slots[node] = slot;
                false
            }
        }
    }

    /// Whether a node has stopped by itself, with its error if it could not start; it may then be
    /// restarted after a while.
    pub async fn stopped(&mut self, node: usize, down_ms: u64) -> Option<Option<EngineError>> {
        let Slot::Running(running) = &mut self.slots[node] else {
            return None;
        };
        let result = tokio::select! {
            biased;
            result = &mut running.task => result,
            () = std::future::ready(()) => return None,
        };
        let until_ms = self.now_ms() + down_ms;
        self.slots[node] = Slot::Down { until_ms };
        Some(result.ok().and_then(Result::err))
    }

    /// Connects the pairs of nodes that `connected` selects and disconnects all others.
    async fn connect(&mut self, connected: impl Fn(usize, usize) -> bool) {
        for from in 0..NODES {
            for to in (0..NODES).filter(|to| *to != from) {
                let (sender, receiver) = (peer_key(from), peer_key(to));
                // Fails if there was no link; an existing one is replaced.
                let _ = self.oracle.remove_link(sender.clone(), receiver.clone()).await;
                if connected(from, to) {
                    let link = self.quality.link();
                    let _ = self.oracle.add_link(sender, receiver, link).await;
                }
            }
        }
    }

    /// Whether the network is partitioned.
    pub const fn is_partitioned(&self) -> bool {
        self.partitioned_until_ms.is_some()
    }

    /// Splits the nodes into two groups by the bits of `sides`, for a while.
    pub async fn partition(&mut self, sides: u64, duration_ms: u64) {
        self.partitioned_until_ms = Some(self.now_ms() + duration_ms);
        let side = |node: usize| (sides >> node) & 1;
        self.connect(|from, to| side(from) == side(to)).await;
    }

    /// Whether disks fail.
    pub const fn disks_fail(&self) -> bool {
        self.disks_fail_until_ms.is_some()
    }

    /// Makes one in `odds` operations of all disks fail, for a while.
    pub fn fail_disks(&mut self, odds: u64, duration_ms: u64) {
        self.disks_fail_until_ms = Some(self.now_ms() + duration_ms);
        let writes = write_faults(ratio(1, odds));
        let faults = self.context.storage_fault_config();
        *faults.write() = FaultConfig::default().sync(ratio(1, odds)).write(writes);
    }

    fn repair_disks(&mut self) {
        self.disks_fail_until_ms = None;
        let writes = write_faults(probability!(0.0));
        *self.context.storage_fault_config().write() = FaultConfig::default().write(writes);
    }

    /// Ends the faults whose time is up.
    pub async fn end_faults(&mut self) {
        let now = self.now_ms();
        let is_over = |until: Option<u64>| until.is_some_and(|until| now >= until);
        if is_over(self.partitioned_until_ms) {
            self.partitioned_until_ms = None;
            self.connect(|_, _| true).await;
        }
        if is_over(self.disks_fail_until_ms) {
            self.repair_disks();
        }
    }

    /// Ends all faults of network and disks.
    pub async fn heal(&mut self) {
        self.repair_disks();
        self.partitioned_until_ms = None;
        self.quality = LinkQuality::GOOD;
        *self.link_faults.lock().unwrap_or_else(PoisonError::into_inner) = LinkFaults::default();
        self.connect(|_, _| true).await;
    }
}

/// Writes that fail at this rate; at a power loss, part of what was written but not synced is kept.
fn write_faults(failure_rate: Probability) -> WriteConfig {
    WriteConfig { failure_rate, retention_rate: ratio(1, 2), mode: PartialWriteMode::Prefix }
}

//! What a node runs on, real or simulated: the runtime, and the network, with one sender and
//! receiver per channel and who the peers are.

use std::collections::BTreeSet;

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, Provider};
use commonware_runtime::{Clock, Metrics, Network, Spawner, Storage};
use rand_core::{CryptoRng, Rng};

use crate::keys::consensus_key;

/// Tasks, time, random numbers, files and sockets.
pub trait Runtime: Rng + CryptoRng + Spawner + Storage + Clock + Metrics + Network {}

impl<E: Rng + CryptoRng + Spawner + Storage + Clock + Metrics + Network> Runtime for E {}

/// The node of a registered validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The key that identifies it.
    pub key: PublicKey,
    /// Where it listens, as its operator wrote on the chain.
    pub p2p: Option<String>,
}

/// Knows the peers, and is told who they are whenever that changes.
pub trait Roster: Provider<PublicKey = PublicKey> + Sync {
    /// From now on this node connects to `voters`, and to the nodes of all that are `registered` if
    /// there is room, in their order.
    fn track(&mut self, voters: BTreeSet<PublicKey>, registered: Vec<Registered>);
}

/// The channels of a node, each a sender and a receiver.
#[derive(Debug)]
pub struct Links<P, B, S, R> {
    /// Who the peers are.
    pub peers: P,
    /// Disconnects peers that misbehave.
    pub blocker: B,
    /// Votes.
    pub votes: (S, R),
    /// Certificates.
    pub certificates: (S, R),
    /// Requests for certificates, and responses.
    pub certificate_requests: (S, R),
    /// Requests for blocks, and responses.
    pub block_requests: (S, R),
    /// Proposed blocks.
    pub blocks: (S, R),
    /// Gossip.
    pub gossip: (S, R),
    /// State sync: requests, and responses.
    pub exchange: (S, R),
    /// Leases of keys.
    pub leases: (S, R),
}

/// Disconnects a peer that broke the protocol, and refuses it for a while.
pub(crate) fn block(
    blocker: &mut impl Blocker<PublicKey = PublicKey>,
    peer: PublicKey,
    why: &'static str,
) {
    tracing::warn!(peer = %consensus_key(&peer), why, "blocking a peer");
    blocker.block(peer);
}

//! What happens to messages between nodes: some arrive twice, some out of order, and an adversary
//! sends them to chosen peers only. Loss and delay come from the simulated network. No message is
//! ever invented.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Message, Receiver, Recipients, simulated};
use rand::{RngExt as _, rngs::Xoshiro256PlusPlus};

/// How links duplicate and reorder messages, in messages per thousand.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkFaults {
    /// Messages that arrive twice.
    pub duplicated: u32,
    /// Messages that arrive after a later one.
    pub reordered: u32,
}

/// The current faults of all links.
pub type SharedLinkFaults = Arc<Mutex<LinkFaults>>;

/// The receiving end of a link that duplicates and reorders messages.
#[derive(Debug)]
pub struct LossyLink {
    receiver: simulated::Receiver<PublicKey>,
    faults: SharedLinkFaults,
    rng: Xoshiro256PlusPlus,
    delayed: Vec<Message<PublicKey>>,
}

impl LossyLink {
    /// Adds faults to a receiver.
    pub fn new(
        receiver: simulated::Receiver<PublicKey>,
        faults: SharedLinkFaults,
        rng: Xoshiro256PlusPlus,
    ) -> Self {
        Self { receiver, faults, rng, delayed: Vec::new() }
    }
}

impl Receiver for LossyLink {
    type Error = <simulated::Receiver<PublicKey> as Receiver>::Error;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<Message<PublicKey>, Self::Error> {
        loop {
            if !self.delayed.is_empty() && self.rng.random_ratio(1, 2) {
                let index = self.rng.random_range(0..self.delayed.len());
                return Ok(self.delayed.swap_remove(index));
            }
            let message = self.receiver.recv().await?;
            let faults = *self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            if self.rng.random_ratio(faults.duplicated, 1_000) {
                self.delayed.push(message.clone());
            } else if self.rng.random_ratio(faults.reordered, 1_000) {
                self.delayed.push(message);
                continue;
            }
            return Ok(message);
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        self.receiver.capacity()
    }
}

/// Which of two processes with one key each peer is connected to: a peer has one connection per
/// key. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Sides(Arc<AtomicU64>);

impl Sides {
    /// Connects a peer to the other process.
    pub fn flip(&self, peer: usize) {
        self.0.fetch_xor(1 << peer, Ordering::Relaxed);
    }

    /// Connects all to the first process.
    pub fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn is_second(&self, peer: usize) -> bool {
        self.0.load(Ordering::Relaxed) >> peer & 1 == 1
    }
}

/// The peers that each of a node's two network interfaces is connected to.
#[derive(Clone, Debug, Default)]
pub enum Interfaces {
    /// The first to all, and the second to nobody: an honest node.
    #[default]
    One,
    /// Each to these.
    Fixed {
        /// Peers of the first interface.
        first: Vec<PublicKey>,
        /// Peers of the second interface.
        second: Vec<PublicKey>,
    },
    /// Each peer to one of them.
    Divided {
        /// All peers.
        peers: Vec<PublicKey>,
        /// Whose is whose.
        sides: Sides,
    },
}

impl Interfaces {
    /// Whether anybody may be connected to the second interface.
    pub const fn has_second(&self) -> bool {
        match self {
            Self::One => false,
            Self::Fixed { second, .. } => !second.is_empty(),
            Self::Divided { .. } => true,
        }
    }

    /// The peers of an interface; `None` means all.
    fn peers(&self, origin: simulated::SplitOrigin) -> Option<Vec<PublicKey>> {
        let is_second = matches!(origin, simulated::SplitOrigin::Secondary);
        match self {
            Self::One => is_second.then(Vec::new),
            Self::Fixed { first, second } => Some(if is_second { second } else { first }.clone()),
            Self::Divided { peers, sides } => {
                let here = peers.iter().enumerate();
                let here = here.filter(|(at, _)| sides.is_second(*at) == is_second);
                Some(here.map(|(_, peer)| peer.clone()).collect())
            }
        }
    }

    /// The recipients of a message that its interface is connected to; `None` if there are none.
    pub fn route(
        &self,
        origin: simulated::SplitOrigin,
        recipients: &Recipients<PublicKey>,
    ) -> Option<Recipients<PublicKey>> {
        let Some(peers) = self.peers(origin) else {
            return Some(recipients.clone());
        };
        let is_recipient = |peer: &&PublicKey| match recipients {
            Recipients::All => true,
            Recipients::Some(some) => some.contains(peer),
            Recipients::One(one) => one == *peer,
        };
        let reached: Vec<_> = peers.iter().filter(is_recipient).cloned().collect();
        (!reached.is_empty()).then_some(Recipients::Some(reached))
    }

    /// The interfaces that receive a peer's messages.
    pub fn receivers(&self, peer: &PublicKey) -> simulated::SplitTarget {
        let reaches =
            |origin| self.peers(origin).is_none_or(|peers: Vec<PublicKey>| peers.contains(peer));
        let first = reaches(simulated::SplitOrigin::Primary);
        match (first, reaches(simulated::SplitOrigin::Secondary)) {
            (true, true) => simulated::SplitTarget::Both,
            (true, false) => simulated::SplitTarget::Primary,
            (false, true) => simulated::SplitTarget::Secondary,
            (false, false) => simulated::SplitTarget::None,
        }
    }
}

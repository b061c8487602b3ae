//! What happens to messages between nodes: some arrive twice, some out of order, and an adversary
//! sends them to chosen peers only. Loss and delay come from the simulated network. No message is
//! ever invented.

use std::num::NonZeroUsize;
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

/// The peers that each of a node's two network interfaces is connected to. An honest node uses only
/// the first, which is connected to all.
#[derive(Clone, Debug, Default)]
pub struct Interfaces {
    /// Peers of the first interface; `None` means all.
    pub first: Option<Vec<PublicKey>>,
    /// Peers of the second interface.
    pub second: Vec<PublicKey>,
}

impl Interfaces {
    fn peers(&self, origin: simulated::SplitOrigin) -> Option<&[PublicKey]> {
        match origin {
            simulated::SplitOrigin::Primary => self.first.as_deref(),
            simulated::SplitOrigin::Secondary => Some(&self.second),
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
        let first = self.first.as_ref().is_none_or(|peers| peers.contains(peer));
        match (first, self.second.contains(peer)) {
            (true, true) => simulated::SplitTarget::Both,
            (true, false) => simulated::SplitTarget::Primary,
            (false, true) => simulated::SplitTarget::Secondary,
            (false, false) => simulated::SplitTarget::None,
        }
    }
}

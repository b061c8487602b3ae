//! What happens to messages: some arrive twice, some out of order. Loss and delay are the simulated
//! network's own. It never invents a message.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Message, Receiver, Recipients, simulated};

use crate::dice::Dice;

/// How bad the wires are, for all nodes at once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise {
    /// Of a thousand messages, so many arrive twice.
    pub doubled: u64,
    /// Of a thousand messages, so many arrive after the next one.
    pub overtaken: u64,
}

/// The noise as it is now.
pub type SharedNoise = Arc<Mutex<Noise>>;

/// A receiver at the end of a bad wire.
#[derive(Debug)]
pub struct Noisy {
    receiver: simulated::Receiver<PublicKey>,
    noise: SharedNoise,
    dice: Dice,
    later: Vec<Message<PublicKey>>,
}

impl Noisy {
    /// Puts noise on a wire.
    pub fn new(receiver: simulated::Receiver<PublicKey>, noise: SharedNoise, dice: Dice) -> Self {
        Self {
            receiver,
            noise,
            dice,
            later: Vec::new(),
        }
    }
}

impl Receiver for Noisy {
    type Error = <simulated::Receiver<PublicKey> as Receiver>::Error;
    type PublicKey = PublicKey;

    async fn recv(&mut self) -> Result<Message<PublicKey>, Self::Error> {
        loop {
            if !self.later.is_empty() && self.dice.chance(500) {
                let at = self.dice.index(self.later.len());
                return Ok(self.later.swap_remove(at));
            }
            let message = self.receiver.recv().await?;
            let noise = *self.noise.lock().unwrap_or_else(PoisonError::into_inner);
            if self.dice.chance(noise.doubled) {
                self.later.push(message.clone());
            } else if self.dice.chance(noise.overtaken) {
                self.later.push(message);
                continue;
            }
            return Ok(message);
        }
    }

    fn capacity(&self) -> NonZeroUsize {
        self.receiver.capacity()
    }
}

/// Whom one of a node's two faces talks to. An honest node has only the first, and that one talks
/// to everybody.
#[derive(Clone, Debug)]
pub struct Faces {
    /// Whom the first face talks to; `None` is everybody.
    pub first: Option<Vec<PublicKey>>,
    /// Whom the second one talks to.
    pub second: Vec<PublicKey>,
}

impl Faces {
    /// One face for everybody.
    pub fn honest() -> Self {
        Self {
            first: None,
            second: Vec::new(),
        }
    }

    fn shown(&self, origin: simulated::SplitOrigin) -> Option<&[PublicKey]> {
        match origin {
            simulated::SplitOrigin::Primary => self.first.as_deref(),
            simulated::SplitOrigin::Secondary => Some(&self.second),
        }
    }

    /// The recipients that a face really reaches of those it wants to reach.
    pub fn route(
        &self,
        origin: simulated::SplitOrigin,
        wanted: &Recipients<PublicKey>,
    ) -> Option<Recipients<PublicKey>> {
        let Some(shown) = self.shown(origin) else {
            return Some(wanted.clone());
        };
        let reached: Vec<_> = match wanted {
            Recipients::All => shown.to_vec(),
            Recipients::Some(some) => {
                let both = some.iter().filter(|key| shown.contains(key));
                both.cloned().collect()
            }
            Recipients::One(one) => shown.iter().filter(|key| *key == one).cloned().collect(),
        };
        (!reached.is_empty()).then_some(Recipients::Some(reached))
    }

    /// Which face hears somebody.
    pub fn hears(&self, from: &PublicKey) -> simulated::SplitTarget {
        let first = self.first.as_ref().is_none_or(|keys| keys.contains(from));
        match (first, self.second.contains(from)) {
            (true, true) => simulated::SplitTarget::Both,
            (true, false) => simulated::SplitTarget::Primary,
            (false, true) => simulated::SplitTarget::Secondary,
            (false, false) => simulated::SplitTarget::None,
        }
    }
}

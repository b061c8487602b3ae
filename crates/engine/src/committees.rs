//! Which keys decide which blocks.
//!
//! The engine's epochs are [`TERM_BLOCKS`] long. A committee takes office at the next but one
//! boundary after the block that decided it, so everybody has a whole epoch to connect to it. All
//! of this follows from the state alone: nodes that hold the same state know the same committees.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU64,
    sync::{Arc, PoisonError, RwLock},
};

use commonware_consensus::{
    simplex::scheme::ed25519::Scheme,
    types::{Epoch, FixedEpocher},
};
use commonware_cryptography::{
    Hasher as _,
    blake3::{Blake3, Digest},
    certificate::{Provider, Scoped},
    ed25519::{PrivateKey, PublicKey},
};
use commonware_utils::{NZU64, ordered::Set};
use soma_protocol::{Address, Hash, Seat, StateRead, evidence, read};

use crate::network::public_key;

/// How many blocks an epoch of the engine has. Changing it is a fork.
pub const TERM_BLOCKS: u64 = 128;

/// Which heights belong to which epoch of the engine.
#[derive(Clone, Copy, Debug)]
pub struct Calendar(NonZeroU64);

impl Default for Calendar {
    /// The calendar of every real network.
    fn default() -> Self {
        Self(NZU64!(TERM_BLOCKS))
    }
}

impl Calendar {
    /// Epochs of another length, for simulations: two blocks at least.
    pub const fn of_blocks(length: NonZeroU64) -> Self {
        Self(length)
    }

    pub(crate) fn epocher(self) -> FixedEpocher {
        FixedEpocher::new(self.0)
    }

    /// The epoch that a height belongs to; genesis is in the first.
    pub(crate) const fn epoch_of(self, height: u64) -> u64 {
        height / self.0.get()
    }

    /// The last height of an epoch.
    pub(crate) const fn last_of(self, epoch: u64) -> u64 {
        (epoch + 1) * self.0.get() - 1
    }

    /// The block that an epoch is built on.
    pub(crate) const fn root_of(self, epoch: u64) -> u64 {
        (epoch * self.0.get()).saturating_sub(1)
    }

    /// The last height whose decisions count for an epoch.
    const fn decided_by(self, epoch: u64) -> u64 {
        match epoch {
            0 | 1 => 0,
            later => self.last_of(later - 2),
        }
    }
}

/// What a header says of the seats that its block leaves decided.
pub(crate) fn digest_of(seats: &[Seat]) -> Digest {
    let mut bytes = Vec::with_capacity(64 * seats.len());
    for seat in seats {
        bytes.extend_from_slice(&seat.consensus_key.0);
        bytes.extend_from_slice(&seat.validator.0);
    }
    Blake3::hash(&[b"soma seats", &bytes])
}

/// The committee of one epoch.
pub(crate) struct Seats {
    /// Signs for us if we have a seat, and checks the others in any case.
    pub(crate) scheme: Scheme,
    /// The keys and the accounts behind them.
    pub(crate) validators: BTreeMap<PublicKey, Address>,
}

struct Inner {
    chain: Hash,
    key: PrivateKey,
    calendar: Calendar,
    known: RwLock<BTreeMap<u64, Arc<Seats>>>,
    registered: RwLock<BTreeSet<PublicKey>>,
}

/// The committees that matter now: of the present epoch, the one before and the one after.
#[derive(Clone)]
pub(crate) struct Committees(Arc<Inner>);

impl Committees {
    pub(crate) fn new(chain: Hash, key: PrivateKey, calendar: Calendar) -> Self {
        Self(Arc::new(Inner {
            chain,
            key,
            calendar,
            known: RwLock::default(),
            registered: RwLock::default(),
        }))
    }

    /// Learns what the state after a block of this height decides, and forgets what is past.
    /// `state` may be a later one: decisions stay in it.
    pub(crate) fn learn(&self, state: &dyn StateRead, height: u64) {
        let calendar = self.0.calendar;
        let present = calendar.epoch_of(height + 1);
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        for epoch in present.saturating_sub(1)..=present + 1 {
            if known.contains_key(&epoch) {
                continue;
            }
            if let Some(committee) = read::committee_at(state, calendar.decided_by(epoch)) {
                known.insert(epoch, Arc::new(self.seats(&committee.seats)));
            }
        }
        known.retain(|epoch, _| epoch + 1 >= present);
        let all = read::validators(state);
        let keys = all.iter().filter_map(|one| public_key(&one.consensus_key));
        let mut registered = self
            .0
            .registered
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *registered = keys.collect();
    }

    /// Holds a committee that is known from elsewhere.
    pub(crate) fn hold(&self, epoch: u64, seats: Arc<Seats>) {
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(epoch, seats);
    }

    /// The calendar that they follow.
    pub(crate) fn calendar(&self) -> Calendar {
        self.0.calendar
    }

    /// A key that is no key has no vote.
    pub(crate) fn seats(&self, seats: &[Seat]) -> Seats {
        let seat = |seat: &Seat| Some((public_key(&seat.consensus_key)?, seat.validator));
        let validators: BTreeMap<_, _> = seats.iter().filter_map(seat).collect();
        let keys = Set::from_iter_dedup(validators.keys().cloned());
        let namespace = evidence::namespace(&self.0.chain);
        let scheme = Scheme::signer(&namespace, keys.clone(), self.0.key.clone())
            .unwrap_or_else(|| Scheme::verifier(&namespace, keys));
        Seats { scheme, validators }
    }

    /// The committee of an epoch, if it is known yet and still.
    pub(crate) fn of(&self, epoch: u64) -> Option<Arc<Seats>> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&epoch).cloned()
    }

    /// Who votes in an epoch or will in the next one.
    pub(crate) fn voters(&self, epoch: u64) -> BTreeSet<PublicKey> {
        let both = [epoch, epoch + 1]
            .into_iter()
            .filter_map(|one| self.of(one));
        both.flat_map(|seats| seats.validators.keys().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// Who is registered as a validator, with a seat or without.
    pub(crate) fn registered(&self) -> BTreeSet<PublicKey> {
        let registered = self.0.registered.read();
        registered.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Provider for Committees {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: Epoch) -> Option<Scoped<Scheme>> {
        let seats = self.of(epoch.get())?;
        Some(Scoped::scheme(Arc::new(seats.scheme.clone())))
    }
}

#[cfg(test)]
mod tests {
    use super::{Calendar, TERM_BLOCKS};

    #[test]
    fn a_committee_takes_office_at_the_next_but_one_boundary_after_its_block() {
        let calendar = Calendar::default();
        for height in 1..5 * TERM_BLOCKS {
            let deciding = calendar.epoch_of(height);
            assert!(calendar.decided_by(deciding + 2) >= height);
            assert!(calendar.decided_by(deciding + 1) < height);
            let last = calendar.last_of(deciding);
            assert!(last >= height && last < height + TERM_BLOCKS);
            assert_eq!(calendar.root_of(deciding + 1), last);
        }
    }
}

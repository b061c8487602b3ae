//! Which keys decide which blocks.
//!
//! A committee takes office at the second term boundary after the block that decided it. Committees
//! depend on the state alone: nodes with the same state know the same committees.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use commonware_consensus::types::Epoch;
use commonware_cryptography::{
    blake3::Digest,
    certificate::{Provider, Scoped},
    ed25519::{PrivateKey, PublicKey},
};
use commonware_parallel::Sequential;
use commonware_utils::ordered::Set;
use rand_core::CryptoRng;
pub(crate) use soma_proof::{Voter, voters};
use soma_protocol::{Address, Hash, StateRead, evidence, read, record::Validator};
use tokio::sync::watch;

use crate::{
    block::Certificate, calendar::Calendar, keys::public_key, links::Registered, scheme::Scheme,
};

/// The digest of a committee that a header carries.
pub(crate) fn digest_of(voters: &[Voter]) -> Digest {
    Digest(soma_proof::digest_of(voters).0)
}

/// The committee of one term.
pub(crate) struct Committee {
    /// Verifies votes, and signs them if this node has a seat.
    pub(crate) scheme: Scheme,
    /// The keys and the accounts behind them.
    pub(crate) validators: BTreeMap<PublicKey, Address>,
}

impl Committee {
    /// Whether it finalized the block with this digest in `term`.
    pub(crate) fn certifies(
        &self,
        random: &mut impl CryptoRng,
        certificate: &Certificate,
        digest: Digest,
        term: u64,
    ) -> bool {
        certificate.proposal.payload == digest
            && certificate.proposal.round.epoch().get() == term
            && certificate.verify(random, &self.scheme, &Sequential)
    }
}

struct Inner {
    chain: Hash,
    key: PrivateKey,
    calendar: Calendar,
    by_term: RwLock<BTreeMap<u64, Arc<Committee>>>,
    registered: watch::Sender<Vec<Registered>>,
}

/// The committees of the current term and of the ones before and after it.
#[derive(Clone)]
pub(crate) struct Committees(Arc<Inner>);

impl Committees {
    pub(crate) fn new(chain: Hash, key: PrivateKey, calendar: Calendar) -> Self {
        Self(Arc::new(Inner {
            chain,
            key,
            calendar,
            by_term: RwLock::default(),
            registered: watch::Sender::default(),
        }))
    }

    /// The chain whose votes they are.
    pub(crate) fn chain(&self) -> Hash {
        self.0.chain
    }

    pub(crate) fn calendar(&self) -> Calendar {
        self.0.calendar
    }

    /// The committee of these voters. One whose key is invalid has no vote.
    pub(crate) fn committee(&self, voters: &[Voter]) -> Committee {
        let voter = |voter: &Voter| Some((public_key(&voter.consensus_key)?, voter.validator));
        let validators: BTreeMap<_, _> = voters.iter().filter_map(voter).collect();
        let keys = Set::from_iter_dedup(validators.keys().cloned());
        let namespace = evidence::namespace(&self.0.chain);
        let scheme = Scheme::signer(&namespace, keys.clone(), self.0.key.clone())
            .unwrap_or_else(|| Scheme::verifier(&namespace, keys));
        Committee { scheme, validators }
    }

    /// The scheme of a committee for a node that verifies its votes and signs none.
    pub(crate) fn verifier(&self, committee: &Committee) -> Scheme {
        let keys = Set::from_iter_dedup(committee.validators.keys().cloned());
        Scheme::verifier(&evidence::namespace(&self.0.chain), keys)
    }

    /// Adds the committees that the state after block `height` decides, and removes past ones.
    /// `state` may be a later state, which still holds these decisions.
    pub(crate) fn update(&self, state: &dyn StateRead, height: u64) {
        let calendar = self.0.calendar;
        let current = calendar.term_of(height + 1);
        let mut by_term = self.0.by_term.write().unwrap_or_else(PoisonError::into_inner);
        for term in current.saturating_sub(1)..=current + 1 {
            if by_term.contains_key(&term) {
                continue;
            }
            if let Some(decided) = read::committee_at(state, calendar.decided_by(term)) {
                by_term.insert(term, Arc::new(self.committee(&voters(&decided.seats))));
            }
        }
        by_term.retain(|term, _| term + 1 >= current);
        drop(by_term);
        self.register(state);
    }

    /// Learns which validators are registered in this state, and where their nodes are. Places for
    /// those without a seat are few, and keys cost nothing: whoever has more stake comes first.
    pub(crate) fn register(&self, state: &dyn StateRead) {
        let mut validators = read::validators(state);
        validators.sort_by_key(|validator| Reverse((validator.pool.stake, validator.address)));
        let node = |validator: &Validator| {
            let endpoints = read::endpoints(state, &validator.address);
            let p2p = endpoints.and_then(|record| record.endpoints.p2p);
            Some(Registered { key: public_key(&validator.consensus_key)?, p2p })
        };
        let nodes: Vec<_> = validators.iter().filter_map(node).collect();
        self.0.registered.send_if_modified(|registered| {
            let is_new = *registered != nodes;
            if is_new {
                *registered = nodes;
            }
            is_new
        });
    }

    /// Changes when validators are registered, change their keys, move, or change their order by
    /// stake.
    pub(crate) fn registrations(&self) -> watch::Receiver<Vec<Registered>> {
        self.0.registered.subscribe()
    }

    /// Adds a committee that handovers lead to.
    pub(crate) fn insert(&self, term: u64, committee: Arc<Committee>) {
        let mut by_term = self.0.by_term.write().unwrap_or_else(PoisonError::into_inner);
        by_term.insert(term, committee);
    }

    /// The committee of a term, unless the term is unknown or past.
    pub(crate) fn at(&self, term: u64) -> Option<Arc<Committee>> {
        let by_term = self.0.by_term.read().unwrap_or_else(PoisonError::into_inner);
        by_term.get(&term).cloned()
    }

    /// The validators that vote in a term or the next one.
    pub(crate) fn voters(&self, term: u64) -> BTreeSet<PublicKey> {
        let committees = [term, term + 1].into_iter().filter_map(|term| self.at(term));
        committees
            .flat_map(|committee| committee.validators.keys().cloned().collect::<Vec<_>>())
            .collect()
    }

    /// All registered validators, with a seat or without: those with more stake first.
    pub(crate) fn registered(&self) -> Vec<Registered> {
        self.0.registered.borrow().clone()
    }
}

impl Provider for Committees {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: Epoch) -> Option<Scoped<Scheme>> {
        let committee = self.at(epoch.get())?;
        Some(Scoped::scheme(Arc::new(committee.scheme.clone())))
    }
}

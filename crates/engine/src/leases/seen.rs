//! The last vote that each key sent to this node. A process that takes over has to know the very
//! last one, and what its predecessor said about itself is up to a second older.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use soma_protocol::ConsensusKey;

use crate::{ballots::SignedVote, votes::VotePlace};

/// The last vote of each key that has a seat, now or soon.
#[derive(Debug, Default)]
pub(crate) struct SeenVotes(Mutex<BTreeMap<ConsensusKey, Option<SignedVote>>>);

impl SeenVotes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConsensusKey, Option<SignedVote>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys that have a seat now or soon: nothing is kept of others.
    pub(crate) fn expect(&self, voters: &BTreeSet<ConsensusKey>) {
        let mut seen = self.lock();
        seen.retain(|key, _| voters.contains(key));
        for key in voters {
            seen.entry(*key).or_default();
        }
    }

    /// Keeps a vote that came over the connection of this key, unless one of this view or a later
    /// one did.
    pub(crate) fn note(&self, key: &ConsensusKey, vote: SignedVote) {
        if let Some(last) = self.lock().get_mut(key)
            && last.as_ref().is_none_or(|last| last.place < vote.place)
        {
            *last = Some(vote);
        }
    }

    /// The last vote of a key, if it is later than one that is known.
    pub(crate) fn after(&self, key: &ConsensusKey, known: VotePlace) -> Option<SignedVote> {
        self.lock().get(key)?.as_ref().filter(|last| last.place > known).cloned()
    }
}

//! Whether this node votes in a term or only watches it.
//!
//! The consensus library never votes twice in one view as long as it has its journal of own votes.
//! If the [record](crate::votes) says that the key has voted where the journal of a term does not
//! reach, the journal is lost or older: the node then follows this term without voting, and votes
//! again in the next one, whose views are new.

use commonware_consensus::{
    Viewable as _,
    simplex::types::{Artifact, Attributable as _},
};
use commonware_cryptography::{
    blake3::Digest,
    certificate::{Scheme as _, Verifier as _},
};
use commonware_runtime::{ReadOptions, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext,
    journal::{
        Error as JournalError,
        segmented::variable::{Config as JournalConfig, Journal},
    },
};

use crate::{
    EngineError, Remedy, archives::BUFFER, scheme::Scheme, votes::VotePlace, watching::Watching,
};

/// What a journal of votes has. The library prunes views that nobody can vote on anymore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Journaled {
    /// The first view that it has anything of.
    pub(crate) first: Option<u64>,
    /// The last view in which it has a vote of this node.
    pub(crate) last_own: Option<u64>,
    /// The last view whose block this node voted to finalize.
    pub(crate) last_finalized: Option<u64>,
}

impl Journaled {
    /// Whether it has all votes up to a view, but for those that were pruned.
    fn has(self, voted: u64) -> bool {
        self.last_own >= Some(voted) || self.first.is_some_and(|first| first > voted)
    }

    /// A view after which this node voted to finalize no block; `None` if that is not known,
    /// because its vote is missing in a view in which it is known to have voted.
    pub(crate) fn finalized(self, voted: u64) -> Option<u64> {
        let pruned = self.first.map_or(0, |first| first.saturating_sub(1));
        (voted == 0 || self.has(voted)).then(|| self.last_finalized.unwrap_or(pruned))
    }
}

/// What decides whether a node votes in a term.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) term: u64,
    /// The last recorded vote.
    pub(crate) last: Option<VotePlace>,
    /// The last view of the term in which it voted on the machine that it came from, exactly.
    pub(crate) before: u64,
    /// What the term's journal has.
    pub(crate) journal: Journaled,
    /// Whether the chain has no block yet.
    pub(crate) is_new: bool,
}

impl Known {
    /// Why the node must not vote in this term; `None` if it may.
    pub(crate) fn watches(self) -> Option<Watching> {
        let Self { term, last, before, journal, is_new } = self;
        let voted = match last {
            Some(last) if last.term < term => return None,
            Some(last) if last.term > term => Some(u64::MAX),
            Some(last) => Some(last.view),
            None if is_new || journal.last_own.is_some() => return None,
            None => None,
        };
        let is_safe = voted.is_some_and(|voted| voted <= before || journal.has(voted));
        (!is_safe).then_some(Watching { term, voted, journal: journal.last_own })
    }
}

/// What a journal of votes has, of which `scheme` is this node's.
///
/// # Errors
/// [`EngineError::Damaged`] if the journal cannot be read.
pub(crate) async fn journaled<E: StorageContext>(
    context: &E,
    partition: String,
    page_cache: &CacheRef,
    scheme: &Scheme,
) -> Result<Journaled, EngineError> {
    let me = scheme.me().map(|me| me.index());
    let mut found = Journaled::default();
    let read = read_votes(context, partition.clone(), page_cache, |artifact| {
        let view = artifact.view().get();
        let signer = match &artifact {
            Artifact::Notarize(vote) => Some(vote.signer()),
            Artifact::Nullify(vote) => Some(vote.signer()),
            Artifact::Finalize(vote) => Some(vote.signer()),
            _ => None,
        };
        found.first = Some(found.first.map_or(view, |first| first.min(view)));
        if signer.is_some() && signer == me {
            found.last_own = found.last_own.max(Some(view));
            if matches!(artifact, Artifact::Finalize(_)) {
                found.last_finalized = found.last_finalized.max(Some(view));
            }
        }
    });
    read.await.map_err(|error| EngineError::Damaged {
        path: partition.into(),
        reason: error.to_string(),
        remedy: Remedy::Votes,
    })?;
    Ok(found)
}

/// Reads a journal of votes to its end.
///
/// # Errors
/// If it cannot be read.
pub(crate) async fn read_votes<E: StorageContext>(
    context: &E,
    partition: String,
    page_cache: &CacheRef,
    mut read: impl FnMut(Artifact<Scheme, Digest>),
) -> Result<(), JournalError> {
    let config = JournalConfig {
        partition,
        compression: None,
        codec_config: Scheme::certificate_codec_config_unbounded(),
        page_cache: page_cache.clone(),
        write_buffer: BUFFER,
    };
    let journal = Journal::init(context.child("own_votes"), config).await?;
    let mut replay = journal.replay(0, 0, BUFFER, ReadOptions::DONT_CACHE).await?;
    while let Some(artifact) = replay.next().await {
        let (_, _, _, artifact) = artifact?;
        read(artifact);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Journaled, Known, VotePlace};

    fn watches(last: Option<(u64, u64)>, journal: [u64; 2], is_new: bool) -> bool {
        let last = last.map(|(term, view)| VotePlace { term, view });
        let [first, last_own] = journal.map(|view| Some(view).filter(|view| *view > 0));
        let journal = Journaled { first, last_own, last_finalized: None };
        Known { term: 5, last, before: 0, journal, is_new }.watches().is_some()
    }

    const NONE: [u64; 2] = [0, 0];

    #[test]
    fn a_key_votes_only_where_its_journal_has_all_that_it_signed() {
        assert!(!watches(Some((5, 9)), [1, 9], false), "an ordinary restart");
        assert!(!watches(Some((5, 9)), [1, 11], false), "a loss of power: the record is behind");
        assert!(!watches(Some((5, 9)), [300, 0], false), "its last vote was pruned");
        assert!(!watches(Some((4, 200)), NONE, false), "a term that has just begun");
        assert!(!watches(Some((5, 0)), NONE, false), "it has not voted in this term");
        assert!(!watches(Some((0, 0)), NONE, false), "a new key, in the midst of a term");
        assert!(watches(Some((5, 9)), [1, 8], false), "an older journal");
        assert!(watches(Some((5, 9)), [9, 0], false), "only what others signed in that view");
        assert!(watches(Some((5, 9)), NONE, false), "a lost journal");
        assert!(watches(Some((6, 1)), [1, 90], false), "the whole chain is older than its votes");
        assert!(watches(Some((5, u64::MAX)), [1, 90], false), "told to watch this term");
    }

    #[test]
    fn a_key_that_moved_votes_after_what_it_voted_before_and_needs_no_journal_of_that() {
        let watches = |last, before, last_own: Option<u64>| {
            let last = Some(VotePlace { term: 5, view: last });
            let journal = Journaled { first: last_own, last_own, last_finalized: None };
            Known { term: 5, last, before, journal, is_new: false }.watches().is_some()
        };
        assert!(!watches(9, 9, None), "it has just arrived");
        assert!(!watches(11, 9, Some(11)), "a restart after it voted here");
        assert!(watches(11, 9, None), "the journal of what it voted here is lost");
    }

    #[test]
    fn how_far_a_key_may_have_finalized_is_known_as_far_as_the_journal_reaches() {
        let journal =
            |first, last_own, last_finalized| Journaled { first, last_own, last_finalized };
        assert_eq!(journal(Some(2), Some(9), Some(7)).finalized(9), Some(7));
        assert_eq!(journal(Some(5), Some(9), None).finalized(9), Some(4), "what is pruned");
        assert_eq!(journal(Some(2), Some(8), Some(7)).finalized(9), None, "a vote is missing");
        assert_eq!(journal(None, None, None).finalized(9), None, "no journal");
    }

    #[test]
    fn without_a_record_only_a_journal_or_a_new_chain_lets_a_key_vote() {
        assert!(!watches(None, NONE, true), "a network that begins");
        assert!(!watches(None, [1, 3], false), "a journal of before there were records");
        assert!(watches(None, NONE, false), "a key on a machine that knows nothing of its votes");
    }
}

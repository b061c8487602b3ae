//! A node that does not run and does not start meanwhile: how its key voted, exactly, so that it
//! can vote on another machine, which has none of its journals.

use std::path::Path;

use commonware_cryptography::certificate::Scheme as _;
use commonware_runtime::{
    Runner as _, Supervisor as _,
    tokio::{Config as RuntimeConfig, Context, Runner},
};
use soma_protocol::{Genesis, Ruleset};
use soma_store::{StateFolder, StoreError, database, database::Qmdb};

use crate::{
    CarriedVotes, ConsensusSecret, EngineError,
    archives::page_cache,
    calendar::Calendar,
    consensus::{
        committees::Committees,
        rules::Rules,
        stance::{Journaled, journaled},
        terms::votes_partition,
    },
    handle::damage,
    inspect::{Depth, located},
    keys::private_key,
    settings::{Deviation, PREFIX},
    votes::VotePlace,
};

/// A node that does not run, and does not start as long as this exists.
#[derive(Debug)]
pub struct StoppedNode {
    folder: StateFolder,
    genesis: Genesis,
}

impl StoppedNode {
    /// Locks the state folder of a node.
    ///
    /// # Errors
    /// [`EngineError::Store`] if a process uses it, or it belongs to another chain.
    pub fn lock(dir: &Path, genesis: &Genesis) -> Result<Self, EngineError> {
        let folder = StateFolder::open(dir, &genesis.chain_id())?;
        Ok(Self { folder, genesis: genesis.clone() })
    }

    /// How the key of the node has voted, for a machine that has no journal of that; `votes` is the
    /// record of its last vote. If this node does not know it, because the journal is gone, that is
    /// what is known from a backup.
    ///
    /// # Errors
    /// [`EngineError::KeyMoved`] if the key has left; [`EngineError::Damaged`] if a file is, and
    /// [`EngineError::Store`] if one cannot be read.
    pub fn votes(&self, votes: &Path, key: &ConsensusSecret) -> Result<CarriedVotes, EngineError> {
        let carried = CarriedVotes::read(votes, key.public())?;
        let consensus = self.folder.consensus();
        let Some(last) = carried.last_signed() else {
            return Ok(carried);
        };
        if !consensus.is_dir() {
            return Ok(if last.view > 0 { carried.restored() } else { carried });
        }
        if let Some(damage) = damage(&consensus, Depth::Opened) {
            return Err(damage);
        }
        let runtime = RuntimeConfig::new().with_storage_directory(&consensus);
        let found = Runner::new(runtime).start(|context| async move {
            let journals = Box::pin(Journals::open(context, &self.genesis, key)).await?;
            journals.last_vote(last).await
        });
        Ok(match found.map_err(|error| located(error, &consensus))? {
            Some((last, finalized)) => carried.without_journal(last, finalized),
            None => carried.restored(),
        })
    }
}

/// The journals of the votes of a key.
struct Journals {
    context: Context,
    committees: Committees,
    /// The term that the state has reached.
    term: u64,
}

impl Journals {
    async fn open(
        context: Context,
        genesis: &Genesis,
        key: &ConsensusSecret,
    ) -> Result<Self, EngineError> {
        let key = private_key(key);
        let committees = Committees::new(genesis.chain_id(), key, Calendar::default());
        let config = database::config(PREFIX, page_cache());
        let database =
            Qmdb::init(context.child("state"), config, None).await.map_err(StoreError::from)?;
        let (height, state) = if let Some(stored) = database::load(&database).await? {
            stored
        } else {
            let rules = Rules::new::<Context>(genesis, Ruleset::WHOLE, Deviation::None)?;
            (0, rules.genesis_state())
        };
        committees.update(&state, height);
        let term = committees.calendar().term_of(height + 1);
        Ok(Self { context, committees, term })
    }

    /// The last vote, of which `recorded` is what was recorded before it left, and a view of its
    /// term after which the key voted to finalize nothing; `None` if the journal lacks it.
    async fn last_vote(
        &self,
        recorded: VotePlace,
    ) -> Result<Option<(VotePlace, u64)>, EngineError> {
        // A vote that was signed and did not leave is in a journal only.
        let term = recorded.term + 1;
        let next = self.of_term(term).await?;
        if let Some((next, view)) = next.and_then(|next| Some((next, next.last_own?))) {
            let finalized = next.finalized(view);
            return Ok(finalized.map(|finalized| (VotePlace { term, view }, finalized)));
        }
        let Some(journal) = self.of_term(recorded.term).await? else {
            // What the record may lack of a term that the state has not reached, nothing shows.
            let is_known = recorded.term <= self.term || recorded.view == 0;
            return Ok(is_known.then_some((recorded, recorded.view)));
        };
        let view = recorded.view.max(journal.last_own.unwrap_or(0));
        let finalized = journal.finalized(recorded.view);
        Ok(finalized.map(|finalized| (VotePlace { view, ..recorded }, finalized)))
    }

    /// What the journal of a term has; `None` if the key has no seat in it, or the term is over or
    /// not known yet.
    async fn of_term(&self, term: u64) -> Result<Option<Journaled>, EngineError> {
        let seated = self.committees.at(term).filter(|it| it.scheme.me().is_some());
        let Some(committee) = seated else {
            return Ok(None);
        };
        let (partition, cache) = (votes_partition(PREFIX, term), page_cache());
        journaled(&self.context, partition, &cache, &committee.scheme).await.map(Some)
    }
}

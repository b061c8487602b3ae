//! Checks a state folder completely, without a network: certificates, links between blocks, a
//! replay from genesis, the stored state, the history. It changes nothing.
//!
//! A folder that starts later than genesis, because the node synced or pruned, is checked from its
//! first block: its committees are those that the handovers from genesis lead to, and its state is
//! the one whose root a certified block commits to.

use std::{path::Path, sync::Arc};

use commonware_cryptography::{Digestible as _, blake3::Digest, certificate::Scheme as _};
use commonware_runtime::{
    Runner as _, Supervisor as _,
    tokio::{Config as RuntimeConfig, Context, Runner},
};
use commonware_storage::archive::{Archive as _, Identifier};
use soma_protocol::{Genesis, MemoryState, Ruleset, read};
use soma_store::{History, StateFolder, StoreError, Tree, database, database::Qmdb};

use crate::{
    ConsensusSecret, EngineError, VoteRecord,
    archives::{Archives, page_cache},
    block::{Block, Header, hash},
    calendar::Calendar,
    consensus::{
        committees::{Committees, digest_of, voters},
        rules::Rules,
        stance::{Known, journaled},
        terms::votes_partition,
    },
    handle::damage,
    inspect::{Depth, located},
    keys::private_key,
    limits::SECTION_BLOCKS,
    settings::{Deviation, PREFIX},
    sync::handover::{HandoverStore, HandoverVerifier},
};

/// What a check found complete and consistent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The first block: 1 unless the node synced or pruned.
    pub first: u64,
    /// The last block; every block from the first to this one is present.
    pub blocks: u64,
    /// How many of them have their own certificate; the others are certified by a later one.
    pub certificates: u64,
    /// The block that the stored state belongs to.
    pub state: u64,
    /// The last block of the history.
    pub history: u64,
}

/// Checks a state folder that no process uses: everything that a start reads, and whether the
/// journal of votes has all that `key` signed according to its record at `votes`.
///
/// # Errors
/// The first inconsistency: [`EngineError::Damaged`], [`EngineError::VotesLost`],
/// [`EngineError::MissingBlock`], [`EngineError::Unlinked`],
/// [`EngineError::Certificate`], [`EngineError::StateMismatch`], [`EngineError::HistoryMismatch`],
/// or that the folder is in use or belongs to another chain.
pub fn verify_store(
    dir: &Path,
    genesis: &Genesis,
    votes: &Path,
    key: &ConsensusSecret,
) -> Result<Verified, EngineError> {
    let folder = StateFolder::open(dir, &genesis.chain_id())?;
    let record = match votes.try_exists() {
        Ok(false) => VoteRecord::in_memory(key.public()),
        _ => VoteRecord::open(votes, key.public())?,
    };
    if let Some(damage) = damage(&folder.consensus(), Depth::Whole) {
        return Err(damage);
    }
    History::check(&folder.history())?;
    let history = History::open(&folder.history())?;
    let runtime = RuntimeConfig::new().with_storage_directory(folder.consensus());
    let consensus = folder.consensus();
    let verified = Runner::new(runtime).start(|context| async move {
        let mut check = Box::pin(Check::open(&context, genesis, history, key)).await?;
        let verified = Box::pin(check.run()).await?;
        check.votes(&record, verified.blocks).await?;
        Ok(verified)
    });
    verified.map_err(|error| located(error, &consensus))
}

/// The state on disk.
struct Stored {
    height: u64,
    memory: MemoryState,
    /// The root of the log.
    log: Digest,
}

impl Stored {
    /// Whether it is the state that a header commits to.
    fn is_committed_by(&self, header: &Header) -> bool {
        self.log == header.state.log.root
            && Tree::of(&self.memory).root() == hash(header.state.root)
    }
}

struct Check {
    rules: Rules,
    committees: Committees,
    archives: Archives<Context>,
    stored: Option<Stored>,
    history: History,
    verifier: HandoverVerifier,
    context: Context,
}

impl Check {
    async fn open(
        context: &Context,
        genesis: &Genesis,
        history: History,
        key: &ConsensusSecret,
    ) -> Result<Self, EngineError> {
        let key = private_key(key);
        let committees = Committees::new(genesis.chain_id(), key, Calendar::default());
        let cache = page_cache();
        let archives = Archives::open(context, PREFIX, &cache, SECTION_BLOCKS).await?;
        let handovers = HandoverStore::open(context, PREFIX, &cache).await?;
        let config = database::config(PREFIX, cache);
        let database =
            Qmdb::init(context.child("state"), config, None).await.map_err(StoreError::from)?;
        let stored = database::load(&database).await?;
        let log = database.root();
        let rules = Rules::new::<Context>(genesis, Ruleset::WHOLE, Deviation::None)?;
        let mut verifier = HandoverVerifier::new(committees.clone(), &rules.genesis_voters());
        verifier.verify_all(&handovers).await?;
        Ok(Self {
            rules,
            committees,
            archives,
            stored: stored.map(|(height, memory)| Stored { height, memory, log }),
            history,
            verifier,
            context: context.child("check"),
        })
    }

    async fn run(&mut self) -> Result<Verified, EngineError> {
        // Blocks below a gap were being pruned.
        let ranges = self.archives.blocks.ranges();
        let first = ranges.last().map_or(0, |(start, _)| start);
        if first > 1 {
            return self.run_from(first).await;
        }
        let mut memory = self.rules.genesis_state();
        self.committees.update(&memory, 0);
        let mut parent = Some(self.rules.genesis.digest());
        let mut certificates = 0;
        let last = self.archives.blocks.last_index().unwrap_or(0);
        for height in 1..=last {
            let (block, digest) = self.block(height, parent).await?;
            certificates += u64::from(self.certified(height, digest).await?);
            self.rules.replay(&mut memory, &block, hash(digest))?;
            if self.committees.calendar().ends_with(height) {
                self.committees.update(&memory, height);
            }
            if let Some(stored) = &self.stored
                && stored.height == height
                && (stored.memory != memory || !stored.is_committed_by(block.header()))
            {
                return Err(EngineError::StateMismatch { height });
            }
            parent = Some(digest);
        }
        self.verified(1, last, certificates)
    }

    /// Checks a folder that starts with this block.
    async fn run_from(&mut self, first: u64) -> Result<Verified, EngineError> {
        let last = self.archives.blocks.last_index().unwrap_or(first);
        let Some(stored) = self.stored.take() else {
            return Err(EngineError::StateMismatch { height: first });
        };
        if stored.height < first || stored.height > last {
            let height = stored.height;
            return Err(EngineError::MissingBlock { height });
        }
        let (mut parent, mut certificates, mut certified) = (None, 0, 0);
        for height in first..=last {
            let (block, digest) = self.block(height, parent).await?;
            let term = self.committees.calendar().term_of(height);
            self.committees.insert(term, self.verifier.at(term));
            if self.certified(height, digest).await? {
                certificates += 1;
                certified = height;
            }
            let decided = || digest_of(&voters(&read::committee(&stored.memory).seats));
            if height == stored.height
                && (!stored.is_committed_by(block.header()) || block.header().seats != decided())
            {
                return Err(EngineError::StateMismatch { height });
            }
            parent = Some(digest);
        }
        if certified < stored.height {
            let height = stored.height;
            return Err(EngineError::Certificate { height });
        }
        self.stored = Some(stored);
        self.verified(first, last, certificates)
    }

    /// Checks that the journal of votes has all that the key signed in the term after block `last`.
    async fn votes(&self, record: &VoteRecord, last: u64) -> Result<(), EngineError> {
        let term = self.committees.calendar().term_of(last + 1);
        let Some(committee) = self.committees.at(term) else {
            return Ok(());
        };
        let is_unknown = record.last().is_none() || record.is_restored();
        if is_unknown || committee.scheme.me().is_none() {
            return Ok(());
        }
        let (partition, cache) = (votes_partition(PREFIX, term), page_cache());
        let journal = journaled(&self.context, partition, &cache, &committee.scheme).await?;
        let before = record.before(term).voted;
        let known = Known { term, last: record.last(), before, journal, is_new: last == 0 };
        known.watches().map_or(Ok(()), |watching| Err(EngineError::VotesLost(watching)))
    }

    /// The block at a height, linked to its parent and equal to the one in the history.
    async fn block(
        &self,
        height: u64,
        parent: Option<Digest>,
    ) -> Result<(Arc<Block>, Digest), EngineError> {
        let block = self.archives.block(height).await?;
        let digest = block.digest();
        let header = block.header();
        let follows = parent.is_none_or(|parent| parent == header.parent);
        if header.height.get() != height || !follows {
            return Err(EngineError::Unlinked { height });
        }
        let recorded = self.history.block(height)?;
        if recorded.is_some_and(|recorded| recorded.digest != hash(digest)) {
            return Err(EngineError::HistoryMismatch { height });
        }
        Ok((block, digest))
    }

    fn verified(&self, first: u64, last: u64, certificates: u64) -> Result<Verified, EngineError> {
        let state = self.stored.as_ref().map_or(0, |stored| stored.height);
        let history = self.history.height()?;
        let height = state.max(history);
        if height > last {
            return Err(EngineError::MissingBlock { height });
        }
        Ok(Verified { first, blocks: last, certificates, state, history })
    }

    /// Whether a block has its own certificate, which must be valid.
    async fn certified(&mut self, height: u64, digest: Digest) -> Result<bool, EngineError> {
        let certificate = self.archives.certificates.get(Identifier::Index(height)).await;
        let Some(certificate) = certificate.map_err(EngineError::stopped)? else {
            return Ok(false);
        };
        let term = self.committees.calendar().term_of(height);
        let committee = self.committees.at(term);
        let valid = committee.is_some_and(|committee| {
            committee.certifies(&mut self.context, &certificate, digest, term)
        });
        valid.then_some(true).ok_or(EngineError::Certificate { height })
    }
}

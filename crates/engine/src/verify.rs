//! Checks a state folder from one end to the other, without a network: certificates, links between
//! blocks, what executing them makes of genesis, the stored state, the history. It changes nothing.
//!
//! A folder that begins later than the chain, because the node joined or was pruned, is checked from its
//! first block on: the committees are those that the handovers from genesis lead to, and the state is
//! the one whose root a certified block names.

use std::path::Path;

use commonware_consensus::simplex::{scheme::ed25519::Scheme, types::Finalization};
use commonware_cryptography::{
    Digestible as _, blake3::Digest, certificate::Verifier as _, ed25519::PrivateKey,
};
use commonware_parallel::Sequential;
use commonware_runtime::{
    Runner as _, Supervisor as _,
    tokio::{Config as RuntimeConfig, Context, Runner},
};
use commonware_storage::{
    archive::{Archive as _, Identifier, prunable},
    translator::EightCap,
};
use soma_protocol::{Genesis, MemoryState, read};
use soma_store::{History, StateFolder, database, database::Qmdb};

use crate::{
    ConsensusSecret, EngineError,
    application::{Deviation, Rules},
    block::{Block, hash},
    committees::{Calendar, Committees, digest_of},
    handle::PREFIX,
    handover::{Handovers, Walk},
    network::private_key,
    node::{archive, genesis_state, replay, rules},
    parts::{self, SECTION_BLOCKS},
};

/// What was found to be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The first block: 1 where nothing is pruned and the node did not join.
    pub first: u64,
    /// The last block; all from the first on are there.
    pub blocks: u64,
    /// How many of them have their own certificate; the others are certified by a later one.
    pub certificates: u64,
    /// The block that the stored state is the state of.
    pub state: u64,
    /// The last block of the history.
    pub history: u64,
}

/// Checks a state folder that no process uses.
///
/// # Errors
/// [`EngineError`] that says what is not whole: [`EngineError::MissingBlock`],
/// [`EngineError::Unlinked`], [`EngineError::Certificate`], [`EngineError::StateMismatch`],
/// [`EngineError::HistoryMismatch`], or that the folder is in use or of another chain.
pub fn verify_store(dir: &Path, genesis: &Genesis) -> Result<Verified, EngineError> {
    let folder = StateFolder::open(dir, &genesis.chain_id())?;
    let history = History::open(&folder.history())?;
    let runtime = RuntimeConfig::new().with_storage_directory(folder.consensus());
    Runner::new(runtime).start(|context| async move {
        Box::pin(Check::open(&context, genesis, history).await?.run()).await
    })
}

type Certificate = Finalization<Scheme, Digest>;

struct Check {
    rules: Rules,
    committees: Committees,
    certificates: prunable::Archive<EightCap, Context, Digest, Certificate>,
    blocks: prunable::Archive<EightCap, Context, Digest, Block>,
    stored: Option<(u64, MemoryState, Digest)>,
    history: History,
    walk: Walk,
    context: Context,
}

impl Check {
    async fn open(
        context: &Context,
        genesis: &Genesis,
        history: History,
    ) -> Result<Self, EngineError> {
        // Nothing is signed here; a key is needed only to say whose it is not.
        let nobody: PrivateKey = private_key(&ConsensusSecret(genesis.chain_id().0));
        let committees = Committees::new(genesis.chain_id(), nobody, Calendar::default());
        let page_cache = parts::page_cache();
        let codec = Scheme::certificate_codec_config_unbounded();
        let certificates = archive(
            context,
            PREFIX,
            "certificates",
            &page_cache,
            SECTION_BLOCKS,
            codec,
        )
        .await?;
        let blocks = archive(context, PREFIX, "blocks", &page_cache, SECTION_BLOCKS, ()).await?;
        let config = database::config(PREFIX, page_cache);
        let database = Qmdb::init(context.child("state"), config, None).await;
        let database = database.map_err(soma_store::StoreError::from)?;
        let stored = database::load(&database).await?;
        let root = database.root();
        let rules = rules::<Context>(genesis, Deviation::None)?;
        let seats = read::committee(&genesis_state(&rules)).seats;
        let mut walk = Walk::new(committees.clone(), &seats);
        let handovers = Handovers::open(context, PREFIX, &parts::page_cache()).await?;
        walk.along(context.child("walk"), &handovers).await?;
        Ok(Self {
            rules,
            committees,
            certificates,
            blocks,
            stored: stored.map(|(height, memory)| (height, memory, root)),
            history,
            walk,
            context: context.child("check"),
        })
    }

    async fn run(mut self) -> Result<Verified, EngineError> {
        // What lies below a gap is on its way out.
        let begin = self.blocks.ranges().last().map_or(0, |(start, _)| start);
        if begin > 1 {
            return self.run_from(begin).await;
        }
        let calendar = self.committees.calendar();
        let mut memory = genesis_state(&self.rules);
        self.committees.learn(&memory, 0);
        let mut parent = self.rules.genesis.digest();
        let (mut height, mut certificates) = (0, 0);
        let last = self.blocks.last_index().unwrap_or(0);
        while height < last {
            height += 1;
            let block = self.blocks.get(Identifier::Index(height)).await;
            let block = block.map_err(stopped)?;
            let block = block.ok_or(EngineError::MissingBlock { height })?;
            let digest = block.digest();
            if block.height.get() != height || block.parent != parent {
                return Err(EngineError::Unlinked { height });
            }
            certificates += u64::from(self.certified(height, digest).await?);
            let done = replay(&self.rules, &mut memory, &block, hash(digest))?;
            if calendar.epoch_of(height + 1) > calendar.epoch_of(height) {
                self.committees.learn(&memory, height);
            }
            if let Some((at, stored, root)) = &self.stored
                && *at == height
                && (*stored != memory || *root != block.state.root)
            {
                return Err(EngineError::StateMismatch { height });
            }
            let recorded = self.history.block(height)?;
            if recorded.is_some_and(|recorded| recorded.digest != done.digest) {
                return Err(EngineError::HistoryMismatch { height });
            }
            parent = digest;
        }
        self.verified(1, height, certificates)
    }

    /// Checks a folder that begins with this block.
    async fn run_from(mut self, first: u64) -> Result<Verified, EngineError> {
        let last = self.blocks.last_index().unwrap_or(first);
        let Some((at, memory, root)) = self.stored.take() else {
            return Err(EngineError::StateMismatch { height: first });
        };
        if at < first || at > last {
            return Err(EngineError::MissingBlock { height: at });
        }
        let (mut parent, mut certificates, mut certified) = (None, 0, 0);
        for height in first..=last {
            let block = self.blocks.get(Identifier::Index(height)).await;
            let block = block.map_err(stopped)?;
            let block = block.ok_or(EngineError::MissingBlock { height })?;
            let digest = block.digest();
            let follows = parent.is_none_or(|parent| parent == block.parent);
            if block.height.get() != height || !follows {
                return Err(EngineError::Unlinked { height });
            }
            let epoch = self.committees.calendar().epoch_of(height);
            if let Some(seats) = self.walk.of(epoch) {
                self.committees.hold(epoch, seats);
            }
            if self.certified(height, digest).await? {
                certificates += 1;
                certified = height;
            }
            if height == at
                && (block.state.root != root
                    || block.seats != digest_of(&read::committee(&memory).seats))
            {
                return Err(EngineError::StateMismatch { height });
            }
            let recorded = self.history.block(height)?;
            if recorded.is_some_and(|recorded| recorded.digest != hash(digest)) {
                return Err(EngineError::HistoryMismatch { height });
            }
            parent = Some(digest);
        }
        if certified < at {
            return Err(EngineError::Certificate { height: at });
        }
        self.stored = Some((at, memory, root));
        self.verified(first, last, certificates)
    }

    fn verified(
        &self,
        first: u64,
        height: u64,
        certificates: u64,
    ) -> Result<Verified, EngineError> {
        let state = self.stored.as_ref().map_or(0, |(height, ..)| *height);
        let history = self.history.height()?;
        if state > height || history > height {
            let height = state.max(history);
            return Err(EngineError::MissingBlock { height });
        }
        Ok(Verified {
            first,
            blocks: height,
            certificates,
            state,
            history,
        })
    }

    /// Whether a block has its own certificate; the last one must.
    async fn certified(&mut self, height: u64, digest: Digest) -> Result<bool, EngineError> {
        let certificate = self.certificates.get(Identifier::Index(height)).await;
        let Some(certificate) = certificate.map_err(stopped)? else {
            return Ok(false);
        };
        let epoch = self.committees.calendar().epoch_of(height);
        let seats = self.committees.of(epoch);
        let good = seats.is_some_and(|seats| {
            certificate.proposal.payload == digest
                && certificate.proposal.round.epoch().get() == epoch
                && certificate.verify(&mut self.context, &seats.scheme, &Sequential)
        });
        good.then_some(true)
            .ok_or(EngineError::Certificate { height })
    }
}

fn stopped(error: impl std::fmt::Display) -> EngineError {
    EngineError::Stopped {
        reason: error.to_string(),
    }
}

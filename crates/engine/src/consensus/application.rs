//! The protocol as the engine's state machine: builds blocks, verifies them, and finalizes them.
//!
//! [`Application`] executes a block on its parent's state; nothing else decides whether a block is
//! valid. It never waits, because the engine finalizes nothing while a block is being built; only a
//! block of rules that this software does not execute waits, until this node stops. It never
//! rejects a block for a local reason.

use std::{sync::Arc, time::Duration};

use commonware_consensus::{Heightable as _, marshal::ancestry::Ancestry};
use commonware_cryptography::{Digest as _, Digestible as _, blake3::Digest, ed25519::PublicKey};
use commonware_glue::stateful::{
    Application as StatefulApplication, Finality, Input, Proposed, db::DatabaseSet,
};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use commonware_utils::channel::mpsc::UnboundedSender;
use futures_util::StreamExt as _;
use soma_protocol::{
    Address, BlockInfo, Built, Changes, InvalidBlock, Key, StateRead, VerifiedTransaction, read,
};
use soma_store::{
    State,
    database::{self, Databases, LogCommitment},
    history::FinalizedBlock,
};
use tokio::sync::SetOnce;

use super::{
    boundary::{At, Boundary},
    committees::{Committee, Committees, digest_of, voters},
    rules::{Rules, finalized_block, info_of},
};
use crate::{
    EngineError, Pool,
    block::{Block, Context, Header, StateCommitment, hash},
    scheme::Scheme,
    settings::Deviation,
};

/// A proposal that is due; its parent and the pool determine the rest.
pub(crate) struct Draft {
    pub(crate) timestamp_ms: u64,
}

/// How often and how many times a node that must stop looks for its last block to be finalized.
const FINALITY_LOOK: Duration = Duration::from_secs(1);
const FINALITY_LOOKS: u32 = 60;

/// The chain and its state, shared by all that build and verify blocks.
pub(crate) struct Core {
    pub(crate) rules: Rules,
    pub(crate) committees: Committees,
    /// Set once the state has been read from disk; blocks wait for it.
    pub(crate) state: SetOnce<Arc<State>>,
    pub(crate) pool: Arc<dyn Pool>,
    pub(crate) boundary: Boundary,
}

impl Core {
    /// Blocks are executed on this state from now on.
    pub(crate) fn execute_on(&self, state: &Arc<State>) {
        state.read(|memory, tip| self.committees.update(memory, tip.height));
        // The state is set only once, when this node starts.
        let _ = self.state.set(Arc::clone(state));
    }

    /// The committee that decides this height.
    pub(crate) fn committee(&self, height: u64) -> Option<Arc<Committee>> {
        let calendar = self.committees.calendar();
        self.committees.at(calendar.term_of(height))
    }

    /// Completes when this software executes no more blocks of this chain: a moment after its last
    /// one is finalized, or much later, if the others do not come to that.
    pub(crate) async fn at_boundary(&self, clock: &impl Clock) -> EngineError {
        let (state, executed) = (self.state.wait().await, self.rules.versions());
        let At { height, version } = self.boundary.reached(clock).await;
        let has_last = || state.tip().height >= height;
        let mut looks = FINALITY_LOOKS;
        while !has_last() && looks > 0 {
            clock.sleep(FINALITY_LOOK).await;
            looks -= 1;
        }
        EngineError::OtherRules { height, version, executed }
    }

    /// Notes that a block was not executed because it follows other rules, if that is why.
    fn note(&self, block: u64, error: &InvalidBlock) -> bool {
        let InvalidBlock::OtherRules { version, .. } = error else {
            return false;
        };
        self.boundary.reach(block.saturating_sub(1), *version);
        true
    }

    /// The account of a validator that has a seat at this height.
    fn account(&self, height: u64, validator: &PublicKey) -> Option<Address> {
        self.committee(height)?.validators.get(validator).copied()
    }
}

/// The protocol as the engine's state machine.
#[derive(Clone)]
pub(crate) struct Application {
    core: Arc<Core>,
    /// Finalized blocks on their way to the history.
    finalized: UnboundedSender<FinalizedBlock>,
}

impl Application {
    pub(crate) fn new(core: Arc<Core>, finalized: UnboundedSender<FinalizedBlock>) -> Self {
        Self { core, finalized }
    }

    /// Whether the block obeys every rule that does not depend on its parent's state.
    fn is_admissible(&self, block: &Header, parent: &Header) -> bool {
        self.core.account(block.height.get(), &block.context.leader) == Some(block.proposer)
            && block.timestamp_ms > parent.timestamp_ms
    }
}

impl<E: Spawner + StorageContext> StatefulApplication<E> for Application {
    type SigningScheme = Scheme;
    type Context = Context;
    type Block = Block;
    type Databases = Databases<E>;
    type Captured = ();
    type Provider = ();
    type Input = Draft;

    fn sync_targets(block: &Block) -> LogCommitment {
        block.header().state.log.clone()
    }

    async fn genesis(&mut self) -> Block {
        self.core.rules.genesis.clone()
    }

    async fn propose(
        &mut self,
        (_, context): (E, Context),
        mut ancestry: impl Ancestry<Block>,
        batches: <Databases<E> as DatabaseSet<E>>::Unmerkleized,
        input: Input<Draft, ()>,
    ) -> Option<Proposed<Self, E>> {
        let parent = ancestry.next().await?;
        let Draft { timestamp_ms } = input.upstream;
        let height = parent.height().next();
        let proposer = self.core.account(height.get(), &context.leader)?;
        let info = BlockInfo { height: height.get(), timestamp_ms, proposer };
        let state = self.core.state.wait().await;
        let built = state.after(&hash(parent.digest()), |base| {
            let mut built = self.core.rules.build(base, &info, &*self.core.pool)?;
            if let Deviation::Lies(distort) = &self.core.rules.deviation {
                distort(&info, &mut built.outcome);
            }
            let decided = Decided::after(base, &built.outcome.changes);
            Ok((built, decided))
        })?;
        if let Err(error) = &built {
            self.core.note(info.height, error);
        }
        let (built, decided) = built.ok()?;
        let Built { mut included, refused, outcome } = built;
        if matches!(self.core.rules.deviation, Deviation::Stuffs) {
            included.extend(refused.into_iter().map(|refused| refused.transaction));
        }
        let outcome = Arc::new(outcome);
        let tree = state.tree_after(&hash(parent.digest()))?.grow(&outcome);
        let merkleized = merkleize::<E>(batches, info.height, &outcome.changes).await;
        let tree = tree.done();
        let header = Header {
            context,
            parent: parent.digest(),
            height,
            timestamp_ms,
            proposer,
            state: StateCommitment {
                root: Digest(tree.root().0),
                log: database::commitment::<E>(&merkleized),
            },
            seats: decided.seats,
            rules: decided.rules,
            transactions: Digest::EMPTY,
        };
        let transactions = included.into_iter().map(VerifiedTransaction::into_signed).collect();
        let block = Block::new(header, transactions);
        let (digest, parent) = (hash(block.digest()), hash(parent.digest()));
        state.keep(digest, parent, info.height, outcome, tree);
        Some(Proposed { block, merkleized })
    }

    async fn process(
        &mut self,
        _: (E, Context),
        mut ancestry: impl Ancestry<Block>,
        batches: <Databases<E> as DatabaseSet<E>>::Unmerkleized,
        finality: Finality,
    ) -> Option<<Databases<E> as DatabaseSet<E>>::Merkleized> {
        let block = ancestry.next().await?;
        let (digest, block) = (hash(block.digest()), block.inner_shared());
        if finality == Finality::Candidate {
            let parent = ancestry.next().await?;
            if !self.is_admissible(block.header(), parent.inner().header()) {
                return None;
            }
        }
        let transactions = block.transactions().to_vec();
        let verified = self.core.pool.verify(transactions, &self.core.rules.chain);
        let transactions: Vec<_> = verified.into_iter().collect::<Result<_, _>>().ok()?;
        let info = info_of(&block);
        let state = self.core.state.wait().await;
        let parent = hash(block.header().parent);
        let executed = state.after(&parent, |base| {
            let outcome = self.core.rules.execute(base, &info, &transactions)?;
            let decided = Decided::after(base, &outcome.changes);
            Ok((outcome, decided))
        })?;
        if let Err(error) = &executed
            && self.core.note(info.height, error)
        {
            // The block may be valid. The library would write in its journal that it is not, and
            // the release that executes it could never vote on it again. This node is about to
            // stop.
            return std::future::pending().await;
        }
        let (outcome, decided) = executed.ok()?;
        let header = block.header();
        if (decided.seats, decided.rules) != (header.seats, header.rules) {
            return None;
        }
        let outcome = Arc::new(outcome);
        let tree = state.tree_after(&parent)?.grow(&outcome);
        let merkleized = merkleize::<E>(batches, info.height, &outcome.changes).await;
        let tree = tree.done();
        // The library compares the log, and nothing else.
        if tree.root().0 != block.header().state.root.0 {
            return None;
        }
        state.keep(digest, parent, info.height, outcome, tree);
        Some(merkleized)
    }

    async fn capture(
        &mut self,
        _: (E, Context),
        _: &Block,
        _: &<Databases<E> as DatabaseSet<E>>::Merkleized,
        _: <Databases<E> as DatabaseSet<E>>::Readers,
    ) {
    }

    async fn finalized(
        &mut self,
        _: (E, Context),
        block: &Block,
        (): (),
        _: <Databases<E> as DatabaseSet<E>>::Readers,
    ) {
        let digest = hash(block.digest());
        let outcome = self.core.state.wait().await.finalize(&digest);
        #[expect(
            clippy::expect_used,
            reason = "the engine finalizes only blocks that it has processed"
        )]
        let outcome = outcome.expect("a finalized block was executed on its parent before");
        let next = block.header().rules;
        if !self.core.rules.versions().contains(next) {
            self.core.boundary.reach(block.header().height.get(), next);
        }
        // Fails only when the node is stopping; the block is delivered again after a restart.
        let _ = self.finalized.send(finalized_block(block, digest, &outcome));
    }
}

/// The state after a block, on top of its parent's.
struct After<'a> {
    base: &'a dyn StateRead,
    changes: &'a Changes,
}

impl StateRead for After<'_> {
    fn get(&self, key: &Key) -> Option<Arc<[u8]>> {
        let change = self.changes.0.get(key);
        change.map_or_else(|| self.base.get(key), Clone::clone)
    }
}

/// What a header says besides roots about the state after its block.
struct Decided {
    /// The digest of the seats that are decided once the block has made its changes.
    seats: Digest,
    /// The version of the rules that the next block follows.
    rules: u16,
}

impl Decided {
    fn after(base: &dyn StateRead, changes: &Changes) -> Self {
        let after = After { base, changes };
        let seats = digest_of(&voters(&read::committee(&after).seats));
        Self { seats, rules: read::rules(&after).version }
    }
}

async fn merkleize<E: Spawner + StorageContext>(
    batches: <Databases<E> as DatabaseSet<E>>::Unmerkleized,
    height: u64,
    changes: &Changes,
) -> <Databases<E> as DatabaseSet<E>>::Merkleized {
    #[expect(clippy::panic, reason = "the engine's contract: a node whose disk fails must stop")]
    match database::merkleize::<E>(batches, height, changes).await {
        Ok(merkleized) => merkleized,
        Err(error) => panic!("{error}"),
    }
}

//! Between the engine and the protocol: builds blocks, checks blocks, and makes them final.
//!
//! [`Application`] executes a block on its parent's state and is all that decides whether a block
//! is valid. [`Pacer`] stands in front of it and decides *when*: it holds a proposal back until
//! there is something to order, and holds a verdict back until the local clock has reached the
//! block's time. Waiting happens there and never in `Application`, because the engine finalizes
//! nothing while a block is being built. Nothing here rejects a block for a local reason.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use commonware_consensus::{
    Application as ConsensusApplication, Heightable as _, marshal::ancestry::Ancestry,
    simplex::scheme::ed25519::Scheme,
};
use commonware_cryptography::{Digested, Digestible as _, blake3::Digest, ed25519::PublicKey};
use commonware_glue::stateful::{
    Application as StatefulApplication, Finality, Input, Mailbox, Proposed, db::DatabaseSet,
};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use commonware_utils::channel::mpsc::UnboundedSender;
use futures_util::StreamExt as _;
use soma_os::clock::unix_ms;
use soma_protocol::{
    Address, BlockInfo, Changes, Hash, Key, Outcome, SignedTransaction, StateRead,
    VerifiedTransaction, execute, query, read, verify_batch,
};
use soma_store::{
    State,
    database::{self, Databases, StateCommitment},
    history::FinalizedBlock,
};
use tokio::sync::{Notify, SetOnce};

use crate::{
    Pool,
    block::{BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, Block, Context, hash},
    committees::{Committees, Seats, digest_of},
    parts::Timing,
};

/// What the proposer has chosen; the block follows from it and the parent.
pub(crate) struct Draft {
    timestamp_ms: u64,
    transactions: Vec<VerifiedTransaction>,
}

/// Changes what a block did.
pub type Distortion = Arc<dyn Fn(&BlockInfo, &mut Outcome) + Send + Sync>;

/// How a simulated node departs from the protocol; a real one never does.
#[derive(Clone, Default)]
pub enum Deviation {
    /// Not at all.
    #[default]
    None,
    /// It executes every block wrongly: a planted bug, if all nodes have it.
    Bug(Distortion),
    /// It proposes blocks that no rule leads to, and judges others by the rules.
    Lies(Distortion),
    /// It forges what it gives to those who join.
    Forges,
}

impl std::fmt::Debug for Deviation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bug(_) => "Bug",
            Self::Lies(_) => "Lies",
            Self::Forges => "Forges",
        })
    }
}

/// The chain: what it begins with, and what a block does.
pub(crate) struct Rules {
    pub(crate) chain: Hash,
    pub(crate) genesis: Block,
    /// The effect of genesis, which block 1 writes.
    pub(crate) genesis_changes: Changes,
    pub(crate) deviation: Deviation,
}

/// What every part of the application shares.
pub(crate) struct Core {
    pub(crate) rules: Rules,
    /// Who may propose.
    pub(crate) committees: Committees,
    /// Set once the state has been read from disk; blocks wait for it.
    pub(crate) state: SetOnce<Arc<State>>,
    pub(crate) pool: Arc<dyn Pool>,
    /// Rung when the pool has something new.
    pub(crate) work: Arc<Notify>,
    pub(crate) timing: Timing,
    /// Final blocks on their way to the history.
    pub(crate) finalized: UnboundedSender<FinalizedBlock>,
}

impl Core {
    fn seats(&self, height: u64) -> Option<Arc<Seats>> {
        let calendar = self.committees.calendar();
        self.committees.of(calendar.epoch_of(height))
    }

    /// The account of a validator that has a seat in the epoch of this height.
    fn account(&self, height: u64, validator: &PublicKey) -> Option<Address> {
        let seats = self.seats(height)?;
        seats.validators.get(validator).copied()
    }

    /// The longest wait for work on top of a block of this height.
    fn idle_ms(&self, height: u64) -> u64 {
        let seats = self.seats(height + 1);
        let alone = seats.is_some_and(|seats| seats.validators.len() == 1);
        self.timing.idle_ms(alone)
    }
}

impl Rules {
    /// Executes a block and everything that belongs to its height.
    pub(crate) fn execute(
        &self,
        base: &dyn StateRead,
        info: &BlockInfo,
        transactions: &[VerifiedTransaction],
    ) -> Outcome {
        let mut outcome = execute(base, info, transactions);
        if let Deviation::Bug(distort) = &self.deviation {
            distort(info, &mut outcome);
        }
        if info.height == 1 {
            // Genesis has no commit of its own; what block 1 changed wins over it.
            let mut changes = self.genesis_changes.clone();
            changes.0.extend(std::mem::take(&mut outcome.changes.0));
            outcome.changes = changes;
        }
        outcome
    }
}

impl Timing {
    /// Milliseconds since 1970 on this node's clock.
    fn now_ms(self, clock: &impl Clock) -> u64 {
        unix_ms(clock.current()).saturating_add_signed(self.skew_ms)
    }

    /// Waits until this node's clock says so.
    async fn sleep_until(self, clock: &impl Clock, timestamp_ms: u64) {
        let true_ms = timestamp_ms.saturating_add_signed(self.skew_ms.saturating_neg());
        let instant = UNIX_EPOCH.checked_add(Duration::from_millis(true_ms));
        match instant {
            Some(instant) => clock.sleep_until(instant).await,
            // A time that no clock reaches.
            None => std::future::pending().await,
        }
    }
}

/// The protocol as the engine's state machine.
#[derive(Clone)]
pub(crate) struct Application {
    core: Arc<Core>,
}

impl Application {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Whether the block keeps every rule that does not need its parent's state.
    fn admissible(&self, block: &Block, parent: &Block) -> bool {
        let height = block.height.get();
        self.core.account(height, &block.context.leader) == Some(block.proposer)
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

    fn sync_targets(block: &Block) -> StateCommitment {
        block.state.clone()
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
        let Draft {
            timestamp_ms,
            transactions,
        } = input.upstream;
        let height = parent.height().next();
        let proposer = self.core.account(height.get(), &context.leader)?;
        let info = BlockInfo {
            height: height.get(),
            timestamp_ms,
            proposer,
        };
        let state = self.core.state.wait().await;
        let (outcome, seats) = state.after(&hash(parent.digest()), |base| {
            let mut outcome = self.core.rules.execute(base, &info, &transactions);
            if let Deviation::Lies(distort) = &self.core.rules.deviation {
                distort(&info, &mut outcome);
            }
            let seats = decided(base, &outcome.changes);
            (outcome, seats)
        })?;
        let merkleized = merkleize::<E>(batches, info.height, &outcome.changes).await;
        let block = Block {
            context,
            parent: parent.digest(),
            height,
            timestamp_ms,
            proposer,
            state: database::commitment::<E>(&merkleized),
            seats,
            transactions: transactions.iter().map(|tx| tx.signed().clone()).collect(),
        };
        state.keep(
            hash(block.digest()),
            hash(block.parent),
            info.height,
            Arc::new(outcome),
        );
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
            if !self.admissible(&block, parent.inner()) {
                return None;
            }
        }
        let transactions = block.transactions.clone();
        let verified = self.core.pool.verify(transactions, &self.core.rules.chain);
        let transactions: Vec<_> = verified.into_iter().collect::<Result<_, _>>().ok()?;
        let height = block.height.get();
        let info = BlockInfo {
            height,
            timestamp_ms: block.timestamp_ms,
            proposer: block.proposer,
        };
        let state = self.core.state.wait().await;
        let parent = hash(block.parent);
        let (outcome, seats) = state.after(&parent, |base| {
            let outcome = self.core.rules.execute(base, &info, &transactions);
            let seats = decided(base, &outcome.changes);
            (outcome, seats)
        })?;
        if seats != block.seats {
            return None;
        }
        let merkleized = merkleize::<E>(batches, height, &outcome.changes).await;
        state.keep(digest, parent, height, Arc::new(outcome));
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
            reason = "the engine finalizes only what it has processed"
        )]
        let outcome = outcome.expect("a finalized block was executed on its parent before");
        // Only fails when the node is stopping; the block comes again after the next start.
        let _ = self
            .core
            .finalized
            .send(finalized_block(block, digest, &outcome));
    }
}

/// The transactions with their signatures checked; `None` when one is forged.
pub(crate) fn authenticate(
    chain: Hash,
    transactions: &[SignedTransaction],
) -> Option<Vec<VerifiedTransaction>> {
    verify_batch(transactions.to_vec(), &chain)
        .into_iter()
        .collect::<Result<_, _>>()
        .ok()
}

/// A block that is final, in the words of the history.
pub(crate) fn finalized_block(block: &Block, digest: Hash, outcome: &Outcome) -> FinalizedBlock {
    FinalizedBlock {
        height: block.height.get(),
        digest,
        parent: hash(block.parent),
        timestamp_ms: block.timestamp_ms,
        proposer: block.proposer,
        state_root: hash(block.state.root),
        transactions: block.transactions.clone(),
        receipts: outcome.receipts.clone(),
        events: outcome.events.clone(),
    }
}

/// The state after a block, on its parent's.
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

/// What the header says of the seats that are decided once a block has made its changes.
fn decided(base: &dyn StateRead, changes: &Changes) -> Digest {
    digest_of(&read::committee(&After { base, changes }).seats)
}

async fn merkleize<E: Spawner + StorageContext>(
    batches: <Databases<E> as DatabaseSet<E>>::Unmerkleized,
    height: u64,
    changes: &Changes,
) -> <Databases<E> as DatabaseSet<E>>::Merkleized {
    #[expect(
        clippy::panic,
        reason = "the engine's contract: a node whose disk fails must stop"
    )]
    match database::merkleize::<E>(batches, height, changes).await {
        Ok(merkleized) => merkleized,
        Err(error) => panic!("{error}"),
    }
}

/// Decides when a block is proposed and when a verdict may be given.
pub(crate) struct Pacer<E: Spawner + StorageContext> {
    core: Arc<Core>,
    inner: Mailbox<E, Application>,
}

impl<E: Spawner + StorageContext> Clone for Pacer<E> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            inner: self.inner.clone(),
        }
    }
}

impl<E: Spawner + StorageContext> Pacer<E> {
    pub(crate) fn new(core: Arc<Core>, inner: Mailbox<E, Application>) -> Self {
        Self { core, inner }
    }

    /// Waits until a block on top of `parent` is due, and says what goes into it.
    async fn draft(&self, clock: &E, parent: &Digested<Block>) -> Draft {
        let state = self.core.state.wait().await;
        let digest = hash(parent.digest());
        let parent_ms = parent.inner().timestamp_ms;
        let deadline_ms = state.after(&digest, query::next_deadline_ms).flatten();
        let idle_ms = parent_ms + self.core.idle_ms(parent.height().get());
        let soonest_ms = parent_ms + self.core.timing.block_ms.max(1);
        let latest_ms = deadline_ms.unwrap_or(idle_ms).min(idle_ms).max(soonest_ms);
        let timing = self.core.timing;
        timing.sleep_until(clock, soonest_ms).await;
        loop {
            let now = timing.now_ms(clock);
            let timestamp_ms = now.max(parent_ms + 1);
            let transactions = self.select(state, &digest, timestamp_ms);
            if !transactions.is_empty() || now >= latest_ms {
                return Draft {
                    timestamp_ms,
                    transactions,
                };
            }
            tokio::select! {
                biased;
                () = self.core.work.notified() => {}
                () = timing.sleep_until(clock, latest_ms) => {}
            }
        }
    }

    fn select(&self, state: &State, parent: &Hash, timestamp_ms: u64) -> Vec<VerifiedTransaction> {
        if self.core.pool.is_empty() {
            return Vec::new();
        }
        let pool = &self.core.pool;
        let chosen = state.after(parent, |base| {
            pool.select(base, timestamp_ms, BLOCK_BYTES_MAX)
        });
        // What does not fit could not be sent, so it is not left to the pool alone.
        let mut left = BLOCK_BYTES_MAX;
        let fits = |transaction: &VerifiedTransaction| {
            left.checked_sub(transaction.size_bytes())
                .is_some_and(|rest| {
                    left = rest;
                    true
                })
        };
        let chosen = chosen.unwrap_or_default().into_iter();
        chosen
            .take(BLOCK_TRANSACTIONS_MAX)
            .take_while(fits)
            .collect()
    }
}

impl<E: Spawner + StorageContext> ConsensusApplication<E> for Pacer<E> {
    type SigningScheme = Scheme;
    type Context = Context;
    type Block = Block;
    type Input = ();

    async fn propose(
        &mut self,
        context: (E, Context),
        ancestry: impl Ancestry<Block>,
        (): (),
    ) -> Option<Digested<Block>> {
        let parent = ancestry.clone().next().await?;
        let draft = self.draft(&context.0, &parent).await;
        self.inner.propose(context, ancestry, draft).await
    }

    async fn verify(&mut self, context: (E, Context), ancestry: impl Ancestry<Block>) -> bool {
        if let Some(block) = ancestry.peek() {
            let timestamp_ms = block.inner().timestamp_ms;
            let timing = self.core.timing;
            timing.sleep_until(&context.0, timestamp_ms).await;
        }
        self.inner.verify(context, ancestry).await
    }
}

//! Between the engine and the protocol: builds blocks, checks blocks, and makes them final.
//!
//! [`Application`] executes a block on its parent's state and is all that decides whether a block
//! is valid. [`Pacer`] stands in front of it and decides *when*: it holds a proposal back until
//! there is something to order, and holds a verdict back until the local clock has reached the
//! block's time. Waiting happens there and never in `Application`, because the engine finalizes
//! nothing while a block is being built. Nothing here rejects a block for a local reason.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use commonware_consensus::{
    Application as ConsensusApplication, Heightable as _, marshal::ancestry::Ancestry,
    simplex::scheme::ed25519::Scheme,
};
use commonware_cryptography::{Digested, Digestible as _, ed25519::PublicKey};
use commonware_glue::stateful::{
    Application as StatefulApplication, Finality, Input, Mailbox, Proposed, db::DatabaseSet,
};
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use commonware_utils::channel::mpsc::UnboundedSender;
use futures_util::StreamExt as _;
use soma_protocol::{
    Address, BlockInfo, Changes, Hash, Outcome, Read, SignedTransaction, VerifiedTransaction,
    execute, next_deadline_ms, verify_batch,
};
use soma_store::{
    State,
    database::{self, Databases, Target},
    history::FinalizedBlock,
};
use tokio::sync::{Notify, SetOnce};

use crate::{
    Pool,
    block::{BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX, Block, Context, hash},
};

/// The longest wait for work where several validators take turns.
const IDLE_SHARED_MS: u64 = 1_000;

/// What the proposer has chosen; the block follows from it and the parent.
pub(crate) struct Draft {
    timestamp_ms: u64,
    transactions: Vec<VerifiedTransaction>,
}

/// What every part of the application shares.
pub(crate) struct Core {
    pub(crate) chain: Hash,
    pub(crate) genesis: Block,
    /// The effect of genesis, which block 1 writes.
    pub(crate) genesis_changes: Changes,
    /// The validators' keys and accounts.
    pub(crate) committee: BTreeMap<PublicKey, Address>,
    /// Set once the state has been read from disk; blocks wait for it.
    pub(crate) state: SetOnce<Arc<State>>,
    pub(crate) pool: Arc<dyn Pool>,
    /// Rung when the pool has something new.
    pub(crate) work: Arc<Notify>,
    pub(crate) block_ms: u64,
    pub(crate) idle_block_ms: u64,
    /// Final blocks on their way to the history.
    pub(crate) finalized: UnboundedSender<FinalizedBlock>,
}

impl Core {
    /// The longest wait for work. Where several validators take turns it is short, because
    /// the others cannot tell a leader that waits from one that is gone.
    pub(crate) fn idle_block_ms(&self) -> u64 {
        if self.committee.len() > 1 {
            self.idle_block_ms.min(IDLE_SHARED_MS)
        } else {
            self.idle_block_ms
        }
    }

    /// Executes a block and everything that belongs to its height.
    pub(crate) fn execute(
        &self,
        base: &dyn Read,
        info: &BlockInfo,
        transactions: &[VerifiedTransaction],
    ) -> Outcome {
        let mut outcome = execute(base, info, transactions);
        if info.height == 1 {
            // Genesis has no commit of its own; what block 1 changed wins over it.
            let mut changes = self.genesis_changes.clone();
            changes.0.extend(std::mem::take(&mut outcome.changes.0));
            outcome.changes = changes;
        }
        outcome
    }
}

/// Milliseconds since 1970 on the runtime's clock.
fn now_ms(clock: &impl Clock) -> u64 {
    let since = clock
        .current()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn instant(timestamp_ms: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(timestamp_ms)
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
        self.core.committee.get(&block.context.leader) == Some(&block.proposer)
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

    fn sync_targets(block: &Block) -> Target {
        block.state.clone()
    }

    async fn genesis(&mut self) -> Block {
        self.core.genesis.clone()
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
        let proposer = *self.core.committee.get(&context.leader)?;
        let height = parent.height().next();
        let info = BlockInfo {
            height: height.get(),
            timestamp_ms,
            proposer,
        };
        let state = self.core.state.wait().await;
        let outcome = state.after(&hash(parent.digest()), |base| {
            self.core.execute(base, &info, &transactions)
        })?;
        let sealed = seal::<E>(batches, info.height, &outcome.changes).await;
        let block = Block {
            context,
            parent: parent.digest(),
            height,
            timestamp_ms,
            proposer,
            state: database::target::<E>(&sealed),
            transactions: transactions.iter().map(|tx| tx.signed().clone()).collect(),
        };
        state.keep(
            hash(block.digest()),
            hash(block.parent),
            info.height,
            Arc::new(outcome),
        );
        Some(Proposed {
            block,
            merkleized: sealed,
        })
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
        let transactions = authenticate(self.core.chain, &block.transactions)?;
        let height = block.height.get();
        let info = BlockInfo {
            height,
            timestamp_ms: block.timestamp_ms,
            proposer: block.proposer,
        };
        let state = self.core.state.wait().await;
        let parent = hash(block.parent);
        let outcome = state.after(&parent, |base| {
            self.core.execute(base, &info, &transactions)
        })?;
        let sealed = seal::<E>(batches, height, &outcome.changes).await;
        state.keep(digest, parent, height, Arc::new(outcome));
        Some(sealed)
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

async fn seal<E: Spawner + StorageContext>(
    batches: <Databases<E> as DatabaseSet<E>>::Unmerkleized,
    height: u64,
    changes: &Changes,
) -> <Databases<E> as DatabaseSet<E>>::Merkleized {
    #[expect(
        clippy::panic,
        reason = "the engine's contract: a node whose disk fails must stop"
    )]
    match database::seal::<E>(batches, height, changes).await {
        Ok(sealed) => sealed,
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
        let deadline_ms = state.after(&digest, next_deadline_ms).flatten();
        let idle_ms = parent_ms + self.core.idle_block_ms();
        let soonest_ms = parent_ms + self.core.block_ms.max(1);
        let latest_ms = deadline_ms.unwrap_or(idle_ms).min(idle_ms).max(soonest_ms);
        clock.sleep_until(instant(soonest_ms)).await;
        loop {
            let now = now_ms(clock);
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
                () = clock.sleep_until(instant(latest_ms)) => {}
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
            context
                .0
                .sleep_until(instant(block.inner().timestamp_ms))
                .await;
        }
        self.inner.verify(context, ancestry).await
    }
}

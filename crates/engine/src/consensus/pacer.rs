//! When blocks are proposed and voted on.
//!
//! [`Pacer`] stands in front of the [`Application`]: it delays a proposal until there is something
//! to order, and a vote until the local clock has reached the block's timestamp. It decides nothing
//! about a block's contents.

use std::{sync::Arc, time::Duration};

use commonware_consensus::{
    Application as ConsensusApplication, Heightable as _, marshal::ancestry::Ancestry,
};
use commonware_cryptography::{Digested, Digestible as _};
use commonware_glue::stateful::Mailbox;
use commonware_runtime::{Clock, Spawner};
use commonware_storage::Context as StorageContext;
use futures_util::StreamExt as _;
use soma_os::clock::unix_ms;
use soma_protocol::{Hash, Room, query};
use soma_store::State;
use tokio::sync::Notify;

use super::application::{Application, Core, Draft};
use crate::{
    block::{Block, Context, hash},
    scheme::Scheme,
};

/// The longest wait for transactions when several validators take turns: the others cannot tell a
/// waiting leader from an absent one.
const IDLE_SHARED_MS: u64 = 1_000;

/// The longest sleep before the clock is looked at again.
const CLOCK_LOOK: Duration = Duration::from_secs(1);

/// How often blocks are made.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "a name ends with its unit")]
pub(crate) struct Timing {
    /// The minimum time between two blocks while there are transactions, in milliseconds.
    pub(crate) block_ms: u64,
    /// The maximum time between two blocks while there are none, in milliseconds.
    pub(crate) idle_block_ms: u64,
    /// How far this node's clock is ahead of the true time, in milliseconds.
    pub(crate) skew_ms: i64,
}

impl Timing {
    /// The longest wait for transactions, for a committee of one (`alone`) or of several.
    pub(crate) fn idle_ms(&self, alone: bool) -> u64 {
        if alone { self.idle_block_ms } else { self.idle_block_ms.min(IDLE_SHARED_MS) }
    }

    /// The time of this node's clock, in milliseconds since 1970.
    fn now_ms(self, clock: &impl Clock) -> u64 {
        unix_ms(clock.current()).saturating_add_signed(self.skew_ms)
    }

    /// Sleeps until this node's clock reaches `timestamp_ms`. The clock may be set meanwhile.
    async fn sleep_until(self, clock: &impl Clock, timestamp_ms: u64) {
        loop {
            let left = Duration::from_millis(timestamp_ms.saturating_sub(self.now_ms(clock)));
            if left.is_zero() {
                return;
            }
            clock.sleep(left.min(CLOCK_LOOK)).await;
        }
    }
}

/// Delays proposals and votes until they are due.
pub(crate) struct Pacer<E: Spawner + StorageContext> {
    pub(crate) core: Arc<Core>,
    pub(crate) timing: Timing,
    /// Notified when the pool has new transactions.
    pub(crate) work: Arc<Notify>,
    pub(crate) stateful: Mailbox<E, Application>,
}

impl<E: Spawner + StorageContext> Clone for Pacer<E> {
    fn clone(&self) -> Self {
        Self {
            core: Arc::clone(&self.core),
            timing: self.timing,
            work: Arc::clone(&self.work),
            stateful: self.stateful.clone(),
        }
    }
}

impl<E: Spawner + StorageContext> Pacer<E> {
    /// Waits until a block on top of `parent` is due.
    async fn draft(&self, clock: &E, parent: &Digested<Block>) -> Draft {
        let state = self.core.state.wait().await;
        let digest = hash(parent.digest());
        let parent_ms = parent.inner().header().timestamp_ms;
        let committee = self.core.committee(parent.height().get() + 1);
        let alone = committee.is_some_and(|committee| committee.validators.len() == 1);
        let idle_ms = parent_ms + self.timing.idle_ms(alone);
        let deadline_ms = state.after(&digest, query::deadline_ms).flatten();
        let soonest_ms = parent_ms + self.timing.block_ms.max(1);
        let latest_ms = deadline_ms.unwrap_or(idle_ms).min(idle_ms).max(soonest_ms);
        self.timing.sleep_until(clock, soonest_ms).await;
        loop {
            let now_ms = self.timing.now_ms(clock);
            let timestamp_ms = now_ms.max(parent_ms + 1);
            if now_ms >= latest_ms || self.has_work(state, &digest) {
                return Draft { timestamp_ms };
            }
            tokio::select! {
                biased;
                () = self.work.notified() => {}
                () = self.timing.sleep_until(clock, latest_ms) => {}
            }
        }
    }

    /// Whether the pool has a candidate for a block on top of `parent`.
    fn has_work(&self, state: &State, parent: &Hash) -> bool {
        let pool = &self.core.pool;
        if pool.is_empty() {
            return false;
        }
        let first = state.after(parent, |base| pool.candidates().offer(base, &Room::new()));
        first.flatten().is_some()
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
        self.stateful.propose(context, ancestry, draft).await
    }

    async fn verify(&mut self, context: (E, Context), ancestry: impl Ancestry<Block>) -> bool {
        if let Some(block) = ancestry.peek() {
            let timestamp_ms = block.inner().header().timestamp_ms;
            self.timing.sleep_until(&context.0, timestamp_ms).await;
        }
        self.stateful.verify(context, ancestry).await
    }
}

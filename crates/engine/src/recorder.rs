//! Final blocks on their way into the history, and from there to the outside.
//!
//! The engine acknowledges a block only when this has written it: a block that is final but missing
//! from the history after a crash is delivered again, so the history is never behind the state for
//! longer than a restart takes. Order: the engine's own disk, the history, the [`Sink`]; and the
//! next epoch's committee is known before the last block of an epoch is acknowledged.

use std::{collections::VecDeque, sync::Arc};

use commonware_actor::Feedback;
use commonware_consensus::types::Height;
use commonware_consensus::{Heightable as _, Reporter, marshal::Update};
use commonware_storage::Context as StorageContext;
use commonware_utils::{
    Acknowledgement as _,
    acknowledgement::Exact,
    channel::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        watch,
    },
};
use soma_protocol::read;
use soma_store::{History, State, StoreError, history::FinalizedBlock};

use crate::{
    EngineError, Sink,
    block::Block,
    committees::{Committees, digest_of},
    handover::Handovers,
    parts::Mailbox,
    serving::handover_at,
};

/// The most blocks written to the history in one transaction.
const BLOCKS_PER_WRITE: usize = 64;
/// The least and the most blocks that are pruned from it in one transaction.
const BLOCKS_PER_PRUNING: std::ops::Range<u64> = 64..256;

/// Receives the engine's receipts, which are signed off once the block is in the history.
#[derive(Clone)]
pub(crate) struct Receipts(pub(crate) UnboundedSender<(u64, Exact)>);

impl Reporter for Receipts {
    type Activity = Update<Block>;

    fn report(&mut self, update: Self::Activity) -> Feedback {
        match update {
            Update::Tip(..) => Feedback::Ok,
            Update::Block(block, receipt) => match self.0.send((block.height().get(), receipt)) {
                Ok(()) => Feedback::Ok,
                Err(_) => Feedback::Closed,
            },
        }
    }
}

/// The task that writes the history.
pub(crate) struct Recorder<E: StorageContext> {
    history: Arc<History>,
    keep_blocks: Option<u64>,
    ordered: Mailbox,
    handovers: Arc<Handovers<E>>,
    state: Arc<State>,
    committees: Committees,
    sink: Arc<dyn Sink>,
    blocks: UnboundedReceiver<FinalizedBlock>,
    receipts: UnboundedReceiver<(u64, Exact)>,
    height: watch::Sender<u64>,
}

impl<E: StorageContext> Recorder<E> {
    pub(crate) fn new(
        (history, sink, keep_blocks): (Arc<History>, Arc<dyn Sink>, Option<u64>),
        (state, committees): (Arc<State>, Committees),
        (ordered, handovers): (Mailbox, Arc<Handovers<E>>),
        blocks: UnboundedReceiver<FinalizedBlock>,
        receipts: UnboundedReceiver<(u64, Exact)>,
    ) -> Result<Self, StoreError> {
        let (height, _) = watch::channel(history.height()?);
        Ok(Self {
            history,
            keep_blocks,
            ordered,
            handovers,
            state,
            committees,
            sink,
            blocks,
            receipts,
            height,
        })
    }

    /// The height of the history, as it grows.
    pub(crate) fn height(&self) -> watch::Receiver<u64> {
        self.height.subscribe()
    }

    /// Runs until the node stops.
    ///
    /// # Errors
    /// [`EngineError`] when the disk refuses; nothing that was not written has been acknowledged.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        let mut open: VecDeque<(u64, Exact)> = VecDeque::new();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = self.blocks.recv_many(&mut batch, BLOCKS_PER_WRITE) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.history.append(&batch)?;
                    for block in std::mem::take(&mut batch) {
                        let reached = block.height;
                        self.sink.finalized(block);
                        let calendar = self.committees.calendar();
                        if calendar.epoch_of(reached + 1) > calendar.epoch_of(reached) {
                            self.turn(reached).await?;
                        }
                        self.height.send_if_modified(|height| {
                            std::mem::replace(height, reached.max(*height)) < reached
                        });
                    }
                }
                receipt = self.receipts.recv() => match receipt {
                    Some(receipt) => open.push_back(receipt),
                    None => return Ok(()),
                },
            }
            let height = *self.height.borrow();
            while open.front().is_some_and(|(block, _)| *block <= height) {
                if let Some((_, receipt)) = open.pop_front() {
                    receipt.acknowledge();
                }
            }
            self.prune(height)?;
        }
    }

    /// An epoch of the engine ends with this block.
    async fn turn(&self, reached: u64) -> Result<(), EngineError> {
        self.state
            .read(|state, _| self.committees.learn(state, reached));
        let epoch = self.committees.calendar().epoch_of(reached);
        let decided = |height| {
            let committee = self
                .state
                .read(|state, _| read::committee_at(state, height));
            committee.map(|committee| digest_of(&committee.seats))
        };
        let before = self.committees.calendar().root_of(epoch);
        if decided(before) != decided(reached) {
            let handover = handover_at(&self.ordered, &self.state, reached).await;
            // Without it this node cannot lead others along the committees; they ask another.
            if let Some(handover) = handover {
                self.handovers.keep(epoch, &handover).await?;
            } else {
                tracing::warn!(reached, "no certificate to hand over with");
            }
        }
        if let Some(keep) = self.keep_blocks {
            self.ordered
                .prune(Height::new(reached.saturating_sub(keep)));
        }
        Ok(())
    }

    /// Forgets what is older than it has to be, in few and small steps.
    fn prune(&self, height: u64) -> Result<(), StoreError> {
        let Some(keep) = self.keep_blocks else {
            return Ok(());
        };
        let first = (height + 1).saturating_sub(keep);
        if self.history.first()? + BLOCKS_PER_PRUNING.start <= first {
            self.history.prune(first, BLOCKS_PER_PRUNING.end)?;
        }
        Ok(())
    }
}

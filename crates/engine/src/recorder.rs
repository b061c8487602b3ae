//! Writes finalized blocks to the history, then reports them to the node.
//!
//! The engine counts a block as processed only once the recorder has written it: a block that is
//! finalized but missing from the history after a crash is delivered again, so the history is
//! behind the state only until the next start. Order: the engine's own disk, the history, the
//! [`Sink`]. The next term's committee is known before the last block of a term is acknowledged.

use std::{collections::VecDeque, sync::Arc};

use commonware_actor::Feedback;
use commonware_consensus::{Heightable as _, Reporter, marshal::Update, types::Height};
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
    consensus::{
        committees::{Committees, digest_of, voters},
        components::MarshalMailbox,
    },
    sync::handover::{Handover, HandoverStore},
};

/// The most blocks written to the history in one transaction.
const BLOCKS_PER_WRITE: usize = 64;
/// How many blocks pass before this node looks for new validators, which may connect from then on.
const BLOCKS_PER_REGISTRATION: u64 = 8;
/// The fewest and the most blocks pruned from the history in one transaction.
const BLOCKS_PER_PRUNING: std::ops::Range<u64> = 64..256;

/// Collects the engine's acknowledgements, which are given once the block is in the history, and
/// notes how far the chain is known to be finalized.
#[derive(Clone)]
pub(crate) struct Acks {
    pub(crate) acks: UnboundedSender<(u64, Exact)>,
    /// The last block that is known to be finalized.
    pub(crate) known: watch::Sender<u64>,
}

impl Reporter for Acks {
    type Activity = Update<Block>;

    fn report(&mut self, update: Self::Activity) -> Feedback {
        match update {
            Update::Tip(_, height, _) => {
                self.known.send_replace(height.get());
                Feedback::Ok
            }
            Update::Block(block, ack) => match self.acks.send((block.height().get(), ack)) {
                Ok(()) => Feedback::Ok,
                Err(_) => Feedback::Closed,
            },
        }
    }
}

/// The task that writes the history.
pub(crate) struct Recorder<E: StorageContext> {
    pub(crate) history: Arc<History>,
    pub(crate) keep_blocks: Option<u64>,
    pub(crate) marshal: MarshalMailbox,
    pub(crate) handovers: Arc<HandoverStore<E>>,
    pub(crate) state: Arc<State>,
    pub(crate) committees: Committees,
    pub(crate) sink: Arc<dyn Sink>,
    pub(crate) blocks: UnboundedReceiver<FinalizedBlock>,
    pub(crate) acks: UnboundedReceiver<(u64, Exact)>,
    /// The last block that is in the state and in the history.
    pub(crate) height: watch::Sender<u64>,
}

impl<E: StorageContext> Recorder<E> {
    /// Runs until the node stops.
    ///
    /// # Errors
    /// [`EngineError`] when the disk fails; a block that was not written is not acknowledged.
    pub(crate) async fn run(mut self) -> Result<(), EngineError> {
        let mut unacknowledged: VecDeque<(u64, Exact)> = VecDeque::new();
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = self.blocks.recv_many(&mut batch, BLOCKS_PER_WRITE) => {
                    if count == 0 {
                        return Ok(());
                    }
                    self.history.append(&batch)?;
                    for block in batch.drain(..) {
                        let reached = block.height;
                        self.sink.finalized(block);
                        if self.committees.calendar().ends_with(reached) {
                            self.end_term(reached).await?;
                        } else if reached.is_multiple_of(BLOCKS_PER_REGISTRATION) {
                            self.state.read(|state, _| self.committees.register(state));
                        }
                        self.height.send_if_modified(|height| {
                            std::mem::replace(height, reached.max(*height)) < reached
                        });
                    }
                }
                ack = self.acks.recv() => match ack {
                    Some(ack) => unacknowledged.push_back(ack),
                    None => return Ok(()),
                },
            }
            let height = *self.height.borrow();
            while unacknowledged.front().is_some_and(|(block, _)| *block <= height) {
                if let Some((_, ack)) = unacknowledged.pop_front() {
                    ack.acknowledge();
                }
            }
            self.prune(height)?;
        }
    }

    /// Called when block `reached` ends a term: learns the next committee, and keeps the handover
    /// to it.
    async fn end_term(&self, reached: u64) -> Result<(), EngineError> {
        self.state.read(|state, _| self.committees.update(state, reached));
        let calendar = self.committees.calendar();
        let term = calendar.term_of(reached);
        let decided = |height| {
            let committee = self.state.read(|state, _| read::committee_at(state, height));
            committee.map(|committee| digest_of(&voters(&committee.seats)))
        };
        if decided(calendar.root_of(term)) != decided(reached) {
            let handover = Handover::at(&self.marshal, &self.state, reached).await;
            // Without it, this node cannot serve handovers from here on; peers ask another node.
            if let Some(handover) = handover {
                self.handovers.insert(term, &handover).await?;
            } else {
                tracing::warn!(reached, "no certificate for the handover of this term");
            }
        }
        if let Some(keep) = self.keep_blocks {
            self.marshal.prune(Height::new(reached.saturating_sub(keep)));
        }
        Ok(())
    }

    /// Prunes the history in a few small steps.
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

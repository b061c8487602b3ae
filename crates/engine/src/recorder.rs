//! Final blocks on their way into the history, and from there to the outside.
//!
//! The engine acknowledges a block only when this has written it: a block that is final but missing
//! from the history after a crash is delivered again, so the history is never behind the state for
//! longer than a restart takes. Order: the engine's own disk, the history, the [`Sink`]; and the
//! next epoch's committee is known before the last block of an epoch is acknowledged.

use std::{collections::VecDeque, sync::Arc};

use commonware_actor::Feedback;
use commonware_consensus::{Heightable as _, Reporter, marshal::Update};
use commonware_utils::{
    Acknowledgement as _,
    acknowledgement::Exact,
    channel::{
        mpsc::{UnboundedReceiver, UnboundedSender},
        watch,
    },
};
use soma_store::{History, State, StoreError, history::FinalizedBlock};

use crate::{Sink, block::Block, committees::Committees};

/// The most blocks written to the history in one transaction.
const BLOCKS_PER_WRITE: usize = 64;

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
pub(crate) struct Recorder {
    history: Arc<History>,
    state: Arc<State>,
    committees: Committees,
    sink: Arc<dyn Sink>,
    blocks: UnboundedReceiver<FinalizedBlock>,
    receipts: UnboundedReceiver<(u64, Exact)>,
    height: watch::Sender<u64>,
}

impl Recorder {
    pub(crate) fn new(
        (history, sink): (Arc<History>, Arc<dyn Sink>),
        (state, committees): (Arc<State>, Committees),
        blocks: UnboundedReceiver<FinalizedBlock>,
        receipts: UnboundedReceiver<(u64, Exact)>,
    ) -> Result<Self, StoreError> {
        let (height, _) = watch::channel(history.height()?);
        Ok(Self {
            history,
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
    /// [`StoreError`] when the history cannot be written; nothing that was not written has been
    /// acknowledged.
    pub(crate) async fn run(mut self) -> Result<(), StoreError> {
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
                    for block in batch.drain(..) {
                        let reached = block.height;
                        self.sink.finalized(block);
                        let calendar = self.committees.calendar();
                        if calendar.epoch_of(reached + 1) > calendar.epoch_of(reached) {
                            self.state.read(|state, _| self.committees.learn(state, reached));
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
        }
    }
}

//! The chain as this node has finalized it: genesis, state and history, for everything that reads
//! them. It must never expose anything that is not finalized.

use std::sync::Arc;
use std::time::Duration;

use soma_engine::{EngineError, Handle};
use soma_protocol::{Amount, Genesis, Hash, StateRead};
use soma_store::History;
use tokio::sync::watch;

/// How long a question waits for the history to reach the state.
const RECORDED_WITHIN: Duration = Duration::from_secs(2);

pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    /// Hash of the genesis.
    pub(crate) id: Hash,
    pub(crate) history: Arc<History>,
    heights: watch::Receiver<u64>,
    engine: Handle,
}

impl Chain {
    /// `heights` holds the height of the last finalized block in the history.
    pub(crate) fn new(genesis: Genesis, engine: Handle, heights: watch::Receiver<u64>) -> Self {
        Self {
            id: genesis.chain_id(),
            genesis,
            history: Arc::clone(engine.history()),
            heights,
            engine,
        }
    }

    /// Reads the state after the last finalized block, and its height. `question` must be short: no
    /// block is finalized meanwhile.
    pub(crate) fn read<T>(&self, question: impl FnOnce(&dyn StateRead, u64) -> T) -> T {
        self.engine.read(question)
    }

    /// Like [`Self::read`], with the money that all records hold.
    pub(crate) fn read_held<T>(
        &self,
        question: impl FnOnce(&dyn StateRead, u64, Amount) -> T,
    ) -> T {
        self.engine.read_held(question)
    }

    /// Height of the last finalized block in the history.
    pub(crate) fn height(&self) -> u64 {
        *self.heights.borrow()
    }

    /// Returns once block `height`, which the state has reached, is in the history too: a moment
    /// later. Gives up after a while, because a node whose disk fails never gets there.
    pub(crate) async fn recorded(&self, height: u64) {
        let mut heights = self.heights();
        let reached = heights.wait_for(|recorded| *recorded >= height);
        let _ = tokio::time::timeout(RECORDED_WITHIN, reached).await;
    }

    /// Changes with every finalized block.
    pub(crate) fn heights(&self) -> watch::Receiver<u64> {
        self.heights.clone()
    }

    /// The engine under it: peers, metrics, the failure that stopped it.
    pub(crate) const fn engine(&self) -> &Handle {
        &self.engine
    }

    /// Why the engine stopped by itself, once it has.
    pub(crate) fn failure(&self) -> Option<Arc<EngineError>> {
        self.engine.failure()
    }
}

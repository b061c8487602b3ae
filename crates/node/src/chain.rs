//! The chain as this node has finalized it: genesis, state and history, for everything that reads
//! them. It must never expose anything that is not finalized.

use std::sync::Arc;

use soma_engine::{EngineError, Handle};
use soma_protocol::{Genesis, Hash, MemoryState, StateRead};
use soma_store::History;
use tokio::sync::watch;

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

    /// Like [`Self::read`], for questions about all records.
    pub(crate) fn inspect<T>(&self, question: impl FnOnce(&MemoryState, u64) -> T) -> T {
        self.engine.inspect(question)
    }

    /// Height of the last finalized block in the history.
    pub(crate) fn height(&self) -> u64 {
        *self.heights.borrow()
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

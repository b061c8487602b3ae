//! The chain as this node has finalized it: genesis, state and history, for everything that reads
//! them. It must never expose anything that is not finalized.

use std::sync::Arc;
use std::time::Duration;

use soma_engine::{EngineError, Handle};
use soma_protocol::{Amount, Genesis, Hash, RulesRange, StateRead};
use soma_store::History;
use tokio::sync::watch;

/// How long a question waits for what follows a block: a moment, unless the disk fails.
const WITHIN: Duration = Duration::from_secs(2);

/// The first value that is wanted, or the last one there is if none comes in time.
pub(crate) async fn first<T: Clone>(
    values: &mut watch::Receiver<T>,
    is_wanted: impl FnMut(&T) -> bool,
) -> T {
    let wanted = tokio::time::timeout(WITHIN, values.wait_for(is_wanted)).await;
    // What was borrowed is given back before anything is borrowed again: with a sender that waits
    // in between, both would wait forever.
    let wanted = wanted.map(|wanted| wanted.map(|value| T::clone(&value)));
    match wanted {
        Ok(Ok(value)) => value,
        _ => T::clone(&values.borrow()),
    }
}

pub(crate) struct Chain {
    pub(crate) genesis: Genesis,
    /// Hash of the genesis.
    pub(crate) id: Hash,
    pub(crate) history: Arc<History>,
    /// The versions of the rules that this node executes.
    pub(crate) executed: RulesRange,
    heights: watch::Receiver<u64>,
    engine: Handle,
}

impl Chain {
    /// `heights` holds the height of the last finalized block in the history.
    pub(crate) fn new(
        genesis: Genesis,
        executed: RulesRange,
        engine: Handle,
        heights: watch::Receiver<u64>,
    ) -> Self {
        Self {
            id: genesis.chain_id(),
            genesis,
            history: Arc::clone(engine.history()),
            executed,
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
        first(&mut self.heights(), |recorded| *recorded >= height).await;
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use tokio::sync::watch;

    use super::first;

    #[test]
    fn whoever_waits_for_a_value_never_blocks_whoever_sends_it() {
        let (sender, mut values) = watch::channel(0_u64);
        let (look, looks) = mpsc::channel();
        let writer = std::thread::spawn(move || {
            looks.recv().unwrap();
            sender.send_replace(1);
        });
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let waiting = runtime.spawn(async move {
            first(&mut values, |_| {
                // The value is borrowed now; its sender comes and waits until it is not.
                look.send(()).unwrap();
                std::thread::sleep(Duration::from_millis(200));
                true
            })
            .await
        });
        let limit = Duration::from_secs(30);
        let waited = runtime.block_on(async { tokio::time::timeout(limit, waiting).await });
        // Not dropped: that would wait for a thread that is blocked.
        runtime.shutdown_background();
        assert_eq!(waited.expect("neither is blocked").unwrap(), 0);
        writer.join().unwrap();
    }

    #[tokio::test]
    async fn what_never_comes_is_waited_for_a_moment_only() {
        let (_sender, mut values) = watch::channel(3);
        assert_eq!(first(&mut values, |value| *value > 3).await, 3);
    }
}

//! Whether a node can serve: what `/readyz` and the metrics say about it.

use std::sync::Arc;

use crate::chain::Chain;
use crate::shutdown::Shutdown;

/// Age of the last finalized block beyond which a node is not ready.
const BLOCK_AGE_MAX_MS: u64 = 30_000;

pub(crate) struct Health {
    pub(crate) chain: Arc<Chain>,
    pub(crate) shutdown: Shutdown,
    /// How many other nodes its settings name.
    pub(crate) peers_named: usize,
}

impl Health {
    /// Why the node stopped, once it has.
    pub(crate) fn stopped(&self) -> Option<String> {
        if self.shutdown.has_begun() {
            return Some("the node is stopping".to_owned());
        }
        self.chain.failure().map(|failure| failure.to_string())
    }

    /// Why the node is not ready, if it is not.
    pub(crate) fn not_ready(&self) -> Option<String> {
        if let Some(reason) = self.stopped() {
            return Some(reason);
        }
        let age_ms = self.block_age_ms().filter(|age_ms| *age_ms > BLOCK_AGE_MAX_MS)?;
        let seconds = age_ms / 1000;
        let reason = match (self.peers_named, self.peers_connected()) {
            (0, _) => "it cannot produce blocks; see its log".to_owned(),
            (named, 0) => format!("none of its {named} peers is connected"),
            (named, connected) => format!(
                "{connected} of its {named} peers are connected; the network has halted, or this \
                 node is catching up"
            ),
        };
        Some(format!("the last finalized block is {seconds} s old: {reason}"))
    }

    /// Age of the last finalized block by this machine's clock; `None` before the first block.
    pub(crate) fn block_age_ms(&self) -> Option<u64> {
        let block = self.chain.history.block(self.chain.height()).ok()??;
        Some(soma_os::clock::now_ms().saturating_sub(block.timestamp_ms))
    }

    pub(crate) fn peers_connected(&self) -> usize {
        self.chain.engine().connected().len()
    }
}

//! Where this software must stop: before a block that follows rules which it does not execute.
//!
//! Such a block may be valid, so this node decides nothing about it: it proposes none, and its
//! check of one never ends. It remains for a moment, so that the others have its votes for the last
//! block that it does execute, then it stops.

use std::time::Duration;

use commonware_runtime::Clock;
use commonware_utils::channel::watch;

/// How long a node remains once the next block follows other rules.
const LINGER: Duration = Duration::from_secs(5);

/// Whether the next block follows rules that this software does not execute.
pub(crate) struct Boundary {
    reached: watch::Sender<Option<At>>,
}

/// The last block that this software executes, and what the next one follows.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) height: u64,
    pub(crate) version: u16,
}

impl Boundary {
    pub(crate) fn new() -> Self {
        Self { reached: watch::Sender::new(None) }
    }

    /// The block after `height` follows rules of this version, which this software does not
    /// execute.
    pub(crate) fn reach(&self, height: u64, version: u16) {
        self.reached.send_replace(Some(At { height, version }));
    }

    /// Completes a moment after the boundary was reached.
    pub(crate) async fn reached(&self, clock: &impl Clock) -> At {
        let mut reached = self.reached.subscribe();
        loop {
            // It cannot close: this holds the sender.
            drop(reached.wait_for(Option::is_some).await);
            clock.sleep(LINGER).await;
            if let Some(at) = *self.reached.borrow() {
                return at;
            }
        }
    }
}

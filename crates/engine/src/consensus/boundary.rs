//! Where this software must stop: before a block that follows rules which it does not execute.
//!
//! Such a block may be valid, so this node decides nothing about it: it proposes none, and its
//! check of one never ends. It remains for a moment, so that the others have its votes for the last
//! block that it does execute, then it stops.

use std::time::Duration;

use commonware_runtime::Clock;
use tokio::sync::SetOnce;

/// How long a node remains once the next block follows other rules.
const LINGER: Duration = Duration::from_secs(5);

/// Whether the next block follows rules that this software does not execute.
#[derive(Default)]
pub(crate) struct Boundary {
    reached: SetOnce<At>,
}

/// The last block that this software executes, and what the next one follows.
#[derive(Clone, Copy)]
pub(crate) struct At {
    pub(crate) height: u64,
    pub(crate) version: u16,
}

impl Boundary {
    /// The block after `height` follows rules of this version, which this software does not
    /// execute. What is said first counts.
    pub(crate) fn reach(&self, height: u64, version: u16) {
        let _ = self.reached.set(At { height, version });
    }

    /// Completes a moment after the boundary was reached.
    pub(crate) async fn reached(&self, clock: &impl Clock) -> At {
        let at = *self.reached.wait().await;
        clock.sleep(LINGER).await;
        at
    }
}

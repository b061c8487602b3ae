//! The signal that stops all parts of a node together. It is given once and never withdrawn.

use std::sync::Arc;

use tokio::sync::watch;

#[derive(Clone, Debug, Default)]
pub(crate) struct Shutdown(Arc<watch::Sender<bool>>);

impl Shutdown {
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }

    pub(crate) fn has_begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until the node shuts down.
    pub(crate) async fn begun(&self) {
        let mut receiver = self.0.subscribe();
        // It fails only when there is no sender, and `self` is one.
        let _without_sender = receiver.wait_for(|begun| *begun).await;
    }

    /// Runs `work` until it ends, or drops it at an await point when the node shuts down.
    pub(crate) async fn interrupt(&self, work: impl Future<Output = ()>) {
        tokio::select! {
            () = work => {}
            () = self.begun() => {}
        }
    }
}

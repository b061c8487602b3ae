//! A receiver that delivers nothing until it is resumed.
//!
//! Certificates are verified with committees that are read from the state. Responses that arrive
//! earlier would be discarded as unverifiable, so they wait in the network's queue.

use std::num::NonZeroUsize;

use commonware_p2p::{Message, Receiver};
use tokio::sync::watch;

/// Resumes a paused receiver for good.
pub(crate) struct Resume(watch::Sender<bool>);

impl Resume {
    pub(crate) fn resume(self) {
        self.0.send_replace(true);
    }
}

/// See [`pause`].
#[derive(Debug)]
pub(crate) struct PausedReceiver<R> {
    receiver: R,
    resumed: watch::Receiver<bool>,
}

/// Pauses a receiver until the returned [`Resume`] is used.
pub(crate) fn pause<R: Receiver>(receiver: R) -> (Resume, PausedReceiver<R>) {
    let (resume, resumed) = watch::channel(false);
    (Resume(resume), PausedReceiver { receiver, resumed })
}

impl<R: Receiver> Receiver for PausedReceiver<R> {
    type Error = R::Error;
    type PublicKey = R::PublicKey;

    async fn recv(&mut self) -> Result<Message<R::PublicKey>, R::Error> {
        // An error means that the node could not start and drops this receiver as well.
        let _ = self.resumed.wait_for(|resumed| *resumed).await;
        self.receiver.recv().await
    }

    fn capacity(&self) -> NonZeroUsize {
        self.receiver.capacity()
    }
}

//! Holds back what peers answer until the node can judge it: certificates are checked with
//! committees that are read from the state, and answers that nobody could check would be lost.

use std::num::NonZeroUsize;

use commonware_p2p::{Message, Receiver};
use tokio::sync::watch;

/// Opens a held receiver for good.
pub(crate) struct Gate(watch::Sender<bool>);

impl Gate {
    pub(crate) fn open(self) {
        self.0.send_replace(true);
    }
}

/// A receiver that is silent until its gate opens.
#[derive(Debug)]
pub(crate) struct Held<R> {
    receiver: R,
    open: watch::Receiver<bool>,
}

pub(crate) fn hold<R: Receiver>(receiver: R) -> (Gate, Held<R>) {
    let (gate, open) = watch::channel(false);
    (Gate(gate), Held { receiver, open })
}

impl<R: Receiver> Receiver for Held<R> {
    type Error = R::Error;
    type PublicKey = R::PublicKey;

    async fn recv(&mut self) -> Result<Message<R::PublicKey>, R::Error> {
        // A gate that is dropped belongs to a node that could not start.
        let _ = self.open.wait_for(|open| *open).await;
        self.receiver.recv().await
    }

    fn capacity(&self) -> NonZeroUsize {
        self.receiver.capacity()
    }
}

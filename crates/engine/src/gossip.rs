//! Messages between nodes that are not blocks or votes: pools send each other transactions.
//!
//! Gossip is lossy: what does not fit into a bounded queue is dropped, and the sender must send it
//! again. The node decides what the bytes mean; nothing here reads them.

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::Spawner;
use soma_protocol::ConsensusKey;
use tokio::sync::mpsc;

use crate::{keys::consensus_key, limits::GOSSIP_BYTES_MAX};

/// How many messages may wait in either direction before further ones are dropped.
pub const GOSSIP_WAITING_MAX: usize = 64;

/// A message from another node.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipMessage {
    /// The sender, authenticated by the connection.
    pub from: ConsensusKey,
    /// The content, at most [`GOSSIP_BYTES_MAX`]. Nothing in it has been checked.
    pub bytes: Vec<u8>,
}

impl std::fmt::Debug for GossipMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GossipMessage")
            .field("from", &self.from)
            .field("bytes", &self.bytes.len())
            .finish()
    }
}

/// Sends to all connected nodes. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Gossip(mpsc::Sender<Vec<u8>>);

impl Gossip {
    /// Queues a message for every connected node, without waiting. Returns `false` if it is longer
    /// than [`GOSSIP_BYTES_MAX`], the queue is full, or the node is stopping.
    pub fn send(&self, message: Vec<u8>) -> bool {
        message.len() <= GOSSIP_BYTES_MAX && self.0.try_send(message).is_ok()
    }
}

/// Carries gossip between its queues and the network.
#[derive(Debug)]
pub struct GossipRelay {
    outgoing: mpsc::Receiver<Vec<u8>>,
    incoming: mpsc::Sender<GossipMessage>,
}

/// The node's side of gossip, to send and to receive, and the engine's side.
pub fn gossip_channel() -> (Gossip, mpsc::Receiver<GossipMessage>, GossipRelay) {
    let (gossip, outgoing) = mpsc::channel(GOSSIP_WAITING_MAX);
    let (incoming, messages) = mpsc::channel(GOSSIP_WAITING_MAX);
    let relay = GossipRelay { outgoing, incoming };
    (Gossip(gossip), messages, relay)
}

impl GossipRelay {
    /// Starts carrying messages, until the network closes.
    pub(crate) fn start<S, R>(self, context: impl Spawner, link: (S, R))
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        context.spawn(move |_| self.run(link));
    }

    async fn run<S, R>(mut self, (mut sender, mut receiver): (S, R))
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
    {
        let mut sends = true;
        loop {
            tokio::select! {
                biased;
                message = self.outgoing.recv(), if sends => match message {
                    Some(message) => {
                        sender.send(Recipients::All, message, false);
                    }
                    None => sends = false,
                },
                message = receiver.recv() => {
                    let Ok((from, message)) = message else {
                        return;
                    };
                    let bytes: &[u8] = message.as_ref();
                    if bytes.len() <= GOSSIP_BYTES_MAX {
                        let (from, bytes) = (consensus_key(&from), bytes.to_vec());
                        // A full queue drops the message, not the connection.
                        let _ = self.incoming.try_send(GossipMessage { from, bytes });
                    }
                }
            }
        }
    }
}

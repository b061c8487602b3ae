//! Bytes between nodes that are not blocks or votes: the pools tell each other of transactions.
//!
//! Messages are lossy on purpose: what does not fit into a bounded queue is dropped, and who needs
//! it sends it again. What the bytes mean, and whom to tell, is the node's to decide.

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_runtime::Spawner;
use soma_protocol::ConsensusKey;
use tokio::sync::mpsc;

use crate::network::bytes_of;

/// The longest message: 256 KiB.
pub const GOSSIP_BYTES_MAX: usize = 1 << 18;

/// How many messages wait in either direction before more are dropped.
pub const GOSSIP_WAITING_MAX: usize = 64;

/// A message of another node.
#[derive(Clone, PartialEq, Eq)]
pub struct GossipMessage {
    /// Who sent it: the connection proves it.
    pub from: ConsensusKey,
    /// What it said, [`GOSSIP_BYTES_MAX`] at most. Nothing about it has been checked.
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

/// Speaks to all nodes that are connected. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Gossip(mpsc::Sender<Vec<u8>>);

impl Gossip {
    /// Sends a message to every connected node, without waiting; whether it was taken. It is not
    /// when it is longer than [`GOSSIP_BYTES_MAX`], when too many wait, or when the node stops.
    pub fn send(&self, message: Vec<u8>) -> bool {
        message.len() <= GOSSIP_BYTES_MAX && self.0.try_send(message).is_ok()
    }
}

/// The engine's ends of the two queues.
#[derive(Debug)]
pub struct GossipRelay {
    said: mpsc::Receiver<Vec<u8>>,
    heard: mpsc::Sender<GossipMessage>,
}

/// Both queues: how to speak, what is heard, and the engine's ends of them.
pub fn gossip_channel() -> (Gossip, mpsc::Receiver<GossipMessage>, GossipRelay) {
    let (speak, said) = mpsc::channel(GOSSIP_WAITING_MAX);
    let (heard, listen) = mpsc::channel(GOSSIP_WAITING_MAX);
    (Gossip(speak), listen, GossipRelay { said, heard })
}

impl GossipRelay {
    /// Starts to carry messages; it ends when the network closes.
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
        let mut speaks = true;
        loop {
            tokio::select! {
                biased;
                message = self.said.recv(), if speaks => match message {
                    Some(message) => {
                        sender.send(Recipients::All, message, false);
                    }
                    None => speaks = false,
                },
                message = receiver.recv() => {
                    let Ok((from, message)) = message else {
                        return;
                    };
                    let bytes: &[u8] = message.as_ref();
                    if bytes.len() <= GOSSIP_BYTES_MAX {
                        let (from, bytes) = (ConsensusKey(bytes_of(&from)), bytes.to_vec());
                        // A full queue loses the message, not the connection.
                        let _ = self.heard.try_send(GossipMessage { from, bytes });
                    }
                }
            }
        }
    }
}

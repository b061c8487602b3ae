//! Messages between nodes that are not blocks or votes: pools send each other transactions.
//!
//! Gossip is lossy: what does not fit into a bounded queue is dropped, and the sender must send it
//! again. Every peer has a queue of its own and the queues take turns, so a peer that floods this
//! node displaces its own messages only. The node decides what the bytes mean, nothing here reads
//! them; it has a peer blocked that sends what no honest node sends.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::{Blocker, Receiver, Recipients, Sender};
use commonware_runtime::Spawner;
use soma_protocol::ConsensusKey;
use tokio::sync::{Notify, mpsc};

use crate::{
    keys::{consensus_key, public_key},
    limits::{GOSSIP_BYTES_MAX, PEERS_MAX},
    links::block,
};

/// How many messages may wait to be sent before further ones are dropped.
pub const GOSSIP_WAITING_MAX: usize = 64;
/// How many messages of one peer may wait for this node: what its quota lets through in a second.
const PEER_WAITING_MAX: usize = 64;
/// How many bytes of one peer may wait: four of the longest messages, which is more than an honest
/// node sends while this one verifies a batch.
const PEER_BYTES_MAX: usize = 4 * GOSSIP_BYTES_MAX;
/// How many bytes may wait in all: 32 MiB, so that each peer has room for the longest message,
/// however much the others send.
const WAITING_BYTES_MAX: usize = PEERS_MAX * GOSSIP_BYTES_MAX;
/// How many peers may wait to be blocked; one that is left out will give another reason.
const BLOCKS_WAITING_MAX: usize = 64;

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

/// Sends to all connected nodes, and blocks those that misbehave. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Gossip {
    outgoing: mpsc::Sender<Vec<u8>>,
    blocks: mpsc::Sender<(ConsensusKey, &'static str)>,
}

impl Gossip {
    /// Queues a message for every connected node, without waiting. Returns `false` if it is longer
    /// than [`GOSSIP_BYTES_MAX`], the queue is full, or the node is stopping.
    pub fn send(&self, message: Vec<u8>) -> bool {
        message.len() <= GOSSIP_BYTES_MAX && self.outgoing.try_send(message).is_ok()
    }

    /// Disconnects a peer that sent what no honest node sends, and refuses its connections for
    /// [`BLOCK_DURATION`](crate::BLOCK_DURATION). This includes its blocks and votes: a validator
    /// that is blocked has no voice here until then. `why` is logged.
    pub fn block(&self, peer: ConsensusKey, why: &'static str) {
        // If too many wait, the next message of this peer is another reason.
        let _ = self.blocks.try_send((peer, why));
    }
}

/// What other nodes sent, for one reader. Dropping it discards what waits and what is yet to come.
#[derive(Debug)]
pub struct GossipReceiver(Arc<Inbox>);

impl GossipReceiver {
    /// Waits for the next message; `None` once the network is closed. Peers take turns, and in its
    /// turn a peer delivers up to [`GOSSIP_BYTES_MAX`].
    pub async fn recv(&mut self) -> Option<GossipMessage> {
        loop {
            {
                let mut waiting = self.0.lock();
                let message = waiting.pop();
                if message.is_some() || waiting.closed {
                    return message;
                }
            }
            self.0.changed.notified().await;
        }
    }

    /// The next message, if one waits.
    pub fn try_recv(&mut self) -> Option<GossipMessage> {
        self.0.lock().pop()
    }
}

impl Drop for GossipReceiver {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        *waiting = Waiting { closed: true, ..Waiting::default() };
    }
}

/// The messages that wait for this node.
#[derive(Debug, Default)]
struct Inbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queues of all peers.
#[derive(Debug, Default)]
struct Waiting {
    /// No queue is empty.
    queues: BTreeMap<ConsensusKey, PeerQueue>,
    bytes: usize,
    /// Whose turn it is, and how many bytes it may still deliver in it.
    turn: Option<(ConsensusKey, usize)>,
    /// Whether one side is gone.
    closed: bool,
}

#[derive(Debug, Default)]
struct PeerQueue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Waiting {
    /// Adds a message. Without room, the longest queue loses its newest message.
    fn push(&mut self, from: ConsensusKey, bytes: Vec<u8>) {
        if self.closed {
            return;
        }
        let queue = self.queues.entry(from).or_default();
        let full = queue.messages.len() >= PEER_WAITING_MAX;
        if full || queue.bytes + bytes.len() > PEER_BYTES_MAX {
            return;
        }
        queue.bytes += bytes.len();
        self.bytes += bytes.len();
        queue.messages.push_back(bytes);
        while self.bytes > WAITING_BYTES_MAX {
            let longest = self.queues.iter().max_by_key(|(_, queue)| queue.bytes);
            let Some((longest, _)) = longest.map(|(peer, queue)| (*peer, queue.bytes)) else {
                return;
            };
            self.take(&longest, VecDeque::pop_back);
        }
    }

    /// Removes one message from a queue.
    fn take(
        &mut self,
        peer: &ConsensusKey,
        end: fn(&mut VecDeque<Vec<u8>>) -> Option<Vec<u8>>,
    ) -> Option<Vec<u8>> {
        let queue = self.queues.get_mut(peer)?;
        let bytes = end(&mut queue.messages)?;
        queue.bytes -= bytes.len();
        self.bytes -= bytes.len();
        if queue.messages.is_empty() {
            self.queues.remove(peer);
        }
        Some(bytes)
    }

    /// Removes the next message.
    fn pop(&mut self) -> Option<GossipMessage> {
        let turn = self.turn.filter(|(peer, left)| {
            let next = self.queues.get(peer).and_then(|queue| queue.messages.front());
            next.is_some_and(|next| next.len() <= *left)
        });
        let (from, left) = turn.or_else(|| self.next_turn())?;
        let bytes = self.take(&from, VecDeque::pop_front)?;
        self.turn = Some((from, left - bytes.len()));
        Some(GossipMessage { from, bytes })
    }

    /// The turn of the peer after the last one.
    fn next_turn(&self) -> Option<(ConsensusKey, usize)> {
        let later = self.turn.and_then(|(last, _)| {
            let after = (Bound::Excluded(last), Bound::Unbounded);
            self.queues.range(after).next()
        });
        let (peer, _) = later.or_else(|| self.queues.first_key_value())?;
        Some((*peer, GOSSIP_BYTES_MAX))
    }
}

/// Fills the inbox; closes it when dropped.
#[derive(Debug)]
struct Incoming(Arc<Inbox>);

impl Incoming {
    fn push(&self, from: &PublicKey, bytes: &[u8]) {
        self.0.lock().push(consensus_key(from), bytes.to_vec());
        self.0.changed.notify_one();
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        self.0.changed.notify_one();
    }
}

/// Carries gossip between its queues and the network.
#[derive(Debug)]
pub struct GossipRelay {
    outgoing: mpsc::Receiver<Vec<u8>>,
    blocks: mpsc::Receiver<(ConsensusKey, &'static str)>,
    incoming: Incoming,
}

/// The node's side of gossip, to send and to receive, and the engine's side.
pub fn gossip_channel() -> (Gossip, GossipReceiver, GossipRelay) {
    let (outgoing, sent) = mpsc::channel(GOSSIP_WAITING_MAX);
    let (blocks, blocked) = mpsc::channel(BLOCKS_WAITING_MAX);
    let inbox = Arc::<Inbox>::default();
    let incoming = Incoming(Arc::clone(&inbox));
    let relay = GossipRelay { outgoing: sent, blocks: blocked, incoming };
    (Gossip { outgoing, blocks }, GossipReceiver(inbox), relay)
}

impl GossipRelay {
    /// Starts carrying messages, until the network closes.
    pub(crate) fn start<S, R, B>(self, context: impl Spawner, link: (S, R), blocker: B)
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
        B: Blocker<PublicKey = PublicKey>,
    {
        context.spawn(move |_| self.run(link, blocker));
    }

    async fn run<S, R, B>(mut self, (mut sender, mut receiver): (S, R), mut blocker: B)
    where
        S: Sender<PublicKey = PublicKey>,
        R: Receiver<PublicKey = PublicKey>,
        B: Blocker<PublicKey = PublicKey>,
    {
        let (mut sends, mut blocks) = (true, true);
        loop {
            tokio::select! {
                biased;
                peer = self.blocks.recv(), if blocks => match peer {
                    Some((peer, why)) => {
                        if let Some(peer) = public_key(&peer) {
                            block(&mut blocker, peer, why);
                        }
                    }
                    None => blocks = false,
                },
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
                        self.incoming.push(&from, bytes);
                    } else {
                        block(&mut blocker, from, "its gossip is too long");
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        ConsensusKey, GOSSIP_BYTES_MAX, PEER_BYTES_MAX, PEER_WAITING_MAX, PEERS_MAX,
        WAITING_BYTES_MAX, Waiting,
    };

    fn peer(number: usize) -> ConsensusKey {
        ConsensusKey([u8::try_from(number).unwrap(); 32])
    }

    #[test]
    fn a_flood_of_every_other_peer_displaces_no_message_of_an_honest_one() {
        let mut waiting = Waiting::default();
        let honest = peer(PEERS_MAX - 1);
        for _ in 0..=PEER_WAITING_MAX {
            for flooding in 0..PEERS_MAX - 1 {
                waiting.push(peer(flooding), vec![0; GOSSIP_BYTES_MAX]);
            }
        }
        for number in 0..50 {
            waiting.push(honest, vec![number; 300]);
        }
        assert!(waiting.bytes <= WAITING_BYTES_MAX);
        let messages: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
        assert_eq!((waiting.bytes, waiting.queues.len()), (0, 0));
        let of_honest = messages.iter().filter(|message| message.from == honest);
        assert!(of_honest.map(|message| message.bytes[0]).eq(0..50));
        // One turn of each of the others at most passes before all of its messages are delivered.
        let last = messages.iter().rposition(|message| message.from == honest).unwrap();
        assert!(last < PEERS_MAX + 50, "{last}");
    }

    #[test]
    fn peers_take_turns_by_bytes_and_each_keeps_its_order() {
        let mut waiting = Waiting::default();
        for number in 0..4 {
            waiting.push(peer(1), vec![number; GOSSIP_BYTES_MAX]);
        }
        for number in 0..3 {
            waiting.push(peer(2), vec![number; GOSSIP_BYTES_MAX / 2]);
        }
        let order = std::iter::from_fn(|| waiting.pop());
        let order: Vec<_> = order.map(|message| (message.from.0[0], message.bytes[0])).collect();
        assert_eq!(order, [(1, 0), (2, 0), (2, 1), (1, 1), (2, 2), (1, 2), (1, 3)]);
    }

    #[test]
    fn what_waits_of_one_peer_is_bounded_in_bytes_and_in_number() {
        let mut waiting = Waiting::default();
        for _ in 0..2 * PEER_WAITING_MAX {
            waiting.push(peer(1), vec![0; GOSSIP_BYTES_MAX]);
            waiting.push(peer(2), Vec::new());
        }
        assert_eq!(waiting.bytes, PEER_BYTES_MAX);
        assert_eq!(waiting.queues[&peer(2)].messages.len(), PEER_WAITING_MAX);
        waiting.closed = true;
        waiting.push(peer(3), vec![1]);
        assert_eq!(waiting.bytes, PEER_BYTES_MAX);
    }
}

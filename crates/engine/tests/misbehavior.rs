//! What a node is promised when one of its peers does not follow the protocol: real nodes, real
//! sockets, and a peer that sends whatever it likes.
#![expect(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod machine;
mod queue;
mod hostile;

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use hostile::{HostilePeer, Place, Respond};
use machine::free_addresses;
use queue::{Queue, genesis, settings, transfer, validator};
use soma_engine::{
    ConsensusSecret, Contacts, GOSSIP_BYTES_MAX, GossipReceiver, Handle, Host, Peer, Pool, Sink,
    TERM_BLOCKS, start,
};
use soma_protocol::ConsensusKey;

const PATIENCE: Duration = Duration::from_mins(2);
/// The validator, which has the only seat; all others follow.
const VALIDATOR: u8 = 0;
const NODES: u8 = 8;

fn key(node: u8) -> ConsensusKey {
    ConsensusSecret(validator(node)).public()
}

/// Nodes in one folder, each at a port of its own. The number of a node is that of its key.
struct Network {
    dir: tempfile::TempDir,
    ports: Vec<SocketAddr>,
}

impl Network {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), ports: free_addresses(NODES) }
    }

    fn at(&self, node: u8) -> SocketAddr {
        self.ports[usize::from(node)]
    }

    fn host(&self, node: u8, peers: &[u8]) -> Host {
        let peer = |other: &u8| Peer { key: key(*other), address: Some(self.at(*other).into()) };
        Host {
            dir: Path::new(self.dir.path()).join(node.to_string()),
            listen: self.at(node),
            peers: peers.iter().map(peer).collect(),
            votes: Path::new(self.dir.path()).join(node.to_string()).join("votes"),
            contacts: Contacts::default(),
        }
    }

    fn start(&self, node: u8, peers: &[u8]) -> Handle {
        let queue = Arc::new(Queue::default());
        let settings = settings(genesis(1), node, 5, 500);
        start(self.host(node, peers), settings, Arc::clone(&queue) as Arc<dyn Pool>, queue).unwrap()
    }

    /// A validator with a chain of at least this many blocks, which accepts all other nodes.
    fn validator(&self, blocks: u64) -> Handle {
        let (sender, finalized) = mpsc::channel();
        let queue = Queue::reporting(sender);
        let (pool, sink) = (Arc::clone(&queue) as Arc<dyn Pool>, Arc::clone(&queue));
        let peers: Vec<_> = (1..NODES).collect();
        let settings = settings(genesis(1), VALIDATOR, 1, 500);
        let host = self.host(VALIDATOR, &peers);
        let handle = start(host, settings, pool, sink as Arc<dyn Sink>).unwrap();
        let chain = genesis(1).chain_id();
        for nonce in 0..blocks {
            queue.add(transfer(chain, nonce, 1));
            handle.wake();
            while finalized.recv_timeout(PATIENCE).unwrap().receipts.is_empty() {}
        }
        handle
    }

    /// A hostile peer with the key of a node, which connects to these.
    fn hostile(&self, node: u8, peers: &[u8], respond: Respond) -> HostilePeer {
        let place = Place {
            chain: genesis(1).chain_id(),
            secret: validator(node),
            listen: self.at(node),
            peers: peers.iter().map(|peer| (key(*peer), self.at(*peer))).collect(),
        };
        HostilePeer::start(place, respond)
    }
}

fn wait_until(what: &str, mut question: impl FnMut() -> bool) {
    let began = Instant::now();
    while !question() {
        assert!(began.elapsed() < PATIENCE, "timed out: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The bytes of a response: its kind, the number of the request, and the content.
fn response(request: &[u8], content: &[u8]) -> Vec<u8> {
    [&[1], &request[1..9], content].concat()
}

/// Claims more blocks than any chain has; any other request gets this content, if any.
fn boast(request: &[u8], content: Option<&[u8]>) -> Option<Vec<u8>> {
    const OFFER: u8 = 0;
    let mut offer = vec![1];
    offer.extend(1_u64.to_be_bytes());
    offer.extend(u64::MAX.to_be_bytes());
    let content = if request[9] == OFFER { Some(&offer[..]) } else { content };
    content.map(|content| response(request, content))
}

fn silent(request: &[u8]) -> Option<Vec<u8>> {
    boast(request, None)
}

fn without_blocks(request: &[u8]) -> Option<Vec<u8>> {
    boast(request, Some(&[0]))
}

fn malformed(request: &[u8]) -> Option<Vec<u8>> {
    boast(request, Some(&[2, 3, 4]))
}

#[test]
fn one_liar_delays_a_join_by_seconds() {
    let network = Network::new();
    let validator = network.validator(2 * TERM_BLOCKS + 5);
    let join = |node: u8, peers: &[u8]| {
        let began = Instant::now();
        let follower = network.start(node, peers);
        let joined = follower.joined().expect("it synced the state");
        assert_eq!(joined.height, 2 * TERM_BLOCKS - 1);
        wait_until("it follows", || follower.tip().height >= validator.tip().height);
        began.elapsed()
    };
    let honest = join(1, &[VALIDATOR]);
    for (liar, respond) in [(3, silent as Respond), (5, without_blocks), (7, malformed)] {
        let follower = liar - 1;
        let hostile = network.hostile(liar, &[follower], respond);
        let with_liar = join(follower, &[VALIDATOR, liar]);
        writeln!(std::io::stderr(), "a join takes {honest:?}; with a liar, {with_liar:?}").unwrap();
        assert!(with_liar < honest + Duration::from_secs(20), "{honest:?}, {with_liar:?}");
        drop(hostile);
    }
}

#[test]
fn a_false_claim_of_many_blocks_does_not_keep_a_node_from_a_short_chain() {
    let network = Network::new();
    let validator = network.validator(10);
    for (liar, respond) in [(3, silent as Respond), (5, without_blocks)] {
        let follower = liar - 1;
        let hostile = network.hostile(liar, &[follower], respond);
        let follower = network.start(follower, &[VALIDATOR, liar]);
        assert_eq!(follower.joined(), None);
        wait_until("it follows", || follower.tip().height >= validator.tip().height);
        drop(hostile);
    }
}

fn receive(messages: &mut GossipReceiver) -> soma_engine::GossipMessage {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let message = async { tokio::time::timeout(PATIENCE, messages.recv()).await };
    runtime.block_on(message).unwrap().unwrap()
}

#[test]
fn gossip_of_an_honest_node_arrives_in_spite_of_a_flood() {
    let (network, flooding) = (Network::new(), 2);
    let validator = network.validator(1);
    let honest = network.start(1, &[VALIDATOR]);
    let hostile = network.hostile(flooding, &[VALIDATOR], |_| None);
    wait_until("both are connected", || validator.connected().len() == 2);
    let mut messages = validator.take_gossip().unwrap();
    // It sends more than the queues of all peers together hold.
    for _ in 0..200 {
        hostile.send(vec![7; GOSSIP_BYTES_MAX]);
    }
    thread::sleep(Duration::from_secs(1));
    for number in 0..20 {
        wait_until("it is sent", || honest.gossip().send(vec![number; 100]));
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_secs(1));
    // The hostile peer's turn, then all that the honest node has sent.
    let received: Vec<_> = (0..22).map(|_| receive(&mut messages)).collect();
    let honest: Vec<_> = received.iter().filter(|message| message.from == key(1)).collect();
    assert_eq!(honest.len(), 20, "{received:?}");
    assert!(honest.iter().zip(0..).all(|(message, number)| message.bytes == [number; 100]));
}

#[test]
fn a_peer_whose_message_is_too_long_or_that_the_node_blocks_is_disconnected() {
    let network = Network::new();
    let validator = network.validator(1);
    let honest = network.start(1, &[VALIDATOR]);
    let hostile = network.hostile(2, &[VALIDATOR], |_| None);
    let blocked = network.start(3, &[VALIDATOR]);
    wait_until("all are connected", || validator.connected().len() == 3);
    hostile.send(vec![7; GOSSIP_BYTES_MAX + 1]);
    validator.gossip().block(key(3), "it is a test");
    wait_until("they are disconnected", || validator.connected() == [key(1)]);
    wait_until("it notices", || blocked.connected().is_empty());
    // They stay away, although they dial without a pause.
    thread::sleep(Duration::from_secs(3));
    assert_eq!(validator.connected(), [key(1)]);
    drop((honest, hostile));
}

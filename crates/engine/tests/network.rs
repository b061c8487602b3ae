//! Four validators, each in its own process, that are killed and restarted, with real sockets and
//! disks.
#![expect(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod machine;
mod queue;

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use machine::free_addresses;
use queue::{ALICE, Queue, address, genesis, transfer, validator};
use soma_engine::{
    ConsensusSecret, Contacts, EngineError, Handle, Host, Peer, Pool, Settings, Sink, TERM_BLOCKS,
    Verified, start, verify_store,
};
use soma_protocol::read;

const FOLDER: &str = "SOMA_TEST_FOLDER";
const NODE: &str = "SOMA_TEST_NODE";
const PORTS: &str = "SOMA_TEST_PORTS";
const VALIDATORS: u8 = 4;
/// A node without a seat.
const FOLLOWER: u8 = VALIDATORS;
const PATIENCE: Duration = Duration::from_mins(3);

fn host(dir: &Path, node: u8, ports: &[SocketAddr]) -> Host {
    let at = |node: u8| ports[usize::from(node)];
    let peer = |other: u8| Peer {
        key: ConsensusSecret(validator(other)).public(),
        // A follower dials the others; nobody dials it.
        address: (other != FOLLOWER).then(|| at(other).into()),
    };
    Host {
        dir: dir.to_path_buf(),
        listen: at(node),
        peers: (0..=FOLLOWER).filter(|other| *other != node).map(peer).collect(),
        votes: dir.join("votes"),
        contacts: Contacts::default(),
    }
}

fn settings(node: u8) -> Settings {
    queue::settings(genesis(VALIDATORS), node, 5, 1_000)
}

fn verify(dir: &Path, node: u8) -> Result<Verified, EngineError> {
    let key = ConsensusSecret(validator(node));
    verify_store(dir, &genesis(VALIDATORS), &dir.join("votes"), &key)
}

/// The child process of the tests: one node, with the same load in its pool as all others. It
/// prints what is finalized until it is killed.
#[test]
fn child_of_the_network() {
    let Some(dir) = std::env::var_os(FOLDER) else {
        return;
    };
    let node = std::env::var(NODE).unwrap().parse().unwrap();
    let ports = std::env::var(PORTS).unwrap();
    let ports: Vec<SocketAddr> = ports.split(',').map(|port| port.parse().unwrap()).collect();
    let chain = genesis(VALIDATORS).chain_id();
    let (sender, blocks) = mpsc::channel();
    let queue = Queue::reporting(sender);
    let pool = Arc::clone(&queue) as Arc<dyn Pool>;
    let sink = Arc::clone(&queue) as Arc<dyn Sink>;
    let handle = start(host(Path::new(&dir), node, &ports), settings(node), pool, sink).unwrap();
    let mut next = handle.read(|state, _| read::account(state, &address(ALICE)).nonce);
    let mut stdout = std::io::stdout();
    // It may have been killed before it printed its last blocks.
    let history = handle.history();
    for height in history.first().unwrap()..=history.height().unwrap() {
        let block = history.block(height).unwrap().expect("no gap");
        writeln!(stdout, "finalized {height} {}", block.digest).unwrap();
    }
    let mut load = |transactions: u64| {
        for _ in 0..transactions {
            queue.add(transfer(chain, next, 1));
            next += 1;
        }
        handle.wake();
    };
    load(64);
    for block in blocks {
        writeln!(stdout, "finalized {} {}", block.height, block.digest).unwrap();
        stdout.flush().unwrap();
        load(block.receipts.len() as u64);
    }
}

/// What all processes of a node reported as finalized.
type Finalized = Arc<Mutex<BTreeMap<u64, String>>>;

struct Network {
    dir: tempfile::TempDir,
    ports: String,
    children: Vec<Option<Child>>,
    finalized: Vec<Finalized>,
}

impl Network {
    fn new() -> Self {
        let ports =
            free_addresses(VALIDATORS + 1).iter().map(SocketAddr::to_string).collect::<Vec<_>>();
        let nodes = usize::from(FOLLOWER) + 1;
        Self {
            dir: tempfile::tempdir().unwrap(),
            ports: ports.join(","),
            children: (0..nodes).map(|_| None).collect(),
            finalized: (0..nodes).map(|_| Finalized::default()).collect(),
        }
    }

    fn start(&mut self, node: u8) {
        let dir: PathBuf = self.dir.path().join(node.to_string());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_of_the_network", "--exact", "--nocapture"])
            .env(FOLDER, dir)
            .env(NODE, node.to_string())
            .env(PORTS, &self.ports)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let finalized = Arc::clone(&self.finalized[usize::from(node)]);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let words: Vec<_> = line.split_whitespace().collect();
                if let [.., "finalized", height, digest] = words[..] {
                    let mut finalized = finalized.lock().unwrap();
                    let before = finalized.insert(height.parse().unwrap(), digest.to_owned());
                    assert!(
                        before.is_none_or(|before| before == digest),
                        "two blocks finalized at one height"
                    );
                }
            }
        });
        self.children[usize::from(node)] = Some(child);
    }

    /// `kill -9`.
    fn kill(&mut self, node: u8) {
        let mut child = self.children[usize::from(node)].take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn height(&self, node: u8) -> u64 {
        let finalized = self.finalized[usize::from(node)].lock().unwrap();
        finalized.last_key_value().map_or(0, |(height, _)| *height)
    }

    fn first(&self, node: u8) -> u64 {
        let finalized = self.finalized[usize::from(node)].lock().unwrap();
        finalized.first_key_value().map_or(0, |(height, _)| *height)
    }

    fn highest(&self) -> u64 {
        (0..=FOLLOWER).map(|node| self.height(node)).max().unwrap()
    }

    /// Waits until these nodes have reached a height.
    fn reach(&self, nodes: &[u8], height: u64) {
        let began = Instant::now();
        while nodes.iter().any(|node| self.height(*node) < height) {
            let heights: Vec<_> = (0..=FOLLOWER).map(|node| self.height(node)).collect();
            assert!(began.elapsed() < PATIENCE, "not at {height} in time: {heights:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks that all nodes have the same history, without gaps.
    fn check(&self) {
        let mut agreed = BTreeMap::new();
        for finalized in &self.finalized {
            let finalized = finalized.lock().unwrap();
            let first = finalized.first_key_value().map_or(1, |(first, _)| *first);
            for ((height, digest), expected) in finalized.iter().zip(first..) {
                assert_eq!(*height, expected, "a gap");
                let first = agreed.entry(*height).or_insert_with(|| digest.clone());
                assert_eq!(first, digest, "two histories at {height}");
            }
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_chain_continues_while_one_of_four_is_down_and_this_one_catches_up() {
    let mut network = Network::new();
    (0..VALIDATORS).for_each(|node| network.start(node));
    network.reach(&[0, 1, 2, 3], 20);
    network.kill(3);
    network.reach(&[0, 1, 2], network.highest() + TERM_BLOCKS);
    network.start(3);
    network.reach(&[3], network.highest());
    network.reach(&[0, 1, 2, 3], network.highest() + 20);
    network.check();
}

#[test]
fn a_chain_halts_while_two_of_four_are_down_and_resumes_with_three() {
    let mut network = Network::new();
    (0..VALIDATORS).for_each(|node| network.start(node));
    network.reach(&[0, 1, 2, 3], 20);
    network.kill(2);
    network.kill(3);
    thread::sleep(Duration::from_secs(1));
    let halted = network.highest();
    thread::sleep(Duration::from_secs(3));
    assert_eq!(network.highest(), halted, "two of four decided something");
    network.start(2);
    network.reach(&[0, 1, 2], halted + 20);
    network.check();
}

#[test]
fn a_late_follower_replays_the_history_of_a_short_chain() {
    let mut network = Network::new();
    (0..VALIDATORS).for_each(|node| network.start(node));
    network.reach(&[0, 1, 2, 3], TERM_BLOCKS + 10);
    network.start(FOLLOWER);
    network.reach(&[FOLLOWER], network.highest());
    network.reach(&[FOLLOWER], network.highest() + 20);
    network.check();
}

#[test]
fn a_late_follower_syncs_the_state_of_a_long_chain() {
    let mut network = Network::new();
    (0..VALIDATORS).for_each(|node| network.start(node));
    network.reach(&[0, 1, 2, 3], 2 * TERM_BLOCKS + 5);
    network.start(FOLLOWER);
    network.reach(&[FOLLOWER], network.highest() + 20);
    network.check();
    let first = network.first(FOLLOWER);
    assert!(first >= 2 * TERM_BLOCKS, "it executed from block {first}");
    // It restarts from its own disk like other nodes, and its folder is complete.
    network.kill(FOLLOWER);
    let dir = network.dir.path().join(FOLLOWER.to_string());
    let synced = verify(&dir, FOLLOWER).unwrap();
    assert_eq!(synced.first + 1, first, "{synced:?}");
    network.start(FOLLOWER);
    network.reach(&[FOLLOWER], network.highest() + 20);
    network.check();
    network.kill(0);
    let executed = verify(&network.dir.path().join("0"), 0).unwrap();
    assert_eq!(executed.first, 1, "{executed:?}");
}

fn start_here(dir: &Path, node: u8, ports: &[SocketAddr]) -> Handle {
    let queue = Arc::new(Queue::default());
    let pool = Arc::clone(&queue) as Arc<dyn Pool>;
    start(host(dir, node, ports), settings(node), pool, queue).unwrap()
}

#[test]
fn gossip_reaches_connected_nodes_with_its_sender() {
    let (dir, ports) = (tempfile::tempdir().unwrap(), free_addresses(VALIDATORS + 1));
    let start = |node: u8| start_here(&dir.path().join(node.to_string()), node, &ports);
    let (validator, follower) = (start(0), start(FOLLOWER));
    let mut messages = follower.take_gossip().expect("it was not taken");
    assert!(follower.take_gossip().is_none());
    let key = |node: u8| ConsensusSecret(queue::validator(node)).public();
    let began = Instant::now();
    while validator.connected() != [key(FOLLOWER)] || follower.connected() != [key(0)] {
        assert!(began.elapsed() < PATIENCE, "{:?}", validator.connected());
        thread::sleep(Duration::from_millis(50));
    }
    assert!(validator.gossip().send(b"hello".to_vec()));
    assert!(!validator.gossip().send(vec![0; soma_engine::GOSSIP_BYTES_MAX + 1]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let message = runtime.block_on(messages.recv()).unwrap();
    assert_eq!((message.from, message.bytes.as_slice()), (key(0), &b"hello"[..]));
}

//! What an operator is promised who runs two copies of one validator by mistake: they notice it by
//! themselves, one of them votes, and they never contradict each other. And what that costs a
//! validator that is only restarted.
#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed expectation fails the test, and times are told"
)]

mod machine;
mod queue;

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use machine::{copy_folder, free_addresses};
use queue::{Queue, genesis, settings, transfer, validator};
use soma_engine::{ConsensusSecret, Contacts, Handle, Host, Peer, Pool, Sink, start};

/// A term without one of four validators takes a minute on a busy machine.
const PATIENCE: Duration = Duration::from_mins(6);
const VALIDATORS: u8 = 4;
/// The validator that is run twice, and the place of its copy.
const TWICE: u8 = 3;
const COPY: u8 = 4;
/// How often the promise about two copies is tried; `SOMA_TWICE_RUNS` tries it more often.
const RUNS: u32 = 1;

struct Running {
    handle: Handle,
    queue: Arc<Queue>,
}

/// Nodes of a network of four and a copy of the last one, in one folder.
struct Network {
    dir: tempfile::TempDir,
    ports: Vec<SocketAddr>,
}

impl Network {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), ports: free_addresses(COPY + 1) }
    }

    fn folder(&self, place: u8) -> PathBuf {
        self.dir.path().join(place.to_string())
    }

    fn record(&self, place: u8) -> PathBuf {
        self.dir.path().join(format!("votes-{place}"))
    }

    /// Starts a node. It dials the last validator at its place or at that of its copy.
    fn start(&self, place: u8, last: u8) -> Running {
        let number = place.min(TWICE);
        let at = |node: u8| self.ports[usize::from(if node == TWICE { last } else { node })];
        let key = |node: u8| ConsensusSecret(validator(node)).public();
        let peer = |node: u8| Peer { key: key(node), address: Some(at(node).into()) };
        let host = Host {
            dir: self.folder(place),
            listen: self.ports[usize::from(place)],
            peers: (0..VALIDATORS).filter(|other| *other != number).map(peer).collect(),
            votes: self.record(place),
            contacts: Contacts::default(),
        };
        let queue = Arc::new(Queue::default());
        let settings = settings(genesis(VALIDATORS), number, 5, 20);
        let (pool, sink) = (Arc::clone(&queue) as Arc<dyn Pool>, Arc::clone(&queue));
        let handle = start(host, settings, pool, sink as Arc<dyn Sink>).unwrap();
        Running { handle, queue }
    }

    /// Copies the folder of the last validator, whether it runs or not.
    fn copy(&self) {
        fs::copy(self.record(TWICE), self.record(COPY)).unwrap();
        copy_folder(&self.folder(TWICE), &self.folder(COPY));
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

/// Whether a node signs votes: it has a seat all along.
fn votes(node: &Running) -> bool {
    let seen = node.handle.key_use();
    node.handle.watching().is_none() && seen.unleased.is_none() && seen.overtaken.is_none()
}

/// Waits until the network has finalized more blocks with payments in them.
fn progresses(nodes: &[&Running], nonce: &mut u64) {
    let chain = genesis(VALIDATORS).chain_id();
    let height = nodes[0].handle.tip().height;
    wait_for("blocks", || {
        for node in nodes {
            node.queue.add(transfer(chain, *nonce, 1));
            node.handle.wake();
        }
        *nonce += 1;
        nodes[0].handle.tip().height >= height + 20
    });
}

fn say(line: &str) {
    eprintln!("{line}");
}

/// Two copies run, then peers restart one after the other and connect to the one or the other, then
/// the first copy is gone.
fn try_twice(run: u32) {
    let network = Network::new();
    let mut nonce = 0;
    let mut peers: Vec<_> = (0..TWICE).map(|node| network.start(node, TWICE)).collect();
    let first = network.start(TWICE, TWICE);
    wait_for("blocks", || first.handle.tip().height >= 10 + u64::from(run));
    let first = if run.is_multiple_of(2) {
        // Copied while it ran.
        network.copy();
        first
    } else {
        first.handle.shutdown();
        network.copy();
        network.start(TWICE, TWICE)
    };
    wait_for("its vote", || votes(&first));
    let second = network.start(COPY, COPY);
    for place in 0..2 {
        progresses(&[&peers[usize::from(place)]], &mut nonce);
        assert!(!(votes(&first) && votes(&second)), "only one of them votes");
        let old = peers.remove(usize::from(place));
        old.handle.shutdown();
        peers.insert(usize::from(place), network.start(place, COPY));
        thread::sleep(Duration::from_millis(u64::from(run) * 397 % 5_000));
    }
    // A peer that restarts is connected to whichever of the two comes first, and a copy that nobody
    // is connected to notices nothing.
    let mut restarted = Instant::now();
    let told = wait_for("the copy notices", || {
        if restarted.elapsed() > Duration::from_mins(1) {
            peers.remove(0).handle.shutdown();
            peers.insert(0, network.start(0, COPY));
            restarted = Instant::now();
        }
        second.handle.key_use().other.is_some()
    });
    thread::sleep(Duration::from_secs(10));
    assert!(!(votes(&first) && votes(&second)), "only one of them votes");
    let which = if votes(&first) { "the first" } else { "the copy, or none of them" };
    first.handle.shutdown();
    let over = wait_for("the copy continues alone", || votes(&second));
    say(&format!("run {run}: told after {told:?}; {which} voted; taken over after {over:?}"));
    progresses(&[&peers[0]], &mut nonce);
    for node in peers.iter().chain([&second]) {
        let mut faults = node.handle.take_faults().unwrap();
        assert!(faults.try_recv().is_err(), "somebody contradicted itself");
    }
}

#[test]
fn two_copies_of_one_validator_notice_each_other_and_never_contradict_each_other() {
    let runs = std::env::var("SOMA_TWICE_RUNS").ok().and_then(|runs| runs.parse().ok());
    for run in 0..runs.unwrap_or(RUNS) {
        try_twice(run);
    }
}

#[test]
fn a_copy_made_a_moment_before_its_original_failed_learns_of_every_vote_since() {
    let network = Network::new();
    let mut nonce = 0;
    let peers: Vec<_> = (0..TWICE).map(|node| network.start(node, TWICE)).collect();
    let first = network.start(TWICE, TWICE);
    wait_for("its vote", || votes(&first) && first.handle.tip().height >= 10);
    network.copy();
    // Mostly less than the pause between two claims, in which a process says how far it voted. That
    // the vote itself is passed on is tested in `leases::witness`.
    let height = first.handle.tip().height;
    wait_for("votes that the copy lacks", || {
        first.queue.add(transfer(genesis(VALIDATORS).chain_id(), nonce, 1));
        first.handle.wake();
        nonce += 1;
        first.handle.tip().height >= height + 4
    });
    first.handle.shutdown();
    let copy = network.start(COPY, COPY);
    let told = wait_for("the copy learns", || copy.handle.key_use().overtaken.is_some());
    say(&format!("told after {told:?}"));
    assert!(!votes(&copy));
    progresses(&[&peers[0]], &mut nonce);
}

#[test]
fn a_restarted_validator_votes_within_seconds_and_so_does_a_network_of_which_all_restart() {
    let network = Network::new();
    let begun = Instant::now();
    let mut nodes: Vec<_> = (0..VALIDATORS).map(|node| network.start(node, TWICE)).collect();
    wait_for("a block", || nodes[0].handle.tip().height >= 1);
    say(&format!("a new network has its first block after {:?}", begun.elapsed()));
    wait_for("blocks", || nodes[0].handle.tip().height >= 10);
    for _ in 0..3 {
        nodes.pop().unwrap().handle.shutdown();
        let begun = Instant::now();
        nodes.push(network.start(TWICE, TWICE));
        wait_for("its vote", || votes(&nodes[3]));
        let took = begun.elapsed();
        say(&format!("a restarted validator votes again after {took:?}"));
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    for node in nodes {
        node.handle.shutdown();
    }
    let begun = Instant::now();
    let nodes: Vec<_> = (0..VALIDATORS).map(|node| network.start(node, TWICE)).collect();
    // What was finalized before the restart, and what the others must vote for again.
    let height = nodes.iter().map(|node| node.handle.tip().height).max().unwrap() + 2;
    wait_for("new blocks", || nodes[0].handle.tip().height > height);
    let took = begun.elapsed();
    say(&format!("a network of which all restarted continues after {took:?}"));
    assert!(took < Duration::from_secs(30), "{took:?}");
}

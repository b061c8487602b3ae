//! The cost of joining by state sync and by replay, in turn. A measurement, run by hand:
//! `cargo test --workspace --test join_cost -- --ignored --nocapture`.
#![expect(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod machine;
mod queue;

use std::{
    fs,
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use machine::free_addresses;
use queue::{ALICE, Queue, act, genesis, validator};
use soma_engine::{
    ConsensusSecret, Contacts, Handle, Host, Join, Peer, Pool, Settings, Sink, start,
};
use soma_protocol::{Action, Address, Amount, action};

const BLOCKS: u64 = 3_000;
const TRANSFERS_PER_BLOCK: u64 = 20;
const TURNS: u8 = 3;
const FOLLOWERS: u8 = 2 * TURNS;

fn host(dir: &Path, node: u8, ports: &[SocketAddr]) -> Host {
    let peer = |other: u8| Peer {
        key: ConsensusSecret(validator(other)).public(),
        address: (other == 0).then(|| ports[0].into()),
    };
    Host {
        dir: dir.join(node.to_string()),
        listen: ports[usize::from(node)],
        peers: (0..=FOLLOWERS).filter(|other| *other != node).map(peer).collect(),
        votes: dir.join(node.to_string()).join("votes"),
        contacts: Contacts::default(),
    }
}

fn settings(node: u8, join: Join) -> Settings {
    Settings { join, ..queue::settings(genesis(1), node, 1, 500) }
}

/// A chain of `BLOCKS` blocks, each of which creates accounts.
fn chain(dir: &Path, ports: &[SocketAddr]) -> (Handle, Arc<Queue>) {
    let (sender, blocks) = mpsc::channel();
    let queue = Queue::reporting(sender);
    let id = genesis(1).chain_id();
    let pool = Arc::clone(&queue) as Arc<dyn Pool>;
    let sink = Arc::clone(&queue) as Arc<dyn Sink>;
    let handle = start(host(dir, 0, ports), settings(0, Join::Auto), pool, sink).unwrap();
    let mut nonce = 0_u64;
    let mut load = || {
        for _ in 0..TRANSFERS_PER_BLOCK {
            let mut to = [7; 32];
            to[..8].copy_from_slice(&nonce.to_be_bytes());
            let pay = Action::Transfer(action::Transfer { to: Address(to), amount: Amount(1) });
            queue.add(act(id, ALICE, nonce, pay));
            nonce += 1;
        }
        handle.wake();
    };
    load();
    while blocks.recv().unwrap().height < BLOCKS {
        load();
    }
    (handle, queue)
}

fn bytes_in(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(Result::unwrap);
    let size = |entry: fs::DirEntry| {
        let data = entry.metadata().unwrap();
        if data.is_dir() { bytes_in(&entry.path()) } else { data.len() }
    };
    entries.map(size).sum()
}

#[test]
#[ignore = "a measurement that takes minutes"]
fn joining_by_state_sync_and_by_replay() {
    let dir = tempfile::tempdir().unwrap();
    let ports = free_addresses(FOLLOWERS + 1);
    let (validator, _queue) = chain(dir.path(), &ports);
    let tip = validator.tip();
    let mut out = std::io::stderr();
    writeln!(out, "{} blocks", tip.height).unwrap();
    for turn in 0..TURNS {
        for (join, node) in [(Join::State, 2 * turn + 1), (Join::Replay, 2 * turn + 2)] {
            let began = Instant::now();
            let queue: Arc<Queue> = Arc::default();
            let pool = Arc::clone(&queue) as Arc<dyn Pool>;
            let host = host(dir.path(), node, &ports);
            let follower = start(host, settings(node, join), pool, queue).unwrap();
            while follower.tip().height < tip.height {
                thread::sleep(Duration::from_millis(5));
            }
            let seconds = began.elapsed().as_secs_f64();
            let joined = follower.joined();
            drop(follower);
            let disk = bytes_in(&dir.path().join(node.to_string()).join("consensus"));
            writeln!(out, "{join:?}: {seconds:.1} s, {disk} bytes on disk, {joined:?}").unwrap();
        }
    }
}

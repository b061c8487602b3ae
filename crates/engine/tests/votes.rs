//! What a node is promised whose files are damaged, lost or older: it never votes twice, it never
//! stops at a file without naming it, and what stops it is what a check of its folder finds.
#![expect(clippy::unwrap_used, reason = "a failed expectation fails the test")]

mod machine;
mod queue;

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use machine::{copy_folder, free_addresses};
use queue::{Queue, genesis, settings, validator};
use soma_engine::{
    ConsensusSecret, Contacts, EngineError, Handle, Host, Peer, Pool, Remedy, Sink, TERM_BLOCKS,
    Verified, start, verify_store,
};

const PATIENCE: Duration = Duration::from_mins(2);
const VALIDATORS: u8 = 4;

fn key(node: u8) -> ConsensusSecret {
    ConsensusSecret(validator(node))
}

/// Nodes of a network of `validators` in one folder.
struct Network {
    dir: tempfile::TempDir,
    ports: Vec<SocketAddr>,
    validators: u8,
}

impl Network {
    fn new(validators: u8) -> Self {
        let ports = free_addresses(validators);
        Self { dir: tempfile::tempdir().unwrap(), ports, validators }
    }

    fn folder(&self, node: u8) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    /// The record of a node's votes, outside the folder of its chain.
    fn record(&self, node: u8) -> PathBuf {
        self.dir.path().join(format!("votes-{node}"))
    }

    fn start_in(&self, node: u8, folder: &Path) -> Result<Handle, EngineError> {
        let at = |node: u8| self.ports[usize::from(node)];
        let peer = |node: u8| Peer { key: key(node).public(), address: Some(at(node).into()) };
        let host = Host {
            dir: folder.to_path_buf(),
            listen: at(node),
            peers: (0..self.validators).filter(|other| *other != node).map(peer).collect(),
            votes: self.record(node),
            contacts: Contacts::default(),
        };
        let queue = Arc::new(Queue::default());
        let settings = settings(genesis(self.validators), node, 5, 20);
        start(host, settings, Arc::clone(&queue) as Arc<dyn Pool>, queue as Arc<dyn Sink>)
    }

    fn start(&self, node: u8) -> Handle {
        self.start_in(node, &self.folder(node)).unwrap()
    }

    fn verify_in(&self, node: u8, folder: &Path) -> Result<Verified, EngineError> {
        verify_store(folder, &genesis(self.validators), &self.record(node), &key(node))
    }

    fn journal(&self, node: u8, term: u64) -> PathBuf {
        self.folder(node).join("consensus").join(format!("soma-votes-{term}"))
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn a_validator_without_its_votes_watches_until_the_next_term_and_then_votes_again() {
    let network = Network::new(VALIDATORS);
    let mut nodes: Vec<_> = (0..VALIDATORS).map(|node| network.start(node)).collect();
    wait_for("blocks", || nodes[3].tip().height >= 10);
    let older = network.dir.path().join("older");
    let last = nodes.pop().unwrap();
    let height = last.tip().height;
    last.shutdown();
    copy_folder(&network.journal(3, 0), &older);
    assert!(network.verify_in(3, &network.folder(3)).is_ok());

    // An ordinary restart.
    let last = network.start(3);
    assert_eq!(last.watching(), None);
    // It needs leases before it votes again.
    wait_for("its leases", || last.tip().height > height && last.key_use().unleased.is_none());
    let height = last.tip().height;
    wait_for("blocks that it voted for", || last.tip().height >= height + 10);
    last.shutdown();

    // The journal of the first start comes back.
    fs::remove_dir_all(network.journal(3, 0)).unwrap();
    copy_folder(&older, &network.journal(3, 0));
    let found = network.verify_in(3, &network.folder(3));
    assert!(matches!(found, Err(EngineError::VotesLost(_))), "{found:?}");

    // It is lost altogether.
    fs::remove_dir_all(network.journal(3, 0)).unwrap();
    let last = network.start(3);
    let watching = last.watching().expect("it watches");
    assert_eq!((watching.term, watching.journal), (0, None));
    assert!(watching.voted.is_some_and(|view| view > 10), "{watching:?}");
    wait_for("the next term", || last.tip().height > TERM_BLOCKS);
    wait_for("its vote", || last.watching().is_none());
    // With another one down, every block of the network needs its vote.
    nodes.pop().unwrap().shutdown();
    let height = last.tip().height;
    wait_for("blocks that it voted for", || last.tip().height > height + 5);
}

#[test]
fn a_key_that_moved_without_its_record_watches() {
    let network = Network::new(VALIDATORS);
    let nodes: Vec<_> = (0..VALIDATORS).map(|node| network.start(node)).collect();
    wait_for("blocks", || nodes[3].tip().height >= 10);
    let mut nodes = nodes;
    nodes.pop().unwrap().shutdown();
    fs::remove_dir_all(network.journal(3, 0)).unwrap();
    fs::remove_file(network.record(3)).unwrap();
    let last = network.start(3);
    assert!(last.watching().is_some_and(|watching| watching.voted.is_none()));
    last.shutdown();
    let last = network.start(3);
    assert!(last.watching().is_some(), "a second restart changes nothing");
}

#[test]
fn the_only_validator_goes_on_without_its_votes() {
    let network = Network::new(1);
    let node = network.start(0);
    wait_for("blocks", || node.tip().height >= 10);
    let height = node.tip().height;
    node.shutdown();
    fs::remove_dir_all(network.journal(0, 0)).unwrap();
    let node = network.start(0);
    wait_for("more blocks", || {
        assert!(node.failure().is_none(), "{:?}", node.failure());
        node.tip().height > height + 5
    });
}

/// Every file of the folder, changed near its beginning and in its middle.
#[test]
fn whatever_stops_a_start_is_found_and_named_with_a_way_out() {
    let network = Network::new(1);
    let node = network.start(0);
    wait_for("blocks", || node.tip().height >= 3);
    node.shutdown();
    let whole = network.folder(0);
    assert!(network.verify_in(0, &whole).is_ok());
    let mut files = Vec::new();
    files_below(&whole.join("consensus"), &mut files);
    let record = fs::read(network.record(0)).unwrap();
    let mut stopped = 0;
    for file in files {
        let length = fs::metadata(&file).unwrap().len();
        let place = file.strip_prefix(&whole).unwrap();
        let partition = place.iter().nth(1).unwrap().to_string_lossy().into_owned();
        for at in [20, 4_100 + (length.saturating_sub(4_100)) / 2] {
            if at >= length {
                continue;
            }
            let folder = network.dir.path().join("damaged");
            copy_folder(&whole, &folder);
            let mut bytes = fs::read(&file).unwrap();
            bytes[usize::try_from(at).unwrap()] ^= 0xff;
            fs::write(folder.join(place), bytes).unwrap();
            let checked = network.verify_in(0, &folder);
            let started = network.start_in(0, &folder);
            if let Err(error) = &started {
                stopped += 1;
                assert!(checked.is_err(), "{place:?} at {at} stops the node only: {error}");
                let EngineError::Damaged { path, remedy, .. } = error else {
                    panic!("{place:?} at {at}: {error:?}");
                };
                let named = path.file_name().unwrap().to_string_lossy();
                let named = named.trim_end_matches('*');
                assert!(partition.starts_with(named), "{place:?}: {error}");
                let is_votes = partition.contains("votes");
                assert_eq!(*remedy == Remedy::Votes, is_votes, "{place:?}");
            }
            drop(started);
            fs::remove_dir_all(&folder).unwrap();
            fs::write(network.record(0), &record).unwrap();
        }
    }
    assert!(stopped > 10, "only {stopped} changes stopped the node");
}

#[test]
fn a_damaged_journal_of_votes_may_be_deleted() {
    let network = Network::new(1);
    let node = network.start(0);
    wait_for("blocks", || node.tip().height >= 5);
    node.shutdown();
    let journal = network.journal(0, 0);
    let mut files = Vec::new();
    files_below(&journal, &mut files);
    let mut bytes = fs::read(&files[0]).unwrap();
    bytes[20] ^= 0xff;
    fs::write(&files[0], bytes).unwrap();
    let refused = network.start_in(0, &network.folder(0));
    assert!(
        matches!(&refused, Err(EngineError::Damaged { path, remedy: Remedy::Votes, .. })
            if *path == journal),
        "{:?}",
        refused.err()
    );
    fs::remove_dir_all(journal).unwrap();
    assert!(network.start_in(0, &network.folder(0)).is_ok());
}

#[test]
fn a_node_that_nobody_admits_waits_and_joins_once_it_is_admitted() {
    let network = Network::new(2);
    let at = |node: u8| network.ports[usize::from(node)];
    let host = |node: u8, peers: Vec<Peer>| Host {
        dir: network.folder(node),
        listen: at(node),
        peers,
        votes: network.record(node),
        contacts: Contacts::default(),
    };
    let peer = |node: u8| Peer { key: key(node).public(), address: Some(at(node).into()) };
    let run = |host: Host, node: u8| {
        let queue = Arc::new(Queue::default());
        let settings = settings(genesis(1), node, 5, 20);
        start(host, settings, Arc::clone(&queue) as Arc<dyn Pool>, queue as Arc<dyn Sink>).unwrap()
    };
    let alone = run(host(0, Vec::new()), 0);
    let (sender, joined) = mpsc::channel();
    let waiting = host(1, vec![peer(0)]);
    let contacts = waiting.contacts.clone();
    thread::scope(|scope| {
        scope.spawn(|| sender.send(run(waiting, 1)).unwrap());
        wait_for("a refusal", || {
            contacts.all().get(&key(0).public()).is_some_and(|peer| peer.turned_away.is_some())
        });
        let early = joined.recv_timeout(Duration::from_secs(12));
        assert!(early.is_err(), "it does not begin at genesis");
        alone.shutdown();
        let admitting = run(host(0, vec![Peer { address: None, ..peer(1) }]), 0);
        let follower = joined.recv_timeout(PATIENCE).unwrap();
        let height = admitting.tip().height;
        wait_for("the chain", || follower.tip().height >= height);
    });
}

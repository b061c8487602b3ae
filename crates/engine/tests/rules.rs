//! A network of four whose validators vote for the next version of the rules, with real sockets and
//! disks. The next version is a rehearsal: nodes that execute it stand for a newer release.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failed expectation fails the test"
)]

mod machine;
mod queue;

use std::{
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use machine::free_addresses;
use queue::{ALICE, BOB, Queue, act, address, genesis, validator};
use soma_engine::{
    ConsensusSecret, Contacts, EngineError, Handle, Host, Join, Peer, Pool, Settings, Sink,
    TERM_BLOCKS, start,
};
use soma_protocol::{
    Action, Amount, Change, Defense, Epoch, Event, Genesis, GenesisAccount, ProposalId, RULES,
    Ruleset, StateRead, action, read, record::Clock,
};

const VALIDATORS: u8 = 4;
/// A node without a seat.
const NEWCOMER: u8 = VALIDATORS;
const PATIENCE: Duration = Duration::from_mins(3);
const NEXT: u16 = RULES.max + 1;
/// The release of before, and the one that executes the next rules as well.
const OLD: Ruleset = Ruleset::WHOLE;
const NEW: Ruleset = Ruleset::WHOLE.rehearsing(Defense::AdmissionFee);

/// Alice ends phases, and validators can pay for a proposal.
fn chain() -> Genesis {
    let mut genesis = genesis(VALIDATORS);
    genesis.operator = Some(address(ALICE));
    genesis.params.rules_notice_epochs = 1;
    let account =
        |node| GenesisAccount { address: address(validator(node)), balance: Amount::soma(10) };
    genesis.accounts.extend((0..VALIDATORS).map(account));
    genesis
}

/// Alice pays Bob.
fn pay(amount: u64) -> Action {
    Action::Transfer(action::Transfer { to: address(BOB), amount: Amount(amount) })
}

struct Network {
    genesis: Genesis,
    dir: tempfile::TempDir,
    ports: Vec<SocketAddr>,
    nodes: Vec<Option<(Handle, Arc<Queue>)>>,
}

impl Network {
    fn start(ruleset: Ruleset) -> Self {
        let mut network = Self {
            genesis: chain(),
            dir: tempfile::tempdir().unwrap(),
            ports: free_addresses(NEWCOMER + 1),
            nodes: (0..=NEWCOMER).map(|_| None).collect(),
        };
        (0..VALIDATORS).for_each(|node| network.run(node, ruleset).unwrap());
        network
    }

    fn folder(&self, node: u8) -> PathBuf {
        self.dir.path().join(node.to_string())
    }

    fn host(&self, node: u8) -> Host {
        let at = |node: u8| self.ports[usize::from(node)];
        let peer = |other: u8| Peer {
            key: ConsensusSecret(validator(other)).public(),
            address: (other != NEWCOMER).then(|| at(other).into()),
        };
        let dir = self.folder(node);
        Host {
            listen: at(node),
            peers: (0..=NEWCOMER).filter(|other| *other != node).map(peer).collect(),
            votes: dir.join("votes"),
            dir,
            contacts: Contacts::default(),
        }
    }

    /// Starts a node, or starts it again, with a release.
    fn run(&mut self, node: u8, ruleset: Ruleset) -> Result<(), EngineError> {
        self.stop(node);
        let settings = queue::settings(self.genesis.clone(), node, 5, 200);
        let join = if node == NEWCOMER { Join::State } else { Join::Auto };
        let settings = Settings { ruleset, join, ..settings };
        let queue = Arc::new(Queue::default());
        let (pool, sink) = (Arc::clone(&queue) as Arc<dyn Pool>, Arc::clone(&queue));
        let handle = start(self.host(node), settings, pool, sink as Arc<dyn Sink>)?;
        self.nodes[usize::from(node)] = Some((handle, queue));
        Ok(())
    }

    fn stop(&mut self, node: u8) {
        if let Some((handle, _)) = self.nodes[usize::from(node)].take() {
            handle.shutdown();
        }
    }

    fn handle(&self, node: u8) -> &Handle {
        &self.nodes[usize::from(node)].as_ref().unwrap().0
    }

    fn running(&self) -> impl Iterator<Item = &(Handle, Arc<Queue>)> {
        self.nodes.iter().flatten().filter(|(handle, _)| handle.failure().is_none())
    }

    /// Waits for the answer yes.
    fn until(&self, what: &str, question: impl Fn() -> bool) {
        let began = Instant::now();
        while !question() {
            let heights: Vec<_> =
                self.nodes.iter().flatten().map(|(handle, _)| handle.tip().height).collect();
            assert!(began.elapsed() < PATIENCE, "{what}: not in time, at {heights:?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until these nodes have this block.
    fn reach(&self, nodes: &[u8], height: u64) {
        let reached = |node: &u8| self.handle(*node).tip().height >= height;
        self.until(&format!("block {height}"), || nodes.iter().all(reached));
    }

    /// What the running node with the most blocks says of its state.
    fn read<T>(&self, question: impl FnOnce(&dyn StateRead) -> T) -> T {
        let newest = self.running().max_by_key(|(handle, _)| handle.tip().height);
        newest.unwrap().0.read(|state, _| question(state))
    }

    fn offer(&self, of: [u8; 32], nonce: u64, action: &Action) {
        let transaction = act(self.genesis.chain_id(), of, nonce, action.clone());
        for (handle, queue) in self.running() {
            queue.add(transaction.clone());
            handle.wake();
        }
    }

    /// Sends a payment of somebody, and waits until a running node has finalized it.
    fn send(&self, of: [u8; 32], action: &Action) {
        let nonce = || self.read(|state| read::account(state, &address(of)).nonce);
        let before = nonce();
        self.offer(of, before, action);
        self.until(action.name(), || nonce() > before);
    }

    /// Ends phases until this epoch begins.
    fn go_to(&self, epoch: u32) {
        let clock = || self.read(|state| read::clock(state));
        while clock().epoch < Epoch(epoch) {
            let Clock { epoch, phase, .. } = clock();
            self.offer(ALICE, 0, &Action::EndPhase(action::EndPhase { epoch, phase }));
            self.until("a phase ends", || {
                let now = clock();
                (now.epoch, now.phase) != (epoch, phase)
            });
        }
    }

    /// Three of four validators vote for the next rules, which are scheduled as epoch 2 begins.
    fn vote(&self) {
        let change = Change::Rules { version: NEXT };
        self.send(validator(0), &Action::Propose(action::Propose { change }));
        for node in 0..3 {
            let vote = action::Vote { proposal: ProposalId(1), approve: true };
            self.send(validator(node), &Action::Vote(vote));
        }
        self.go_to(2);
        let next = self.read(|state| read::rules(state).next).unwrap();
        assert_eq!((next.version, next.from), (NEXT, Epoch(3)));
    }

    /// Upgrades validators one by one; blocks follow each other meanwhile.
    fn upgrade(&mut self, nodes: Range<u8>) {
        for node in nodes {
            self.run(node, NEW).unwrap();
            let height = self.handle(VALIDATORS - 1).tip().height;
            self.reach(&[0, 1, 2, 3], height + 3);
        }
    }

    /// The last block under the rules of before, of which a node has a later one.
    fn boundary(&self, node: u8) -> u64 {
        let changed = Event::RulesChanged { rules: NEXT };
        let events = self.handle(node).history().events(1.., usize::MAX).unwrap();
        let found = events.into_iter().find(|record| record.event == changed);
        found.expect("the rules have changed").height
    }

    /// Waits until a node has stopped because of other rules; returns its last block.
    fn stopped(&self, node: u8) -> u64 {
        let handle = self.handle(node);
        self.until("a node stops", || handle.failure().is_some());
        last_block(&handle.failure().unwrap())
    }

    /// All running nodes have the same blocks.
    fn check(&self) {
        let handles: Vec<_> = self.running().map(|(handle, _)| handle).collect();
        let last = handles.iter().map(|handle| handle.history().height().unwrap()).min().unwrap();
        for height in 1..=last {
            let digest = |handle: &&Handle| {
                handle.history().block(height).unwrap().map(|block| block.digest)
            };
            let found: Vec<_> = handles.iter().filter_map(digest).collect();
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "two histories at {height}");
        }
    }
}

/// The last block that a node without the next rules executes.
fn last_block(error: &EngineError) -> u64 {
    match error {
        EngineError::OtherRules { height, version: NEXT, executed: RULES } => *height,
        error => panic!("{error}"),
    }
}

#[test]
fn a_network_is_upgraded_one_by_one_and_only_a_node_that_is_not_stops_at_the_boundary() {
    let mut network = Network::start(OLD);
    network.vote();
    network.upgrade(0..3);
    network.go_to(3);
    let boundary = network.stopped(3);
    assert_eq!(boundary, network.boundary(0));
    assert_eq!(network.handle(3).tip().height, boundary, "it has the last block that it executes");
    network.reach(&[0, 1, 2], boundary + 5);

    // The same release says the same at once, as often as it is started, and changes nothing.
    for _ in 0..2 {
        assert_eq!(last_block(&network.run(3, OLD).unwrap_err()), boundary);
    }
    // The newer one continues there, and votes: without it, two of four would decide nothing.
    network.run(3, NEW).unwrap();
    network.reach(&[3], network.handle(0).tip().height);
    network.stop(0);
    network.reach(&[1, 2, 3], network.handle(1).tip().height + TERM_BLOCKS / 8);
    network.check();
}

#[test]
fn a_network_that_nobody_upgrades_halts_at_the_boundary_and_continues_with_a_quorum_that_is() {
    let mut network = Network::start(OLD);
    network.send(ALICE, &pay(7));
    network.vote();
    network.go_to(3);
    let boundary = network.stopped(0);
    for node in 1..VALIDATORS {
        assert_eq!(network.stopped(node), boundary);
        assert!(network.handle(node).tip().height <= boundary, "nobody decided a block after it");
    }
    for node in 0..3 {
        network.run(node, NEW).unwrap();
    }
    network.reach(&[0, 1, 2], boundary + 5);
    assert_eq!(network.boundary(0), boundary);
    network.run(3, NEW).unwrap();
    network.reach(&[3], boundary + 5);
    let bob = network.handle(3).read(|state, _| read::account(state, &address(BOB)).balance);
    assert_eq!(bob, Amount(7), "nothing is lost");
    network.check();
}

#[test]
fn a_network_of_which_half_is_upgraded_halts_and_continues_once_the_others_are() {
    let mut network = Network::start(OLD);
    network.vote();
    network.upgrade(0..2);
    network.go_to(3);
    let boundary = network.stopped(2);
    assert_eq!(network.stopped(3), boundary);
    // Those that are upgraded have proposed blocks that the others have seen.
    thread::sleep(Duration::from_secs(3));
    for node in 2..VALIDATORS {
        network.run(node, NEW).unwrap();
    }
    network.reach(&[0, 1, 2, 3], boundary + 5);
    network.check();
}

#[test]
fn a_newcomer_without_the_rules_of_a_chain_is_told_before_it_fetches_a_state() {
    let mut network = Network::start(NEW);
    network.vote();
    network.go_to(3);
    let mut nonce = network.handle(0).read(|state, _| read::account(state, &address(ALICE)).nonce);
    while network.handle(0).tip().height < TERM_BLOCKS + 20 {
        network.offer(ALICE, nonce, &pay(1));
        nonce += 1;
        thread::sleep(Duration::from_millis(30));
    }
    let last = last_block(&network.run(NEWCOMER, OLD).unwrap_err());
    assert!((last + 1).is_multiple_of(TERM_BLOCKS), "{last} is not the last block of a term");
    assert!(!state_was_fetched(&network.folder(NEWCOMER)));
    network.run(NEWCOMER, NEW).unwrap();
    let joined = network.handle(NEWCOMER).joined().unwrap();
    assert!(joined.height >= TERM_BLOCKS - 1);
    network.reach(&[NEWCOMER], network.handle(0).tip().height);
    network.check();
}

/// Whether a folder has any operation of a state.
fn state_was_fetched(dir: &Path) -> bool {
    let partitions = std::fs::read_dir(dir.join("consensus")).unwrap();
    let names = partitions.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.into_iter().any(|name| name.contains("state"))
}

//! A chain of one validator: order, speed, and durability of finalized blocks.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation fails the test")]

mod queue;

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use queue::{ALICE, BOB, Queue, address, genesis, settings, transfer, validator};
use soma_engine::{
    ConsensusSecret, Contacts, EngineError, FinalizedBlock, Handle, Host, Pool, Sink, Verified,
    start, verify_store,
};
use soma_protocol::{Amount, Hash, SignedTransaction, read};
use soma_store::{StoreError, history::Subject};

const FOLDER: &str = "SOMA_TEST_FOLDER";

fn pay(nonce: u64, amount: u64) -> SignedTransaction {
    transfer(genesis(1).chain_id(), nonce, amount)
}

fn host(dir: &Path) -> Host {
    Host {
        dir: dir.to_path_buf(),
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        peers: Vec::new(),
        votes: dir.join("votes"),
        contacts: Contacts::default(),
    }
}

fn verify(dir: &Path) -> Result<Verified, EngineError> {
    verify_store(dir, &genesis(1), &dir.join("votes"), &ConsensusSecret(validator(0)))
}

struct Chain {
    handle: Handle,
    queue: Arc<Queue>,
    blocks: mpsc::Receiver<FinalizedBlock>,
}

impl Chain {
    fn start(dir: &Path, block_ms: u64, idle_block_ms: u64) -> Self {
        let (sender, blocks) = mpsc::channel();
        let queue = Queue::reporting(sender);
        let pool = Arc::clone(&queue) as Arc<dyn Pool>;
        let sink = Arc::clone(&queue) as Arc<dyn Sink>;
        let handle =
            start(host(dir), settings(genesis(1), 0, block_ms, idle_block_ms), pool, sink).unwrap();
        Self { handle, queue, blocks }
    }

    fn send(&self, transaction: SignedTransaction) -> Hash {
        let hash = self.queue.add(transaction);
        self.handle.wake();
        hash
    }

    /// Waits for the block with this transaction.
    fn wait(&self, hash: Hash) -> FinalizedBlock {
        loop {
            let block = self.blocks.recv_timeout(Duration::from_secs(20)).expect("a block in time");
            if block.receipts.iter().any(|receipt| receipt.hash == hash) {
                return block;
            }
        }
    }

    fn nonce(&self) -> u64 {
        self.handle.read(|state, _| read::account(state, &address(ALICE)).nonce)
    }

    fn balance(&self, of: [u8; 32]) -> u64 {
        self.handle.read(|state, _| read::account(state, &address(of)).balance.0)
    }
}

#[test]
fn a_chain_of_one_orders_transfers_and_keeps_their_history() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::start(dir.path(), 10, 1_000);
    assert_eq!(chain.balance(ALICE), Amount::soma(1_000).0);
    let hashes: Vec<_> = (0..5).map(|nonce| chain.send(pay(nonce, 1_000 + nonce))).collect();
    let last = chain.wait(hashes[4]);
    assert_eq!(chain.balance(BOB), 5_010);
    let history = chain.handle.history();
    for (nonce, hash) in hashes.iter().enumerate() {
        let found = history.transaction(hash).unwrap().expect("it is finalized");
        assert_eq!(found.receipt.result, Ok(()));
        assert_eq!(found.transaction, pay(nonce as u64, 1_000 + nonce as u64));
        let block = history.block(found.height).unwrap().expect("its block is stored");
        assert_eq!(history.block_by_digest(&block.digest).unwrap(), Some(block));
    }
    assert_eq!(history.block(last.height).unwrap().unwrap().digest, last.digest);
    let page = history.transactions_of_sender(&address(ALICE), false, None, 2).unwrap().items;
    assert_eq!(
        page.iter().map(|found| found.receipt.hash).collect::<Vec<_>>(),
        [hashes[4], hashes[3]]
    );
    let before = Some((page[1].height, page[1].index));
    let next = history.transactions_of_sender(&address(ALICE), false, before, 10).unwrap();
    assert_eq!((next.items.len(), next.more), (3, false));
    let events = history.events(1.., 1_000).unwrap();
    assert_eq!(events.last().unwrap().sequence, history.last_event().unwrap());
    let bobs = history.events_of(Subject::Account(address(BOB)), None, 1_000).unwrap();
    assert_eq!(bobs.len(), 5, "{bobs:?}");
    assert!(bobs.is_sorted_by(|a, b| a.sequence > b.sequence));
}

#[test]
fn blocks_slow_down_without_transactions_and_a_transaction_ends_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::start(dir.path(), 10, 3_000);
    chain.wait(chain.send(pay(0, 1)));
    std::thread::sleep(Duration::from_millis(700));
    assert!(chain.blocks.try_iter().count() <= 1, "an idle chain makes few blocks");
    let began = Instant::now();
    chain.wait(chain.send(pay(1, 1)));
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[test]
fn an_idle_chain_still_makes_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::start(dir.path(), 10, 100);
    let heights: Vec<_> = chain.blocks.iter().take(5).map(|block| block.height).collect();
    assert_eq!(heights, [1, 2, 3, 4, 5]);
}

#[test]
fn verification_accepts_a_complete_folder_and_rejects_a_changed_one() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::start(dir.path(), 5, 100);
    for nonce in 0..30 {
        chain.wait(chain.send(pay(nonce, 7)));
    }
    let height = chain.handle.history().height().unwrap();
    let refused = verify(dir.path());
    assert!(matches!(refused, Err(EngineError::Store(StoreError::InUse { .. }))), "{refused:?}");
    chain.handle.shutdown();
    let verified = verify(dir.path()).unwrap();
    assert!(verified.blocks >= height && verified.history >= height);
    assert!(verified.state <= verified.blocks && verified.certificates > 0);

    // Flip one bit of a stored block.
    let blocks = dir.path().join("consensus").join("soma-blocks-values");
    let file = std::fs::read_dir(blocks).unwrap().next().unwrap().unwrap();
    let mut bytes = std::fs::read(file.path()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file.path(), bytes).unwrap();
    let changed = verify(dir.path());
    assert!(changed.is_err(), "{changed:?}");
}

#[test]
fn a_second_process_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::start(dir.path(), 50, 1_000);
    let queue = Arc::new(Queue::default());
    let second = start(
        host(dir.path()),
        settings(genesis(1), 0, 50, 1_000),
        Arc::clone(&queue) as Arc<dyn Pool>,
        queue,
    );
    assert!(matches!(second, Err(EngineError::Store(StoreError::InUse { .. }))), "{second:?}");
    drop(chain);
    Chain::start(dir.path(), 50, 1_000);
}

#[test]
fn a_folder_of_another_chain_and_a_port_in_use_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(Chain::start(dir.path(), 50, 1_000));
    let queue = Arc::new(Queue::default());
    let mut other = genesis(1);
    other.chain = "other".into();
    let refused = start(
        host(dir.path()),
        settings(other, 0, 50, 1_000),
        Arc::clone(&queue) as Arc<dyn Pool>,
        Arc::clone(&queue) as Arc<dyn Sink>,
    );
    assert!(
        matches!(refused, Err(EngineError::Store(StoreError::OtherChain { .. }))),
        "{refused:?}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut host = host(dir.path());
    host.listen = taken.local_addr().unwrap();
    let pool = Arc::clone(&queue) as Arc<dyn Pool>;
    let refused = start(host, settings(genesis(1), 0, 50, 1_000), pool, queue);
    assert!(matches!(refused, Err(EngineError::Listen { .. })), "{refused:?}");
}

#[test]
fn a_lost_history_is_rebuilt_from_the_blocks() {
    let dir = tempfile::tempdir().unwrap();
    let chain = Chain::start(dir.path(), 10, 200);
    for nonce in 0..20 {
        chain.wait(chain.send(pay(nonce, 7)));
    }
    let height = chain.handle.history().height().unwrap();
    let before: Vec<_> =
        (1..=height).map(|height| chain.handle.history().block(height).unwrap()).collect();
    let events = chain.handle.history().events(1.., usize::MAX).unwrap();
    chain.handle.shutdown();
    std::fs::remove_file(dir.path().join("history.redb")).unwrap();

    let chain = Chain::start(dir.path(), 10, 200);
    let history = chain.handle.history();
    let after: Vec<_> = (1..=height).map(|height| history.block(height).unwrap()).collect();
    assert_eq!(before, after);
    assert_eq!(history.events(1..=events.len() as u64, usize::MAX).unwrap(), events);
    assert_eq!(chain.balance(BOB), 140);
}

/// The child process of the next tests: a node under load that prints what is finalized, until it
/// is killed or cannot continue.
#[test]
fn child_under_load() {
    let Some(dir) = std::env::var_os(FOLDER) else {
        return;
    };
    let chain = Chain::start(Path::new(&dir), 5, 500);
    let mut stdout = std::io::stdout();
    let mut next = chain.nonce();
    let mut load = |transactions: usize| {
        for _ in 0..transactions {
            chain.queue.add(pay(next, 1));
            next += 1;
        }
        chain.handle.wake();
    };
    load(64);
    while let Ok(block) = chain.blocks.recv_timeout(Duration::from_secs(5)) {
        for receipt in &block.receipts {
            let FinalizedBlock { height, digest, .. } = block;
            writeln!(stdout, "delivered {} {height} {digest}", receipt.hash).unwrap();
        }
        stdout.flush().unwrap();
        load(block.receipts.len());
    }
    if let Some(failure) = chain.handle.failure() {
        writeln!(stdout, "failed {failure}").unwrap();
    }
}

/// What child processes reported as finalized: transaction, height, block.
#[derive(Default)]
struct Acknowledged(HashMap<String, (u64, String)>);

impl Acknowledged {
    /// Records a line of a child; returns whether it reports a transaction.
    fn note(&mut self, line: &str) -> bool {
        let words: Vec<_> = line.split_whitespace().collect();
        let [.., "delivered", hash, height, digest] = words[..] else {
            return false;
        };
        if !line.ends_with('\n') {
            return false;
        }
        let place = (height.parse().unwrap(), digest.to_owned());
        let earlier = self.0.insert(hash.to_owned(), place.clone());
        assert!(earlier.is_none_or(|earlier| earlier == place), "finalized in two blocks");
        true
    }

    /// Restarts the chain and checks that all of it is still stored and that new blocks are made.
    fn check(&self, dir: &Path) {
        let chain = Chain::start(dir, 10, 100);
        let history = chain.handle.history();
        for (hash, (height, digest)) in &self.0 {
            let found = history.transaction(&hash.parse().unwrap()).unwrap().expect("still stored");
            assert_eq!((found.height, Ok(())), (*height, found.receipt.result));
            assert_eq!(history.block(*height).unwrap().unwrap().digest.to_string(), *digest);
        }
        // Every transfer moved one unit, and every nonce moved once.
        let nonce = chain.nonce();
        assert_eq!(chain.balance(BOB), nonce);
        assert!(nonce >= self.0.len() as u64);
        let block = chain.wait(chain.send(pay(nonce, 1)));
        assert!(self.0.values().all(|(height, _)| *height < block.height));
    }
}

fn spawn_child(mut command: Command, dir: &Path) -> (Child, BufReader<ChildStdout>) {
    command.env(FOLDER, dir).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap());
    (child, lines)
}

#[test]
fn a_chain_killed_at_any_moment_keeps_everything_it_reported_as_finalized() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    let child = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["child_under_load", "--exact", "--nocapture"]);
        spawn_child(command, dir.path())
    };
    // Kill it during its first start and during restarts.
    for round in 0..8 {
        let (mut child, mut lines) = child();
        std::thread::sleep(Duration::from_millis(23 * round));
        child.kill().unwrap();
        let mut line = String::new();
        while lines.read_line(&mut line).unwrap() > 0 {
            acknowledged.note(&line);
            line.clear();
        }
        child.wait().unwrap();
    }
    for round in 0..6u64 {
        let (mut child, mut lines) = child();
        // The moment of the kill does not depend on what the node is doing.
        let enough = 30 + 17 * round;
        let (mut line, mut seen) = (String::new(), 0);
        while lines.read_line(&mut line).unwrap() > 0 {
            seen += u64::from(acknowledged.note(&line));
            line.clear();
            if seen == enough {
                std::thread::sleep(Duration::from_micros(1_700 * round));
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= enough, "the child ended by itself after {seen}");
    }
    acknowledged.check(dir.path());
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_stops_the_node_with_the_reason_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::default();
    // A limit on file size looks like a full disk, and affects only this process.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 5000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["child_under_load", "--exact", "--nocapture"]);
    let (mut child, mut lines) = spawn_child(command, dir.path());
    let (mut line, mut failure) = (String::new(), String::new());
    while lines.read_line(&mut line).unwrap() > 0 {
        acknowledged.note(&line);
        if let Some((_, reason)) = line.split_once("failed ") {
            reason.clone_into(&mut failure);
        }
        line.clear();
    }
    child.wait().unwrap();
    let reason = "the disk accepts no more data: File too large";
    assert!(failure.starts_with(reason), "{failure}");
    assert!(!acknowledged.0.is_empty());
    acknowledged.check(dir.path());
}

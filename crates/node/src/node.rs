//! A running validator: the engine, the pool, the files, the API and the duties, started together and stopped together.
//!
//! Data flows one way: transactions enter the pool, the engine orders them, and what is final wakes those who follow. It must
//! never act on anything but final state, nor lose what was final when it is killed.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use soma_engine::{FinalizedBlock, Handle, JoinProgress, Joined, Sink};
use soma_os::clock::now_ms;
use soma_protocol::evidence::Evidence;
use soma_protocol::record::ModelStatus;
use soma_protocol::{
    Address, Amount, Genesis, Hash, SecretKey, SignedTransaction, StateRead, invariants, read,
};
use soma_sdk::Client;
use soma_sdk::api::Supply;
use soma_store::History;
use tokio::sync::{mpsc, watch};

use crate::audit::{self, Auditor, Audits};
use crate::bell::Bell;
use crate::config::NodeConfig;
use crate::error::NodeError;
use crate::folder::chain_dir;
use crate::gossip::{self, Outbox};
use crate::http::{Admission, ClientLimits};
use crate::mempool::{Mempool, Refusal, Screened};
use crate::metrics::Metrics;
use crate::weights::{Needed, WeightsStore};
use crate::{duties, fetch, http};

/// Time that open requests have to end when the node stops.
const GRACE: Duration = Duration::from_secs(2);

/// What wakes when a block is final.
#[derive(Debug)]
pub(crate) struct Follow {
    pool: Mempool,
    metrics: Arc<Metrics>,
    heights: watch::Sender<u64>,
    told: Mutex<Option<Told>>,
    /// Heard by the duties.
    pub(crate) bell: Bell,
}

impl Sink for Follow {
    fn finalized(&self, block: FinalizedBlock) {
        self.pool.finalized(&block.transactions, block.timestamp_ms);
        self.metrics.blocks_final.add(1);
        self.metrics
            .transactions_final
            .add(block.transactions.len() as u64);
        // After a start the last blocks come again.
        self.heights
            .send_modify(|height| *height = block.height.max(*height));
        self.bell.ring();
    }

    fn joining(&self, joining: JoinProgress) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = Told::of(joining);
        if told.is_none_or(|told| told.is_older_than(&news)) {
            *told = Some(news);
            tracing::info!("{}", describe(joining));
        }
    }

    fn joined(&self, joined: &Joined) {
        tracing::info!(
            height = joined.height,
            digest = %joined.digest,
            state_root = %joined.state_root,
            handovers = joined.handovers,
            operations = joined.operations,
            bytes = joined.bytes,
            refused = joined.refused,
            "joined: every handover between committees from genesis on, the certificate of this block, and every part of its state \
             were checked"
        );
    }
}

/// What was said last of a join.
#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    /// Asking, walking, getting the state.
    step: u8,
}

impl Told {
    fn of(joining: JoinProgress) -> Self {
        let step = match joining {
            JoinProgress::Asking => 0,
            JoinProgress::Committees { .. } => 1,
            _ => 2,
        };
        let at = Instant::now();
        Self { at, step }
    }

    /// Whether news are worth a line.
    fn is_older_than(self, news: &Self) -> bool {
        self.step != news.step || news.at.duration_since(self.at) > Duration::from_secs(1)
    }
}

/// How far a join is, for people.
fn describe(joining: JoinProgress) -> String {
    match joining {
        JoinProgress::Committees { handovers, term } => {
            format!(
                "joining: {handovers} handovers between committees are checked, up to term {term}"
            )
        }
        JoinProgress::State {
            height,
            operations,
            of,
            bytes,
        } => {
            let percent = operations.saturating_mul(100) / of.max(1);
            let all = u128::from(bytes) * u128::from(of) / u128::from(operations.max(1));
            let (come, all) = (bytes / 1_000_000, all / 1_000_000);
            format!("joining: state of block {height}: {percent} % ({come} of about {all} MB)")
        }
        _ => "joining: the peers are asked what they have".to_owned(),
    }
}

/// What was counted over the whole state, and when.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    height: u64,
    pub(crate) supply: Supply,
    pub(crate) models_active: u32,
    at: Instant,
    cost: Duration,
}

/// Counting takes at most one part in so many of a node's time.
const COUNTED_SHARE: u32 = 50;
/// Time without a final block after which a node says that it is not ready.
const STILL_MAX_MS: u64 = 30_000;

/// What the parts of a node share.
pub(crate) struct Shared {
    pub(crate) genesis: Genesis,
    pub(crate) chain: Hash,
    /// The validator's key and address.
    pub(crate) key: SecretKey,
    pub(crate) address: Address,
    pub(crate) history: Arc<History>,
    pub(crate) pool: Mempool,
    pub(crate) weights: Arc<WeightsStore>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) follow: Arc<Follow>,
    pub(crate) audits: Audits,
    counted: Mutex<Option<Counted>>,
    closing: AtomicBool,
    /// What other nodes should hear of; none when there are none.
    outbox: Option<Outbox>,
    /// How many other nodes it knows.
    peers: usize,
    engine: Handle,
}

impl Shared {
    /// Reads the state after the last final block, and its height. `question` must be short: no block becomes final meanwhile.
    pub(crate) fn read<T>(&self, question: impl FnOnce(&dyn StateRead, u64) -> T) -> T {
        self.engine.read(question)
    }

    /// What consensus finds against validators, for one listener.
    pub(crate) fn faults(&self) -> Option<mpsc::Receiver<Evidence>> {
        self.engine.take_faults()
    }

    /// Height of the last final block in the history.
    pub(crate) fn height(&self) -> u64 {
        *self.follow.heights.borrow()
    }

    /// Changes with every final block, and when the node closes.
    pub(crate) fn heights(&self) -> watch::Receiver<u64> {
        self.follow.heights.subscribe()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Waits until the node closes.
    pub(crate) async fn closed(&self) {
        let mut heights = self.heights();
        while !self.is_closed() && heights.changed().await.is_ok() {}
    }

    fn close(&self) {
        self.closing.store(true, Ordering::Release);
        self.follow.heights.send_modify(|_| ());
        self.follow.bell.ring();
        self.audits.bell.ring();
    }

    /// Takes transactions into the pool, and tells the engine and the other nodes; answers in the same order.
    pub(crate) fn admit(&self, transactions: Vec<SignedTransaction>) -> Vec<Result<Hash, Refusal>> {
        let screened = self.screen(transactions);
        let told = |one: &Screened| match (one, &self.outbox) {
            (Screened::Unverified(transaction), Some(_)) => Some(transaction.encode()),
            _ => None,
        };
        let news: Vec<_> = screened.iter().map(told).collect();
        let answers = self.enter(screened);
        for (answer, news) in answers.iter().zip(news) {
            if let (Ok(_), Some(outbox), Some(transaction)) = (answer, &self.outbox, news) {
                outbox.put(transaction);
            }
        }
        answers
    }

    /// Takes transactions of another node into the pool: every node hears of them from there.
    pub(crate) fn hear(&self, transactions: Vec<SignedTransaction>) {
        if !transactions.is_empty() {
            let screened = self.screen(transactions);
            self.enter(screened);
        }
    }

    fn screen(&self, transactions: Vec<SignedTransaction>) -> Vec<Screened> {
        self.read(|state, _| self.pool.screen(transactions, state, now_ms()))
    }

    /// Signatures are checked while the state is free: blocks become final meanwhile.
    fn enter(&self, screened: Vec<Screened>) -> Vec<Result<Hash, Refusal>> {
        let answers = self.pool.enter(screened);
        let admitted = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        self.metrics.transactions_admitted.add(admitted);
        self.metrics
            .transactions_refused
            .add(answers.len() as u64 - admitted);
        self.engine.wake();
        answers
    }

    /// Asks the state again which files are needed.
    pub(crate) fn follow_files(&self) {
        self.weights.follow(self.read(|state, _| Needed::of(state)));
    }

    /// What is counted over the whole state. Nothing becomes final meanwhile, so it is counted again only when the state has
    /// changed and a counting's time has passed [`COUNTED_SHARE`] times since.
    pub(crate) fn counted(&self) -> Counted {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let height = self.height();
        if let Some(last) = counted.as_ref()
            && (last.height == height || last.at.elapsed() < last.cost * COUNTED_SHARE)
        {
            return last.clone();
        }
        let begun = Instant::now();
        let (height, supply, models_active) = self.engine.inspect(|state, height| {
            let nobody = |_| Amount::ZERO;
            let held = invariants::check(state).map_or_else(nobody, |holdings| {
                holdings
                    .total()
                    .less(holdings.reserve)
                    .less(holdings.burned)
            });
            let active = read::models(state, 1..=u32::MAX)
                .filter(|model| model.status == ModelStatus::Active)
                .count();
            (height, http::supply(state, held), active)
        });
        let fresh = Counted {
            height,
            supply,
            models_active: u32::try_from(models_active).unwrap_or(u32::MAX),
            at: Instant::now(),
            cost: begun.elapsed(),
        };
        *counted = Some(fresh.clone());
        fresh
    }

    /// The length of a ciphertext that the chain needs.
    ///
    /// # Errors
    /// [`NodeError::CommitNotFound`] when it needs no such file.
    pub(crate) fn needed_bytes(&self, ciphertext_hash: &Hash) -> Result<u64, NodeError> {
        let known = self.weights.size_bytes(ciphertext_hash);
        // What became final a moment ago may not have reached the files' list.
        let asked = known.or_else(|| {
            self.follow_files();
            self.weights.size_bytes(ciphertext_hash)
        });
        asked.ok_or(NodeError::CommitNotFound {
            hash: *ciphertext_hash,
        })
    }

    /// A file became whole: the duties attest it.
    pub(crate) fn file_arrived(&self) {
        self.follow.bell.ring();
    }

    /// Why the node cannot go on, if it cannot.
    pub(crate) fn stopped(&self) -> Option<String> {
        if self.is_closed() {
            return Some("the node is stopping".to_owned());
        }
        self.engine.failure().map(|failure| failure.to_string())
    }

    /// Why the node cannot serve well, if it cannot.
    pub(crate) fn unready(&self) -> Option<String> {
        if let Some(why) = self.stopped() {
            return Some(why);
        }
        let age_ms = self
            .block_age_ms()
            .filter(|age_ms| *age_ms > STILL_MAX_MS)?;
        let seconds = age_ms / 1000;
        let why = match (self.peers, self.engine.connected().len()) {
            (0, _) => "it cannot make blocks; its log says why".to_owned(),
            (named, 0) => format!("none of the {named} nodes it knows is connected"),
            (named, connected) => format!(
                "{connected} of the {named} nodes it knows are connected; the network has halted, or this node is catching up"
            ),
        };
        Some(format!("the last final block is {seconds} s old: {why}"))
    }

    /// How old the last final block is, by this machine's clock; none before the first.
    pub(crate) fn block_age_ms(&self) -> Option<u64> {
        let block = self.history.block(self.height()).ok().flatten()?;
        Some(now_ms().saturating_sub(block.timestamp_ms))
    }

    /// Other nodes that are connected.
    pub(crate) fn connected(&self) -> usize {
        self.engine.connected().len()
    }

    /// The engine's own measurements, as Prometheus text.
    pub(crate) fn engine_metrics(&self) -> String {
        self.engine.metrics()
    }
}

/// A running validator. Dropping it stops it.
pub struct Node {
    url: String,
    api: SocketAddr,
    shared: Option<Arc<Shared>>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Node")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Node {
    /// Where its API answers, as in `http://127.0.0.1:8645`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its API listens.
    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Why the node stopped by itself, once it has.
    pub fn failure(&self) -> Option<String> {
        self.shared.as_ref().and_then(|shared| shared.stopped())
    }

    /// Stops everything and waits until the last thread has ended. Nothing final is lost.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(shared) = self.shared.take() else {
            return;
        };
        shared.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the node had panicked");
            }
        }
        // The threads were the other holders: this stops the engine and waits for it.
        drop(shared);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a node; returns once its state is loaded and its API answers. Whether it votes is for the chain to say.
///
/// # Errors
/// [`NodeError::PortInUse`] before anything else is touched; what the state folder, the genesis or the engine refuse.
pub fn start(config: NodeConfig) -> Result<Node, NodeError> {
    crate::architecture(&config.genesis.architecture)?;
    let listener = http::listen(config.api)?;
    let api = listener.local_addr().map_err(|source| NodeError::Listen {
        address: config.api,
        source,
    })?;
    let auditor = Auditor::new(config.kernel, config.audit_threads)?;
    let limits = config.clients;
    let clients = config.peer_urls.iter().map(|url| Client::new(url));
    let clients: Vec<Client> = clients
        .map(|client| client.map(Client::without_retries))
        .collect::<Result<_, _>>()?;
    let (outbox, told) = gossip::outbox();
    let shared = Arc::new(open(config, outbox)?);
    shared.follow_files();
    let mut threads = vec![
        spawn("soma-api", &shared, move |node| {
            serve(listener, &node, told, limits);
        })?,
        spawn("soma-duties", &shared, |node| duties::run(&node))?,
        spawn("soma-auditor", &shared, |node| audit::run(&node, auditor))?,
    ];
    if !clients.is_empty() {
        threads.push(spawn("soma-fetch", &shared, move |node| {
            fetch::run(&node, &clients);
        })?);
    }
    Ok(Node {
        url: format!("http://{}", reachable(api)),
        api,
        shared: Some(shared),
        threads,
    })
}

fn open(config: NodeConfig, outbox: Outbox) -> Result<Shared, NodeError> {
    let chain = config.genesis.chain_id();
    let pool = Mempool::new(chain, config.pool);
    let metrics = Arc::new(Metrics::default());
    let follow = Arc::new(Follow {
        pool: pool.clone(),
        metrics: Arc::clone(&metrics),
        heights: watch::Sender::new(0),
        told: Mutex::default(),
        bell: Bell::default(),
    });
    let known = config.peers.len();
    let engine_config = soma_engine::Config {
        dir: chain_dir(&config.dir),
        genesis: config.genesis.clone(),
        key: config.consensus,
        listen: free_port(config.listen)?,
        peers: config.peers,
        block_ms: config.block_ms,
        idle_block_ms: config.idle_block_ms,
        join: config.join,
        keep_blocks: config.keep_blocks,
    };
    let sink: Arc<dyn Sink> = Arc::clone(&follow) as Arc<dyn Sink>;
    let engine = soma_engine::start(engine_config, Arc::new(pool.clone()), sink)
        .map_err(NodeError::engine)?;
    let weights = Arc::new(WeightsStore::open(&config.dir.join("weights"))?);
    let history = Arc::clone(engine.history());
    let height = history.height()?;
    follow
        .heights
        .send_modify(|known| *known = height.max(*known));
    let (key, address) = (config.account.clone(), config.account.address());
    Ok(Shared {
        genesis: config.genesis,
        chain,
        key,
        address,
        history,
        pool,
        weights,
        metrics,
        follow,
        audits: Audits::default(),
        counted: Mutex::default(),
        closing: AtomicBool::new(false),
        outbox: Some(outbox).filter(|_| known > 0),
        peers: known,
        engine,
    })
}

/// The engine must know its port before it listens.
fn free_port(address: SocketAddr) -> Result<SocketAddr, NodeError> {
    if address.port() != 0 {
        return Ok(address);
    }
    let probe = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    probe.map_err(|source| NodeError::Listen { address, source })
}

/// An address that this machine can connect to: a node that listens everywhere is reached on loopback.
fn reachable(api: SocketAddr) -> SocketAddr {
    if api.ip().is_unspecified() {
        SocketAddr::from((Ipv4Addr::LOCALHOST, api.port()))
    } else {
        api
    }
}

fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    work: impl FnOnce(Arc<Shared>) + Send + 'static,
) -> Result<JoinHandle<()>, NodeError> {
    let node = Arc::clone(shared);
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || work(node))
        .map_err(NodeError::Thread)
}

fn serve(
    listener: TcpListener,
    node: &Arc<Shared>,
    told: mpsc::Receiver<Vec<u8>>,
    limits: ClientLimits,
) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("soma-api")
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return tracing::error!(%error, "the API cannot start"),
    };
    runtime.block_on(async {
        let admission = Admission::start(Arc::clone(node));
        let speaking = gossip::tell(node.engine.gossip(), told, Arc::clone(node));
        let mut talks = vec![tokio::spawn(speaking)];
        if let Some(heard) = node.engine.take_gossip() {
            let listening = gossip::listen(heard, admission.clone(), Arc::clone(node));
            talks.push(tokio::spawn(listening));
        }
        let serving = http::serve(listener, Arc::clone(node), admission, limits);
        let server = tokio::spawn(serving);
        node.closed().await;
        if tokio::time::timeout(GRACE, server).await.is_err() {
            tracing::warn!("open requests are cut off");
        }
        // They wait for what holds them: the node itself.
        talks.iter().for_each(tokio::task::JoinHandle::abort);
    });
    runtime.shutdown_timeout(GRACE);
}

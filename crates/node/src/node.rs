//! A running validator: its parts are assembled, started and stopped here.
//!
//! Data flows one way: transactions enter the pool, the engine orders them, and finalized blocks
//! wake whatever waits for them. A node must never lose what was finalized, however it is stopped.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use soma_engine::{Contacts, Sink};
use soma_model::KernelChoice;
use soma_protocol::{ConsensusKey, Genesis};
use soma_sdk::Client;
use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};

use crate::certificates::Certificates;
use crate::chain::Chain;
use crate::duties::audit::{self, AuditQueue, Auditor, Audits};
use crate::duties::{self, Duties, DutyKeys};
use crate::error::NodeError;
use crate::fetch;
use crate::follower::{Follower, JoinLog};
use crate::gossip::{self, Listener};
use crate::health::{Health, NodeFailure, Surroundings, log_troubles};
use crate::http::{self, Parts};
use crate::mempool::{Admission, AdmissionQueue, Arrivals, Mempool, Outbox};
use crate::metrics::Metrics;
use crate::neighbors::Neighbors;
use crate::peers::{Asker, PeerNews};
use crate::settings::{ClientLimits, NodeConfig, Settings, api_url, weights_dir};
use crate::shutdown::Shutdown;
use crate::survey::Surveys;
use crate::weights::{Cold, WeightsStore, tend_cold_store};

/// How long a start may take before its progress is told at the API.
const QUIET_START: Duration = Duration::from_secs(2);
/// Time that open requests have to end when the node stops.
const GRACE: Duration = Duration::from_secs(2);

/// A running validator. Dropping it stops it.
pub struct Node {
    url: String,
    api: SocketAddr,
    shutdown: Shutdown,
    /// Holds the engine; `None` once the node has been stopped.
    health: Option<Arc<Health>>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Node").field("url", &self.url).finish_non_exhaustive()
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
    pub fn failure(&self) -> Option<NodeFailure> {
        self.health.as_ref().and_then(|health| health.stopped())
    }

    /// Stops the node and waits until its last thread has ended. Finalized data is safe.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.shutdown.begin();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread of the node panicked");
            }
        }
        // The threads held the other references: dropping this one stops the engine and waits for
        // it.
        drop(self.health.take());
    }

    fn spawn(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), NodeError> {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        self.threads.push(thread.map_err(NodeError::Thread)?);
        Ok(())
    }

    /// Runs `work` on its own thread and runtime until the node stops, so it may block.
    fn spawn_loop<F: Future<Output = ()>>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<(), NodeError> {
        let shutdown = self.shutdown.clone();
        self.spawn(name, move || {
            run(Builder::new_current_thread(), shutdown.interrupt(work()));
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a node; returns once its state is loaded and its API answers. The chain decides whether
/// it votes.
///
/// # Errors
/// [`NodeError::PortInUse`] before anything else is touched; an invalid state folder or genesis;
/// errors of the engine.
pub fn start(config: NodeConfig) -> Result<Node, NodeError> {
    config.genesis.architecture.check()?;
    let settings = &config.settings;
    let listener = http::listen(settings.api)?;
    let api = listener
        .local_addr()
        .map_err(|source| NodeError::Listen { address: settings.api, source })?;
    let (url, around) = (api_url(api, settings.tls.is_some()), surroundings(&config)?);
    let cold = cold_store(&config)?;
    let auditors =
        Auditor::crew(KernelChoice::Auto, settings.audit_device, settings.audit_threads)?;
    let memory_bytes = settings.audit_memory_bytes;
    let limits = settings.clients;
    // Clients of their own: connections belong to the thread that opened them, and this one hashes.
    let (sources, witnesses) = (Neighbors::of(&config)?, Neighbors::of(&config)?);
    let asker = Asker { chain: config.genesis.chain_id(), me: config.consensus.public() };
    let outbox = Arc::<Outbox>::default();
    let progress = watch::Sender::new("it reads its data".to_owned());
    let starting = Starting { progress: progress.subscribe(), around: around.clone(), limits };
    let starting = starting.begin(&listener, asker, witnesses.configured())?;
    let parts = (progress, around);
    let assembled = assemble(config, Arc::clone(&outbox), auditors.len(), parts, cold);
    drop(starting);
    let (parts, arrivals) = assembled?;
    let mut node = Node {
        url,
        api,
        shutdown: parts.shutdown.clone(),
        health: Some(Arc::clone(&parts.health)),
        threads: Vec::new(),
    };
    let (duties, evidence) = (Arc::clone(&parts.duties), parts.chain.engine().take_faults());
    node.spawn_loop("soma-duties", move || duties::run(duties, evidence))?;
    let surveys = Arc::clone(&parts.surveys);
    node.spawn_loop("soma-survey", move || surveys.run())?;
    let queue = Arc::new(AuditQueue::new(
        Arc::clone(&parts.chain),
        Arc::clone(&parts.weights),
        Arc::clone(&parts.audits),
        Arc::clone(&parts.metrics),
        parts.shutdown.clone(),
        memory_bytes,
    ));
    for auditor in auditors {
        let queue = Arc::clone(&queue);
        node.spawn_loop("soma-auditor", move || audit::run(queue, auditor))?;
    }
    let health = Arc::clone(&parts.health);
    node.spawn_loop("soma-health", move || async move {
        let around = health.around.clone();
        let chain = Arc::clone(&health.chain);
        let peers = move || witnesses.all(chain.read(|state, _| witnesses.places(state)));
        let news = around.news.clone().follow(asker, peers);
        tokio::join!(health.watch(), news, around.follow_certificates());
    })?;
    if parts.weights.cold().is_some() {
        let weights = Arc::clone(&parts.weights);
        node.spawn_loop("soma-cold", move || tend_cold_store(weights))?;
    }
    let (chain, weights) = (Arc::clone(&parts.chain), Arc::clone(&parts.weights));
    let metrics = Arc::clone(&parts.metrics);
    node.spawn_loop("soma-fetch", move || fetch::run(chain, weights, metrics, sources))?;
    node.spawn("soma-api", move || {
        let mut threads = Builder::new_multi_thread();
        threads.worker_threads(2).thread_name("soma-api");
        run(threads, async {
            tokio::spawn(arrivals.run());
            serve(listener, parts, limits, outbox).await;
        });
    })?;
    Ok(node)
}

/// What a node knows of its surroundings when it starts.
fn surroundings(config: &NodeConfig) -> Result<Surroundings, NodeError> {
    let Settings { peers, tls, .. } = &config.settings;
    let certificates = tls.as_ref().map(|files| Certificates::read(files, &config.dir));
    Ok(Surroundings {
        peers: named_in(&config.genesis, &config.consensus.public())
            .chain(peers.iter().map(|peer| (peer.key, peer.address.is_some())))
            .collect(),
        trusted: Arc::new(peers.iter().map(|peer| peer.key).collect()),
        contacts: Contacts::default(),
        news: PeerNews::default(),
        certificates: certificates.transpose()?.map(Arc::new),
        started: Instant::now(),
    })
}

/// The cold store of the weights files, if there is one.
fn cold_store(config: &NodeConfig) -> Result<Option<Arc<Cold>>, NodeError> {
    let Some(url) = &config.settings.weights.cold else {
        return Ok(None);
    };
    let records = weights_dir(&config.dir).join("cold");
    Ok(Some(Arc::new(Cold::open(&records, url, &config.trust()?)?)))
}

/// Runs `work` on a runtime in the calling thread, which may block.
fn run(mut runtime: Builder, work: impl Future<Output = ()>) {
    match runtime.enable_all().build() {
        Ok(runtime) => {
            runtime.block_on(work);
            runtime.shutdown_timeout(GRACE);
        }
        Err(error) => tracing::error!(%error, "cannot start a runtime"),
    }
}

/// The other nodes that the genesis names, and whether each has an address.
fn named_in<'a>(
    genesis: &'a Genesis,
    me: &'a ConsensusKey,
) -> impl Iterator<Item = (ConsensusKey, bool)> + 'a {
    let others = genesis.validators.iter().filter(|validator| validator.consensus_key != *me);
    let named = others.filter(|validator| !validator.endpoints.is_empty());
    named.map(|validator| (validator.consensus_key, validator.endpoints.p2p.is_some()))
}

/// What is answered at the API while the node starts, which may take long.
struct Starting {
    progress: watch::Receiver<String>,
    around: Surroundings,
    limits: ClientLimits,
}

/// Answers while the node starts; dropping it ends that.
struct Answering {
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Starting {
    fn begin(
        self,
        listener: &TcpListener,
        asker: Asker,
        peers: Vec<(ConsensusKey, Client)>,
    ) -> Result<Answering, NodeError> {
        let address = listener.local_addr();
        let listener = listener.try_clone().map_err(|source| NodeError::Listen {
            address: address.unwrap_or_else(|_| (Ipv4Addr::UNSPECIFIED, 0).into()),
            source,
        })?;
        let shutdown = Shutdown::default();
        let until = shutdown.clone();
        let work = async move {
            // Most starts are over before anybody asks.
            if tokio::time::timeout(QUIET_START, until.begun()).await.is_ok() {
                return;
            }
            let given_up = async {
                until.begun().await;
                tokio::time::sleep(GRACE).await;
            };
            let around = self.around.clone();
            tokio::select! {
                () = self.answer(listener, &until) => {}
                () = around.news.clone().follow(asker, || peers.clone()) => {}
                () = around.follow_certificates() => {}
                () = given_up => {}
            }
        };
        let thread = thread::Builder::new()
            .name("soma-start".to_owned())
            .spawn(move || run(Builder::new_current_thread(), work));
        Ok(Answering { shutdown, thread: Some(thread.map_err(NodeError::Thread)?) })
    }

    async fn answer(self, listener: TcpListener, until: &Shutdown) {
        let around = self.around.clone();
        let log = log_troubles(move || around.troubles());
        let (progress, around) = (self.progress, self.around);
        let tls = around.certificates.as_ref().map(Certificates::server);
        let not_ready = move || {
            let progress = format!("the node is starting: {}", *progress.borrow());
            (progress, around.troubles())
        };
        tokio::select! {
            served = http::serve_start(listener, tls, not_ready, self.limits, until) => {
                if let Err(error) = served {
                    tracing::warn!(%error, "the API does not answer while the node starts");
                }
            }
            () = log => {}
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.shutdown.begin();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread of the node panicked");
        }
    }
}

/// Starts the engine and assembles the parts that the API answers from.
fn assemble(
    config: NodeConfig,
    outbox: Arc<Outbox>,
    auditors: usize,
    (progress, around): (watch::Sender<String>, Surroundings),
    cold: Option<Arc<Cold>>,
) -> Result<(Parts, Arrivals), NodeError> {
    let pool = Mempool::new(config.genesis.chain_id(), config.settings.pool);
    let key = config.consensus.public();
    let metrics = Arc::new(Metrics::default());
    let wake = Arc::new(Notify::new());
    let follower = Arc::new(Follower {
        pool: pool.clone(),
        metrics: Arc::clone(&metrics),
        heights: watch::Sender::new(0),
        join_log: JoinLog::default(),
        progress,
    });
    let engine = soma_engine::start(
        config.host(free_port(config.settings.listen)?, around.contacts.clone())?,
        config.engine_settings(),
        Arc::new(pool.clone()),
        Arc::clone(&follower) as Arc<dyn Sink>,
    );
    let engine = engine.map_err(NodeError::engine)?;
    let stored = engine.history().height()?;
    follower.heights.send_modify(|height| *height = stored.max(*height));
    let heights = follower.heights.subscribe();
    let executed = config.ruleset.versions();
    let chain = Arc::new(Chain::new(config.genesis, executed, engine, heights));
    let (dir, settings) = (weights_dir(&config.dir), config.settings.weights.clone());
    let weights = Arc::new(WeightsStore::open(&dir, settings, cold, Arc::clone(&wake))?);
    let audits = Arc::new(Audits::new(Arc::clone(&wake), auditors));
    let admission = Arc::new(Admission {
        pool: pool.clone(),
        chain: Arc::clone(&chain),
        metrics: Arc::clone(&metrics),
        outbox: Some(outbox),
    });
    let shutdown = Shutdown::default();
    let (queue, arrivals) = AdmissionQueue::new(Arc::clone(&admission));
    let duties = Arc::new(Duties {
        secret: duties::beacon::secret(&config.dir, &config.duties)?,
        keys: DutyKeys { consensus: key, first: config.duties, account: config.account },
        chain: Arc::clone(&chain),
        weights: Arc::clone(&weights),
        audits: Arc::clone(&audits),
        admission,
        standing: watch::Sender::default(),
        outstanding: watch::Sender::default(),
        wake,
        endpoints: config.settings.endpoints,
    });
    let parts = Parts {
        key,
        surveys: Arc::new(Surveys::begin(Arc::clone(&duties))),
        admission: queue,
        duties: Arc::clone(&duties),
        health: Arc::new(Health {
            chain: Arc::clone(&chain),
            shutdown: shutdown.clone(),
            around,
            dir: config.dir,
            started_at: stored,
            duties,
        }),
        chain,
        pool,
        weights,
        audits,
        metrics,
        shutdown,
    };
    Ok((parts, arrivals))
}

/// Serves the API and gossip until the node stops.
async fn serve(listener: TcpListener, parts: Parts, limits: ClientLimits, outbox: Arc<Outbox>) {
    let (engine, metrics) = (parts.chain.engine(), &parts.metrics);
    tokio::spawn(gossip::send(engine.gossip(), outbox, Arc::clone(metrics)));
    if let Some(received) = engine.take_gossip() {
        let (queue, metrics) = (parts.admission.clone(), Arc::clone(metrics));
        let listener = Listener::new(parts.chain.id, engine.gossip(), queue, metrics);
        tokio::spawn(listener.run(received));
    }
    let shutdown = parts.shutdown.clone();
    let server = tokio::spawn(http::serve(listener, parts, limits));
    shutdown.begun().await;
    if tokio::time::timeout(GRACE, server).await.is_err() {
        tracing::warn!("interrupting open requests");
    }
}

/// The engine must know its port before it listens.
fn free_port(address: SocketAddr) -> Result<SocketAddr, NodeError> {
    if address.port() != 0 {
        return Ok(address);
    }
    let probe = TcpListener::bind(address).and_then(|listener| listener.local_addr());
    probe.map_err(|source| NodeError::Listen { address, source })
}

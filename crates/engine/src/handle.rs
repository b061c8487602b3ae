//! Starts a node on its own threads, and gives the rest of the process access to it.

use std::{
    any::Any,
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use commonware_runtime::{
    Metrics as _, Runner as _, Spawner as _, Supervisor as _,
    tokio::{Config as RuntimeConfig, Context, Runner},
};
use soma_os::disk::check_writable;
use soma_protocol::{Amount, ConsensusKey, StateRead, evidence::Evidence};
use soma_store::{History, State, StateFolder, StoreError, Tip};
use tokio::sync::{Notify, mpsc as queue, watch};

use crate::{
    Contacts, EngineError, FAULTS_WAITING_MAX, Gossip, GossipReceiver, Joined, KEEP_BLOCKS_MIN,
    KeyUse, Peer, Pool, Prover, Remedy, Settings, Sink, VoteRecord, Watching, gossip,
    inspect::{Depth, first_damage, located},
    keys::private_key,
    leases::holder::Leases,
    network::{self, Directory},
    node,
    settings::{Overrides, Services},
};

const WORKER_THREADS: usize = 2;
/// When a node stops, its disk is tested with this many bytes: more than the engine writes at once.
const DISK_TEST_BYTES: usize = 8 << 20;

/// A running node. Dropping it stops the node and waits until its threads have ended.
pub struct Handle {
    node: Running,
    history: Arc<History>,
    work: Arc<Notify>,
    stop: Arc<Notify>,
    failure: watch::Receiver<Option<Arc<EngineError>>>,
    gossip: Gossip,
    messages: Mutex<Option<GossipReceiver>>,
    faults: Mutex<Option<queue::Receiver<Evidence>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("tip", &self.tip()).finish_non_exhaustive()
    }
}

impl Handle {
    /// Reads the state after the last finalized block, whose height is passed along. No block is
    /// finalized while `f` runs: keep it short.
    pub fn read<T>(&self, f: impl FnOnce(&dyn StateRead, u64) -> T) -> T {
        self.node.state.read(|state, tip| f(state, tip.height))
    }

    /// Like [`Handle::read`], with the money that all records of the state hold.
    pub fn read_held<T>(&self, f: impl FnOnce(&dyn StateRead, u64, Amount) -> T) -> T {
        self.node.state.read_held(|state, tip, held| f(state, tip.height, held))
    }

    /// The last finalized block.
    pub fn tip(&self) -> Tip {
        self.node.state.tip()
    }

    /// The state sync of this start, if there was one.
    pub fn joined(&self) -> Option<Joined> {
        self.node.joined
    }

    /// Why this node obtained the state in another way than it was asked to, if it did.
    pub fn fallback(&self) -> Option<&str> {
        self.node.fallback.as_deref()
    }

    /// Why it does not vote in the current term although it has a seat.
    pub fn watching(&self) -> Option<Watching> {
        *self.node.watching.borrow()
    }

    /// What it knows about other processes that run with its key.
    pub fn key_use(&self) -> KeyUse {
        self.node.leases.key_use()
    }

    /// The last block that this node knows to be finalized; its state may be behind it.
    pub fn known(&self) -> u64 {
        (*self.node.known.borrow()).max(self.tip().height)
    }

    /// The finalized blocks. It may be a block behind [`Handle::read`]; a crash never removes what
    /// it returns.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Tells the engine that the pool has new transactions, which ends its wait for work at once.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// [`Handle::wake`] as a function that the pool can keep.
    pub fn waker(&self) -> impl Fn() + Send + Sync + Clone + 'static {
        let work = Arc::clone(&self.work);
        move || work.notify_one()
    }

    /// Proves what records of the state are.
    pub fn prover(&self) -> Prover {
        self.node.prover.clone()
    }

    /// The engine's metrics, in Prometheus text format.
    pub fn metrics(&self) -> String {
        (self.node.metrics)()
    }

    /// Sends gossip to the other nodes.
    pub fn gossip(&self) -> Gossip {
        self.gossip.clone()
    }

    /// Gossip from other nodes, for one receiver: `None` if it has been taken.
    pub fn take_gossip(&self) -> Option<GossipReceiver> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.take()
    }

    /// Proof that validators equivocated, for one receiver: `None` if it has been taken. At most
    /// [`FAULTS_WAITING_MAX`] wait.
    pub fn take_faults(&self) -> Option<queue::Receiver<Evidence>> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.take()
    }

    /// The connected nodes, as of a second ago.
    pub fn connected(&self) -> Vec<ConsensusKey> {
        self.node.connected.borrow().clone()
    }

    /// Why the node stopped by itself, if it has.
    pub fn failure(&self) -> Option<Arc<EngineError>> {
        self.failure.borrow().clone()
    }

    /// Waits until the node has stopped; `None` if it was shut down.
    pub fn stopped(&self) -> impl Future<Output = Option<Arc<EngineError>>> + Send + 'static {
        let mut failure = self.failure.clone();
        async move {
            let failure = failure.wait_for(Option::is_some).await.ok()?;
            failure.clone()
        }
    }

    /// Stops the node and waits until its threads have ended.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.end();
    }
}

/// What the engine's thread provides once the node runs.
struct Running {
    state: Arc<State>,
    joined: Option<Joined>,
    fallback: Option<String>,
    watching: watch::Receiver<Option<Watching>>,
    leases: Arc<Leases>,
    known: watch::Receiver<u64>,
    connected: watch::Receiver<Vec<ConsensusKey>>,
    metrics: Box<dyn Fn() -> String + Send + Sync>,
    prover: Prover,
}

/// The network library panics when it cannot listen, so this is tested first.
fn check_listen(address: SocketAddr) -> Result<(), EngineError> {
    let listener = TcpListener::bind(address);
    listener.map(drop).map_err(|source| EngineError::Listen { address, source })
}

/// Where a node runs: its folder and its place in the network.
#[derive(Clone, Debug)]
pub struct Host {
    /// The state folder; created if it does not exist.
    pub dir: PathBuf,
    /// Where other nodes connect. A node that is the only validator listens as well.
    pub listen: SocketAddr,
    /// The other nodes: validators, and followers that may connect. At most
    /// [`PEERS_MAX`](crate::PEERS_MAX), this node included.
    pub peers: Vec<Peer>,
    /// The record of the last vote of its key. It belongs to the key, not to the state folder:
    /// keep it where both stay together.
    pub votes: PathBuf,
    /// Receives what becomes known about connections, also while the node starts.
    pub contacts: Contacts,
}

/// Starts a node and returns once its state is loaded.
///
/// # Errors
/// [`EngineError`] when the folder is in use or belongs to another chain, the address is in use, or
/// the disk fails. A node that fails later reports it through [`Handle::stopped`].
pub fn start(
    host: Host,
    settings: Settings,
    pool: Arc<dyn Pool>,
    sink: Arc<dyn Sink>,
) -> Result<Handle, EngineError> {
    let folder = StateFolder::open(&host.dir, &settings.genesis.chain_id())?;
    check_listen(host.listen)?;
    let votes = Arc::new(VoteRecord::open(&host.votes, settings.key.public())?);
    let history = open_history(&folder)?;
    let work = Arc::new(Notify::new());
    let stop = Arc::new(Notify::new());
    let (failure_sender, failure) = watch::channel(None);
    let (running_sender, running) = mpsc::sync_channel(1);
    let (gossip, messages, relay) = gossip::gossip_channel();
    let (fault_sender, faults) = queue::channel(FAULTS_WAITING_MAX);
    let job = Job {
        folder,
        listen: host.listen,
        directory: Directory::new(host.peers, host.listen)?,
        settings,
        services: Services {
            pool,
            sink,
            work: Arc::clone(&work),
            history: Arc::clone(&history),
            gossip: relay,
            faults: fault_sender,
            votes,
        },
        contacts: host.contacts,
        stop: Arc::clone(&stop),
    };
    let thread = thread::Builder::new()
        .name("soma-engine".into())
        .spawn(move || {
            let Some(error) = job.run(&running_sender) else {
                return;
            };
            // The caller of this function either still waits for the node or holds its handle.
            if let Err(
                mpsc::TrySendError::Full(Err(error)) | mpsc::TrySendError::Disconnected(Err(error)),
            ) = running_sender.try_send(Err(error))
            {
                let _ = failure_sender.send(Some(Arc::new(error)));
            }
        })
        .map_err(EngineError::stopped)?;
    match running.recv() {
        Ok(Ok(node)) => {
            drop(running);
            Ok(Handle {
                node,
                history,
                work,
                stop,
                failure,
                gossip,
                messages: Mutex::new(Some(messages)),
                faults: Mutex::new(Some(faults)),
                thread: Some(thread),
            })
        }
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(error) => Err(EngineError::stopped(error)),
    }
}

type Started = mpsc::SyncSender<Result<Running, EngineError>>;

/// Everything that the engine's thread needs.
struct Job {
    folder: StateFolder,
    listen: SocketAddr,
    directory: Directory,
    settings: Settings,
    services: Services,
    contacts: Contacts,
    stop: Arc<Notify>,
}

impl Job {
    /// Runs the node until it is stopped; returns the error if it cannot continue.
    ///
    /// The consensus library reports a failing disk or a damaged file by a panic that preserves
    /// only the error's text. Decisions must not depend on text, so the disk is tested and the
    /// files are read instead.
    fn run(self, started: &Started) -> Option<EngineError> {
        let places = Places::of(&self.folder);
        let runtime = RuntimeConfig::new()
            .with_worker_threads(WORKER_THREADS)
            .with_storage_directory(places.consensus.clone());
        let started = started.clone();
        // A spawned task, so that the runtime reports the first panic of any task.
        let ended = catch_unwind(AssertUnwindSafe(|| {
            Runner::new(runtime).start(|context| async move {
                let node = context.spawn(move |context| self.live(context, started));
                node.await.unwrap_or_else(|error| Err(EngineError::stopped(error)))
            })
        }));
        let error = match ended {
            Ok(ended) => ended.err()?,
            Err(panic) => EngineError::stopped(panic_message(panic.as_ref())),
        };
        Some(places.explain(error))
    }

    /// Runs the node until it is stopped or cannot continue.
    async fn live(self, context: Context, started: Started) -> Result<(), EngineError> {
        let (links, connected) = network::connect(
            &context,
            &self.settings.genesis.chain_id().0,
            private_key(&self.settings.key),
            self.listen,
            self.directory,
            self.contacts,
        );
        let metrics = context.child("metrics");
        let mut settings = self.settings;
        settings.keep_blocks = settings.keep_blocks.map(|keep| keep.max(KEEP_BLOCKS_MIN));
        let overrides = Overrides::default();
        let node = node::start(context, settings, self.services, overrides, links);
        let mut node = Box::pin(node).await?;
        let _ = started.send(Ok(Running {
            state: Arc::clone(&node.state),
            joined: node.joined,
            fallback: node.fallback.clone(),
            watching: node.watching.clone(),
            leases: Arc::clone(&node.leases),
            known: node.known.clone(),
            connected,
            prover: node.prover.clone(),
            metrics: Box::new(move || metrics.encode()),
        }));
        tokio::select! {
            () = self.stop.notified() => Ok(()),
            error = node.ended() => Err(error),
        }
    }
}

/// Where a node's data is, to find out why it cannot be used.
struct Places {
    dir: PathBuf,
    consensus: PathBuf,
    history: PathBuf,
}

impl Places {
    fn of(folder: &StateFolder) -> Self {
        Self {
            dir: folder.path().to_owned(),
            consensus: folder.consensus(),
            history: folder.history(),
        }
    }

    /// An error that the disk or a damaged file explains, as that; no process uses the data.
    fn explain(&self, error: EngineError) -> EngineError {
        if !matches!(error, EngineError::Stopped { .. } | EngineError::Store(_)) {
            return located(error, &self.consensus);
        }
        if let Err(source) = check_writable(&self.dir, DISK_TEST_BYTES) {
            tracing::error!(%error, "the disk failed");
            return EngineError::Disk { source };
        }
        if let EngineError::Store(StoreError::History(_)) = error {
            let (path, reason) = (self.history.clone(), error.to_string());
            return EngineError::Damaged { path, reason, remedy: Remedy::Remade };
        }
        let damage = damage(&self.consensus, Depth::Opened).or_else(|| {
            tracing::warn!(%error, "reading everything that is stored, to find what is damaged");
            damage(&self.consensus, Depth::Whole)
        });
        if let Some(damage) = damage {
            tracing::error!(%error, "a file is damaged");
            return damage;
        }
        match History::check(&self.history) {
            Err(StoreError::DamagedFile { path, reason }) => {
                EngineError::Damaged { path, reason, remedy: Remedy::Remade }
            }
            _ => error,
        }
    }
}

/// Opens the history; one that is damaged is set aside, because it can be rebuilt.
fn open_history(folder: &StateFolder) -> Result<Arc<History>, EngineError> {
    let history = History::open(&folder.history());
    let history = history.map_err(|error| Places::of(folder).explain(error.into()))?;
    if history.was_replaced() {
        let path = folder.history();
        tracing::warn!(
            path = %path.display(),
            "the history is damaged: it is set aside as history.damaged and rebuilt from the blocks"
        );
    }
    Ok(Arc::new(history))
}

/// What is damaged in the folder of the consensus library, which no node uses.
pub(crate) fn damage(consensus: &Path, depth: Depth) -> Option<EngineError> {
    let runtime = RuntimeConfig::new().with_storage_directory(consensus);
    Runner::new(runtime)
        .start(|context| async move { Box::pin(first_damage(&context, consensus, depth)).await })
}

/// The message of a panic.
fn panic_message(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&str>() {
        return (*text).to_owned();
    }
    payload
        .downcast_ref::<String>()
        .map_or_else(|| "the engine panicked without a message".into(), Clone::clone)
}

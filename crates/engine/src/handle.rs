//! Starts a node on its own threads, and gives the rest of the process access to it.

use std::{
    any::Any,
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use commonware_runtime::{
    Metrics as _, Runner as _, Spawner as _, Supervisor as _,
    tokio::{Config as RuntimeConfig, Context, Runner},
};
use soma_os::disk::check_writable;
use soma_protocol::{ConsensusKey, MemoryState, StateRead, evidence::Evidence};
use soma_store::{History, State, StateFolder, Tip};
use tokio::sync::{Notify, mpsc as queue, watch};

use crate::{
    EngineError, FAULTS_WAITING_MAX, Gossip, GossipReceiver, Joined, KEEP_BLOCKS_MIN, Peer, Pool,
    Settings, Sink, gossip,
    keys::private_key,
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

    /// Reads the whole state after the last finalized block, to count records. As with
    /// [`Handle::read`], no block is finalized meanwhile.
    pub fn inspect<T>(&self, f: impl FnOnce(&MemoryState, u64) -> T) -> T {
        self.node.state.read(|state, tip| f(state, tip.height))
    }

    /// The last finalized block.
    pub fn tip(&self) -> Tip {
        self.node.state.tip()
    }

    /// The state sync of this start, if there was one.
    pub fn joined(&self) -> Option<Joined> {
        self.node.joined
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
    connected: watch::Receiver<Vec<ConsensusKey>>,
    metrics: Box<dyn Fn() -> String + Send + Sync>,
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
    let history = Arc::new(History::open(&folder.history())?);
    let work = Arc::new(Notify::new());
    let stop = Arc::new(Notify::new());
    let (failure_sender, failure) = watch::channel(None);
    let (running_sender, running) = mpsc::sync_channel(1);
    let (gossip, messages, relay) = gossip::gossip_channel();
    let (fault_sender, faults) = queue::channel(FAULTS_WAITING_MAX);
    let job = Job {
        folder,
        listen: host.listen,
        directory: Directory::new(host.peers)?,
        settings,
        services: Services {
            pool,
            sink,
            work: Arc::clone(&work),
            history: Arc::clone(&history),
            gossip: relay,
            faults: fault_sender,
        },
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
    stop: Arc<Notify>,
}

impl Job {
    /// Runs the node until it is stopped; returns the error if it cannot continue.
    ///
    /// The consensus library reports a failing disk by a panic that preserves only the error's
    /// text. Decisions must not depend on text, so the disk is tested instead.
    fn run(self, started: &Started) -> Option<EngineError> {
        let dir = self.folder.path().to_owned();
        let runtime = RuntimeConfig::new()
            .with_worker_threads(WORKER_THREADS)
            .with_storage_directory(self.folder.consensus());
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
        if matches!(error, EngineError::Stopped { .. } | EngineError::Store(_))
            && let Err(source) = check_writable(&dir, DISK_TEST_BYTES)
        {
            tracing::error!(%error, "the disk failed");
            return Some(EngineError::Disk { source });
        }
        Some(error)
    }

    /// Runs the node until it is stopped or cannot continue.
    async fn live(self, context: Context, started: Started) -> Result<(), EngineError> {
        let (links, connected) = network::connect(
            &context,
            &self.settings.genesis.chain_id().0,
            private_key(&self.settings.key),
            self.listen,
            self.directory,
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
            connected,
            metrics: Box::new(move || metrics.encode()),
        }));
        tokio::select! {
            () = self.stop.notified() => Ok(()),
            error = node.ended() => Err(error),
        }
    }
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

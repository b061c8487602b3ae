//! Starting and holding a node: the engine runs on its own threads, this is what the rest of the
//! process sees of it.

use std::{
    net::{SocketAddr, TcpListener},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use commonware_runtime::{
    Metrics as _, Runner as _, Spawner as _, Supervisor as _,
    tokio::{Config as RuntimeConfig, Context, Runner},
};
use soma_protocol::{ConsensusKey, MemoryState, StateRead, evidence::Evidence};
use soma_store::{History, State, StateFolder, Tip};
use tokio::sync::{Notify, mpsc as queue, watch};

use crate::{
    Config, EngineError, FAULTS_WAITING_MAX, Gossip, GossipMessage, Joined, KEEP_BLOCKS_MIN, Pool,
    Sink,
    application::Deviation,
    committees::Calendar,
    failure, gossip,
    network::{self, Directory},
    node,
    parts::{SECTION_BLOCKS, Timing},
};

const WORKER_THREADS: usize = 2;
/// Commits to what belongs to this node on a disk that it shares with nobody.
pub(crate) const PREFIX: &str = "soma";

/// A running node. Dropping it stops the node and waits until its threads have ended.
pub struct Handle {
    node: Running,
    history: Arc<History>,
    work: Arc<Notify>,
    stop: Arc<Notify>,
    failure: watch::Receiver<Option<Arc<EngineError>>>,
    gossip: Gossip,
    heard: Mutex<Option<queue::Receiver<GossipMessage>>>,
    faults: Mutex<Option<queue::Receiver<Evidence>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("tip", &self.tip())
            .finish_non_exhaustive()
    }
}

impl Handle {
    /// Reads the state after the last final block, whose height is passed along. Blocks cannot
    /// become final while `f` runs: keep it short.
    pub fn read<T>(&self, f: impl FnOnce(&dyn StateRead, u64) -> T) -> T {
        self.node.state.read(|state, tip| f(state, tip.height))
    }

    /// Reads the whole state after the last final block, for counting over all records. As with
    /// [`Handle::read`], nothing becomes final meanwhile.
    pub fn inspect<T>(&self, f: impl FnOnce(&MemoryState, u64) -> T) -> T {
        self.node.state.read(|state, tip| f(state, tip.height))
    }

    /// The last final block.
    pub fn tip(&self) -> Tip {
        self.node.state.tip()
    }

    /// What was taken over from the peers when this node started, if it joined then.
    pub fn joined(&self) -> Option<Joined> {
        self.node.joined
    }

    /// Everything that is final, for questions about the past. It may be a block behind
    /// [`Handle::read`], never ahead of what a crash can undo.
    pub fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// Says that the pool has something new: ends the wait for work at once.
    pub fn wake(&self) {
        self.work.notify_one();
    }

    /// A way to [`Handle::wake`] that can be kept by the pool.
    pub fn waker(&self) -> impl Fn() + Send + Sync + Clone + 'static {
        let work = Arc::clone(&self.work);
        move || work.notify_one()
    }

    /// The engine's own measurements, as Prometheus text.
    pub fn metrics(&self) -> String {
        (self.node.metrics)()
    }

    /// Speaks to the other nodes.
    pub fn gossip(&self) -> Gossip {
        self.gossip.clone()
    }

    /// What other nodes say, for one listener: `None` when it has been taken already.
    pub fn take_gossip(&self) -> Option<queue::Receiver<GossipMessage>> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.take()
    }

    /// Proof that validators signed two histories, as it is found, for one listener: `None` when it
    /// has been taken already. At most [`FAULTS_WAITING_MAX`] wait.
    pub fn take_faults(&self) -> Option<queue::Receiver<Evidence>> {
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.take()
    }

    /// The nodes that are connected now.
    pub fn connected(&self) -> Vec<ConsensusKey> {
        self.metrics().lines().filter_map(connected).collect()
    }

    /// Why the node stopped by itself, once it has.
    pub fn failure(&self) -> Option<Arc<EngineError>> {
        self.failure.borrow().clone()
    }

    /// Waits until the node has stopped; `None` when it was asked to.
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

/// What the engine's thread hands back once the node runs.
struct Running {
    state: Arc<State>,
    joined: Option<Joined>,
    metrics: Box<dyn Fn() -> String + Send + Sync>,
}

/// The engine panics when it cannot listen, so the question is asked before.
fn may_listen(address: SocketAddr) -> Result<(), EngineError> {
    let listener = TcpListener::bind(address);
    listener
        .map(drop)
        .map_err(|source| EngineError::Listen { address, source })
}

/// Starts a validator and returns once its state is loaded.
///
/// # Errors
/// [`EngineError`] when the folder is in use or belongs to another chain, the address is taken, or
/// the disk fails. A node that fails later says so through [`Handle::stopped`].
pub fn start(
    config: Config,
    pool: Arc<dyn Pool>,
    sink: Arc<dyn Sink>,
) -> Result<Handle, EngineError> {
    failure::note_panics();
    let folder = StateFolder::open(&config.dir, &config.genesis.chain_id())?;
    may_listen(config.listen)?;
    let history = Arc::new(History::open(&folder.history())?);
    let work = Arc::new(Notify::new());
    let stop = Arc::new(Notify::new());
    let (failure_sender, failure) = watch::channel(None);
    let (running_sender, running) = mpsc::sync_channel(1);
    let (gossip, heard, relay) = gossip::gossip_channel();
    let (found, faults) = queue::channel(FAULTS_WAITING_MAX);
    let job = Job {
        config,
        folder,
        pool,
        sink,
        history: Arc::clone(&history),
        work: Arc::clone(&work),
        stop: Arc::clone(&stop),
        gossip: relay,
        faults: found,
    };
    let thread = thread::Builder::new()
        .name("soma-engine".into())
        .spawn(move || {
            let started = running_sender.clone();
            let ended = catch_unwind(AssertUnwindSafe(|| job.run(&started)));
            let error = match ended {
                Ok(Ok(())) => return,
                Ok(Err(error)) => error,
                Err(panic) => EngineError::Stopped {
                    reason: failure::text(panic.as_ref()),
                },
            };
            let error = failure::explain(error);
            // Whoever started the node is either still waiting for it or holds its handle.
            if let Err(
                mpsc::TrySendError::Full(Err(error)) | mpsc::TrySendError::Disconnected(Err(error)),
            ) = running_sender.try_send(Err(error))
            {
                let _ = failure_sender.send(Some(Arc::new(error)));
            }
        })
        .map_err(|error| EngineError::Stopped {
            reason: error.to_string(),
        })?;
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
                heard: Mutex::new(Some(heard)),
                faults: Mutex::new(Some(faults)),
                thread: Some(thread),
            })
        }
        Ok(Err(error)) => {
            let _ = thread.join();
            Err(error)
        }
        Err(_) => Err(EngineError::Stopped {
            reason: "the engine's thread ended".into(),
        }),
    }
}

/// What the engine's thread works with.
struct Job {
    config: Config,
    folder: StateFolder,
    pool: Arc<dyn Pool>,
    sink: Arc<dyn Sink>,
    history: Arc<History>,
    work: Arc<Notify>,
    stop: Arc<Notify>,
    gossip: gossip::GossipRelay,
    faults: queue::Sender<Evidence>,
}

impl Job {
    fn run(
        self,
        running: &mpsc::SyncSender<Result<Running, EngineError>>,
    ) -> Result<(), EngineError> {
        let runtime = RuntimeConfig::new()
            .with_worker_threads(WORKER_THREADS)
            .with_storage_directory(self.folder.consensus());
        let running = running.clone();
        // In a task of its own, so that what is reported is the first panic, not one it caused.
        Runner::new(runtime).start(|context| async move {
            let node = context.spawn(move |context| self.live(context, running));
            node.await.unwrap_or_else(|error| {
                Err(EngineError::Stopped {
                    reason: error.to_string(),
                })
            })
        })
    }

    /// Runs the node until it is stopped or cannot go on.
    async fn live(
        self,
        context: Context,
        running: mpsc::SyncSender<Result<Running, EngineError>>,
    ) -> Result<(), EngineError> {
        let key = network::private_key(&self.config.key);
        let chain = self.config.genesis.chain_id();
        let links = network::connect(
            &context,
            &chain.0,
            key.clone(),
            self.config.listen,
            Directory::new(&self.config.peers)?,
        );
        let metrics = context.child("metrics");
        let config = node::Config {
            prefix: PREFIX.into(),
            genesis: self.config.genesis,
            key,
            calendar: Calendar::default(),
            deviation: Deviation::default(),
            timing: Timing {
                skew_ms: 0,
                block_ms: self.config.block_ms,
                idle_block_ms: self.config.idle_block_ms,
            },
            pool: self.pool,
            sink: self.sink,
            work: self.work,
            history: self.history,
            gossip: self.gossip,
            join: self.config.join,
            keep_blocks: self
                .config
                .keep_blocks
                .map(|keep| keep.max(KEEP_BLOCKS_MIN)),
            section_blocks: SECTION_BLOCKS,
            faults: self.faults,
        };
        let mut node = Box::pin(node::start(context, config, links)).await?;
        let metrics = Box::new(move || metrics.encode());
        let _ = running.send(Ok(Running {
            state: Arc::clone(&node.state),
            joined: node.joined,
            metrics,
        }));
        tokio::select! {
            () = self.stop.notified() => Ok(()),
            error = node.ended() => Err(error),
        }
    }
}

/// The peer that a line of the measurements calls connected.
fn connected(line: &str) -> Option<ConsensusKey> {
    let (name, rest) = line.split_once("{peer=\"")?;
    let key = rest.split('"').next()?;
    let mut bytes = [0; 32];
    for (byte, at) in bytes.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(key.get(at..at + 2)?, 16).ok()?;
    }
    (name.ends_with("_connected") && key.len() == 64).then_some(ConsensusKey(bytes))
}

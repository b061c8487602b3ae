//! Downloads the state after one block from several peers, every part with its proof. The peer that
//! is the least busy is asked first, so a slow one holds up only what it was asked for.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use commonware_codec::EncodeSize as _;
use commonware_cryptography::blake3::{Blake3, Digest};
use commonware_runtime::{Clock, Spawner, buffer::paged::CacheRef};
use commonware_storage::{
    Context as StorageContext, mmr,
    qmdb::{
        self,
        sync::{self, Error as SyncError, Source, source},
    },
};
use commonware_utils::{NZU64, NZUsize};
use soma_store::{
    StoreError,
    database::{self, LogCommitment, Operation, Qmdb},
};

use super::{
    messages::{OPERATIONS_MAX, Request, Response, StatePart, StateRequest},
    peers::Peers,
};
use crate::{
    EngineError,
    interface::{JoinProgress, Sink},
};

/// The pause before all peers are asked again.
const RETRY: Duration = Duration::from_millis(500);
/// How often all peers are asked for one part of the state.
const ROUNDS: u32 = 3;

/// Why an attempt to sync ended.
pub(crate) enum SyncFailure {
    /// This node cannot continue.
    Engine(EngineError),
    /// No peer has what is needed, or none responds.
    Unavailable(String),
}

impl<T: Into<EngineError>> From<T> for SyncFailure {
    fn from(error: T) -> Self {
        Self::Engine(error.into())
    }
}

/// What a download has received so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Received {
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
}

/// Downloads parts of the state.
pub(crate) struct StateFetcher<E> {
    clock: E,
    peers: Arc<Peers<E>>,
    sink: Arc<dyn Sink>,
    /// The block whose state it is.
    height: u64,
    commitment: LogCommitment,
    received: Arc<Mutex<Received>>,
}

impl<E: Spawner + StorageContext> StateFetcher<E> {
    pub(crate) fn new(
        clock: E,
        peers: Arc<Peers<E>>,
        sink: Arc<dyn Sink>,
        height: u64,
        commitment: LogCommitment,
    ) -> Self {
        Self { clock, peers, sink, height, commitment, received: Arc::default() }
    }

    /// Downloads the whole state into the database.
    ///
    /// # Errors
    /// [`SyncFailure`]; what was written is overwritten by the next attempt.
    pub(crate) async fn run(
        self,
        context: E,
        prefix: &str,
        page_cache: CacheRef,
    ) -> Result<Received, SyncFailure> {
        let received = Arc::clone(&self.received);
        let commitment = self.commitment.clone();
        let synced: Result<Qmdb<E>, _> = sync::sync(sync::engine::Config {
            context,
            source: self,
            target: commitment.clone(),
            max_outstanding_requests: NZUsize!(8),
            fetch_batch_size: OPERATIONS_MAX,
            apply_batch_size: NZU64!(4_096),
            db_config: database::config(prefix, page_cache),
            update_rx: None,
            finish_rx: None,
            reached_target_tx: None,
        })
        .await;
        let received = *lock(&received);
        match synced {
            Ok(database) if database.root() == commitment.root => Ok(received),
            Ok(_) => Err(SyncFailure::Unavailable("the downloaded state has another root".into())),
            Err(SyncError::Database(error)) => Err(StoreError::from(error).into()),
            Err(error) => Err(SyncFailure::Unavailable(error.to_string())),
        }
    }
}

fn lock(received: &Mutex<Received>) -> MutexGuard<'_, Received> {
    received.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: Clock> StateFetcher<E> {
    fn count(&self, part: &StatePart) {
        let operations = match part {
            StatePart::Operations { operations, .. } => operations.len() as u64,
            StatePart::Boundary { .. } => 0,
        };
        let progress = {
            let mut received = lock(&self.received);
            received.operations += operations;
            received.bytes += part.encode_size() as u64;
            JoinProgress::State {
                height: self.height,
                operations: received.operations,
                of: *self.commitment.range.end() - *self.commitment.range.start(),
                bytes: received.bytes,
            }
        };
        self.sink.joining(progress);
    }

    /// Whether a part is what was requested and is proved to belong to the state.
    fn proves(&self, request: StateRequest, part: &StatePart) -> bool {
        let (start, root) = (request.start(), &self.commitment.root);
        part.proof().leaves == request.size()
            && match (request, part) {
                (
                    StateRequest::Operations { max_ops, .. },
                    StatePart::Operations { proof, operations },
                ) => {
                    !operations.is_empty()
                        && operations.len() as u64 <= max_ops.get()
                        && qmdb::verify_proof::<Blake3, _, _>(proof, start, operations, root)
                }
                (
                    StateRequest::Boundary { .. },
                    StatePart::Boundary { proof, op, pinned_nodes },
                ) => qmdb::verify_proof_and_pinned_nodes::<Blake3, _, _>(
                    proof,
                    start,
                    std::slice::from_ref(op),
                    pinned_nodes,
                    root,
                ),
                _ => false,
            }
    }
}

/// No peer has this operation of the state.
#[derive(Debug, thiserror::Error)]
#[error("no peer provides operation {0} of the state")]
pub(crate) struct MissingOperation(u64);

impl<E: Clock> Source for StateFetcher<E> {
    type Family = mmr::Family;
    type Digest = Digest;
    type Op = Operation;
    type Error = MissingOperation;

    async fn serve(&self, request: StateRequest) -> source::Result<Self> {
        let start = *request.start();
        for _ in 0..ROUNDS {
            for peer in self.peers.ranked() {
                match self.peers.ask(&peer, Request::State(request)).await {
                    Some(Response::State(part)) if self.proves(request, &part) => {
                        self.count(&part);
                        return Ok((*part, None));
                    }
                    Some(_) => {
                        let block = self.height;
                        let why = format!("a part of the state of block {block} without proof");
                        self.peers.refuse(&peer, &why);
                    }
                    None => {}
                }
            }
            self.clock.sleep(RETRY).await;
        }
        Err(MissingOperation(start))
    }
}

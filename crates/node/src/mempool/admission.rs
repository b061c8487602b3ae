//! The way into the pool: whatever arrives while one batch of signatures is being verified forms
//! the next batch, so batches grow with the load and a single transaction does not wait.
//!
//! Transactions from clients and this node's own are passed on to the other nodes, once; those from
//! other nodes never are. The bytes that wait are bounded; beyond the bound, admission fails at
//! once.

use std::sync::Arc;

use soma_protocol::{Hash, SignedTransaction};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::{Mempool, Screened};
use crate::chain::Chain;
use crate::metrics::Metrics;
use crate::refusal::Refusal;

/// The most bytes of transactions that may wait for verification.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// The most requests that may wait for verification.
const WAITING_MAX: usize = 4_096;
/// The most signatures verified together; the state is locked while they are screened.
const BATCH_MAX: usize = 512;

/// What was decided about each transaction, in the order of the request.
pub(crate) type Answers = Vec<Result<Hash, Refusal>>;

/// Admits transactions at once, on the calling thread.
pub(crate) struct Admission {
    pub(crate) pool: Mempool,
    pub(crate) chain: Arc<Chain>,
    pub(crate) metrics: Arc<Metrics>,
    /// Transactions for the other nodes; `None` for a node without peers.
    pub(crate) outbox: Option<mpsc::Sender<SignedTransaction>>,
}

impl Admission {
    /// Admits transactions of clients or of this node, and passes them on to the other nodes.
    pub(crate) fn admit(&self, transactions: Vec<SignedTransaction>) -> Answers {
        let screened = self.screen(transactions);
        let unverified = |screened: &Screened| match screened {
            Screened::Unverified(transaction) => Some(transaction.clone()),
            _ => None,
        };
        let unverified: Vec<_> = screened.iter().map(unverified).collect();
        let answers = self.enter(screened);
        for (answer, transaction) in answers.iter().zip(unverified) {
            if let (Ok(_), Some(outbox), Some(transaction)) = (answer, &self.outbox, transaction) {
                // If too many wait, the other nodes get this one in a block.
                let _full = outbox.try_send(transaction);
            }
        }
        answers
    }

    /// Admits transactions from another node, which sends them to every other node itself.
    fn admit_gossip(&self, transactions: Vec<SignedTransaction>) -> Answers {
        self.enter(self.screen(transactions))
    }

    fn screen(&self, transactions: Vec<SignedTransaction>) -> Vec<Screened> {
        let now_ms = soma_os::clock::now_ms();
        self.chain.read(|state, _| self.pool.screen(transactions, state, now_ms))
    }

    /// Signatures are verified without holding the state, so blocks can be finalized meanwhile.
    fn enter(&self, screened: Vec<Screened>) -> Answers {
        let verified = self.pool.verify_screened(screened);
        let now_ms = soma_os::clock::now_ms();
        let answers = self.chain.read(|state, _| self.pool.enter(verified, state, now_ms));
        let admitted = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        self.metrics.transactions_admitted.inc_by(admitted);
        self.metrics.transactions_refused.inc_by(answers.len() as u64 - admitted);
        self.chain.engine().wake();
        answers
    }
}

/// Why the queue takes no transactions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum QueueError {
    #[error("too many transactions are waiting for verification")]
    Full,
    #[error("the node is stopping")]
    Stopping,
}

struct Arrival {
    transactions: Vec<SignedTransaction>,
    answers: oneshot::Sender<Answers>,
    /// Room among the bytes of clients; `None` for gossip, of which one batch at a time arrives.
    room: Option<OwnedSemaphorePermit>,
}

/// The queue in front of [`Admission`]; it closes when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct AdmissionQueue {
    arrivals: mpsc::Sender<Arrival>,
    room: Arc<Semaphore>,
}

impl AdmissionQueue {
    /// A queue and its other end: nothing is admitted until that runs.
    pub(crate) fn new(admission: Arc<Admission>) -> (Self, Arrivals) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        let queue = Self { arrivals: sender, room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)) };
        (queue, Arrivals { receiver, admission })
    }

    /// Admits transactions from a client, `bytes` long in all.
    ///
    /// # Errors
    /// [`QueueError`] when too much waits, or the node stops.
    pub(crate) async fn admit(
        &self,
        transactions: Vec<SignedTransaction>,
        bytes: usize,
    ) -> Result<Answers, QueueError> {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let room = Some(room.map_err(|_| QueueError::Full)?);
        let (sender, answers) = oneshot::channel();
        let arrival = Arrival { transactions, answers: sender, room };
        self.arrivals.try_send(arrival).map_err(|_| QueueError::Full)?;
        answers.await.map_err(|_| QueueError::Stopping)
    }

    /// Admits transactions from other nodes. It waits for its place and its answers, so that the
    /// rest of what they send cannot fill the queue: one batch at a time may be on its way.
    ///
    /// # Errors
    /// [`QueueError::Stopping`].
    pub(crate) async fn admit_gossip(
        &self,
        transactions: Vec<SignedTransaction>,
    ) -> Result<Answers, QueueError> {
        let (sender, answers) = oneshot::channel();
        let arrival = Arrival { transactions, answers: sender, room: None };
        self.arrivals.send(arrival).await.map_err(|_| QueueError::Stopping)?;
        answers.await.map_err(|_| QueueError::Stopping)
    }
}

/// The other end of an [`AdmissionQueue`].
pub(crate) struct Arrivals {
    receiver: mpsc::Receiver<Arrival>,
    admission: Arc<Admission>,
}

impl Arrivals {
    /// Admits what arrives until the queue closes.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.receiver.recv().await {
            let mut count = first.transactions.len();
            let mut batch = vec![first];
            while count < BATCH_MAX
                && let Ok(arrival) = self.receiver.try_recv()
            {
                count += arrival.transactions.len();
                batch.push(arrival);
            }
            let admission = Arc::clone(&self.admission);
            // Fails only when the runtime ends; no client waits for the answer then.
            let _ended = tokio::task::spawn_blocking(move || admit_batch(&admission, batch)).await;
        }
    }
}

fn admit_batch(admission: &Admission, batch: Vec<Arrival>) {
    let (sent, gossip) = batch.into_iter().partition(|arrival| arrival.room.is_some());
    answer(sent, |transactions| admission.admit(transactions));
    answer(gossip, |transactions| admission.admit_gossip(transactions));
}

/// Admits transactions together and answers each arrival.
fn answer(arrivals: Vec<Arrival>, admit: impl FnOnce(Vec<SignedTransaction>) -> Answers) {
    if arrivals.is_empty() {
        return;
    }
    let (mut transactions, mut waiting) = (Vec::new(), Vec::new());
    for mut arrival in arrivals {
        let count = arrival.transactions.len();
        transactions.append(&mut arrival.transactions);
        waiting.push((count, arrival));
    }
    let mut answers = admit(transactions).into_iter();
    for (count, arrival) in waiting {
        // A client may have disconnected; its transactions stay.
        let _gone = arrival.answers.send(answers.by_ref().take(count).collect());
    }
}

//! The way into the pool: whatever arrives while one batch of signatures is being verified forms
//! the next batches, so batches grow with the load, a single transaction does not wait, and whoever
//! sends little does not wait for those who send much.
//!
//! Transactions from clients and this node's own are passed on to the other nodes, once; those from
//! other nodes never are.

use std::sync::Arc;

use parking_lot::Mutex;
use soma_protocol::SignedTransaction;
use tokio::sync::mpsc;

use super::outbox::Outbox;
use super::turns::{Answers, Part, Party, QueueError, Turns};
use super::{Mempool, Screened};
use crate::chain::Chain;
use crate::metrics::Metrics;

/// Admits transactions at once, on the calling thread.
pub(crate) struct Admission {
    pub(crate) pool: Mempool,
    pub(crate) chain: Arc<Chain>,
    pub(crate) metrics: Arc<Metrics>,
    /// Transactions for the other nodes; `None` for a node without peers.
    pub(crate) outbox: Option<Arc<Outbox>>,
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
                outbox.push(transaction);
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
        let mut answers = Vec::with_capacity(verified.len());
        let mut together = Vec::new();
        let mut enter = |part: &mut Vec<Screened>| {
            let part = std::mem::take(part);
            if !part.is_empty() {
                answers.extend(self.chain.read(|state, _| self.pool.enter(part, state, now_ms)));
            }
        };
        // A duty is executed to judge it: each has the state for itself, so that no block waits for
        // more than one.
        for screened in verified {
            let alone = screened.is_judged();
            if alone {
                enter(&mut together);
            }
            together.push(screened);
            if alone {
                enter(&mut together);
            }
        }
        enter(&mut together);
        let admitted = answers.iter().filter(|answer| answer.is_ok()).count() as u64;
        self.metrics.transactions_admitted.inc_by(admitted);
        self.metrics.transactions_refused.inc_by(answers.len() as u64 - admitted);
        self.chain.engine().wake();
        answers
    }
}

/// The queue in front of [`Admission`]; it closes when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct AdmissionQueue {
    turns: Arc<Mutex<Turns>>,
    wake: mpsc::Sender<()>,
}

impl AdmissionQueue {
    /// A queue and its other end: nothing is admitted until that runs.
    pub(crate) fn new(admission: Arc<Admission>) -> (Self, Arrivals) {
        let (wake, woken) = mpsc::channel(1);
        let turns = Arc::<Mutex<Turns>>::default();
        (Self { turns: Arc::clone(&turns), wake }, Arrivals { turns, woken, admission })
    }

    /// Admits transactions, when it is the party's turn.
    ///
    /// # Errors
    /// [`QueueError`] when too much waits, or the node stops.
    pub(crate) async fn admit(
        &self,
        party: Party,
        transactions: Vec<SignedTransaction>,
    ) -> Result<Answers, QueueError> {
        let answers = self.turns.lock().push(party, transactions);
        // If it is full, the other end is about to look.
        let _woken = self.wake.try_send(());
        answers.await.unwrap_or(Err(QueueError::Stopping))
    }
}

/// The other end of an [`AdmissionQueue`].
pub(crate) struct Arrivals {
    turns: Arc<Mutex<Turns>>,
    woken: mpsc::Receiver<()>,
    admission: Arc<Admission>,
}

impl Arrivals {
    /// Admits what arrives until the queue closes.
    pub(crate) async fn run(mut self) {
        while self.woken.recv().await.is_some() {
            loop {
                let batch = self.turns.lock().next_batch();
                if batch.is_empty() {
                    break;
                }
                let admission = Arc::clone(&self.admission);
                // Fails only when the runtime ends; no client waits for the answer then.
                let work = move || admit_batch(&admission, batch);
                let _ended = tokio::task::spawn_blocking(work).await;
            }
        }
    }
}

fn admit_batch(admission: &Admission, batch: Vec<Part>) {
    let (gossip, sent): (Vec<_>, Vec<_>) =
        batch.into_iter().partition(|part| part.party == Party::Nodes);
    answer(sent, |transactions| admission.admit(transactions));
    answer(gossip, |transactions| admission.admit_gossip(transactions));
}

/// Admits transactions together and answers each part.
fn answer(mut parts: Vec<Part>, admit: impl FnOnce(Vec<SignedTransaction>) -> Answers) {
    if parts.is_empty() {
        return;
    }
    let (mut transactions, mut counts) = (Vec::new(), Vec::new());
    for part in &mut parts {
        counts.push(part.transactions.len());
        transactions.append(&mut part.transactions);
    }
    let mut answers = admit(transactions).into_iter();
    for (part, count) in parts.iter().zip(counts) {
        part.answer(answers.by_ref().take(count).collect());
    }
}

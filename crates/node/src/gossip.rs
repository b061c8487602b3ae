//! What the pools of connected nodes tell each other: transactions that one of them took from a client, in batches.
//!
//! A node tells what it heard from clients and what it signed itself, once, and never what it heard from a node: every node is
//! connected to every other. Nothing depends on it being heard: who took a transaction also proposes it. It must never wait
//! for a peer, nor believe one.

use std::sync::Arc;
use std::time::Duration;

use soma_engine::{GOSSIP_BYTES_MAX, Gossip, GossipMessage};
use soma_protocol::SignedTransaction;
use soma_sdk::api::batch;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::http::Admission;
use crate::node::Shared;

/// Least time between two messages; the engine carries 64 a second to each peer.
const PAUSE: Duration = Duration::from_millis(20);
/// Transactions that wait to be told; more are left to their own node's blocks.
const WAITING_MAX: usize = 32_768;

/// Where transactions are put that the other nodes should hear of.
#[derive(Clone, Debug)]
pub(crate) struct Outbox(mpsc::Sender<Vec<u8>>);

/// An outbox, and what comes out of it.
pub(crate) fn outbox() -> (Outbox, mpsc::Receiver<Vec<u8>>) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Outbox(sender), receiver)
}

impl Outbox {
    /// Puts an encoded transaction out; drops it when too many wait.
    pub(crate) fn put(&self, transaction: Vec<u8>) {
        // The others get it in a block.
        let _full = self.0.try_send(transaction);
    }
}

/// Tells the other nodes what is put out, until nobody can put any more.
pub(crate) async fn tell(gossip: Gossip, mut waiting: mpsc::Receiver<Vec<u8>>, node: Arc<Shared>) {
    let mut left_over = None;
    let mut next = Instant::now();
    loop {
        let first = match left_over.take() {
            Some(transaction) => transaction,
            None => match waiting.recv().await {
                Some(transaction) => transaction,
                None => return,
            },
        };
        let mut message = Vec::new();
        batch::push_bytes(&mut message, &first);
        tokio::time::sleep_until(next).await;
        while let Ok(transaction) = waiting.try_recv() {
            let fits = message.len() + transaction.len() + batch::LENGTH_BYTES <= GOSSIP_BYTES_MAX;
            if !fits || !batch::push_bytes(&mut message, &transaction) {
                left_over = Some(transaction);
                break;
            }
        }
        if gossip.send(message) {
            node.metrics.gossip_sent.add(1);
        } else {
            node.metrics.gossip_dropped.add(1);
        }
        next = Instant::now() + PAUSE;
    }
}

/// Takes what other nodes tell into the pool.
pub(crate) async fn listen(
    mut heard: mpsc::Receiver<GossipMessage>,
    admission: Admission,
    node: Arc<Shared>,
) {
    while let Some(GossipMessage { from, bytes }) = heard.recv().await {
        node.metrics.gossip_heard.add(1);
        let Ok(parts) = batch::split(&bytes) else {
            node.metrics.gossip_malformed.add(1);
            tracing::debug!(%from, "a node tells what is no batch of transactions");
            continue;
        };
        let decoded = parts.into_iter().map(SignedTransaction::decode);
        admission.hear(decoded.flatten().collect(), bytes.len());
    }
}

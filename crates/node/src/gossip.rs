//! Transactions between the pools of connected nodes, in batches.
//!
//! A node sends what its clients sent and what it signed itself, once. It never passes on what
//! another node sent, because every node is connected to every other. Nothing depends on delivery:
//! the node that admitted a transaction also proposes it. It must never wait for a peer or trust
//! one.

use std::sync::Arc;
use std::time::Duration;

use soma_engine::{GOSSIP_BYTES_MAX, Gossip, GossipMessage};
use soma_protocol::SignedTransaction;
use soma_sdk::api::batch;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::mempool::AdmissionQueue;
use crate::metrics::Metrics;

/// The shortest time between two messages; the engine carries 64 a second to each peer.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(20);
/// How many transactions may wait to be sent; the rest reach the other nodes in blocks.
pub(crate) const OUTBOX_MAX: usize = 32_768;

/// Sends transactions from `outbox` until it is closed.
pub(crate) async fn send(
    gossip: Gossip,
    mut outbox: mpsc::Receiver<SignedTransaction>,
    metrics: Arc<Metrics>,
) {
    let mut left_over = None;
    let mut next = Instant::now();
    loop {
        let first = match left_over.take() {
            Some(transaction) => transaction,
            None => match outbox.recv().await {
                Some(transaction) => transaction,
                None => return,
            },
        };
        let mut message = Vec::new();
        batch::push(&mut message, &first);
        tokio::time::sleep_until(next).await;
        while let Ok(transaction) = outbox.try_recv() {
            let fits =
                message.len() + transaction.bytes().len() + batch::LENGTH_BYTES <= GOSSIP_BYTES_MAX;
            if !fits || !batch::push(&mut message, &transaction) {
                left_over = Some(transaction);
                break;
            }
        }
        if gossip.send(message) {
            metrics.gossip_sent.inc();
        } else {
            metrics.gossip_dropped.inc();
        }
        next = Instant::now() + MESSAGE_INTERVAL;
    }
}

/// Admits to the pool what other nodes send.
pub(crate) async fn receive(
    mut received: mpsc::Receiver<GossipMessage>,
    queue: AdmissionQueue,
    metrics: Arc<Metrics>,
) {
    while let Some(GossipMessage { from, bytes }) = received.recv().await {
        metrics.gossip_heard.inc();
        let Ok(parts) = batch::split(&bytes) else {
            metrics.gossip_malformed.inc();
            tracing::debug!(%from, "ignoring a malformed batch of a peer");
            continue;
        };
        let decoded = parts.into_iter().map(SignedTransaction::decode);
        queue.admit_gossip(decoded.flatten().collect(), bytes.len());
    }
}

//! Transactions between the pools of connected nodes, in batches.
//!
//! A node sends what its clients sent and what it signed itself, once. It never passes on what
//! another node sent, because every node is connected to every other. Nothing depends on delivery:
//! the node that admitted a transaction also proposes it. It must never wait for a peer or trust
//! one.
//!
//! Before an honest node sends a transaction, it has decoded it and verified its signature. A peer
//! that sends anything else is blocked at its first message. What an honest node could send is
//! bounded by a rate, and peers take turns: one batch of all of them is verified at a time, and
//! meanwhile their messages wait in the engine, each peer's in a queue of its own.
//!
//! A valid transaction that the pool refuses costs its sender more of its rate, a duty that the
//! rules reject as much as judging it takes, and a peer that has used it up is not listened to for
//! a moment. It is not blocked: clients that send one thing to
//! one node and another to the next can make an honest node's transactions be refused.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use soma_engine::{GOSSIP_BYTES_MAX, Gossip, GossipMessage, GossipReceiver, PEERS_MAX};
use soma_protocol::{ConsensusKey, Error, Hash, Rejection, SignedTransaction};
use soma_sdk::api::batch;
use tokio::time::Instant;

use crate::mempool::{AdmissionQueue, Outbox, Party, QueueError, refused_cost};
use crate::metrics::Metrics;
use crate::refusal::Refusal;

/// The shortest time between two messages; the engine carries 64 a second to each peer.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(20);
/// The most transactions that a node sends per second, and admits of one peer: more than a network
/// finalizes. It bounds the signatures that a peer makes this node verify.
const TRANSACTIONS_PER_SECOND: u64 = 16_384;
/// How far a peer may be ahead of this rate, as messages do not arrive as evenly as they are sent.
const BURST: Duration = Duration::from_secs(1);
/// What a transaction costs more if the pool refuses it, in transactions; a duty that was judged
/// costs its work.
const REFUSED_COST: usize = 15;
/// How far ahead of its rate a peer gets by that: then it is not listened to for a second.
const DEBT: Duration = Duration::from_secs(2);
/// The most transactions that are verified together, apart from those of the last message.
const TOGETHER_MAX: usize = 512;

/// The time in which a node may send this many transactions.
fn time_for(transactions: usize) -> Duration {
    let nanos = (transactions as u64).saturating_mul(1_000_000_000) / TRANSACTIONS_PER_SECOND;
    Duration::from_nanos(nanos)
}

/// Sends the transactions in the outbox, forever.
pub(crate) async fn send(gossip: Gossip, outbox: Arc<Outbox>, metrics: Arc<Metrics>) {
    let mut next = Instant::now();
    loop {
        tokio::time::sleep_until(next).await;
        let first = outbox.next().await;
        let mut message = Vec::new();
        batch::push(&mut message, &first);
        let mut count = 1;
        while count < batch::BATCH_MAX
            && let Some(room) = GOSSIP_BYTES_MAX.checked_sub(message.len() + batch::LENGTH_BYTES)
            && let Some(transaction) = outbox.next_within(room)
        {
            batch::push(&mut message, &transaction);
            count += 1;
        }
        if gossip.send(message) {
            metrics.gossip_sent.inc();
        } else {
            metrics.gossip_dropped.inc();
        }
        next = Instant::now() + MESSAGE_INTERVAL.max(time_for(count));
    }
}

/// Up to when the peers have used their rate.
#[derive(Debug, Default)]
struct Rates(HashMap<ConsensusKey, Instant>);

impl Rates {
    /// Whether a peer may send this many transactions now.
    fn allow(&mut self, peer: ConsensusKey, transactions: usize, now: Instant) -> bool {
        if self.0.len() >= PEERS_MAX {
            self.0.retain(|_, used_until| *used_until > now);
        }
        let used_until = self.0.entry(peer).or_insert(now);
        let after = (*used_until).max(now) + time_for(transactions);
        let allowed = after <= now + BURST;
        if allowed {
            *used_until = after;
        }
        allowed
    }

    /// Charges a peer this many transactions for what the pool refused.
    fn charge(&mut self, peer: ConsensusKey, cost: usize, now: Instant) {
        let used_until = self.0.entry(peer).or_insert(now);
        let after = (*used_until).max(now) + time_for(cost);
        *used_until = after.min(now + DEBT);
    }
}

/// The transactions in a batch.
///
/// # Errors
/// Why no honest node sends this.
fn decode(parts: &[&[u8]], chain: &Hash) -> Result<Vec<SignedTransaction>, &'static str> {
    let decode = |part: &&[u8]| match SignedTransaction::decode(part) {
        Ok(transaction) if transaction.transaction().chain == *chain => Ok(transaction),
        Ok(_) => Err("it sent a transaction of another chain"),
        Err(_) => Err("it sent a malformed transaction"),
    };
    parts.iter().map(decode).collect()
}

/// Admits to the pool what other nodes send.
pub(crate) struct Listener {
    chain: Hash,
    gossip: Gossip,
    queue: AdmissionQueue,
    metrics: Arc<Metrics>,
    rates: Rates,
}

impl Listener {
    pub(crate) fn new(
        chain: Hash,
        gossip: Gossip,
        queue: AdmissionQueue,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { chain, gossip, queue, metrics, rates: Rates::default() }
    }

    /// Admits what is received until the network is closed.
    pub(crate) async fn run(mut self, mut received: GossipReceiver) {
        while let Some(first) = received.recv().await {
            let (mut transactions, mut senders) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(message) = next {
                let decoded = self.read(&message);
                senders.resize(senders.len() + decoded.len(), message.from);
                transactions.extend(decoded);
                let room = transactions.len() < TOGETHER_MAX;
                next = if room { received.try_recv() } else { None };
            }
            if transactions.is_empty() {
                continue;
            }
            // What each costs its peer if the pool refuses it.
            let cost = |signed: &SignedTransaction| match &signed.transaction().action {
                duty if duty.is_duty() => usize::try_from(refused_cost(duty)).unwrap_or(usize::MAX),
                _ => REFUSED_COST,
            };
            let costs: Vec<_> = transactions.iter().map(cost).collect();
            let answers = match self.queue.admit(Party::Nodes, transactions).await {
                Ok(answers) => answers,
                Err(QueueError::Full) => continue,
                Err(QueueError::Stopping) => return,
            };
            for ((from, cost), answer) in senders.into_iter().zip(costs).zip(answers) {
                match answer {
                    Ok(_) => {}
                    // It depends on nothing but what was sent, so an honest node sends none.
                    Err(Refusal::Rejected(Rejection::BadEvidence)) => {
                        self.block(from, "it sent evidence that proves nothing");
                    }
                    Err(Refusal::Invalid(Error::Signature)) => {
                        self.block(from, "it sent a forged signature");
                    }
                    Err(Refusal::Rejected(_)) => self.rates.charge(from, cost, Instant::now()),
                    Err(_) => self.rates.charge(from, REFUSED_COST, Instant::now()),
                }
            }
        }
    }

    /// The transactions of a message; none if its sender is blocked for it or above its rate.
    fn read(&mut self, message: &GossipMessage) -> Vec<SignedTransaction> {
        self.metrics.gossip_heard.inc();
        let Ok(parts) = batch::split(&message.bytes) else {
            self.block(message.from, "it sent a malformed batch");
            return Vec::new();
        };
        if !self.rates.allow(message.from, parts.len(), Instant::now()) {
            self.metrics.gossip_refused.inc();
            return Vec::new();
        }
        decode(&parts, &self.chain).unwrap_or_else(|why| {
            self.block(message.from, why);
            Vec::new()
        })
    }

    fn block(&self, peer: ConsensusKey, why: &'static str) {
        self.metrics.gossip_blocked.inc();
        self.gossip.block(peer, why);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use soma_protocol::ConsensusKey;
    use soma_sdk::api::batch;
    use tokio::time::Instant;

    use super::{BURST, REFUSED_COST, Rates, TRANSACTIONS_PER_SECOND, time_for};

    #[test]
    fn a_peer_is_held_to_the_rate_at_which_an_honest_node_sends() {
        let begun = Instant::now();
        let (honest, greedy) = (ConsensusKey([1; 32]), ConsensusKey([2; 32]));
        let mut rates = Rates::default();
        let (mut now, mut next, mut allowed) = (begun, begun, 0);
        while now < begun + Duration::from_secs(10) {
            for _ in 0..3 {
                let count =
                    if rates.allow(greedy, batch::BATCH_MAX, now) { batch::BATCH_MAX } else { 0 };
                allowed += count as u64;
            }
            if now >= next {
                assert!(rates.allow(honest, batch::BATCH_MAX, now));
                next = now + time_for(batch::BATCH_MAX);
            }
            now += Duration::from_millis(10);
        }
        assert!(allowed <= TRANSACTIONS_PER_SECOND * (10 + BURST.as_secs()), "{allowed}");
        assert!(allowed >= TRANSACTIONS_PER_SECOND * 10, "{allowed}");
    }

    #[test]
    fn a_peer_whose_transactions_are_refused_is_heard_less_and_others_are_not() {
        let begun = Instant::now();
        let (flooding, honest) = (ConsensusKey([1; 32]), ConsensusKey([2; 32]));
        let mut rates = Rates::default();
        let (mut now, mut heard) = (begun, 0);
        while now < begun + Duration::from_secs(10) {
            if rates.allow(flooding, batch::BATCH_MAX, now) {
                rates.charge(flooding, batch::BATCH_MAX * REFUSED_COST, now);
                heard += batch::BATCH_MAX as u64;
            }
            assert!(rates.allow(honest, 100, now));
            now += Duration::from_millis(10);
        }
        assert!(heard <= TRANSACTIONS_PER_SECOND, "{heard} in ten seconds");
        assert!(heard > 0, "it is not blocked");
    }
}

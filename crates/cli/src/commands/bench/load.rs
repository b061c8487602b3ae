//! Load on a network: transfers signed in advance, sent in batches to every node, and followed
//! until they are finalized.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use soma_codes::Code;
use soma_node::localnet::{Localnet, account_name};
use soma_protocol::{
    Action, Address, Amount, Hash, SecretKey, SignedTransaction, Transaction, action,
};
use soma_sdk::api::batch;
use soma_sdk::client::Client;

use crate::error::{Error, Result};

/// Maximum number of transactions in a batch.
const BATCH: usize = 256;
/// Transactions in flight: enough to fill blocks, too few to fill a pool.
const IN_FLIGHT_MAX: usize = 24_000;
/// Time between two requests for a block, and after a node answered that it is busy.
const POLL: Duration = Duration::from_millis(5);
/// Time between two batches at a given rate.
const TICK: Duration = Duration::from_millis(20);
/// Time without a finalized transaction after which the measurement fails.
const HALT_LIMIT: Duration = Duration::from_mins(1);
/// Refusals that end once some pending transactions are finalized.
const RETRIED: [Code; 3] = [Code::MempoolFull, Code::AccountFull, Code::NonceTooHigh];
const FEE_LIMIT: Amount = Amount(1_000_000_000);
const YEAR_MS: u64 = 365 * 24 * 3_600 * 1_000;

/// Sending accounts, and the nodes they send to.
pub(super) struct Load {
    clients: Vec<Client>,
    keys: Vec<SecretKey>,
    chain: Hash,
    valid_until_ms: u64,
    /// Transactions signed so far.
    signed: usize,
}

/// Transactions in sending order: those of an account in the order of their nonces.
pub(super) struct Signed(Vec<(Hash, SignedTransaction)>);

/// What was seen finalized.
pub(super) struct Measured {
    begun: Instant,
    ended: Instant,
    /// From the time at which each was due to be sent until it was seen finalized, shortest first;
    /// a late sending counts as waiting.
    latencies: Vec<Duration>,
}

impl Measured {
    /// Finalized transactions.
    pub(super) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// Transactions per second, from the first sent to the last seen finalized.
    pub(super) fn per_second(&self) -> f64 {
        self.count() as f64 / self.ended.duration_since(self.begun).as_secs_f64()
    }

    /// The time within which this share of them was finalized.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count"
        )]
        let at = (share * self.count() as f64) as usize;
        let latency = self.latencies.get(at.min(self.count().saturating_sub(1)));
        latency.copied().unwrap_or_default()
    }
}

/// What the sending tasks and the watching task of a run share.
struct InFlight {
    transactions: Vec<(Hash, SignedTransaction)>,
    /// How many are finalized.
    done: AtomicUsize,
    begun: Instant,
    rate: Option<f64>,
}

impl Load {
    pub(super) async fn new(local: &Localnet, urls: &[String]) -> Result<Self> {
        let clients = urls.iter().map(|url| Client::new(url));
        let clients: Vec<Client> = clients.collect::<std::result::Result<_, _>>()?;
        let accounts = local.genesis().accounts.len();
        let numbers = (1u32..).take(accounts.saturating_sub(1));
        let keys = numbers.map(|number| local.key(&account_name(number)));
        let status = clients[0].status().await?;
        Ok(Self {
            chain: status.chain_id.0,
            valid_until_ms: local.genesis().timestamp_ms + YEAR_MS,
            keys: keys.collect::<std::result::Result<_, _>>()?,
            clients,
            signed: 0,
        })
    }

    /// Signs the next `count` transfers, the accounts taking turns.
    pub(super) fn sign(&mut self, count: usize) -> Signed {
        let senders = self.keys.len();
        let addresses: Vec<Address> = self.keys.iter().map(SecretKey::address).collect();
        // Every account begins a run with the same nonce.
        let first = self.signed.next_multiple_of(senders);
        let count = count.next_multiple_of(senders);
        self.signed = first + count;
        let sign = |number: usize| {
            let sender = number % senders;
            let transaction = Transaction {
                chain: self.chain,
                sender: addresses[sender],
                nonce: (number / senders) as u64,
                tip: Amount::ZERO,
                fee_limit: FEE_LIMIT,
                valid_until_ms: self.valid_until_ms,
                action: Action::Transfer(action::Transfer {
                    to: addresses[(sender + 1) % senders],
                    amount: Amount(1),
                }),
            };
            let signed = transaction.sign(&self.keys[sender]);
            (signed.hash(), signed)
        };
        Signed((first..first + count).map(sign).collect())
    }

    /// Sends all, at most `rate` per second, and waits until all are finalized.
    pub(super) async fn run(&self, signed: Signed, rate: Option<f64>) -> Result<Measured> {
        let count = signed.0.len();
        let from = self.clients[0].status().await?.height.0;
        let in_flight = Arc::new(InFlight {
            transactions: signed.0,
            done: AtomicUsize::new(0),
            begun: Instant::now(),
            rate,
        });
        let senders = self.keys.len();
        let nodes = self.clients.len();
        let mut tasks = tokio::task::JoinSet::new();
        for (node, client) in self.clients.iter().cloned().enumerate() {
            // An account always uses the same node, where its transactions arrive in order.
            let assigned = (0..count).filter(move |number| number % senders % nodes == node);
            tasks.spawn(send(client, Arc::clone(&in_flight), assigned.collect()));
        }
        let watching = watch(self.clients[0].clone(), Arc::clone(&in_flight), from);
        let measured = tokio::select! {
            measured = watching => measured?,
            failed = first_failure(&mut tasks) => return Err(failed),
        };
        Ok(measured)
    }
}

/// The first failure of a sending task; never returns if all succeed.
async fn first_failure(tasks: &mut tokio::task::JoinSet<Result>) -> Error {
    while let Some(ended) = tasks.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return error,
            Err(error) => return Error::new(Code::LoadFailed, error.to_string()),
        }
    }
    std::future::pending().await
}

/// Sends the `assigned` transactions to one node, in order.
async fn send(client: Client, in_flight: Arc<InFlight>, assigned: Vec<usize>) -> Result {
    let mut at = 0;
    while at < assigned.len() {
        let due = in_flight.due(&assigned[at..]);
        if due == 0 {
            tokio::time::sleep(if in_flight.rate.is_some() { TICK } else { POLL }).await;
            continue;
        }
        let (mut body, mut taken) = (Vec::new(), 0);
        while taken < due && batch::push(&mut body, &in_flight.transactions[assigned[at + taken]].1)
        {
            taken += 1;
        }
        match client.send_batch(body).await {
            Ok(answers) => {
                let refused = answers.iter().position(|answer| answer.error.is_some());
                at += refused.unwrap_or(taken);
                let error = refused.and_then(|refused| answers[refused].error.clone());
                match error {
                    Some(error) if !RETRIED.contains(&error.code) => {
                        return Err(Error::new(error.code.0, error.message));
                    }
                    // It and those after it are sent again; the node recognizes duplicates.
                    Some(_) => tokio::time::sleep(POLL).await,
                    None => {}
                }
            }
            Err(soma_sdk::SdkError::Api { status: 429 | 503, .. }) => {
                tokio::time::sleep(POLL).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

impl InFlight {
    /// When a transaction is due; all at once without a rate.
    fn due_at(&self, number: usize) -> Instant {
        let after = self.rate.map_or(0.0, |rate| number as f64 / rate);
        self.begun + Duration::from_secs_f64(after)
    }

    /// How many of the next transactions may be sent now.
    fn due(&self, next: &[usize]) -> usize {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count of transactions"
        )]
        let until = match self.rate {
            Some(rate) => (self.begun.elapsed().as_secs_f64() * rate) as usize,
            None => self.done.load(Ordering::Relaxed) + IN_FLIGHT_MAX,
        };
        next.iter().take(BATCH).take_while(|number| **number < until).count()
    }
}

/// Follows the blocks of one node until all are finalized.
async fn watch(client: Client, in_flight: Arc<InFlight>, mut height: u64) -> Result<Measured> {
    let numbers = in_flight.transactions.iter().zip(0..);
    let numbers: HashMap<Hash, usize> =
        numbers.map(|((hash, _), number)| (*hash, number)).collect();
    let mut latencies = Vec::with_capacity(numbers.len());
    let mut last = Instant::now();
    while latencies.len() < numbers.len() {
        let block = match client.block(height + 1).await {
            Ok(block) => block,
            Err(soma_sdk::SdkError::Api { status: 404, .. }) => {
                if last.elapsed() > HALT_LIMIT {
                    let message =
                        format!("no transaction was finalized for {} s", HALT_LIMIT.as_secs());
                    return Err(Error::new(Code::NetworkHalted, message));
                }
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        height += 1;
        let now = Instant::now();
        for hash in &block.transactions {
            if let Some(number) = numbers.get(&hash.0) {
                latencies.push(now.duration_since(in_flight.due_at(*number)));
                last = now;
            }
        }
        in_flight.done.store(latencies.len(), Ordering::Relaxed);
    }
    latencies.sort_unstable();
    Ok(Measured { begun: in_flight.begun, ended: last, latencies })
}

//! Transactions from outside. What arrives while one batch of signatures is checked is checked together in the next, so
//! batches grow with the load and a lone transaction waits for nobody. What waits is bounded in bytes; beyond that the
//! answer is `busy`, at once.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use soma_codes::Code;
use soma_protocol::{Hash, SignedTransaction, TRANSACTION_BYTES_MAX};
use soma_sdk::api::batch::{self, BATCH_BYTES_MAX};
use soma_sdk::api::text::Text;
use soma_sdk::api::{ApiError, Batch, BatchAnswer, Submitted};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::clients::Client;
use super::{Api, Problem};
use crate::error::NodeError;
use crate::mempool::Refusal;
use crate::node::Shared;

/// Bytes of a request with one transaction, or with none.
pub(super) const BODY_BYTES_MAX: usize = TRANSACTION_BYTES_MAX;
/// Bytes of transactions that wait for their signature check; more are refused.
const WAITING_BYTES_MAX: usize = 16 << 20;
/// Requests that wait for it.
const WAITING_MAX: usize = 4_096;
/// Signatures checked together, and the state held meanwhile to screen them.
const CHECKED_MAX: usize = 512;

struct Arrival {
    transactions: Vec<SignedTransaction>,
    /// Who waits for the answer; nobody for what another node told.
    answer: Option<oneshot::Sender<Vec<Result<Hash, Refusal>>>>,
    _room: OwnedSemaphorePermit,
}

/// The door to the pool.
#[derive(Clone)]
pub(crate) struct Admission {
    arrivals: mpsc::Sender<Arrival>,
    room: Arc<Semaphore>,
}

impl Admission {
    /// Opens the door; it closes when the last clone is gone.
    pub(crate) fn start(node: Arc<Shared>) -> Self {
        let (sender, mut arrivals) = mpsc::channel::<Arrival>(WAITING_MAX);
        tokio::spawn(async move {
            while let Some(first) = arrivals.recv().await {
                let mut together: Vec<Arrival> = vec![first];
                let mut count = together[0].transactions.len();
                while count < CHECKED_MAX
                    && let Ok(arrival) = arrivals.try_recv()
                {
                    count += arrival.transactions.len();
                    together.push(arrival);
                }
                let node = Arc::clone(&node);
                // Fails only when the runtime ends, and nobody waits for the answer then.
                let _ended = tokio::task::spawn_blocking(move || check(&node, together)).await;
            }
        });
        Self {
            arrivals: sender,
            room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)),
        }
    }

    /// Hands transactions of `bytes` in all to the pool; answers in the same order.
    async fn admit(
        &self,
        transactions: Vec<SignedTransaction>,
        bytes: usize,
    ) -> Result<Vec<Result<Hash, Refusal>>, Problem> {
        let (answer, answered) = oneshot::channel();
        if !self.arrive(transactions, bytes, Some(answer)) {
            return Err(Problem::busy("too many transactions wait for their check"));
        }
        answered
            .await
            .map_err(|_| Problem::busy("the node is stopping"))
    }

    /// Takes what another node told; drops it when too much waits.
    pub(crate) fn hear(&self, transactions: Vec<SignedTransaction>, bytes: usize) {
        self.arrive(transactions, bytes, None);
    }

    /// Whether there was room for it.
    fn arrive(
        &self,
        transactions: Vec<SignedTransaction>,
        bytes: usize,
        answer: Option<oneshot::Sender<Vec<Result<Hash, Refusal>>>>,
    ) -> bool {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        room.is_ok_and(|room| {
            let arrival = Arrival {
                transactions,
                answer,
                _room: room,
            };
            self.arrivals.try_send(arrival).is_ok()
        })
    }
}

fn check(node: &Shared, arrivals: Vec<Arrival>) {
    let (mut heard, mut sent, mut askers) = (Vec::new(), Vec::new(), Vec::new());
    for arrival in arrivals {
        match arrival.answer {
            Some(asker) => {
                askers.push((arrival.transactions.len(), asker));
                sent.extend(arrival.transactions);
            }
            None => heard.extend(arrival.transactions),
        }
    }
    let mut answers = node.admit(sent).into_iter();
    for (count, asker) in askers {
        // Who asked may have gone; the transactions stay.
        let _gone = asker.send(answers.by_ref().take(count).collect());
    }
    node.hear(heard);
}

/// What the sender is told: a transaction that is sent again after it became final is known, not refused.
fn settle(api: &Api, hash: Hash, answer: Result<Hash, Refusal>) -> Result<Hash, Problem> {
    match answer {
        Err(Refusal::NonceTooLow { .. })
            if api
                .history
                .transaction(&hash)
                .map_err(NodeError::from)?
                .is_some() =>
        {
            Ok(hash)
        }
        answer => Ok(answer?),
    }
}

/// Send a signed transaction
#[utoipa::path(post, path = soma_sdk::api::routes::TRANSACTIONS, tag = "transactions",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, body = Submitted), (status = 400, body = ApiError), (status = 403, body = ApiError),
        (status = 409, body = ApiError), (status = 413, body = ApiError), (status = 422, body = ApiError),
        (status = 429, body = ApiError), (status = 503, body = ApiError)))]
pub(super) async fn send_transaction(
    State(api): State<Api>,
    client: Client,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Submitted>), Problem> {
    let body = body?;
    client.may_send(1)?;
    let transaction = SignedTransaction::decode(&body).map_err(Refusal::from)?;
    let hash = transaction.hash();
    let answer = api.admission.admit(vec![transaction], body.len()).await?;
    for answer in answer {
        settle(&api, hash, answer)?;
    }
    Ok((StatusCode::ACCEPTED, Json(Submitted { hash: Text(hash) })))
}

/// Send many signed transactions
#[utoipa::path(post, path = soma_sdk::api::routes::TRANSACTIONS_BATCH, tag = "transactions",
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "each transaction as its length in 4 little-endian bytes, then its bytes; at most 1024 and 1 MiB"),
    responses((status = 200, body = Batch), (status = 400, body = ApiError), (status = 413, body = ApiError),
        (status = 429, body = ApiError), (status = 503, body = ApiError)))]
pub(super) async fn send_batch(
    State(api): State<Api>,
    client: Client,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Batch>, Problem> {
    let body = body?;
    let parts = batch::split(&body)
        .map_err(|error| Problem::new(Code::MalformedBatch, error.to_string()))?;
    client.may_send(parts.len())?;
    let decoded: Vec<_> = parts
        .into_iter()
        .map(|part| SignedTransaction::decode(part).map_err(Refusal::from))
        .collect();
    let hashes: Vec<_> = decoded
        .iter()
        .map(|one| one.as_ref().ok().map(SignedTransaction::hash))
        .collect();
    let sent = decoded.iter().flatten().cloned().collect();
    let mut answers = api.admission.admit(sent, body.len()).await?.into_iter();
    let mut told = Vec::with_capacity(hashes.len());
    for (hash, decoded) in hashes.into_iter().zip(decoded) {
        let answer = match (hash, decoded) {
            (Some(hash), _) => {
                let answer = answers.next().unwrap_or(Err(Refusal::MempoolFull));
                settle(&api, hash, answer)
            }
            (None, decoded) => decoded.map(|_| Hash::default()).map_err(Problem::from),
        };
        told.push(BatchAnswer {
            hash: hash.map(Text),
            error: answer.err().map(Problem::into_body),
        });
    }
    Ok(Json(Batch { answers: told }))
}

/// The most bytes of a batch's request.
pub(super) const BATCH_BODY_BYTES_MAX: usize = BATCH_BYTES_MAX;

//! Transactions from outside. What arrives while one batch of signatures is checked is checked together in the next, so
//! batches grow with the load and a lone transaction waits for nobody.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use soma_protocol::{Hash, SignedTransaction, TRANSACTION_BYTES_MAX};
use soma_sdk::text::Text;
use soma_sdk::types::{ApiError, Submitted};
use tokio::sync::{mpsc, oneshot};

use super::{Api, Problem};
use crate::error::NodeError;
use crate::mempool::Refusal;
use crate::node::Shared;

/// Bytes of a request that is not an upload.
pub(super) const BODY_BYTES_MAX: usize = TRANSACTION_BYTES_MAX;
/// Transactions that wait for their signature check; one more is refused.
const WAITING_MAX: usize = 4096;
/// Signatures checked together.
const BATCH_MAX: usize = 256;

struct Arrival {
    transaction: SignedTransaction,
    answer: oneshot::Sender<Result<Hash, Refusal>>,
}

/// The door to the pool.
#[derive(Clone)]
pub(crate) struct Admission(mpsc::Sender<Arrival>);

impl Admission {
    /// Opens the door; it closes when the last clone is gone.
    pub(super) fn start(node: Arc<Shared>) -> Self {
        let (sender, mut arrivals) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let mut batch: Vec<Arrival> = Vec::with_capacity(BATCH_MAX);
            while arrivals.recv_many(&mut batch, BATCH_MAX).await > 0 {
                let (transactions, answers): (Vec<_>, Vec<_>) = batch
                    .drain(..)
                    .map(|arrival| (arrival.transaction, arrival.answer))
                    .unzip();
                let node = Arc::clone(&node);
                let admitted = tokio::task::spawn_blocking(move || node.admit(transactions)).await;
                for (answer, result) in answers.into_iter().zip(admitted.unwrap_or_default()) {
                    // Who asked may have gone; the transaction stays.
                    let _gone = answer.send(result);
                }
            }
        });
        Self(sender)
    }

    async fn admit(
        &self,
        transaction: SignedTransaction,
    ) -> Result<Result<Hash, Refusal>, Problem> {
        let (answer, answered) = oneshot::channel();
        let arrival = Arrival {
            transaction,
            answer,
        };
        if self.0.try_send(arrival).is_err() {
            return Ok(Err(Refusal::MempoolFull));
        }
        answered
            .await
            .map_err(|_| Problem::busy("the node is stopping"))
    }
}

/// Send a signed transaction
#[utoipa::path(post, path = soma_sdk::routes::TRANSACTIONS, tag = "transactions",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, body = Submitted), (status = 400, body = ApiError), (status = 403, body = ApiError),
        (status = 409, body = ApiError), (status = 413, body = ApiError), (status = 422, body = ApiError),
        (status = 429, body = ApiError), (status = 503, body = ApiError)))]
pub(super) async fn send_transaction(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Submitted>), Problem> {
    let transaction = SignedTransaction::decode(&body?).map_err(Refusal::from)?;
    let hash = transaction.hash();
    match api.admission.admit(transaction).await? {
        // Sent again after it became final: to its sender it is known, not refused.
        Err(Refusal::NonceTooLow { .. })
            if api
                .history
                .transaction(&hash)
                .map_err(NodeError::from)?
                .is_some() => {}
        answer => drop(answer?),
    }
    Ok((StatusCode::ACCEPTED, Json(Submitted { hash: Text(hash) })))
}

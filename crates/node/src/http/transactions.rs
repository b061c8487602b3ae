//! Transactions from clients, one or many in a request.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use soma_codes::Code;
use soma_protocol::{Error, Hash, SignedTransaction, TRANSACTION_BYTES_MAX};
use soma_sdk::api::batch::{self, BATCH_BYTES_MAX};
use soma_sdk::api::text::Text;
use soma_sdk::api::{ApiError, Batch, BatchAnswer, Submitted};

use super::api::Api;
use super::clients::{Client, FORGED_COST, MALFORMED_COST};
use super::problem::Problem;
use crate::error::NodeError;
use crate::mempool::refused_cost;
use crate::refusal::Refusal;

/// The most bytes in a request that is not a batch or an upload.
pub(super) const BODY_BYTES_MAX: usize = TRANSACTION_BYTES_MAX;

/// What a transaction costs its client beyond itself: what is none, what is forged, and duties that
/// the rules reject, which take a node's time.
fn cost(decoded: Option<&SignedTransaction>, refusal: &Refusal) -> u64 {
    match (refusal, decoded) {
        (Refusal::Invalid(Error::Signature), _) => FORGED_COST,
        (Refusal::Invalid(_), _) => MALFORMED_COST,
        (Refusal::Rejected(_), Some(duty)) => refused_cost(&duty.transaction().action),
        _ => 0,
    }
}

fn charge(client: &Client, costs: u64) {
    if costs > 0 {
        client.pay_for_garbage(costs);
    }
}

/// The answer to the client. A finalized transaction that is sent again is not refused.
fn answer_of(api: &Api, hash: Hash, answer: Result<Hash, Refusal>) -> Result<Hash, Problem> {
    match answer {
        Err(Refusal::NonceTooLow { .. } | Refusal::Rejected(_))
            if api.chain.history.transaction(&hash).map_err(NodeError::from)?.is_some() =>
        {
            Ok(hash)
        }
        answer => Ok(answer?),
    }
}

/// Send a signed transaction
#[utoipa::path(post, path = soma_sdk::api::routes::TRANSACTIONS, tag = "transactions",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses((status = 202, body = Submitted), (status = 400, body = ApiError),
        (status = 403, body = ApiError),
        (status = 409, body = ApiError), (status = 413, body = ApiError),
        (status = 422, body = ApiError),
        (status = 429, body = ApiError), (status = 503, body = ApiError)))]
pub(super) async fn send_transaction(
    State(api): State<Api>,
    client: Client,
    body: Result<Bytes, BytesRejection>,
) -> Result<(StatusCode, Json<Submitted>), Problem> {
    let body = body?;
    client.may_send(1, body.len())?;
    let decoded = SignedTransaction::decode(&body).map_err(Refusal::from);
    let transaction = decoded.inspect_err(|refusal| charge(&client, cost(None, refusal)))?;
    let hash = transaction.hash();
    let answers = api.admission.admit(client.party(), vec![transaction.clone()]).await?;
    for answer in answers {
        if let Err(refusal) = &answer {
            charge(&client, cost(Some(&transaction), refusal));
        }
        answer_of(&api, hash, answer)?;
    }
    Ok((StatusCode::ACCEPTED, Json(Submitted { hash: Text(hash) })))
}

/// Send many signed transactions
#[utoipa::path(post, path = soma_sdk::api::routes::TRANSACTIONS_BATCH, tag = "transactions",
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "each transaction as its length in 4 little-endian bytes, then its bytes; \
                       at most 1024 and 1 MiB"),
    responses((status = 200, body = Batch), (status = 400, body = ApiError),
        (status = 413, body = ApiError),
        (status = 429, body = ApiError), (status = 503, body = ApiError)))]
pub(super) async fn send_batch(
    State(api): State<Api>,
    client: Client,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Batch>, Problem> {
    let body = body?;
    let parts = batch::split(&body);
    client.may_send(parts.as_ref().map_or(1, Vec::len), body.len())?;
    let parts = parts.map_err(|error| {
        client.pay_for_garbage(MALFORMED_COST);
        Problem::new(Code::MalformedBatch, error.to_string())
    })?;
    let decoded: Vec<_> = parts
        .into_iter()
        .map(|part| SignedTransaction::decode(part).map_err(Refusal::from))
        .collect();
    let hashes: Vec<_> =
        decoded.iter().map(|decoded| decoded.as_ref().ok().map(SignedTransaction::hash)).collect();
    let sent: Vec<_> = decoded.iter().flatten().cloned().collect();
    let answers = api.admission.admit(client.party(), sent.clone()).await?;
    let undecoded = decoded.iter().filter_map(|decoded| Some(cost(None, decoded.as_ref().err()?)));
    let refused = sent.iter().zip(&answers);
    let refused =
        refused.filter_map(|(sent, answer)| Some(cost(Some(sent), answer.as_ref().err()?)));
    charge(&client, undecoded.chain(refused).sum());
    let mut answers = answers.into_iter();
    let mut batch = Vec::with_capacity(hashes.len());
    for (hash, decoded) in hashes.into_iter().zip(decoded) {
        let answer = match (hash, decoded) {
            (Some(hash), _) => {
                let answer = answers.next().unwrap_or(Err(Refusal::MempoolFull));
                answer_of(&api, hash, answer)
            }
            (None, decoded) => decoded.map(|_| Hash::default()).map_err(Problem::from),
        };
        batch.push(BatchAnswer {
            hash: hash.map(Text),
            error: answer.err().map(Problem::into_body),
        });
    }
    Ok(Json(Batch { answers: batch }))
}

/// The most bytes in a request that carries a batch.
pub(super) const BATCH_BODY_BYTES_MAX: usize = BATCH_BYTES_MAX;

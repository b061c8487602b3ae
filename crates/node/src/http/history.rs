//! Queries about the history: blocks, transactions and events.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use soma_codes::Code;
use soma_protocol::{Address, Epoch, Hash, ModelId, SignedTransaction, TargetId};
use soma_sdk::api::cursor::Cursor;
use soma_sdk::api::routes::{self, WHY_EPOCHS_DEFAULT, WHY_EPOCHS_MAX};
use soma_sdk::api::text::Text;
use soma_sdk::api::{self as types, ApiError, Page};
use soma_store::History;
use soma_store::history::{self, BlockRecord, Subject, TransactionRecord};

use super::api::{Api, Path, Query};
use super::json;
use super::problem::Problem;
use super::state::{found, page, page_size};
use super::why::About;
use crate::error::NodeError;

/// A transaction and its outcome
#[utoipa::path(get, path = routes::TRANSACTION, tag = "transactions",
    params(("hash" = String, Path)),
    responses((status = 200, body = types::Transaction), (status = 404, body = ApiError)))]
pub(super) async fn transaction(
    State(api): State<Api>,
    Path(hash): Path<Text<Hash>>,
) -> Result<Json<types::Transaction>, Problem> {
    Ok(Json(match find_transaction(&api, &hash)? {
        Found::Finalized(record) => json::finalized_transaction(&record),
        Found::Pending(transaction) => json::transaction(&transaction, None),
    }))
}

/// What a transaction does: its action with all fields
#[utoipa::path(get, path = routes::TRANSACTION_ACTION, tag = "transactions",
    params(("hash" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ApiError)))]
pub(super) async fn transaction_action(
    State(api): State<Api>,
    Path(hash): Path<Text<Hash>>,
) -> Result<Json<soma_protocol::Action>, Problem> {
    Ok(Json(match find_transaction(&api, &hash)? {
        Found::Finalized(record) => record.transaction.transaction().action.clone(),
        Found::Pending(transaction) => transaction.transaction().action.clone(),
    }))
}

/// Where a transaction is.
enum Found {
    Finalized(Box<TransactionRecord>),
    Pending(SignedTransaction),
}

fn find_transaction(api: &Api, hash: &Hash) -> Result<Found, Problem> {
    // The pool is asked first: a transaction finalized in between is then found in the history.
    let pending = api.pool.get(hash);
    if let Some(record) = api.chain.history.transaction(hash).map_err(NodeError::from)? {
        return Ok(Found::Finalized(Box::new(record)));
    }
    pending.map(Found::Pending).ok_or_else(|| {
        Problem::new(Code::TransactionNotFound, format!("there is no transaction {hash}"))
    })
}

#[derive(Deserialize)]
pub(super) struct Below {
    after: Option<Text<u64>>,
    limit: Option<u32>,
}

/// Blocks, newest first
#[utoipa::path(get, path = routes::BLOCKS, tag = "history",
    params(("after" = Option<String>, Query, description = "height of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Block>), (status = 400, body = ApiError)))]
pub(super) async fn blocks(
    State(api): State<Api>,
    Query(Below { after, limit }): Query<Below>,
) -> Result<Json<Page<types::Block>>, Problem> {
    let limit = page_size(limit)?;
    let blocks = api.chain.history.blocks(after.map(|height| *height), limit);
    let history::Page { items, more } = blocks.map_err(NodeError::from)?;
    let items = items.into_iter().map(|(record, hashes)| json::block(&record, hashes)).collect();
    Ok(page(items, more, |block: &types::Block| block.height.to_string()))
}

/// A block
#[utoipa::path(get, path = routes::BLOCK, tag = "history",
    params(("height" = String, Path, description = "its height, or its hash")),
    responses((status = 200, body = types::Block), (status = 400, body = ApiError),
        (status = 404, body = ApiError), (status = 410, body = ApiError)))]
pub(super) async fn block(
    State(api): State<Api>,
    Path(name): Path<String>,
) -> Result<Json<types::Block>, Problem> {
    let record = find_block(&api, &name)?;
    let hashes = api.chain.history.contents(record.height).map_err(NodeError::from)?;
    Ok(Json(json::block(&record, hashes)))
}

/// The block with this height or hash.
fn find_block(api: &Api, name: &str) -> Result<BlockRecord, Problem> {
    let history = &api.chain.history;
    if let Ok(height) = name.parse::<u64>() {
        let record = history.block(height).map_err(NodeError::from)?;
        return record.map_or_else(|| Err(no_block(history, height)?), Ok);
    }
    let hash: Hash = name
        .parse()
        .map_err(|_| Problem::bad_request(format!("{name:?} is no height and no hash")))?;
    let record = history.block_by_digest(&hash).map_err(NodeError::from)?;
    record.ok_or_else(|| Problem::new(Code::BlockNotFound, format!("there is no block {hash}")))
}

/// Why this node does not have the block.
fn no_block(history: &History, height: u64) -> Result<Problem, NodeError> {
    let first = history.first()?;
    Ok(if (1..first).contains(&height) {
        let message = format!("this node does not hold block {height}: its first one is {first}");
        Problem::new(Code::BlockPruned, message)
    } else {
        Problem::new(Code::BlockNotFound, format!("there is no block {height}"))
    })
}

#[derive(Deserialize)]
pub(super) struct AfterCursor {
    after: Option<Text<Cursor>>,
    limit: Option<u32>,
}

#[derive(Deserialize)]
pub(super) struct Signed {
    after: Option<Text<Cursor>>,
    limit: Option<u32>,
    rejected: Option<bool>,
}

/// The transactions of a block, in order
#[utoipa::path(get, path = routes::BLOCK_TRANSACTIONS, tag = "history",
    params(("height" = String, Path, description = "its height, or its hash"),
        ("after" = Option<String>, Query, description = "`HEIGHT-INDEX` of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Transaction>), (status = 400, body = ApiError),
        (status = 404, body = ApiError), (status = 410, body = ApiError)))]
pub(super) async fn block_transactions(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(AfterCursor { after, limit }): Query<AfterCursor>,
) -> Result<Json<Page<types::Transaction>>, Problem> {
    let limit = page_size(limit)?;
    let height = find_block(&api, &name)?.height;
    let first = after.map_or(0, |cursor| cursor.index.saturating_add(1));
    let records = api.chain.history.transactions_of_block(height, first, limit);
    Ok(transactions(records.map_err(NodeError::from)?))
}

/// The transactions that an account signed, newest first
#[utoipa::path(get, path = routes::ACCOUNT_TRANSACTIONS, tag = "history",
    params(("address" = String, Path, description = "soma1..."),
        ("rejected" = Option<bool>, Query, description = "only those that the rules rejected"),
        ("after" = Option<String>, Query, description = "`HEIGHT-INDEX` of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Transaction>), (status = 400, body = ApiError)))]
pub(super) async fn account_transactions(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
    Query(Signed { after, limit, rejected }): Query<Signed>,
) -> Result<Json<Page<types::Transaction>>, Problem> {
    let limit = page_size(limit)?;
    let before = after.map(|cursor| (cursor.height, cursor.index));
    let rejected = rejected.unwrap_or(false);
    let records = api.chain.history.transactions_of_sender(&address, rejected, before, limit);
    Ok(transactions(records.map_err(NodeError::from)?))
}

/// A page of transactions; the next one begins after the position of the last.
fn transactions(records: history::Page<TransactionRecord>) -> Json<Page<types::Transaction>> {
    let position = |record: &TransactionRecord| {
        Cursor { height: record.height, index: record.index }.to_string()
    };
    let Json(Page { items, next }) = page(records.items, records.more, position);
    Json(Page { items: items.iter().map(json::finalized_transaction).collect(), next })
}

/// What a block did, in order
#[utoipa::path(get, path = routes::BLOCK_EVENTS, tag = "history",
    params(("height" = String, Path, description = "its height, or its hash"),
        ("after" = Option<String>, Query, description = "cursor of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Event>), (status = 400, body = ApiError),
        (status = 404, body = ApiError), (status = 410, body = ApiError)))]
pub(super) async fn block_events(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(AfterCursor { after, limit }): Query<AfterCursor>,
) -> Result<Json<Page<types::Event>>, Problem> {
    let limit = page_size(limit)?;
    let block = find_block(&api, &name)?;
    let history = &api.chain.history;
    let after = number(history, after)?.unwrap_or(0);
    let events = json::events_of_block(history, &block, after, limit).map_err(NodeError::from)?;
    Ok(events_page(events, limit))
}

/// What happened to an account or its validator, newest first
#[utoipa::path(get, path = routes::ACCOUNT_EVENTS, tag = "history",
    params(("address" = String, Path, description = "soma1..."),
        ("after" = Option<String>, Query, description = "cursor of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Event>), (status = 400, body = ApiError)))]
pub(super) async fn account_events(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
    Query(after): Query<AfterCursor>,
) -> Result<Json<Page<types::Event>>, Problem> {
    events_of(&api, Subject::Account(*address), &after)
}

/// What became of the submissions of an account, newest first
#[utoipa::path(get, path = routes::ACCOUNT_SUBMISSIONS, tag = "history",
    params(("address" = String, Path, description = "soma1..."),
        ("after" = Option<String>, Query, description = "cursor of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Event>), (status = 400, body = ApiError)))]
pub(super) async fn account_submissions(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
    Query(after): Query<AfterCursor>,
) -> Result<Json<Page<types::Event>>, Problem> {
    events_of(&api, Subject::Submitter(*address), &after)
}

/// What happened to a model, newest first
#[utoipa::path(get, path = routes::MODEL_EVENTS, tag = "history",
    params(("id" = u32, Path),
        ("after" = Option<String>, Query, description = "cursor of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Event>), (status = 400, body = ApiError)))]
pub(super) async fn model_events(
    State(api): State<Api>,
    Path(id): Path<u32>,
    Query(after): Query<AfterCursor>,
) -> Result<Json<Page<types::Event>>, Problem> {
    events_of(&api, Subject::Model(ModelId(id)), &after)
}

/// What happened to a target, newest first
#[utoipa::path(get, path = routes::TARGET_EVENTS, tag = "history",
    params(("id" = u32, Path),
        ("after" = Option<String>, Query, description = "cursor of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Event>), (status = 400, body = ApiError)))]
pub(super) async fn target_events(
    State(api): State<Api>,
    Path(id): Path<u32>,
    Query(after): Query<AfterCursor>,
) -> Result<Json<Page<types::Event>>, Problem> {
    events_of(&api, Subject::Target(TargetId(id)), &after)
}

/// What an account submitted for a target, and what became of it
#[utoipa::path(get, path = routes::SUBMISSION, tag = "targets",
    params(("id" = u32, Path), ("address" = String, Path, description = "soma1...")),
    responses((status = 200, body = types::Submission), (status = 400, body = ApiError),
        (status = 404, body = ApiError)))]
pub(super) async fn submission(
    State(api): State<Api>,
    Path((id, submitter)): Path<(u32, Text<Address>)>,
) -> Result<Json<types::Submission>, Problem> {
    let id = TargetId(id);
    let target = api.chain.read(|state, _| json::target(state, id));
    let Json(target) = found(target, Code::TargetNotFound, format_args!("target {id}"))?;
    let events = json::events_of_submission(&api.chain.history, id, *submitter);
    let events = events.map_err(NodeError::from)?;
    let mut candidates = target.candidates;
    candidates.retain(|candidate| candidate.submitter == submitter);
    if events.is_empty() && candidates.is_empty() {
        let message = format!("there is no submission of {submitter} for target {id}");
        return Err(Problem::new(Code::SubmissionNotFound, message));
    }
    let publication = target
        .publication
        .filter(|published| candidates.iter().any(|candidate| candidate.rank == published.rank));
    Ok(Json(types::Submission {
        target: id.0,
        epoch: target.epoch,
        status: target.status,
        publication,
        payment: target.payment.filter(|payment| payment.submitter == submitter),
        candidates,
        submitter,
        events,
    }))
}

/// The course of an epoch, newest first: its phases, its beacon and its emission
#[utoipa::path(get, path = routes::EPOCH_EVENTS, tag = "history",
    params(("epoch" = u32, Path),
        ("after" = Option<String>, Query, description = "cursor of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Event>), (status = 400, body = ApiError)))]
pub(super) async fn epoch_events(
    State(api): State<Api>,
    Path(epoch): Path<u32>,
    Query(after): Query<AfterCursor>,
) -> Result<Json<Page<types::Event>>, Problem> {
    events_of(&api, Subject::Epoch(Epoch(epoch)), &after)
}

/// Proposals, votes, and what they changed, newest first
#[utoipa::path(get, path = routes::GOVERNANCE_EVENTS, tag = "history",
    params(("after" = Option<String>, Query, description = "cursor of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Event>), (status = 400, body = ApiError)))]
pub(super) async fn governance_events(
    State(api): State<Api>,
    Query(after): Query<AfterCursor>,
) -> Result<Json<Page<types::Event>>, Problem> {
    events_of(&api, Subject::Governance, &after)
}

#[derive(Deserialize)]
pub(super) struct LookBack {
    epochs: Option<u32>,
}

impl LookBack {
    fn checked(&self) -> Result<u32, Problem> {
        let epochs = self.epochs.unwrap_or(WHY_EPOCHS_DEFAULT);
        if (1..=WHY_EPOCHS_MAX).contains(&epochs) {
            return Ok(epochs);
        }
        Err(Problem::bad_request(format!("epochs must be from 1 to {WHY_EPOCHS_MAX}")))
    }
}

async fn why(api: &Api, about: About, epochs: &LookBack) -> Result<Json<types::Why>, Problem> {
    api.whys.get(about, epochs.checked()?, api.chain.height()).await.map(Json)
}

/// Why the account's submissions of the last epochs won or did not
#[utoipa::path(get, path = routes::ACCOUNT_WHY, tag = "history",
    params(("address" = String, Path, description = "soma1..."),
        ("epochs" = Option<u32>, Query, description = "how many to look back, 1 to 10")),
    responses((status = 200, body = types::Why), (status = 400, body = ApiError)))]
pub(super) async fn account_why(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
    Query(epochs): Query<LookBack>,
) -> Result<Json<types::Why>, Problem> {
    why(&api, About::Account(*address), &epochs).await
}

/// Why the model won or did not in the last epochs
#[utoipa::path(get, path = routes::MODEL_WHY, tag = "history",
    params(("id" = u32, Path),
        ("epochs" = Option<u32>, Query, description = "how many to look back, 1 to 10")),
    responses((status = 200, body = types::Why), (status = 400, body = ApiError),
        (status = 404, body = ApiError)))]
pub(super) async fn model_why(
    State(api): State<Api>,
    Path(id): Path<u32>,
    Query(epochs): Query<LookBack>,
) -> Result<Json<types::Why>, Problem> {
    why(&api, About::Model(ModelId(id)), &epochs).await
}

fn events_of(
    api: &Api,
    subject: Subject,
    AfterCursor { after, limit }: &AfterCursor,
) -> Result<Json<Page<types::Event>>, Problem> {
    let limit = page_size(*limit)?;
    let history = &api.chain.history;
    let before = number(history, *after)?;
    let events = json::events_of(history, subject, before, limit).map_err(NodeError::from)?;
    Ok(events_page(events, limit))
}

/// The number of the event at a cursor, if one is given.
fn number(history: &History, cursor: Option<Text<Cursor>>) -> Result<Option<u64>, NodeError> {
    Ok(cursor.map(|cursor| json::event_number(history, *cursor)).transpose()?)
}

fn events_page(events: Vec<(u64, types::Event)>, limit: usize) -> Json<Page<types::Event>> {
    let more = events.len() >= limit;
    let events = events.into_iter().map(|(_, event)| event).collect();
    page(events, more, |event: &types::Event| event.cursor.to_string())
}

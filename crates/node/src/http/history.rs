//! Queries about transactions and blocks.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use soma_codes::Code;
use soma_protocol::Hash;
use soma_sdk::api::routes;
use soma_sdk::api::text::Text;
use soma_sdk::api::{self as types, ApiError, Page};

use super::api::{Api, Path, Query};
use super::json;
use super::problem::Problem;
use super::state::{page, page_size};
use crate::error::NodeError;

/// A transaction and its outcome
#[utoipa::path(get, path = routes::TRANSACTION, tag = "transactions",
    params(("hash" = String, Path)),
    responses((status = 200, body = types::Transaction), (status = 404, body = ApiError)))]
pub(super) async fn transaction(
    State(api): State<Api>,
    Path(hash): Path<Text<Hash>>,
) -> Result<Json<types::Transaction>, Problem> {
    // The pool is asked first: a transaction finalized in between is then found in the history.
    let pending = api.pool.get(&hash);
    if let Some(record) = api.chain.history.transaction(&hash).map_err(NodeError::from)? {
        return Ok(Json(json::finalized_transaction(&record)));
    }
    let pending = pending.ok_or_else(|| {
        Problem::new(Code::TransactionNotFound, format!("there is no transaction {hash}"))
    })?;
    Ok(Json(json::transaction(&pending, None)))
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
    let records =
        api.chain.history.blocks(after.map(|height| *height), limit).map_err(NodeError::from)?;
    let items: Result<Vec<_>, _> =
        records.into_iter().map(|record| json::block(&api.chain.history, &record)).collect();
    Ok(page(items.map_err(NodeError::from)?, limit, |block| block.height.to_string()))
}

/// A block
#[utoipa::path(get, path = routes::BLOCK, tag = "history", params(("height" = String, Path)),
    responses((status = 200, body = types::Block), (status = 404, body = ApiError),
        (status = 410, body = ApiError)))]
pub(super) async fn block(
    State(api): State<Api>,
    Path(height): Path<Text<u64>>,
) -> Result<Json<types::Block>, Problem> {
    let record = api.chain.history.block(*height).map_err(NodeError::from)?;
    let Some(record) = record else {
        return Err(no_block(&api, *height)?);
    };
    Ok(Json(json::block(&api.chain.history, &record).map_err(NodeError::from)?))
}

/// Why this node does not have the block.
fn no_block(api: &Api, height: u64) -> Result<Problem, NodeError> {
    let first = api.chain.history.first()?;
    Ok(if (1..first).contains(&height) {
        let message = format!("this node does not hold block {height}: its first one is {first}");
        Problem::new(Code::BlockPruned, message)
    } else {
        Problem::new(Code::BlockNotFound, format!("there is no block {height}"))
    })
}

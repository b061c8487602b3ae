//! Questions about the state and the history. It must never write, and never answer from what is not final, the pool aside.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use serde::Deserialize;
use soma_codes::Code;
use soma_protocol::{Address, Epoch, Hash, ModelId, Phase, TargetId, read};
use soma_sdk::api::routes;
use soma_sdk::api::text::Text;
use soma_sdk::api::{self as types, ApiError, Page, Vector};

use super::{Api, Path, Problem, Query, json};
use crate::duties;
use crate::error::NodeError;
use crate::metrics::Gauges;
use crate::node::Counted;

/// Items of a page, from the query's `limit`.
fn page_size(limit: Option<u32>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(routes::PAGE_DEFAULT);
    if (1..=routes::PAGE_MAX).contains(&limit) {
        return Ok(limit as usize);
    }
    Err(Problem::bad_request(format!(
        "limit must be from 1 to {}",
        routes::PAGE_MAX
    )))
}

/// A page of ascending ids; there may be more after it when it is full.
fn page<T>(items: Vec<T>, limit: usize, id: impl Fn(&T) -> String) -> Json<Page<T>> {
    let next = if items.len() < limit {
        None
    } else {
        items.last().map(id)
    };
    Json(Page { items, next })
}

/// What the node knows about the chain and about itself
#[utoipa::path(get, path = routes::STATUS, tag = "state", responses((status = 200, body = types::Status)))]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<types::Status>, Problem> {
    let Counted {
        supply,
        models_active,
        ..
    } = api.counted();
    let mut status = api.read(|state, height| {
        let clock = json::clock(state);
        types::Status {
            chain: api.genesis.chain.clone(),
            chain_id: Text(api.chain),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            height: Text(height),
            block: Text(Hash::default()),
            state_root: Text(Hash::default()),
            timestamp_ms: Text(api.genesis.timestamp_ms),
            models_active,
            targets_open: match *clock.phase {
                Phase::Compete | Phase::Attest => {
                    read::epoch(state, Epoch(clock.epoch)).map_or(0, |epoch| epoch.targets)
                }
                _ => 0,
            },
            pool: u32::try_from(api.pool.len()).unwrap_or(u32::MAX),
            duties: u32::try_from(duties::owed(&api, state)).unwrap_or(u32::MAX),
            peers: u32::try_from(api.connected()).unwrap_or(u32::MAX),
            history_from: Text(0),
            transactions_final: Text(api.metrics.transactions_final.get()),
            audits: audits(&api),
            supply,
            clock,
        }
    });
    status.history_from = Text(api.history.first().map_err(NodeError::from)?);
    if let Some(block) = api.history.block(*status.height).map_err(NodeError::from)? {
        status.block = Text(block.digest);
        status.state_root = Text(block.state_root);
        status.timestamp_ms = Text(block.timestamp_ms);
    }
    Ok(Json(status))
}

fn audits(api: &Api) -> types::Audits {
    let metrics = &api.metrics;
    types::Audits {
        waiting: u32::try_from(api.audits.waiting()).unwrap_or(u32::MAX),
        valid: Text(metrics.audits_valid.get()),
        invalid: Text(metrics.audits_invalid.get()),
        put_off: Text(metrics.audits_failed.get()),
        scores: Text(metrics.audit_scores.get()),
        bytes: Text(metrics.audit_bytes.get()),
        spent_ms: Text(metrics.audit_ms.get()),
    }
}

/// The genesis of the chain
#[utoipa::path(get, path = routes::GENESIS, tag = "state", responses((status = 200, body = Object)))]
pub(super) async fn genesis(State(api): State<Api>) -> impl IntoResponse {
    Json(api.genesis.clone())
}

/// The parameters in force
#[utoipa::path(get, path = routes::PARAMS, tag = "state", responses((status = 200, body = Object)))]
pub(super) async fn params(State(api): State<Api>) -> impl IntoResponse {
    Json(api.read(|state, _| read::params(state)))
}

/// The architecture in force
#[utoipa::path(get, path = routes::ARCHITECTURE, tag = "state", responses((status = 200, body = Object)))]
pub(super) async fn architecture(State(api): State<Api>) -> impl IntoResponse {
    Json(api.read(|state, _| read::network(state).architecture))
}

/// An epoch, its randomness and its targets
#[utoipa::path(get, path = routes::EPOCH, tag = "state",
    params(("epoch" = u32, Path, description = "its number, from 1")),
    responses((status = 200, body = types::Epoch), (status = 404, body = ApiError)))]
pub(super) async fn epoch(
    State(api): State<Api>,
    Path(epoch): Path<u32>,
) -> Result<Json<types::Epoch>, Problem> {
    let found = api.read(|state, _| json::epoch(state, Epoch(epoch)));
    found
        .map(Json)
        .ok_or_else(|| Problem::new(Code::EpochNotFound, format!("there is no epoch {epoch}")))
}

/// An account
#[utoipa::path(get, path = routes::ACCOUNT, tag = "state",
    params(("address" = String, Path, description = "soma1...")),
    responses((status = 200, body = types::Account), (status = 400, body = ApiError)))]
pub(super) async fn account(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
) -> Json<types::Account> {
    Json(api.read(|state, height| {
        let nonce = read::account(state, &address).nonce;
        let next_nonce = api.pool.next_nonce(&address, nonce);
        json::account(state, height, *address, next_nonce)
    }))
}

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<u32>,
    limit: Option<u32>,
}

/// Models, by id
#[utoipa::path(get, path = routes::MODELS, tag = "models",
    params(("after" = Option<u32>, Query, description = "id of the last one seen"), ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Model>), (status = 400, body = ApiError)))]
pub(super) async fn models(
    State(api): State<Api>,
    Query(After { after, limit }): Query<After>,
) -> Result<Json<Page<types::Model>>, Problem> {
    let limit = page_size(limit)?;
    let first = after.unwrap_or(0).saturating_add(1);
    let items = api.read(|state, _| {
        let ids = (first..=read::model_count(state)).take(limit);
        ids.filter_map(|id| json::model(state, ModelId(id)))
            .collect()
    });
    Ok(page(items, limit, |model: &types::Model| {
        model.id.to_string()
    }))
}

/// A model
#[utoipa::path(get, path = routes::MODEL, tag = "models", params(("id" = u32, Path)),
    responses((status = 200, body = types::Model), (status = 404, body = ApiError)))]
pub(super) async fn model(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<Json<types::Model>, Problem> {
    let found = api.read(|state, _| json::model(state, ModelId(id)));
    found
        .map(Json)
        .ok_or_else(|| Problem::new(Code::ModelNotFound, format!("there is no model {id}")))
}

/// A model's specialization
#[utoipa::path(get, path = routes::MODEL_EMBEDDING, tag = "models", params(("id" = u32, Path)),
    responses((status = 200, body = Vector), (status = 404, body = ApiError)))]
pub(super) async fn model_embedding(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<Json<Vector>, Problem> {
    let found = api.read(|state, _| json::embedding(state, ModelId(id)));
    found.map(Json).ok_or_else(|| {
        Problem::new(
            Code::EmbeddingNotFound,
            format!("there is no embedding of model {id}"),
        )
    })
}

#[derive(Deserialize)]
pub(super) struct TargetsQuery {
    epoch: Option<u32>,
    after: Option<u32>,
    limit: Option<u32>,
}

/// Targets, by id
#[utoipa::path(get, path = routes::TARGETS, tag = "targets",
    params(("epoch" = Option<u32>, Query, description = "of this epoch alone"), ("after" = Option<u32>, Query, description = "id of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Target>), (status = 400, body = ApiError)))]
pub(super) async fn targets(
    State(api): State<Api>,
    Query(TargetsQuery {
        epoch,
        after,
        limit,
    }): Query<TargetsQuery>,
) -> Result<Json<Page<types::Target>>, Problem> {
    let limit = page_size(limit)?;
    let after = after.unwrap_or(0);
    let items = api.read(|state, _| {
        let (first, end) = match epoch {
            Some(epoch) => read::epoch(state, Epoch(epoch)).map_or((1, 1), |drawn| {
                (
                    drawn.first_target.0,
                    drawn.first_target.0.saturating_add(drawn.targets),
                )
            }),
            None => (1, read::clock(state).next_target.0),
        };
        let ids = (first.max(after.saturating_add(1))..end).take(limit);
        ids.filter_map(|id| json::target(state, TargetId(id)))
            .collect()
    });
    Ok(page(items, limit, |target: &types::Target| {
        target.id.to_string()
    }))
}

/// A target, its candidates and what became of it
#[utoipa::path(get, path = routes::TARGET, tag = "targets", params(("id" = u32, Path)),
    responses((status = 200, body = types::Target), (status = 404, body = ApiError)))]
pub(super) async fn target(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<Json<types::Target>, Problem> {
    let found = api.read(|state, _| json::target(state, TargetId(id)));
    found
        .map(Json)
        .ok_or_else(|| Problem::new(Code::TargetNotFound, format!("there is no target {id}")))
}

/// A target's direction
#[utoipa::path(get, path = routes::TARGET_DIRECTION, tag = "targets", params(("id" = u32, Path)),
    responses((status = 200, body = Vector), (status = 404, body = ApiError)))]
pub(super) async fn target_direction(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<Json<Vector>, Problem> {
    let found = api.read(|state, _| json::direction(state, TargetId(id)));
    found
        .map(Json)
        .ok_or_else(|| Problem::new(Code::TargetNotFound, format!("there is no target {id}")))
}

/// The data published for a target, while it is kept
#[utoipa::path(get, path = routes::TARGET_DATA, tag = "targets", params(("id" = u32, Path)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 404, body = ApiError)))]
pub(super) async fn target_data(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<impl IntoResponse, Problem> {
    let found = api.read(|state, _| read::publication(state, TargetId(id)));
    let found = found.ok_or_else(|| {
        Problem::new(
            Code::DataNotFound,
            format!("there is no data for target {id}"),
        )
    })?;
    Ok((
        [(header::CONTENT_TYPE, "application/octet-stream")],
        found.data,
    ))
}

/// A transaction and what became of it
#[utoipa::path(get, path = routes::TRANSACTION, tag = "transactions", params(("hash" = String, Path)),
    responses((status = 200, body = types::Transaction), (status = 404, body = ApiError)))]
pub(super) async fn transaction(
    State(api): State<Api>,
    Path(hash): Path<Text<Hash>>,
) -> Result<Json<types::Transaction>, Problem> {
    // The pool first: what becomes final between the two questions is then found by the second.
    let pending = api.pool.get(&hash);
    if let Some(record) = api.history.transaction(&hash).map_err(NodeError::from)? {
        return Ok(Json(json::finalized_transaction(&record)));
    }
    let pending = pending.ok_or_else(|| {
        Problem::new(
            Code::TransactionNotFound,
            format!("there is no transaction {hash}"),
        )
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
    params(("after" = Option<String>, Query, description = "height of the last one seen"), ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Block>), (status = 400, body = ApiError)))]
pub(super) async fn blocks(
    State(api): State<Api>,
    Query(Below { after, limit }): Query<Below>,
) -> Result<Json<Page<types::Block>>, Problem> {
    let limit = page_size(limit)?;
    let records = api
        .history
        .blocks(after.map(|height| *height), limit)
        .map_err(NodeError::from)?;
    let items: Result<Vec<_>, _> = records
        .into_iter()
        .map(|record| json::block(&api.history, &record))
        .collect();
    Ok(page(items.map_err(NodeError::from)?, limit, |block| {
        block.height.to_string()
    }))
}

/// A block
#[utoipa::path(get, path = routes::BLOCK, tag = "history", params(("height" = String, Path)),
    responses((status = 200, body = types::Block), (status = 404, body = ApiError), (status = 410, body = ApiError)))]
pub(super) async fn block(
    State(api): State<Api>,
    Path(height): Path<Text<u64>>,
) -> Result<Json<types::Block>, Problem> {
    let record = api.history.block(*height).map_err(NodeError::from)?;
    let Some(record) = record else {
        return Err(no_block(&api, *height)?);
    };
    Ok(Json(
        json::block(&api.history, &record).map_err(NodeError::from)?,
    ))
}

/// Why there is no such block here.
fn no_block(api: &Api, height: u64) -> Result<Problem, NodeError> {
    let first = api.history.first()?;
    Ok(if (1..first).contains(&height) {
        let message = format!(
            "block {height} is not held here any more, or never was: the first one is {first}"
        );
        Problem::new(Code::BlockPruned, message)
    } else {
        Problem::new(Code::BlockNotFound, format!("there is no block {height}"))
    })
}

/// 200 while the process lives
#[utoipa::path(get, path = routes::HEALTH, tag = "operation", responses((status = 200, content_type = "text/plain")))]
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// 200 when the node can serve; else 503 and why not
#[utoipa::path(get, path = routes::READY, tag = "operation",
    responses((status = 200, content_type = "text/plain"), (status = 503, body = ApiError)))]
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    match api.unready() {
        None => Ok("ready\n"),
        Some(why) => Err(Problem::new(Code::NotReady, why)),
    }
}

/// What the node counts, for Prometheus
#[utoipa::path(get, path = routes::METRICS, tag = "operation", responses((status = 200, content_type = "text/plain")))]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let (height, clock) = api.read(|state, height| (height, read::clock(state)));
    let gauges = Gauges {
        height,
        epoch: clock.epoch.0,
        phase: match clock.phase {
            Phase::Reveal => 0,
            Phase::Publish(_) => 1,
            Phase::Compete => 2,
            Phase::Attest => 3,
        },
        pool_transactions: api.pool.len(),
        pool_bytes: api.pool.bytes(),
        audits_waiting: api.audits.waiting(),
        block_age_ms: api.block_age_ms().unwrap_or(0),
        peers: api.connected(),
        ready: api.unready().is_none(),
    };
    let text = api.metrics.render(&gauges) + &api.engine_metrics();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

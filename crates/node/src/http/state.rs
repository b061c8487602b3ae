//! Queries about the finalized state.

use std::fmt::Display;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::IntoResponse;
use serde::Deserialize;
use soma_codes::Code;
use soma_protocol::sketch::PIECES_MAX;
use soma_protocol::{Address, Epoch, Hash, ModelId, Phase, TargetId, read};
use soma_sdk::answers;
use soma_sdk::api::routes;
use soma_sdk::api::text::Text;
use soma_sdk::api::{self as types, ApiError, Page, Vector};

use super::api::{Api, Path, Query};
use super::clients::Client;
use super::json;
use super::problem::Problem;
use crate::error::NodeError;
use crate::health::Trouble;

/// How many items a page has, from the query's `limit`.
pub(super) fn page_size(limit: Option<u32>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(routes::PAGE_DEFAULT);
    if (1..=routes::PAGE_MAX).contains(&limit) {
        return Ok(limit as usize);
    }
    Err(Problem::bad_request(format!("limit must be from 1 to {}", routes::PAGE_MAX)))
}

/// A page in the order of the list; there may be more after it.
pub(super) fn page<T>(items: Vec<T>, more: bool, id: impl Fn(&T) -> String) -> Json<Page<T>> {
    let next = if more { items.last().map(id) } else { None };
    Json(Page { items, next })
}

/// The answer, or a problem that names what there is none of.
pub(super) fn found<T>(
    item: Option<T>,
    code: Code,
    what: impl Display,
) -> Result<Json<T>, Problem> {
    item.map(Json).ok_or_else(|| Problem::new(code, format!("there is no {what}")))
}

#[derive(Deserialize)]
pub(super) struct After {
    after: Option<u32>,
    limit: Option<u32>,
}

/// The chain and this node at a glance
#[utoipa::path(get, path = routes::STATUS, tag = "state",
    responses((status = 200, body = types::Status)))]
pub(super) async fn status(State(api): State<Api>) -> Result<Json<types::Status>, Problem> {
    let survey = api.surveys.now().await;
    let tip_per_kib = Text(api.pool.suggested_tip());
    let mut status = api.chain.read_held(|state, height, held| {
        let clock = json::clock(state);
        types::Status {
            chain: api.chain.genesis.chain.clone(),
            chain_id: Text(api.chain.id),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            height: Text(height),
            block: Text(Hash::default()),
            state_root: Text(Hash::default()),
            timestamp_ms: Text(api.chain.genesis.timestamp_ms),
            models_active: survey.models_active,
            targets_open: match *clock.phase {
                Phase::Compete | Phase::Attest => {
                    read::epoch(state, Epoch(clock.epoch)).map_or(0, |epoch| epoch.targets)
                }
                _ => 0,
            },
            pool: u32::try_from(api.pool.len()).unwrap_or(u32::MAX),
            tip_per_kib,
            duties: 0,
            peers: u32::try_from(api.health.peers_connected()).unwrap_or(u32::MAX),
            history_from: Text(0),
            transactions_final: Text(api.metrics.transactions_final.get()),
            audits: audits(&api),
            supply: json::supply(state, held),
            clock,
            rules: answers::rules(state, api.chain.executed),
            local: is_local(&api),
            ready: false,
            troubles: Vec::new(),
        }
    });
    let duties = api.duties.outstanding_at(*status.height).await;
    status.duties = u32::try_from(duties).unwrap_or(u32::MAX);
    let troubles = api.health.troubles();
    status.ready = !troubles.iter().any(|trouble| trouble.unready);
    status.troubles = troubles.iter().map(Trouble::described).collect();
    api.chain.recorded(*status.height).await;
    status.history_from = Text(api.chain.history.first().map_err(NodeError::from)?);
    if let Some(block) = api.chain.history.block(*status.height).map_err(NodeError::from)? {
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
#[utoipa::path(get, path = routes::GENESIS, tag = "state",
    responses((status = 200, body = Object)))]
pub(super) async fn genesis(State(api): State<Api>) -> impl IntoResponse {
    Json(api.chain.genesis.clone())
}

/// The parameters in force
#[utoipa::path(get, path = routes::PARAMS, tag = "state", responses((status = 200, body = Object)))]
pub(super) async fn params(State(api): State<Api>) -> impl IntoResponse {
    Json(api.chain.read(|state, _| read::params(state)))
}

/// The architecture in force
#[utoipa::path(get, path = routes::ARCHITECTURE, tag = "state",
    responses((status = 200, body = Object)))]
pub(super) async fn architecture(State(api): State<Api>) -> impl IntoResponse {
    Json(api.chain.read(|state, _| read::network(state).architecture))
}

/// An epoch, its beacon and its targets
#[utoipa::path(get, path = routes::EPOCH, tag = "state",
    params(("epoch" = u32, Path, description = "its number, from 1")),
    responses((status = 200, body = types::Epoch), (status = 404, body = ApiError)))]
pub(super) async fn epoch(
    State(api): State<Api>,
    Path(epoch): Path<u32>,
) -> Result<Json<types::Epoch>, Problem> {
    let record = api.chain.read(|state, _| json::epoch(state, Epoch(epoch)));
    found(record, Code::EpochNotFound, format_args!("epoch {epoch}"))
}

/// An epoch's models and targets in a plane
#[utoipa::path(get, path = routes::EPOCH_MAP, tag = "state",
    params(("epoch" = u32, Path, description = "its number, from 1")),
    responses((status = 200, body = types::EpochMap), (status = 404, body = ApiError)))]
pub(super) async fn epoch_map(
    State(api): State<Api>,
    Path(epoch): Path<u32>,
) -> Result<Json<types::EpochMap>, Problem> {
    let map = api.maps.get(&api.chain, Epoch(epoch));
    found(map, Code::EpochNotFound, format_args!("epoch {epoch}"))
}

/// An account
#[utoipa::path(get, path = routes::ACCOUNT, tag = "state",
    params(("address" = String, Path, description = "soma1...")),
    responses((status = 200, body = types::Account), (status = 400, body = ApiError)))]
pub(super) async fn account(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
) -> Json<types::Account> {
    let mut account = api.chain.read(|state, height| {
        let nonce = read::account(state, &address).nonce;
        let next_nonce = api.pool.next_nonce(&address, nonce);
        json::account(state, height, *address, next_nonce)
    });
    account.models = api.surveys.at(*account.height).await.models_of(&address);
    Json(account)
}

/// The validators
#[utoipa::path(get, path = routes::VALIDATORS, tag = "state",
    responses((status = 200, body = [types::Validator])))]
pub(super) async fn validators(State(api): State<Api>) -> Json<Vec<types::Validator>> {
    Json(api.chain.read(|state, _| json::validators(state)))
}

/// A validator
#[utoipa::path(get, path = routes::VALIDATOR, tag = "state",
    params(("address" = String, Path, description = "soma1...")),
    responses((status = 200, body = types::Validator), (status = 400, body = ApiError),
        (status = 404, body = ApiError)))]
pub(super) async fn validator(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
) -> Result<Json<types::Validator>, Problem> {
    let validator = api.chain.read(|state, _| json::validator(state, &address));
    found(validator, Code::ValidatorNotFound, format_args!("validator {address}"))
}

/// The stakes of an account on models and validators
#[utoipa::path(get, path = routes::STAKES, tag = "state",
    params(("address" = String, Path, description = "soma1..."),
        ("after" = Option<u32>, Query, description = "place of the last one seen, from 0"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Stake>), (status = 400, body = ApiError)))]
pub(super) async fn stakes(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
    Query(After { after, limit }): Query<After>,
) -> Result<Json<Page<types::Stake>>, Problem> {
    let limit = page_size(limit)?;
    let first = after.map_or(0, |after| after.saturating_add(1));
    let stakes = api.chain.read(|state, _| json::stakes(state, &address, first, limit));
    let more = stakes.len() >= limit;
    let Json(Page { items, next }) = page(stakes, more, |(place, _)| place.to_string());
    Ok(Json(Page { items: items.into_iter().map(|(_, stake)| stake).collect(), next }))
}

/// The current migration, the rent price and a page of proposals
#[utoipa::path(get, path = routes::GOVERNANCE, tag = "state",
    params(("after" = Option<u32>, Query, description = "the proposals before this id"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = types::Governance), (status = 400, body = ApiError)))]
pub(super) async fn governance(
    State(api): State<Api>,
    Query(After { after, limit }): Query<After>,
) -> Result<Json<types::Governance>, Problem> {
    let limit = page_size(limit)?;
    let survey = api.surveys.now().await;
    Ok(Json(api.chain.read(|state, _| json::governance(state, &survey.ready, after, limit))))
}

/// Models, by id
#[utoipa::path(get, path = routes::MODELS, tag = "models",
    params(("after" = Option<u32>, Query, description = "id of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Model>), (status = 400, body = ApiError)))]
pub(super) async fn models(
    State(api): State<Api>,
    Query(After { after, limit }): Query<After>,
) -> Result<Json<Page<types::Model>>, Problem> {
    let limit = page_size(limit)?;
    let first = after.unwrap_or(0).saturating_add(1);
    let items: Vec<types::Model> = api.chain.read(|state, _| {
        let ids = (first..=read::model_count(state)).take(limit);
        ids.filter_map(|id| json::model(state, ModelId(id))).collect()
    });
    let more = items.len() >= limit;
    Ok(page(items, more, |model| model.id.to_string()))
}

/// A model
#[utoipa::path(get, path = routes::MODEL, tag = "models", params(("id" = u32, Path)),
    responses((status = 200, body = types::Model), (status = 404, body = ApiError)))]
pub(super) async fn model(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<Json<types::Model>, Problem> {
    let model = api.chain.read(|state, _| json::model(state, ModelId(id)));
    found(model, Code::ModelNotFound, format_args!("model {id}"))
}

#[derive(Deserialize)]
pub(super) struct SpecializationQuery {
    epoch: Option<u32>,
}

/// A model's specialization
#[utoipa::path(get, path = routes::MODEL_SPECIALIZATION, tag = "models",
    params(("id" = u32, Path),
        ("epoch" = Option<u32>, Query, description = "as it was when this epoch's targets were \
            drawn, if the model was routed to one: the running epoch or the one before")),
    responses((status = 200, body = Vector), (status = 404, body = ApiError)))]
pub(super) async fn model_specialization(
    State(api): State<Api>,
    Path(id): Path<u32>,
    Query(SpecializationQuery { epoch }): Query<SpecializationQuery>,
) -> Result<Json<Vector>, Problem> {
    let specialization =
        api.chain.read(|state, _| json::specialization(state, ModelId(id), epoch.map(Epoch)));
    let what = format_args!("specialization of model {id}");
    found(specialization, Code::SpecializationNotFound, what)
}

/// What the active models make of data, on a local network and at its machine alone
#[utoipa::path(post, path = routes::TRIAL, tag = "models",
    request_body(content = Vec<u8>, content_type = "application/octet-stream",
        description = "at most 16 KiB"),
    responses((status = 200, body = types::Trial), (status = 400, body = ApiError),
        (status = 404, body = ApiError), (status = 413, body = ApiError),
        (status = 503, body = ApiError)))]
pub(super) async fn trial(
    State(api): State<Api>,
    client: Client,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<types::Trial>, Problem> {
    if !(is_local(&api) && client.is_here()) {
        let message = "data is tried on a local network alone, from the machine of its node";
        return Err(Problem::new(Code::NoSuchRoute, message));
    }
    // Browsers send this kind for no page but the node's own.
    let kind = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind != Some(b"application/octet-stream".as_slice()) {
        return Err(Problem::bad_request("data is sent as application/octet-stream"));
    }
    let data = body?;
    client.may_send(0, data.len())?;
    let run = move || api.trials.run(&api.chain, &api.weights, &api.shutdown, &data);
    let ended = tokio::task::spawn_blocking(run).await;
    ended.map_err(|_| Problem::new(Code::InternalError, "the trial failed"))?.map(Json)
}

/// Whether this is a local network, which alone has an operator.
fn is_local(api: &Api) -> bool {
    api.chain.genesis.operator.is_some()
}

#[derive(Deserialize)]
pub(super) struct TargetsQuery {
    epoch: Option<u32>,
    after: Option<u32>,
    limit: Option<u32>,
}

/// Targets, by id
#[utoipa::path(get, path = routes::TARGETS, tag = "targets",
    params(("epoch" = Option<u32>, Query, description = "of this epoch alone"),
        ("after" = Option<u32>, Query, description = "id of the last one seen"),
        ("limit" = Option<u32>, Query, description = "1 to 500")),
    responses((status = 200, body = Page<types::Target>), (status = 400, body = ApiError)))]
pub(super) async fn targets(
    State(api): State<Api>,
    Query(TargetsQuery { epoch, after, limit }): Query<TargetsQuery>,
) -> Result<Json<Page<types::Target>>, Problem> {
    let limit = page_size(limit)?;
    let after = after.unwrap_or(0);
    let items: Vec<types::Target> = api.chain.read(|state, _| {
        let (first, end) = match epoch {
            Some(epoch) => read::epoch(state, Epoch(epoch)).map_or((1, 1), |drawn| {
                (drawn.first_target.0, drawn.first_target.0.saturating_add(drawn.targets))
            }),
            None => (1, read::clock(state).next_target.0),
        };
        let ids = (first.max(after.saturating_add(1))..end).take(limit);
        ids.filter_map(|id| json::target(state, TargetId(id))).collect()
    });
    let more = items.len() >= limit;
    Ok(page(items, more, |target| target.id.to_string()))
}

/// A target, its candidates and its outcome
#[utoipa::path(get, path = routes::TARGET, tag = "targets", params(("id" = u32, Path)),
    responses((status = 200, body = types::Target), (status = 404, body = ApiError)))]
pub(super) async fn target(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<Json<types::Target>, Problem> {
    let target = api.chain.read(|state, _| json::target(state, TargetId(id)));
    found(target, Code::TargetNotFound, format_args!("target {id}"))
}

/// A target's direction
#[utoipa::path(get, path = routes::TARGET_DIRECTION, tag = "targets", params(("id" = u32, Path)),
    responses((status = 200, body = Vector), (status = 404, body = ApiError)))]
pub(super) async fn target_direction(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<Json<Vector>, Problem> {
    let direction = api.chain.read(|state, _| json::direction(state, TargetId(id)));
    found(direction, Code::TargetNotFound, format_args!("target {id}"))
}

#[derive(Deserialize)]
pub(super) struct PiecesQuery {
    hashes: String,
}

/// Where pieces of data won first, in the order of the question
#[utoipa::path(get, path = routes::PIECES, tag = "targets",
    params(("hashes" = String, Query, description = "up to 16 of a sketch, separated by commas")),
    responses((status = 200, body = [Option<types::Winner>]), (status = 400, body = ApiError)))]
pub(super) async fn pieces(
    State(api): State<Api>,
    Query(PiecesQuery { hashes }): Query<PiecesQuery>,
) -> Result<Json<Vec<Option<types::Winner>>>, Problem> {
    let hashes = hashes.split(',').take(PIECES_MAX.saturating_add(1)).map(str::parse);
    let hashes = hashes.collect::<Result<Vec<u64>, _>>();
    let hashes = hashes.ok().filter(|hashes| hashes.len() <= PIECES_MAX).ok_or_else(|| {
        Problem::bad_request(format!("hashes must be up to {PIECES_MAX} integers of 64 bits"))
    })?;
    Ok(Json(
        api.chain.read(|state, _| hashes.iter().map(|hash| json::winner(state, *hash)).collect()),
    ))
}

/// The data published for a target, while it is kept
#[utoipa::path(get, path = routes::TARGET_DATA, tag = "targets", params(("id" = u32, Path)),
    responses((status = 200, content_type = "application/octet-stream"),
        (status = 404, body = ApiError)))]
pub(super) async fn target_data(
    State(api): State<Api>,
    Path(id): Path<u32>,
) -> Result<impl IntoResponse, Problem> {
    let publication = api.chain.read(|state, _| read::publication(state, TargetId(id)));
    let Json(publication) =
        found(publication, Code::DataNotFound, format_args!("data for target {id}"))?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], publication.data))
}

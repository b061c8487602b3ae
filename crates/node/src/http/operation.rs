//! Questions that operators and their tools ask.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use soma_codes::Code;
use soma_protocol::{Phase, read};
use soma_sdk::answers;
use soma_sdk::api::{self as types, ApiError, routes};

use super::api::Api;
use super::problem::Problem;
use crate::metrics::Gauges;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// 200 while the process runs
#[utoipa::path(get, path = routes::HEALTH, tag = "operation",
    responses((status = 200, content_type = "text/plain")))]
pub(super) async fn health() -> &'static str {
    "ok\n"
}

/// 200 when the node is ready; else 503 and the reason
#[utoipa::path(get, path = routes::READY, tag = "operation",
    responses((status = 200, content_type = "text/plain"), (status = 503, body = ApiError)))]
pub(super) async fn ready(State(api): State<Api>) -> Result<&'static str, Problem> {
    match api.health.not_ready() {
        None => Ok("ready\n"),
        Some(trouble) => {
            Err(Problem::new(Code::NotReady, trouble.message).hint(trouble.code.hint()))
        }
    }
}

/// What the node knows about its connections
#[utoipa::path(get, path = routes::CONTACTS, tag = "operation",
    responses((status = 200, body = types::Contacts)))]
pub(super) async fn contacts(State(api): State<Api>) -> Json<types::Contacts> {
    Json(api.health.contacts())
}

/// Metrics of the node and its engine, for Prometheus
#[utoipa::path(get, path = routes::METRICS, tag = "operation",
    responses((status = 200, content_type = "text/plain")))]
pub(super) async fn metrics(State(api): State<Api>) -> impl IntoResponse {
    let executed = api.chain.executed;
    let (height, clock, rules) = api
        .chain
        .read(|state, height| (height, read::clock(state), answers::rules(state, executed)));
    let gauges = Gauges {
        height,
        epoch: clock.epoch.0.into(),
        phase: match clock.phase {
            Phase::Reveal => 0,
            Phase::Publish(_) => 1,
            Phase::Compete => 2,
            Phase::Attest => 3,
        },
        pool_transactions: api.pool.len() as u64,
        pool_bytes: api.pool.bytes() as u64,
        audits_waiting: api.audits.waiting() as u64,
        block_age_ms: api.health.block_age_ms().unwrap_or(0),
        peers: api.health.peers_connected() as u64,
        rules: rules.version.into(),
        rules_next: rules.next.map_or(0, |next| next.version).into(),
        rules_next_epoch: rules.next.map_or(0, |next| next.from_epoch).into(),
        rules_max: rules.max.into(),
        ready: api.health.not_ready().is_none().into(),
    };
    // The engine's text contains the end of the document.
    let text = api.metrics.encode(&gauges) + &api.chain.engine().metrics();
    ([(header::CONTENT_TYPE, OPEN_METRICS)], text)
}

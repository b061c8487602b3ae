//! Validators, stakes and votes, read from the final state. It must never compute a rule.

use axum::Json;
use axum::extract::{Path, State};
use soma_protocol::Address;
use soma_sdk::api::ApiError;
use soma_sdk::api::routes;
use soma_sdk::api::text::Text;
use soma_sdk::api::{Governance, Stake, Validator};

use super::{Api, json};

/// The validators
#[utoipa::path(get, path = routes::VALIDATORS, tag = "state", responses((status = 200, body = [Validator])))]
pub(super) async fn validators(State(api): State<Api>) -> Json<Vec<Validator>> {
    Json(api.read(|state, _| json::validators(state)))
}

/// What an account has behind models and validators
#[utoipa::path(get, path = routes::STAKES, tag = "state",
    params(("address" = String, Path, description = "soma1...")),
    responses((status = 200, body = [Stake]), (status = 400, body = ApiError)))]
pub(super) async fn stakes(
    State(api): State<Api>,
    Path(address): Path<Text<Address>>,
) -> Json<Vec<Stake>> {
    Json(api.read(|state, _| json::stakes(state, &address)))
}

/// Proposals, the migration under way, and the price of keeping files
#[utoipa::path(get, path = routes::GOVERNANCE, tag = "state", responses((status = 200, body = Governance)))]
pub(super) async fn governance(State(api): State<Api>) -> Json<Governance> {
    Json(api.read(|state, _| json::governance(state)))
}

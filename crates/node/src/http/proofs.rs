//! What nobody needs to believe: proofs of records, and the handovers that lead to the committee.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use soma_codes::Code;
use soma_engine::{HANDOVERS_MAX, PROVED_RECORDS_MAX};
use soma_protocol::{Key, hex};
use soma_sdk::api::routes;
use soma_sdk::api::text::Text;
use soma_sdk::api::{ApiError, Handovers, Proof};

use super::api::{Api, Query};
use super::problem::Problem;

const _: () = assert!(PROVED_RECORDS_MAX == routes::PROVED_RECORDS_MAX);
const _: () = assert!(HANDOVERS_MAX == routes::HANDOVERS_MAX);

#[derive(Deserialize)]
pub(super) struct Keys {
    keys: String,
}

/// What records of the state are after the last finalized block, with proofs
#[utoipa::path(get, path = routes::PROOF, tag = "state",
    params(("keys" = String, Query, description = "up to 64 keys in hex, separated by commas")),
    responses((status = 200, body = Proof), (status = 400, body = ApiError),
        (status = 503, body = ApiError)))]
pub(super) async fn proof(
    State(api): State<Api>,
    Query(Keys { keys }): Query<Keys>,
) -> Result<Json<Proof>, Problem> {
    let keys: Option<Vec<Key>> = keys
        .split(',')
        .take(PROVED_RECORDS_MAX + 1)
        .map(|key| hex::decode_array(key).map(Key))
        .collect();
    let keys = keys.filter(|keys| keys.len() <= PROVED_RECORDS_MAX).ok_or_else(|| {
        Problem::bad_request(format!("keys must be up to {PROVED_RECORDS_MAX} keys in hex"))
    })?;
    let count = keys.len();
    let proved = api.chain.engine().prover().records(keys).await;
    let proved = proved.ok_or_else(|| {
        Problem::new(Code::NotReady, "the last block has no certificate yet").hint("ask again")
    })?;
    if proved.records.len() < count {
        return Err(Problem::bad_request(
            "these records are too long for one proof; ask for fewer",
        ));
    }
    Ok(Json(Proof {
        height: Text(proved.height),
        header: hex::encode(&proved.header),
        certificate: hex::encode(&proved.certificate),
        records: proved.records.iter().map(|record| hex::encode(record)).collect(),
    }))
}

#[derive(Deserialize)]
pub(super) struct AfterTerm {
    after: Option<u64>,
}

/// The changes of the committee, each certified by the one before
#[utoipa::path(get, path = routes::HANDOVERS, tag = "state",
    params(("after" = Option<u64>, Query, description = "after this term")),
    responses((status = 200, body = Handovers), (status = 400, body = ApiError),
        (status = 503, body = ApiError)))]
pub(super) async fn handovers(
    State(api): State<Api>,
    Query(AfterTerm { after }): Query<AfterTerm>,
) -> Result<Json<Handovers>, Problem> {
    let handovers = api.chain.engine().prover().handovers(after).await;
    let handovers = handovers.ok_or_else(|| {
        Problem::new(Code::NotReady, "the handovers cannot be read now").hint("ask again")
    })?;
    Ok(Json(Handovers { handovers: handovers.iter().map(|bytes| hex::encode(bytes)).collect() }))
}

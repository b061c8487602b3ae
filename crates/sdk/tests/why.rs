//! What `why` says of a model, against a server on this machine in place of a node: nothing about
//! what is not decided yet.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod answers;

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use soma_sdk::api::routes;
use soma_sdk::protocol::{Address, Hash, ModelId, Params};
use soma_sdk::why::{self, Reason};

/// Where the chain is, in epoch 2.
#[derive(Clone, Copy)]
struct Chain {
    phase: &'static str,
    /// How many targets the epoch has, and how many of them are drawn by now.
    targets: u32,
    drawn: u32,
    /// Whether the model has committed to weights that it has not revealed.
    bound: bool,
}

type Shared = Arc<Mutex<Chain>>;

async fn status(State(chain): State<Shared>) -> Json<Value> {
    let phase = chain.lock().unwrap().phase;
    let clock = json!({ "epoch": 2, "phase": phase, "ends_ms": null, "beacon": null });
    Json(answers::status(json!({ "clock": clock })))
}

async fn model() -> Json<Value> {
    let zero = Hash::default().to_string();
    Json(json!({
        "id": 3, "name": "m", "owner": Address([1; 32]).to_string(), "commission_bps": 100,
        "status": "active", "release_epoch": null, "stake": u64::MAX.to_string(), "leaving": "0",
        "joining": "0", "commits": [], "wins": 0, "earned": "0",
        "weights": {
            "hash": zero, "size_bytes": "1", "ciphertext_hash": zero, "key": zero,
            "revealed_epoch": 1, "first_epoch": 1, "refresh_epoch": 20,
        },
    }))
}

async fn model_events(State(chain): State<Shared>) -> Json<Value> {
    let committed = json!({
        "cursor": "1-0", "timestamp_ms": "1", "event": "weights_available", "model": 3, "epoch": 2,
    });
    let events = if chain.lock().unwrap().bound { vec![committed] } else { Vec::new() };
    Json(json!({ "items": events, "next": null }))
}

async fn epoch(State(chain): State<Shared>) -> Json<Value> {
    let targets: Vec<u32> = (1..=chain.lock().unwrap().targets).collect();
    Json(json!({
        "epoch": 2, "beacon": null, "targets": targets, "target_reward": "1",
        "loss_margin_q32": null, "gain_min_q32": null,
    }))
}

async fn target(
    State(chain): State<Shared>,
    axum::extract::Path(id): axum::extract::Path<u32>,
) -> Response {
    if id > chain.lock().unwrap().drawn {
        let error = json!({ "code": "target_not_found", "message": "no", "hint": null });
        return (StatusCode::NOT_FOUND, Json(error)).into_response();
    }
    Json(drawn(id)).into_response()
}

async fn targets(State(chain): State<Shared>) -> Json<Value> {
    let items: Vec<Value> = (1..=chain.lock().unwrap().drawn).map(drawn).collect();
    Json(json!({ "items": items, "next": null }))
}

/// A target to which no model was routed.
fn drawn(id: u32) -> Value {
    json!({
        "id": id, "epoch": 2, "status": "open", "returned": null, "reward": "100",
        "seed": Hash::default().to_string(), "routed": [], "candidates": [],
        "publication": null, "payment": null, "loss_margin_q32": "0", "gain_min_q32": "0",
    })
}

/// The reasons of epoch 2.
async fn reasons(chain: Chain) -> Vec<Reason> {
    let vector = async || Json(json!({ "components": [1, 0] }));
    let router = Router::new()
        .route(routes::STATUS, get(status))
        .route(routes::PARAMS, get(async || Json(Params::local())))
        .route(routes::MODEL, get(model))
        .route(routes::MODEL_EVENTS, get(model_events))
        .route(routes::MODEL_SPECIALIZATION, get(vector))
        .route(routes::EPOCH, get(epoch))
        .route(routes::TARGET, get(target))
        .route(routes::TARGETS, get(targets))
        .route(routes::TARGET_DIRECTION, get(vector))
        .with_state(Arc::new(Mutex::new(chain)));
    let client = answers::serve(router).await;
    let fates = why::of_model(&client, ModelId(3), 1).await.unwrap();
    fates.into_iter().map(|fate| fate.reason).collect()
}

#[tokio::test]
async fn nothing_is_claimed_about_an_epoch_before_its_draw() {
    for phase in ["reveal", "publish:0", "publish:2"] {
        for bound in [true, false] {
            let chain = Chain { phase, targets: 0, drawn: 0, bound };
            assert_eq!(reasons(chain).await, [Reason::NotDrawn], "{phase}");
        }
    }
    let chain = Chain { phase: "compete", targets: 0, drawn: 0, bound: true };
    assert_eq!(reasons(chain).await, [Reason::Bound], "it can no longer be revealed");
}

#[tokio::test]
async fn that_others_were_nearer_is_said_once_the_last_target_is_drawn() {
    for drawn in 0..3 {
        let chain = Chain { phase: "compete", targets: 3, drawn, bound: false };
        assert_eq!(reasons(chain).await, [Reason::NotDrawn], "{drawn} of 3");
    }
    let chain = Chain { phase: "compete", targets: 3, drawn: 3, bound: false };
    let found = reasons(chain).await;
    assert!(matches!(found[..], [Reason::NotRouted { targets: 3, .. }]), "{found:?}");
}

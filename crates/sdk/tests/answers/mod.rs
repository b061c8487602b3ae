//! A server on this machine in place of a node, and the answer that every client asks for.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "test programs of several crates use parts of this"
)]

use axum::Router;
use serde_json::{Value, json};
use soma_sdk::Client;
use soma_sdk::protocol::Hash;

/// A client of a server with these routes, which ends with the runtime.
pub(crate) async fn serve(router: Router) -> Client {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    client
}

/// The answer to the question for a node's status, with some fields replaced.
pub(crate) fn status(replaced: Value) -> Value {
    let zero = Hash::default().to_string();
    let mut status = json!({
        "chain": "test", "chain_id": zero, "version": "0", "height": "1", "block": zero,
        "state_root": zero, "timestamp_ms": "1",
        "clock": { "epoch": 3, "phase": "publish:1", "ends_ms": null, "beacon": zero },
        "models_active": 1, "targets_open": 2, "pool": 3, "duties": 4,
        "peers": 3, "history_from": "1", "transactions_final": "5",
        "audits": {
            "waiting": 0, "valid": "0", "invalid": "0", "put_off": "0",
            "scores": "0", "bytes": "0", "spent_ms": "0",
        },
        "supply": { "cap": "5", "reserve": "1", "held": "1", "burned": "3", "conserved": true },
    });
    if let (Some(all), Value::Object(replaced)) = (status.as_object_mut(), replaced) {
        all.extend(replaced);
    }
    status
}

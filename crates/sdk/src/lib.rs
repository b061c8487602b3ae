//! What an outside program needs to take part: API types, client, keys, signing, transfers.
//!
//! It must never depend on the model, the node or the engine, and never print a secret.

pub mod cursor;
pub mod routes;
pub mod text;
pub mod types;

//! What an outside program needs to take part: API types, client, keys, signing, transfers.
//!
//! It must never depend on the model, the node or the engine, and never print a secret.

#![forbid(unsafe_code)]

pub mod batch;
pub mod cipher;
pub mod client;
pub mod cursor;
pub mod due;
pub mod error;
pub mod events;
mod file;
pub mod keys;
pub mod permit;
pub mod routes;
pub mod secret;
pub mod sender;
pub mod spool;
pub mod text;
pub mod transfer;
pub mod types;
pub mod validators;

pub use client::Client;
pub use error::SdkError;
pub use secret::Secret;
pub use sender::{Sender, Sent};
pub use soma_protocol as protocol;
pub use spool::Spool;
pub use text::Text;

//! What an outside program needs to take part: client, keys, signing, transfers, spool.
//!
//! It must never depend on the model, the node or the engine, and never print a secret.
//!
//! Reading order: [`api`], a crate of its own, is the HTTP API as data and checks what nodes say;
//! [`figures`] are its integers as people read them; [`error`] lists what can fail, [`handshake`]
//! how TLS can; `file`, [`secret`], [`corpus`], [`words`], [`keys`] and [`cipher`] keep secrets;
//! [`patience`] and [`turn`] are how to wait; [`trust`] is which servers are believed to be who
//! they say; [`client`] calls a node, with [`events`] and [`transfer`]; [`why`] reads from it what
//! became of somebody; [`signing`] makes transactions, [`known_chain`] remembers for which chain,
//! [`at_stake`] what would be lost, and [`sender`] sends them for one account; [`obligation`] is
//! what an account still has to send, and [`spool`] keeps it on disk until it is settled.

#![forbid(unsafe_code)]

pub mod figures;
pub mod handshake;
pub mod error;

mod file;
pub mod secret;

pub mod corpus;
pub mod words;
pub mod keys;

pub mod cipher;

pub mod patience;
mod retry;
pub mod turn;

pub mod trust;

pub mod client;
pub mod events;
pub mod faucet;
pub mod transfer;
pub mod mirrors;

pub mod signing;

pub mod at_stake;
pub mod known_chain;
pub mod sender;

pub mod why;

pub mod obligation;
pub mod spool;

pub use soma_api as api;
pub use soma_api::answers;

pub use api::text::Text;
pub use api::unproved::VerifyError;
pub use api::verifier::Verifier;
pub use client::{Client, Sent};
pub use error::SdkError;
pub use secret::Secret;
pub use sender::Sender;
pub use soma_protocol as protocol;
pub use spool::Spool;
pub use trust::Trust;

//! The HTTP API as data: what nodes serve, clients call, and whoever verifies computes for itself.
//!
//! Nothing here sends or serves anything, and nothing here uses a network: who asks is a
//! [`Node`](proved::Node), or reads in a [`conversation`] what to ask next. So programs in other
//! languages verify with this code, too, without a client that they do not need.
//!
//! Reading order: [`cursor`], [`text`], the types of answers, the forms of [batches](batch) and
//! [permits](permit), [`routes`]; [`answers`] is what the API says about a state; [`unproved`] is
//! why a node is not believed, [`verifier`] checks records that it proves, [`proved`] asks for them
//! and computes the answer, and a [`conversation`] is that for whoever asks by other means.

#![forbid(unsafe_code)]

pub mod cursor;
pub mod text;

mod types;
mod validators;
mod why;

pub mod batch;
pub mod permit;

pub mod routes;

pub mod answers;

pub mod unproved;
pub mod verifier;
pub mod proved;
pub mod conversation;

pub use types::*;
pub use validators::*;
pub use why::*;

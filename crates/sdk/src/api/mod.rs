//! The HTTP API as nodes serve it and clients call it: JSON types, routes, and the forms of batches
//! and upload permits.
//!
//! Reading order: text, cursor, types, validators, batch, permit, routes. Nothing here sends or
//! serves anything.

pub mod text;

pub mod cursor;

mod types;
mod validators;
mod why;

pub mod batch;
pub mod permit;

pub mod routes;

pub use types::*;
pub use validators::*;
pub use why::*;

//! A running validator: mempool, HTTP API, weights, audits.
//!
//! [`start`] runs one in this process; [`localnet`] makes the files of a local network. `docs/` says what its API answers; the
//! document itself is made from the handlers by [`openapi`].

mod architecture;
mod audit;
mod bell;
mod challenge;
pub mod config;
mod duties;
mod error;
mod faults;
mod fetch;
pub mod folder;
mod gossip;
mod http;
pub mod localnet;
pub mod mempool;
mod metrics;
mod node;
mod weights;

pub use architecture::{architecture, spec};
pub use config::NodeConfig;
pub use error::NodeError;
pub use folder::NodeFolder;
pub use http::{ClientLimits, openapi};
pub use node::{Node, start};

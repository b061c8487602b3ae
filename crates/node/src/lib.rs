//! A running validator: pool, HTTP API, weights files, duties.
//!
//! [`start`] runs one in this process; [`localnet`] creates the files of a local network. The node
//! reads what is finalized and never decides a rule; it signs only with its own keys. These modules
//! write to disk: [`folder`], [`bundle`] and [`localnet`] (settings, keys, genesis) and `weights`
//! (files of models); below this crate, the engine and the history write to the chain's folder.
//!
//! Modules are listed from bottom to top: later ones use earlier ones. `node` puts them together.

mod refusal;
mod error;
mod bucket;
pub mod settings;
mod certificates;
pub mod genesis;
pub mod folder;
pub mod bundle;
pub mod localnet;
mod metrics;
mod shutdown;
mod chain;
mod mempool;
mod follower;
mod weights;
mod duties;
mod survey;
mod neighbors;
mod peers;
mod health;
mod gossip;
mod fetch;
mod http;
mod node;

pub use error::NodeError;
pub use folder::{NodeFolder, NodeKeys};
pub use health::NodeFailure;
pub use http::openapi;
pub use node::{Node, start};
pub use refusal::Refusal;
pub use settings::{ClientLimits, NodeConfig, Settings};
pub use soma_engine::Join;

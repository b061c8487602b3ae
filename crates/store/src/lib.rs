//! What a node keeps on disk about the chain: the protocol's state in an authenticated database,
//! and the history of finalized blocks for queries.
//!
//! It never decides what a transaction does, and knows nothing about the network. Modules in
//! reading order: [`folder`](StateFolder) (one process per state folder), [`database`] (the state
//! on disk, with the root of its log), [`tree`] (the tree over its records), [`state`](State) (its
//! copy in memory, with the effects of blocks that are not finalized), and [`history`] (what
//! happened, which can be lost and rebuilt).

mod error;
mod folder;
pub mod database;
pub mod tree;
mod state;
pub mod history;

pub use error::StoreError;
pub use folder::StateFolder;
pub use history::History;
pub use state::{State, Tip};
pub use tree::Tree;

//! State sync: how a node obtains the state of another without executing all blocks, and how it
//! provides its own. It decides nothing about new blocks.

pub(crate) mod handover;
pub(crate) mod messages;
pub(crate) mod server;
pub(crate) mod serving;
pub(crate) mod exchange;
pub(crate) mod peers;
pub(crate) mod checkpoint;
pub(crate) mod fetch;
pub(crate) mod join;
pub(crate) mod left_behind;

//! What a node is told when it starts. It must never be read from a global place: who starts a node says everything.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use soma_engine::{ConsensusSecret, Join, Peer};
use soma_model::KernelChoice;
use soma_protocol::{Genesis, SecretKey};

use crate::http::ClientLimits;
use crate::mempool::Limits;

/// Time between blocks while there is work, in milliseconds.
pub const BLOCK_MS: u64 = 500;
/// Time between blocks while there is none, in milliseconds.
pub const IDLE_BLOCK_MS: u64 = 5_000;
/// The port that clients look for when they are told none.
pub const API_PORT: u16 = 8645;

/// Everything a validator needs to run.
#[derive(Clone)]
pub struct NodeConfig {
    /// The node's own folder: chain, history, weights.
    pub dir: PathBuf,
    /// The chain.
    pub genesis: Genesis,
    /// The node's account: a validator signs its duties with it.
    pub account: SecretKey,
    /// The key it votes with.
    pub consensus: ConsensusSecret,
    /// Where the HTTP API listens; port 0 takes a free one.
    pub api: SocketAddr,
    /// Where other nodes connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The other nodes.
    pub peers: Vec<Peer>,
    /// APIs of other nodes, from which files are fetched.
    pub peer_urls: Vec<String>,
    /// The least time between two blocks, in milliseconds.
    pub block_ms: u64,
    /// The most time between two blocks while nothing happens, in milliseconds.
    pub idle_block_ms: u64,
    /// How it comes to the state if it has no blocks.
    pub join: Join,
    /// How many blocks it keeps; all of them if none.
    pub keep_blocks: Option<u64>,
    /// How much the pool holds.
    pub pool: Limits,
    /// How much one client of the API may do.
    pub clients: ClientLimits,
    /// The kernels that audits are computed with.
    pub kernel: KernelChoice,
    /// Threads that an audit uses.
    pub audit_threads: usize,
}

impl fmt::Debug for NodeConfig {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("NodeConfig")
            .field("dir", &self.dir)
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

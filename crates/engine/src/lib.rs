//! Orders our blocks on the consensus engine: propose, verify, finalize.
//!
//! The engine's generics end here: [`start`] is one function of plain types, so that no other crate
//! pays for compiling the engine. What a transaction does is decided by the protocol, what is
//! proposed by the [`Pool`]; this crate only puts blocks in one order that a crash cannot change.

mod application;
mod block;
mod committees;
mod epochs;
mod exchange;
mod failure;
mod faults;
mod gate;
mod gossip;
mod handle;
mod handover;
mod join;
mod network;
mod node;
mod parts;
mod recorder;
mod serving;
mod verify;

use std::{net::SocketAddr, path::PathBuf};

use soma_protocol::{
    Address, ConsensusKey, Genesis, Hash, SignedTransaction, StateRead, VerifiedTransaction,
    verify_batch,
};
use soma_store::StoreError;

pub use block::{BLOCK_BYTES_MAX, BLOCK_TRANSACTIONS_MAX};
pub use committees::TERM_BLOCKS;
pub use faults::FAULTS_WAITING_MAX;
pub use gossip::{GOSSIP_BYTES_MAX, GOSSIP_WAITING_MAX, Gossip, GossipMessage};
pub use handle::{Handle, start};
pub use join::{Join, JoinProgress, Joined};
pub use network::{PEERS_MAX, PeerAddress};
pub use soma_store::history::FinalizedBlock;
pub use verify::{Verified, verify_store};

/// The same node on any runtime and any network, as the simulator starts it. Everything else uses
/// [`start`], which is compiled once.
pub mod generic {
    pub use crate::{
        application::{Deviation, Distortion},
        committees::Calendar,
        gossip::gossip_channel,
        network::{Roster, private_key},
        node::{Config, Links, Node, start},
        parts::{GOSSIP_QUOTA, QUOTA, Timing, message_bytes_max},
    };
}

/// Where blocks get their transactions from.
pub trait Pool: Send + Sync + 'static {
    /// The next transactions in order that are valid on `state` in a block of this time, of
    /// `max_bytes` in all. It must be quick: the state cannot move while it runs. It may take the
    /// pool's lock, so whoever holds that lock must not call [`Handle::read`].
    fn select(
        &self,
        state: &dyn StateRead,
        timestamp_ms: u64,
        max_bytes: usize,
    ) -> Vec<VerifiedTransaction>;

    /// Checks the signatures of a block's transactions; answers in the same order. A pool that has
    /// found some of them good before may skip those: the answers are those of [`verify_batch`].
    fn verify(
        &self,
        transactions: Vec<SignedTransaction>,
        chain: &Hash,
    ) -> Vec<Result<VerifiedTransaction, soma_protocol::Error>> {
        verify_batch(transactions, chain)
    }

    /// Whether there is nothing at all to select from.
    fn is_empty(&self) -> bool;
}

/// Decodes a block and encodes it again; `None` when the bytes are no block. For programs that try
/// the decoder: a block has exactly one encoding.
pub fn recode_block(bytes: &[u8]) -> Option<Vec<u8>> {
    let block: block::Block =
        commonware_codec::DecodeExt::decode(commonware_codec::Copying(bytes)).ok()?;
    Some(commonware_codec::Encode::encode(&block).to_vec())
}

/// Where final blocks go.
pub trait Sink: Send + Sync + 'static {
    /// Takes a block that is final, durable, and in the history. Called in the order of heights, at
    /// least once for each block: after a crash the last ones come again.
    fn finalized(&self, block: FinalizedBlock);

    /// Hears how far a join has come, often.
    fn joining(&self, _: JoinProgress) {}

    /// Hears that a join is done: the next final block is the one after it.
    fn joined(&self, _: &Joined) {}
}

/// The secret half of a validator's consensus key: an ed25519 seed. It is never printed.
#[derive(Clone)]
pub struct ConsensusSecret(pub [u8; 32]);

impl std::fmt::Debug for ConsensusSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ConsensusSecret(..)")
    }
}

impl ConsensusSecret {
    /// The public half, by which genesis and other validators know it.
    pub fn public(&self) -> ConsensusKey {
        let key = network::private_key(self);
        ConsensusKey(network::bytes_of(
            &commonware_cryptography::Signer::public_key(&key),
        ))
    }
}

/// Another node of the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The key by which it is known: connections from anybody else are refused.
    pub key: ConsensusKey,
    /// Where it listens; `None` when it connects to us and cannot be reached.
    pub address: Option<PeerAddress>,
}

/// What a node needs to run. Whether it votes is for the chain to say: a node whose key has no seat
/// follows, checks every certificate and executes every block.
#[derive(Clone, Debug)]
pub struct Config {
    /// The state folder; made if it is not there.
    pub dir: PathBuf,
    /// The chain.
    pub genesis: Genesis,
    /// The key this node votes with and is known by.
    pub key: ConsensusSecret,
    /// Where other nodes connect. A committee of one listens too, and nobody comes.
    pub listen: SocketAddr,
    /// The other nodes: validators, and followers that may connect. At most [`PEERS_MAX`] in all.
    pub peers: Vec<Peer>,
    /// The least time between two blocks while there is work, in milliseconds.
    pub block_ms: u64,
    /// The most time between two blocks while there is none, in milliseconds. With more than one
    /// validator it is a second at most, so that an absent one is noticed soon.
    pub idle_block_ms: u64,
    /// How it comes to the state if it has no blocks.
    pub join: Join,
    /// How many blocks it keeps, [`KEEP_BLOCKS_MIN`] at least; all of them if `None`.
    pub keep_blocks: Option<u64>,
}

/// The fewest blocks that a node keeps: those who join meanwhile need them.
pub const KEEP_BLOCKS_MIN: u64 = parts::SNAPSHOT_TERMS * TERM_BLOCKS;

/// Why a node cannot start, or cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The state folder, the state or the history cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The genesis document is not usable.
    #[error("genesis: {0}")]
    Genesis(#[from] soma_protocol::Error),
    /// Genesis names nobody who could make a block.
    #[error("genesis names no validator")]
    NoValidators,
    /// A consensus key of genesis is not a key.
    #[error("genesis: the consensus key of {validator} is not an ed25519 key")]
    ValidatorKey {
        /// The validator.
        validator: Address,
    },
    /// A peer's key is not a key.
    #[error("the key of peer {key} is not an ed25519 key")]
    PeerKey {
        /// The key.
        key: ConsensusKey,
    },
    /// A peer's address is not an address.
    #[error("{text:?} is not an address: it reads as host:port")]
    PeerAddress {
        /// What was given.
        text: String,
    },
    /// More nodes are named than one node talks to.
    #[error("{peers} peers are named, at most {max} are possible", max = PEERS_MAX)]
    TooManyPeers {
        /// How many are named.
        peers: usize,
    },
    /// The address to listen on is taken or not allowed.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The state names a block that the engine does not hold.
    #[error("block {height} is missing from the state folder")]
    MissingBlock {
        /// The block.
        height: u64,
    },
    /// Executing the stored blocks gives another state than the stored one.
    #[error("the stored state is not what the blocks up to {height} make of genesis")]
    StateMismatch {
        /// The last block of the state.
        height: u64,
    },
    /// A block does not follow from the one before it.
    #[error("block {height} does not follow from the block before it")]
    Unlinked {
        /// The block.
        height: u64,
    },
    /// A certificate is not one of the committee of its time.
    #[error("the certificate of block {height} is not of the committee of its time")]
    Certificate {
        /// The block.
        height: u64,
    },
    /// The history holds another block.
    #[error("the history holds another block at {height}")]
    HistoryMismatch {
        /// Where.
        height: u64,
    },
    /// A join has begun, and nobody gives what it needs.
    #[error("the state cannot be taken over from the peers: {reason}")]
    NoSnapshot {
        /// Why not.
        reason: String,
    },
    /// All peers have forgotten the blocks that come next here.
    #[error("this node is at block {height}, and its peers hold only those from {first} on")]
    TooFarBehind {
        /// Its last block.
        height: u64,
        /// The first block that a peer has.
        first: u64,
    },
    /// The disk is full or failing. The node can be started again once there is room.
    #[error("the disk takes no more: {reason}; nothing that was final is lost")]
    Disk {
        /// What the operating system said.
        reason: String,
    },
    /// The engine met a condition it cannot go on from. Nothing that was reported as final is lost;
    /// the node can be started again.
    #[error("the node stopped: {reason}")]
    Stopped {
        /// What the engine said.
        reason: String,
    },
}

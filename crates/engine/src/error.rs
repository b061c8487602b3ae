//! Why a node cannot start, or why it stopped. Messages name values; nothing here decides what to
//! do.

use std::{net::SocketAddr, path::PathBuf};

use soma_protocol::{Address, ConsensusKey, RulesRange};
use soma_store::StoreError;

use crate::{limits::PEERS_MAX, watching::Watching};

/// Why a node cannot start, or why it stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The state folder, the state or the history cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The genesis document is not usable.
    #[error("genesis: {0}")]
    Genesis(#[from] soma_protocol::Error),
    /// Genesis has no validators, so nobody could propose a block.
    #[error("genesis has no validators")]
    NoValidators,
    /// A consensus key in genesis is not an ed25519 key.
    #[error("genesis: the consensus key of {validator} is not an ed25519 key")]
    ValidatorKey {
        /// The validator.
        validator: Address,
    },
    /// The key of a configured peer is not an ed25519 key.
    #[error("the key of peer {key} is not an ed25519 key")]
    PeerKey {
        /// The key.
        key: ConsensusKey,
    },
    /// The address of a configured peer is malformed.
    #[error("{text:?} is not an address of the form host:port")]
    PeerAddress {
        /// The text.
        text: String,
    },
    /// More peers are configured than one node connects to.
    #[error("{peers} peers are configured; the maximum is {max}", max = PEERS_MAX - 1)]
    TooManyPeers {
        /// The number of configured peers.
        peers: usize,
    },
    /// The listen address is in use or not permitted.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// A block that the state or the history refers to is not stored.
    #[error("block {height} is missing from the state folder")]
    MissingBlock {
        /// The block.
        height: u64,
    },
    /// Replaying the stored blocks gives a different state.
    #[error("the stored state does not match a replay of the blocks up to {height}")]
    StateMismatch {
        /// The block that the stored state belongs to.
        height: u64,
    },
    /// A block does not name the previous block as its parent.
    #[error("the parent of block {height} is not the block before it")]
    Unlinked {
        /// The block.
        height: u64,
    },
    /// A certificate is not signed by the committee of its term.
    #[error("the certificate of block {height} is not signed by the committee of its term")]
    Certificate {
        /// The block.
        height: u64,
    },
    /// The history holds a different block at this height.
    #[error("the history holds a different block at height {height}")]
    HistoryMismatch {
        /// The height.
        height: u64,
    },
    /// State sync started, and no peer provides what it needs.
    #[error("state sync failed: {reason}")]
    NoSnapshot {
        /// The last failure.
        reason: String,
    },
    /// All connected peers have pruned the blocks that this node needs next.
    #[error("this node is at block {height}, but its peers only have blocks from {first} on")]
    TooFarBehind {
        /// Its last block.
        height: u64,
        /// The earliest block that a peer has.
        first: u64,
    },
    /// The next block follows rules that this software does not execute. Another release continues
    /// after the same block.
    #[error(
        "the blocks after block {height} follow rules {version}, and this software executes \
         {executed}"
    )]
    OtherRules {
        /// The last block that it executes.
        height: u64,
        /// The version of the rules that the next one follows.
        version: u16,
        /// What this software executes.
        executed: RulesRange,
    },
    /// A file or folder of this node is damaged, so that it cannot start.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The way out.
        remedy: Remedy,
    },
    /// The journal of votes lacks votes that the key has cast.
    #[error("{0}")]
    VotesLost(Watching),
    /// The key of this node votes on another machine.
    #[error("the key of this node has moved to another folder, as {} says", path.display())]
    KeyMoved {
        /// The record of its votes.
        path: PathBuf,
    },
    /// The disk is full or failing. The node can be restarted once it accepts writes.
    #[error("the disk accepts no more data: {source}; finalized data is safe")]
    Disk {
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The engine reached a condition from which it cannot continue. Finalized data is safe; the
    /// node can be restarted.
    #[error("the node stopped: {reason}")]
    Stopped {
        /// What the engine reported.
        reason: String,
    },
}

/// What makes a node with a damaged file start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The folder is a journal of votes: without it the node watches until the next term begins.
    Votes,
    /// The file is made again once it is deleted.
    Remade,
    /// What it holds can be fetched from other nodes.
    Join,
}

impl EngineError {
    /// A failure that the engine reports only as text.
    pub(crate) fn stopped(reason: impl std::fmt::Display) -> Self {
        Self::Stopped { reason: reason.to_string() }
    }
}

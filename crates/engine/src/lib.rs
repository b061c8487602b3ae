//! Orders blocks by consensus: proposes, verifies and finalizes them, and syncs the state of nodes
//! that join.
//!
//! The protocol decides what a transaction does, and the [`Pool`] decides what is proposed; this
//! crate puts blocks in one order that no crash can change. It never interprets a transaction. The
//! generics of the consensus library end here: [`start`] takes plain types, so no other crate
//! compiles them.
//!
//! Modules in reading order, each using only those before it: what a node is built from (`calendar`
//! to `settings`), blocks and their archives, `consensus` (who decides blocks, what they do, and
//! when), `sync` (how a node obtains the state of others), `recorder` (writes finalized blocks to
//! the history), `inspect` (finds what is damaged on disk), `node` (assembles all of it, on any
//! runtime), and what a process uses: `network`, `handle`, `verify`, `stopped`.

mod calendar;
mod limits;
mod watching;
mod error;
mod keys;
mod interface;
mod links;
mod gossip;
mod contacts;
mod votes;
mod ballots;
mod leases;
mod scheme;
mod settings;
mod block;
mod archives;
mod consensus;
mod sync;
mod recorder;
mod proving;
mod paused;
mod inspect;
mod node;
mod network;
mod handle;
mod verify;
mod stopped;

pub use block::{recode_block, sample_block};
pub use calendar::TERM_BLOCKS;
pub use consensus::faults::FAULTS_WAITING_MAX;
pub use contacts::{Contact, Contacts, RefusedFor};
pub use error::{EngineError, Remedy};
pub use gossip::{GOSSIP_WAITING_MAX, Gossip, GossipMessage, GossipReceiver};
pub use handle::{Handle, Host, start};
pub use interface::{JoinProgress, Joined, Pool, Sink};
pub use keys::ConsensusSecret;
pub use limits::{
    BLOCK_BYTES_MAX, BLOCK_DURATION, BLOCK_TRANSACTIONS_MAX, GOSSIP_BYTES_MAX, KEEP_BLOCKS_MIN,
    PEERS_MAX,
};
pub use network::{Peer, PeerAddress, check_peers};
pub use proving::{HANDOVERS_MAX, PROVED_BYTES_MAX, PROVED_RECORDS_MAX, Proved, Prover};
pub use settings::{Join, Settings};
pub use soma_store::history::FinalizedBlock;
pub use stopped::StoppedNode;
pub use verify::{Verified, verify_store};
pub use votes::{CarriedVotes, VoteRecord};
pub use watching::{KeyUse, OtherProcess, Overtaken, Unleased, Watching};

/// The same node on any runtime and any network, as a simulator starts it. Everything else uses
/// [`start`], which is compiled once.
pub mod generic {
    pub use crate::{
        ballots::signed_vote,
        calendar::Calendar,
        consensus::components::message_bytes_max,
        gossip::gossip_channel,
        keys::private_key,
        leases::pace::Pace,
        limits::{GOSSIP_QUOTA, LEASES_QUOTA, QUOTA},
        links::{Links, Registered, Roster, Runtime},
        node::{Node, start},
        settings::{Deviation, Distortion, Overrides, Services},
    };
}

//! How a node is set up: what its operator chooses, the services around it, and what only a
//! simulation changes.

use std::{fmt, num::NonZeroU64, sync::Arc};

use soma_protocol::{BlockInfo, Genesis, Outcome, Ruleset, evidence::Evidence};
use soma_store::History;
use tokio::sync::{Notify, mpsc};

use crate::{
    calendar::Calendar,
    gossip::GossipRelay,
    interface::{Pool, Sink},
    keys::ConsensusSecret,
    leases::pace::Pace,
    limits::SECTION_BLOCKS,
    votes::VoteRecord,
};

/// How a node without blocks obtains the state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Join {
    /// By state sync if the chain is longer than two terms, else by executing all blocks. A genesis
    /// validator executes all blocks: the chain begins with it.
    #[default]
    Auto,
    /// By state sync; a node that has blocks but is far behind also syncs.
    State,
    /// By executing all blocks.
    Replay,
}

/// What a node runs with. Whether it votes is up to the chain: a node whose key has no seat
/// follows, verifies every certificate and executes every block.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The chain.
    pub genesis: Genesis,
    /// The key that this node votes with and that identifies it.
    pub key: ConsensusSecret,
    /// The minimum time between two blocks while there are transactions, in milliseconds.
    pub block_ms: u64,
    /// The maximum time between two blocks while there are none, in milliseconds. With more than
    /// one validator it is at most one second, so that an absent one is noticed soon.
    pub idle_block_ms: u64,
    /// How it obtains the state if it has no blocks.
    pub join: Join,
    /// Whether it votes although nothing shows how its key voted before: an operator's decision,
    /// for a network that cannot continue without it.
    pub vote_unrecorded: bool,
    /// The rules that its blocks follow: all of them, but in tests and simulations.
    pub ruleset: Ruleset,
    /// The number of blocks it keeps, at least [`KEEP_BLOCKS_MIN`](crate::KEEP_BLOCKS_MIN) on a
    /// real network; all of them if `None`.
    pub keep_blocks: Option<u64>,
}

/// What a node uses besides its disk and network.
#[expect(missing_debug_implementations, reason = "trait objects have nothing to show")]
pub struct Services {
    /// Where its blocks get their transactions from.
    pub pool: Arc<dyn Pool>,
    /// Where finalized blocks go.
    pub sink: Arc<dyn Sink>,
    /// Notified when the pool has new transactions.
    pub work: Arc<Notify>,
    /// The history of finalized blocks.
    pub history: Arc<History>,
    /// Carries gossip between the pool and the network.
    pub gossip: GossipRelay,
    /// Receives proof that a validator equivocated; dropped if the queue is full.
    pub faults: mpsc::Sender<Evidence>,
    /// The last vote of this node's key.
    pub votes: Arc<VoteRecord>,
}

/// What a simulation changes; the default is a real node.
#[derive(Clone, Debug)]
pub struct Overrides {
    /// Prefix of this node's partitions: simulated nodes share one storage.
    pub prefix: String,
    /// The length of a term.
    pub calendar: Calendar,
    /// How many finalized blocks share a file.
    pub section_blocks: NonZeroU64,
    /// How far this node's clock is ahead of the true time, in milliseconds.
    pub skew_ms: i64,
    /// How the node departs from the protocol.
    pub deviation: Deviation,
    /// Whether time is only that of the runtime, and not also that of this machine.
    pub simulated_time: bool,
    /// How often leases are renewed.
    pub pace: Pace,
}

/// Prefix of the partitions of a real node.
pub(crate) const PREFIX: &str = "soma";

impl Default for Overrides {
    fn default() -> Self {
        Self {
            prefix: PREFIX.into(),
            calendar: Calendar::default(),
            section_blocks: SECTION_BLOCKS,
            skew_ms: 0,
            deviation: Deviation::None,
            simulated_time: false,
            pace: Pace::default(),
        }
    }
}

/// Changes the outcome of a block.
pub type Distortion = Arc<dyn Fn(&BlockInfo, &mut Outcome) + Send + Sync>;

/// How a simulated node departs from the protocol; a real one never does.
#[derive(Clone, Default)]
pub enum Deviation {
    /// Not at all.
    #[default]
    None,
    /// It executes every block incorrectly. If all nodes do so, this is a planted bug.
    Bug(Distortion),
    /// It proposes blocks with a false outcome, and verifies others correctly.
    Lies(Distortion),
    /// It proposes blocks with the transactions that they must not include, and verifies others
    /// correctly.
    Stuffs,
    /// It forges what it sends to nodes that sync.
    Forges,
    /// It claims to have more blocks than the chain has, and gives none to nodes that sync.
    Boasts,
    /// It votes without leases of its key.
    Unleased,
}

impl fmt::Debug for Deviation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Bug(_) => "Bug",
            Self::Lies(_) => "Lies",
            Self::Stuffs => "Stuffs",
            Self::Forges => "Forges",
            Self::Boasts => "Boasts",
            Self::Unleased => "Unleased",
        })
    }
}

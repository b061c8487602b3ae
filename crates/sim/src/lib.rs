//! The whole network in one process: the validators as they really run, on a simulated network, a
//! simulated disk and a simulated clock. One seed gives one history, to the last bit.
//!
//! A history is full of faults, drawn from its seed: messages are lost, late, doubled and out of
//! order; the network splits; nodes crash, lose power, and are refused by their disks; one validator
//! may cheat; clocks are wrong. [`check`] looks at every block, and at the end everything is healed
//! and the network must go on. Nothing here knows the time of day or a real file.

pub mod actors;
pub mod cheats;
pub mod check;
pub mod dice;
pub mod history;
pub mod node;
pub mod proofs;
pub mod wire;

pub use history::{Report, Settings, run};

/// What a history did that no history may do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two nodes, or one node at two times, call different blocks final.
    #[error("node {node} calls {found} final at {height}, {expected} was final before")]
    TwoHistories {
        /// Who said it.
        node: usize,
        /// Where.
        height: u64,
        /// What was final.
        expected: String,
        /// What it says now.
        found: String,
    },
    /// A node skipped a block.
    #[error("node {node} went from block {from} to block {to}")]
    Hole {
        /// Which node.
        node: usize,
        /// The last block before.
        from: u64,
        /// The one after.
        to: u64,
    },
    /// A node started again and knows less than it had said was final.
    #[error("node {node} had called {reported} final and starts at {found}")]
    Lost {
        /// Which node.
        node: usize,
        /// The height that it had reported.
        reported: u64,
        /// The height that it starts at.
        found: u64,
    },
    /// A node's state is not one that the rules allow.
    #[error("node {node} after block {height}: {reason}")]
    State {
        /// Which node.
        node: usize,
        /// After which block.
        height: u64,
        /// What does not hold.
        reason: String,
    },
    /// A node's state is not what executing the blocks gives.
    #[error("node {node} after block {height}: its state is not what the blocks make of genesis")]
    Diverged {
        /// Which node.
        node: usize,
        /// After which block.
        height: u64,
    },
    /// A node could not start again.
    #[error("node {node} cannot start: {reason}")]
    Stuck {
        /// Which node.
        node: usize,
        /// What it said.
        reason: String,
    },
    /// An honest node was accused of two histories.
    #[error("node {by} has proof that node {node}, which is honest, signed two histories")]
    Accused {
        /// Who was accused.
        node: usize,
        /// By whom.
        by: usize,
    },
    /// All faults are over and the network does not go on.
    #[error("healed at {healed}, and after {seconds} s the nodes are at {heights:?}")]
    Halted {
        /// The highest block when all was healed.
        healed: u64,
        /// How long was waited, in simulated seconds.
        seconds: u64,
        /// Where the nodes are.
        heights: Vec<u64>,
    },
}

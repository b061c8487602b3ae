//! Promises that no history may break.

/// The first promise that a history breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Two nodes, or one node at two times, finalize different blocks at one height.
    #[error("node {node} finalized {found} at height {height}, where {expected} was finalized")]
    Fork {
        /// The node that differs.
        node: usize,
        /// The height.
        height: u64,
        /// Digest of the block finalized first.
        expected: String,
        /// Digest of the block that the node finalized.
        found: String,
    },
    /// A node skipped a block.
    #[error("node {node} went from block {from} to block {to}")]
    Gap {
        /// The node.
        node: usize,
        /// Height of the last block before the gap.
        from: u64,
        /// Height of the first block after it.
        to: u64,
    },
    /// A node restarted without blocks that it had reported as finalized.
    #[error("node {node} had finalized block {reported} and restarts at {found}")]
    Lost {
        /// The node.
        node: usize,
        /// Height that it had reported.
        reported: u64,
        /// The height at which it restarts.
        found: u64,
    },
    /// A node's state violates an invariant of the rules.
    #[error("node {node} after block {height}: {reason}")]
    State {
        /// The node.
        node: usize,
        /// Height of the last block executed.
        height: u64,
        /// The invariant.
        reason: String,
    },
    /// A node's state differs from the result of executing the blocks.
    #[error("node {node} after block {height}: state differs from executing all blocks")]
    Diverged {
        /// The node.
        node: usize,
        /// Height of the last block executed.
        height: u64,
    },
    /// A node cannot start.
    #[error("node {node} cannot start: {reason}")]
    Stuck {
        /// The node.
        node: usize,
        /// Its error.
        reason: String,
    },
    /// A node has evidence of equivocation against an honest node.
    #[error("node {by} has evidence that node {node}, which is honest, equivocated")]
    Accused {
        /// The honest node.
        node: usize,
        /// The node that has the evidence.
        by: usize,
    },
    /// All faults have stopped and the network makes no progress.
    #[error("{seconds} s after all faults stopped at height {healed}, heights are {heights:?}")]
    Halted {
        /// Height of the highest block when the faults stopped.
        healed: u64,
        /// Simulated seconds since then.
        seconds: u64,
        /// Height of each node.
        heights: Vec<u64>,
    },
}

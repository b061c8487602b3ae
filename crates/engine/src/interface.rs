//! What the engine requires from the rest of a node, and what it reports back.

use soma_protocol::{
    Candidates, Error, Hash, Refused, SignedTransaction, VerifiedTransaction, verify_batch,
};
use soma_store::history::FinalizedBlock;

/// Where blocks get their transactions from.
pub trait Pool: Send + Sync + 'static {
    /// Offers its transactions to one block, best first. It must be quick: the state is locked
    /// meanwhile. It may take the pool's lock, so a caller that holds that lock must not call
    /// [`Handle::read`](crate::Handle::read).
    fn candidates(&self) -> Box<dyn Candidates + '_>;

    /// Receives the candidates that a block could not include.
    fn refused(&self, _: &[Refused]) {}

    /// Verifies the signatures of a block's transactions; results come in the same order. A pool
    /// may skip signatures that it has already verified: the results equal those of
    /// [`verify_batch`].
    fn verify(
        &self,
        transactions: Vec<SignedTransaction>,
        chain: &Hash,
    ) -> Vec<Result<VerifiedTransaction, Error>> {
        verify_batch(transactions, chain)
    }

    /// Whether the pool has no transactions at all.
    fn is_empty(&self) -> bool;
}

/// Receives finalized blocks.
pub trait Sink: Send + Sync + 'static {
    /// Receives a block that is finalized, durable, and in the history. Called in order of height,
    /// at least once for each block: after a crash, the last blocks are repeated.
    fn finalized(&self, block: FinalizedBlock);

    /// Receives the progress of a state sync, often.
    fn joining(&self, _: JoinProgress) {}

    /// Receives the end of a state sync: the next finalized block is the one after it.
    fn joined(&self, _: &Joined) {}
}

/// The progress of a state sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinProgress {
    /// The node asks its peers what they have.
    Asking,
    /// No peer has answered yet, for this many seconds: the node keeps asking.
    Alone {
        /// Seconds since it began to ask.
        seconds: u64,
    },
    /// It verifies handovers.
    Committees {
        /// Handovers whose certificates were verified.
        handovers: u64,
        /// The term of the last one.
        term: u64,
    },
    /// It downloads the state after a block.
    State {
        /// The block.
        height: u64,
        /// Operations received, each proved.
        operations: u64,
        /// Operations in total.
        of: u64,
        /// Bytes received.
        bytes: u64,
    },
}

/// A completed state sync: what was received, and what that was checked against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The block whose state it is.
    pub height: u64,
    /// The digest of this block.
    pub digest: Hash,
    /// The root of its state.
    pub state_root: Hash,
    /// Handovers between committees that were verified, from genesis on.
    pub handovers: u64,
    /// Operations of the state that were received, each proved against the root.
    pub operations: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Peers that were excluded because they sent something that could not be proved.
    pub refused: u64,
}

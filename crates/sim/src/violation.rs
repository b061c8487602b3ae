//! Promises that no history may break.

use soma_protocol::{Address, Amount, Epoch, Hash, ModelId, TargetId};

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
    /// A validator that runs twice by mistake signed two votes that contradict each other.
    #[error("node {node}, which runs twice, contradicted itself in view {view} of term {term}")]
    Contradicted {
        /// The node.
        node: usize,
        /// The term of both votes.
        term: u64,
        /// Their view.
        view: u64,
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
    /// A payment took room in a block and did not pay for it.
    #[error("payment {hash} in block {height} paid {fee} base units; its bytes and tip cost {due}")]
    Unpaid {
        /// The block.
        height: u64,
        /// The payment.
        hash: Hash,
        /// What it paid, in base units.
        fee: u64,
        /// What it had to pay.
        due: u64,
    },
    /// Somebody made a permanent record and did not pay for its room.
    #[error(
        "payment {hash} in block {height} paid {fee} base units; its records' room makes {due}"
    )]
    FreeRoom {
        /// The block.
        height: u64,
        /// The payment.
        hash: Hash,
        /// What it paid, in base units.
        fee: u64,
        /// What it had to pay at least.
        due: u64,
    },
    /// A duty took room in a block for nothing.
    #[error("duty {hash} in block {height} was rejected")]
    RejectedDuty {
        /// The block.
        height: u64,
        /// The duty.
        hash: Hash,
    },
    /// Payments or duties left the other no quarter of a block.
    #[error("block {height} has payments of weight {payments} and duties of weight {duties}")]
    NoQuarter {
        /// The block.
        height: u64,
        /// Weight of its payments.
        payments: u64,
        /// Weight of its duties.
        duties: u64,
    },
    /// A record is longer than its type allows.
    #[error("block {height} writes a record of {bytes} bytes; its type has at most {max}")]
    LongRecord {
        /// The block.
        height: u64,
        /// Length of the record.
        bytes: usize,
        /// The most bytes of its type.
        max: usize,
    },
    /// A block worked longer on tasks than a block may.
    #[error("block {height} spent {work} units of work on tasks, of at most {max}")]
    LongWork {
        /// The block.
        height: u64,
        /// The work.
        work: u64,
        /// The most.
        max: u64,
    },
    /// Stake became active before the wins that were known when it came were settled.
    #[error("in epoch {epoch}, more stake of {staker} joined than it had added two epochs before")]
    EarlyStake {
        /// The epoch in which it became active.
        epoch: Epoch,
        /// Whose stake.
        staker: Address,
    },
    /// A staker has so few shares that rounding takes a noticeable part.
    #[error("block {height} leaves a staker with {shares} shares")]
    FewShares {
        /// The block.
        height: u64,
        /// The shares.
        shares: u128,
    },
    /// A validator took a seat with much less stake than the others have.
    #[error("{validator} took a seat with {stake} SOMA beside a middle seat with {middle}")]
    CheapSeat {
        /// The validator.
        validator: Address,
        /// Its stake.
        stake: Amount,
        /// The stake of the middle one of the seats before.
        middle: Amount,
    },
    /// The seats that can stop consensus count for too little.
    #[error("after block {height} the cheapest third of the seats counts {cheapest} of {all} SOMA")]
    CheapThird {
        /// The block.
        height: u64,
        /// What the cheapest third counts.
        cheapest: Amount,
        /// What all count.
        all: Amount,
    },
    /// A validator without a seat contributed to the beacon.
    #[error("{validator} contributed to the beacon of epoch {epoch} without a seat")]
    Outsider {
        /// The epoch.
        epoch: Epoch,
        /// The validator.
        validator: Address,
    },
    /// Data could win twice.
    #[error("the data that had won target {earlier} was published for target {target}")]
    WonTwice {
        /// The later target.
        target: TargetId,
        /// The target of an earlier epoch.
        earlier: TargetId,
    },
    /// Something that depends on the settlement of an epoch came before it.
    #[error("transaction {hash} in block {height} came before what it depends on was settled")]
    Unsettled {
        /// The block.
        height: u64,
        /// The transaction.
        hash: Hash,
    },
    /// A model could choose between two weights when the beacon was known.
    #[error("target {target} was drawn for model {model}, which had not revealed its commit")]
    Unbound {
        /// The target.
        target: TargetId,
        /// The model.
        model: ModelId,
    },
    /// Validators without a seat took more places of proposals than they have.
    #[error("in block {height}, {proposer}, which has no seat, made a proposal too many")]
    ManyProposals {
        /// The block.
        height: u64,
        /// The proposer.
        proposer: Address,
    },
    /// A claim kept others from a target for nothing.
    #[error("the claim for target {target} was not decided and cost nothing")]
    FreeDenial {
        /// The target.
        target: TargetId,
    },
    /// A broken model cost less than it may have denied.
    #[error("model {model} lost {lost} SOMA for a broken file that may have denied {denied}")]
    CheapDenial {
        /// The model.
        model: ModelId,
        /// What it lost.
        lost: Amount,
        /// The rewards of the targets that it was drawn for.
        denied: Amount,
    },
    /// The files of all models take more room than there is.
    #[error("after block {height} the files of all models have {bytes} bytes, of at most {max}")]
    ManyFiles {
        /// The block.
        height: u64,
        /// Their bytes.
        bytes: u64,
        /// The most.
        max: u64,
    },
    /// An honest validator lost stake.
    #[error("honest validator {validator} was slashed in block {height}")]
    Slashed {
        /// The block.
        height: u64,
        /// The validator.
        validator: Address,
    },
    /// A transfer with an ordinary tip was kept out.
    #[error(
        "by block {height}, {blocks} honest proposers had a transfer with a tip and left it out"
    )]
    Late {
        /// The last of these blocks.
        height: u64,
        /// How many there were.
        blocks: u32,
    },
}

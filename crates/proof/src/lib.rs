//! What anyone can verify about a chain without its state and without the consensus library: which
//! committee decides a block, that it did, and what a record of the state after it is.
//!
//! [`docs/protocol.md`](../../../docs/protocol.md#proofs) defines every byte. Nothing here uses a
//! network, a disk or a clock, and nothing that arrives is trusted: whatever is malformed is
//! refused, never a panic. A test of the engine compares all of it with the consensus library.
//!
//! Modules in reading order: `reader` (the encoding of integers), [`header`](Header),
//! [`committee`](Voter) (who votes, and [`Certificate`]s), [`handover`](Committees) (which
//! committee decides which blocks), [`record`](RecordProof) (what a record is).

#![forbid(unsafe_code)]

mod reader;
mod header;
mod committee;
mod handover;
mod record;

pub use committee::{Certificate, Voter, digest_of, voters};
pub use handover::{Committees, Handover, InvalidHandover, TERM_BLOCKS};
pub use header::Header;
pub use record::{
    BUCKET_RECORDS_MAX, EMPTY, Entry, PROOF_BYTES_MAX, RecordProof, branch_hash, bucket_hash,
    is_right,
};

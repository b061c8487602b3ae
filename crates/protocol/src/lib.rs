//! The rules: a pure function from state and block to state, receipts and events.
//!
//! Owns transactions, the records of the state and everything that changes them. Never does input
//! or output, reads a clock, computes with floats, iterates over an unordered map, or panics on the
//! content of a transaction. `docs/protocol.md` explains what the rules are and why.
//!
//! Modules are listed from bottom to top; each uses only those before it. [`execute`] is the entry
//! point: it runs a block through `action` (what a transaction does) and `epoch` (what the end of a
//! phase does). [`read`] is for everyone; [`query`], [`invariants`] and [`tally`] are for APIs,
//! commands and tests, and no rule uses them.

#![forbid(unsafe_code)]
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic
)]

mod value;
pub mod reject;
mod error;
mod ruleset;
pub mod state;
pub mod record;
pub mod event;
pub mod read;
mod proof;
mod transition;
mod living;
mod money;
mod governance;
mod epoch;
pub mod action;
pub mod genesis;
pub mod transaction;
pub mod room;
mod candidates;
mod execute;
pub mod query;
pub mod invariants;
pub mod tally;

pub use action::{Action, HeldFile};
pub use candidates::{Candidates, InTurn};
pub use epoch::winner::winner;
pub use epoch::{routing, seat_stake, winner};
pub use error::Error;
pub use event::Event;
pub use execute::{Built, InvalidBlock, Outcome, Receipt, Refused, build, check, execute};
pub use genesis::{Genesis, GenesisAccount, GenesisModel, GenesisValidator};
pub use money::fee::RECORD_OVERHEAD_BYTES;
pub use money::rent;
pub use proof::{SecretKey, bundle, commitment, corpus, entry, evidence, sketch, storage, upload};
pub use record::{
    Change, Committee, Endpoints, Params, Proposal, Seat, VALIDATORS_MAX, Validity, Verdict,
};
pub use reject::Rejection;
pub use room::{BLOCK_TRANSACTIONS_MAX, BLOCK_WEIGHT_MAX, KIND_WEIGHT_MAX, Room};
pub use ruleset::{Defense, RULES, RulesRange, Ruleset, TASK_WORK_MAX};
pub use soma_architecture::Architecture;
pub use state::{Changes, Draft, Key, MemoryState, StateRead, VALUE_BYTES_MAX};
pub use transaction::{
    SignedTransaction, TRANSACTION_BYTES_MAX, Transaction, VerifiedTransaction, verify_batch,
    verify_batch_unless,
};
pub use value::{
    ADDRESS_PREFIX, Address, Amount, BPS, BlockInfo, ConsensusKey, Epoch, Hash, ModelId,
    ParseError, Phase, PoolId, ProposalId, SOMA, SUPPLY, TargetId, decimal, hex,
};

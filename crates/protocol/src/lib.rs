//! The rules: a pure function from state and block to state, receipts and events.
//!
//! No input or output, no clock, no floats, no unordered maps, no panics on whatever a transaction
//! holds. `docs/protocol.md` says what the rules are and why. The modules below are in reading order:
//! each uses only those above it.

#![forbid(unsafe_code)]
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod action;
mod epoch;
mod error;
pub mod event;
mod execute;
pub mod genesis;
mod governance;
pub mod invariants;
mod money;
mod proof;
pub mod query;
pub mod read;
pub mod record;
pub mod reject;
pub mod state;
pub mod transaction;
mod transition;
mod value;

pub use action::{Action, HeldFile};
pub use epoch::winner::winner;
pub use epoch::{routing, winner};
pub use error::Error;
pub use event::Event;
pub use execute::{Outcome, Receipt, check, execute};
pub use genesis::{Genesis, GenesisAccount, GenesisModel, GenesisValidator};
pub use money::rent;
pub use proof::{SecretKey, commitment, evidence, storage, upload};
pub use record::{Change, Committee, Params, Proposal, Seat, Validity, Verdict};
pub use reject::Rejection;
pub use soma_architecture::Architecture;
pub use state::{Changes, Draft, Key, MemoryState, StateRead};
pub use transaction::{
    SignedTransaction, TRANSACTION_BYTES_MAX, Transaction, VerifiedTransaction, verify_batch,
    verify_batch_unless,
};
pub use value::{
    ADDRESS_PREFIX, Address, Amount, BPS, BlockInfo, ConsensusKey, Epoch, Hash, ModelId,
    ParseError, Phase, PoolId, ProposalId, SOMA, SUPPLY, TargetId, decimal, hex,
};

//! The rules: a pure function from state and block to state, receipts and events.
//!
//! No input or output, no clock, no floats, no unordered maps, no panics on whatever a transaction
//! holds. `docs/protocol.md` says what the rules are and why.

#![forbid(unsafe_code)]
#![deny(
    clippy::float_arithmetic,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod action;
mod actions;
pub mod address;
pub mod amount;
mod apply;
pub mod architecture;
mod balance;
mod beacon;
pub mod commitment;
pub mod decimal;
mod epoch;
mod error;
pub mod event;
pub mod evidence;
pub mod genesis;
mod governance;
pub mod hash;
pub mod hex;
pub mod id;
pub mod invariants;
mod lifecycle;
mod migration;
pub mod params;
pub mod phase;
pub mod pool;
pub mod proposal;
pub mod record;
pub mod reject;
pub mod rent;
mod rewards;
pub mod routing;
pub mod seats;
mod settlement;
pub mod signature;
mod slashing;
pub mod state;
pub mod storage;
pub mod targets;
pub mod transaction;
mod unbonding;
pub mod validator;
pub mod view;
pub mod winner;

pub use action::{Action, Finding, Held, Verdict};
pub use address::{Address, ConsensusKey};
pub use amount::{Amount, SOMA, SUPPLY};
pub use apply::{BlockInfo, Outcome, Receipt, check, execute, next_deadline_ms};
pub use architecture::ArchitectureSpec;
pub use error::Error;
pub use event::Event;
pub use genesis::{Genesis, GenesisAccount, GenesisModel, GenesisValidator, Network};
pub use hash::Hash;
pub use id::{Epoch, ModelId, ProposalId, TargetId};
pub use params::Params;
pub use phase::Phase;
pub use pool::PoolId;
pub use proposal::{Change, Proposal};
pub use reject::Rejection;
pub use state::{Changes, Draft, Key, Memory, Read};
pub use transaction::{
    SecretKey, SignedTransaction, TRANSACTION_BYTES_MAX, Transaction, VerifiedTransaction,
    verify_batch, verify_batch_unless,
};
pub use validator::{Committee, Seat, committee, committee_at};
pub use winner::winner;

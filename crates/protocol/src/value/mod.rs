//! Values: numbers, hashes, names and money, with their text and JSON. They know nothing of a state.

mod address;
mod amount;
mod block_info;
pub mod decimal;
mod hash;
pub mod hex;
mod id;
mod parse_error;
mod phase;
mod pool_id;

pub use address::{ADDRESS_PREFIX, Address, ConsensusKey};
pub use amount::{Amount, BPS, SOMA, SUPPLY};
pub use block_info::BlockInfo;
pub use hash::Hash;
pub(crate) use hash::parts_hasher;
pub use id::{Epoch, ModelId, ProposalId, TargetId};
pub use parse_error::ParseError;
pub use phase::Phase;
pub use pool_id::PoolId;

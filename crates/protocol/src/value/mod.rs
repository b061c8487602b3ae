//! Values: numbers, hashes, names and money, with their text and JSON forms. They do not depend on
//! any state.

mod parse_error;
pub mod hex;
pub mod decimal;
mod text;
mod hash;
mod id;
mod address;
mod amount;
mod phase;
mod pool_id;
mod block_info;

pub use address::{ADDRESS_PREFIX, Address, ConsensusKey};
pub use amount::{Amount, BPS, SOMA, SUPPLY};
pub use block_info::BlockInfo;
pub use hash::Hash;
pub(crate) use hash::parts_hasher;
pub use id::{Epoch, ModelId, ProposalId, TargetId};
pub use parse_error::ParseError;
pub use phase::Phase;
pub use pool_id::PoolId;

//! Money: moving it, pooling it, paying and burning it. Nothing here mints: the reserve is the only
//! source, and `invariants.rs` checks that nothing appears or vanishes.

mod account;
mod pool;
pub(crate) mod fee;
pub mod rent;
pub(crate) mod slashing;
pub(crate) mod rewards;
pub(crate) mod stake_queue;

pub(crate) use account::{burn, credit, debit};
pub(crate) use pool::{PoolOwner, save_share};

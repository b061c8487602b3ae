//! Transactions that wait for a block, in two rooms: duties, which the rules accept as of the last
//! block, and payments, in nonce order for each account and in the order of their tips between
//! accounts.
//!
//! Cheap checks come before signatures, and signatures are verified in batches. A waiting
//! transaction has a valid signature, and its account can pay for it and for all before it; whether
//! the rules accept a payment is decided in its block. The pool must never exceed its limits, never
//! rank by a number that is not charged, never offer a payment out of nonce order, and never drop a
//! valid one except for one that pays more.

mod queue;
mod duties;
mod pool;
mod selection;
mod tips;
mod outbox;
mod turns;
mod admission;
#[cfg(test)]
mod tests;

pub(crate) use self::admission::{Admission, AdmissionQueue, Arrivals};
pub(crate) use self::duties::refused_cost;
pub(crate) use self::outbox::Outbox;
pub(crate) use self::pool::{Mempool, Screened};
pub(crate) use self::turns::{Party, QueueError};

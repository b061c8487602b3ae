//! Transactions that wait for a block: bounded, in nonce order for each account, in fee order
//! between accounts.
//!
//! Cheap checks come before signatures, and signatures are verified in batches. A waiting
//! transaction has a valid signature, and its account could pay the fee limit when it arrived;
//! whether the rules accept it is decided in its block. The pool must never exceed its limits,
//! never offer a transaction out of nonce order, and never drop a valid one except for one that
//! pays more.

mod queue;
mod pool;
mod admission;
#[cfg(test)]
mod tests;

pub(crate) use self::admission::{Admission, AdmissionQueue, Arrivals, QueueError};
pub(crate) use self::pool::{Mempool, Screened};

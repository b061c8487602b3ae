//! The pool of one simulated node: pending transactions, one for each sender and nonce, and duties.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use soma_engine::Pool;
use soma_protocol::{
    Address, Candidates, Hash, InTurn, Refused, SignedTransaction, VerifiedTransaction,
};

/// The most transactions that a pool holds.
const TRANSACTIONS_MAX: usize = 400;

/// The sender and the nonce of a payment; a duty has its hash instead of a nonce.
type Place = (Address, u64, Option<Hash>);

fn place(signed: &SignedTransaction) -> Place {
    let tx = signed.transaction();
    (tx.sender, tx.nonce, tx.action.is_duty().then(|| signed.hash()))
}

/// The pending transactions of one node.
#[derive(Debug, Default)]
pub struct Mempool(Mutex<BTreeMap<Place, VerifiedTransaction>>);

impl Mempool {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<Place, VerifiedTransaction>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a transaction if there is room, replacing any other with the same sender and nonce.
    pub fn add(&self, verified: VerifiedTransaction) {
        let mut pending = self.pending();
        let key = place(verified.signed());
        if pending.len() < TRANSACTIONS_MAX || pending.contains_key(&key) {
            pending.insert(key, verified);
        }
    }

    /// Removes transactions that are finalized or expired.
    pub fn remove(&self, finalized: &[SignedTransaction], now_ms: u64) {
        let mut pending = self.pending();
        for signed in finalized {
            pending.remove(&place(signed));
        }
        pending.retain(|_, verified| verified.transaction().valid_until_ms >= now_ms);
    }
}

impl Pool for Mempool {
    fn candidates(&self) -> Box<dyn Candidates + '_> {
        let pending: Vec<_> = self.pending().values().cloned().collect();
        Box::new(InTurn(pending.into_iter()))
    }

    fn refused(&self, refused: &[Refused]) {
        let is_refused =
            |hash: &Hash| refused.iter().any(|refused| refused.transaction.hash() == *hash);
        self.pending().retain(|_, verified| !is_refused(&verified.hash()));
    }

    fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }
}

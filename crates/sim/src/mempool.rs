//! The pool of one simulated node: pending transactions, one for each sender and nonce.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use soma_engine::Pool;
use soma_protocol::{Address, SignedTransaction, StateRead, VerifiedTransaction, read};

/// The most transactions that a pool holds.
const TRANSACTIONS_MAX: usize = 400;

/// The pending transactions of one node.
#[derive(Debug, Default)]
pub struct Mempool(Mutex<BTreeMap<(Address, u64), VerifiedTransaction>>);

impl Mempool {
    fn pending(&self) -> MutexGuard<'_, BTreeMap<(Address, u64), VerifiedTransaction>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a transaction if there is room, replacing any other with the same sender and nonce.
    pub fn add(&self, verified: VerifiedTransaction) {
        let mut pending = self.pending();
        let tx = verified.transaction();
        let key = (tx.sender, tx.nonce);
        if pending.len() < TRANSACTIONS_MAX || pending.contains_key(&key) {
            pending.insert(key, verified);
        }
    }

    /// Removes transactions that are finalized or expired.
    pub fn remove(&self, finalized: &[SignedTransaction], now_ms: u64) {
        let mut pending = self.pending();
        for signed in finalized {
            let tx = signed.transaction();
            pending.remove(&(tx.sender, tx.nonce));
        }
        pending.retain(|_, verified| verified.transaction().valid_until_ms >= now_ms);
    }
}

impl Pool for Mempool {
    fn select(&self, state: &dyn StateRead, _: u64, max_bytes: usize) -> Vec<VerifiedTransaction> {
        let (mut bytes_left, mut nonces) = (max_bytes, BTreeMap::new());
        let pending = self.pending();
        let ready = pending.iter().filter(|((sender, nonce), _)| {
            let on_chain = || read::account(state, sender).nonce;
            let next = nonces.entry(*sender).or_insert_with(on_chain);
            let is_next = *next == *nonce;
            *next += u64::from(is_next);
            is_next
        });
        ready
            .map_while(|(_, verified)| {
                bytes_left = bytes_left.checked_sub(verified.size_bytes())?;
                Some(verified.clone())
            })
            .collect()
    }

    fn is_empty(&self) -> bool {
        self.pending().is_empty()
    }
}

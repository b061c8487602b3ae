//! The pool itself: admission in two halves, selection for a block, removal of what is finalized.

use std::cmp::Reverse;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use soma_engine::Pool;
use soma_protocol::{
    Action, Address, Error, Hash, SignedTransaction, StateRead, VerifiedTransaction, query, read,
    verify_batch_unless,
};

use super::queue::{Bid, Entry, Queue, Selection};
use crate::refusal::Refusal;
use crate::settings::PoolLimits;

/// Hashes of the last [`VERIFIED_MAX`] transactions whose signatures are valid: one that was in the
/// pool is not verified again in a block, nor when another node sends it. First in, first out: an
/// LRU cache would not keep more useful ones, and every look-up would reorder it.
#[derive(Default)]
struct Verified {
    hashes: HashSet<Hash>,
    oldest_first: VecDeque<Hash>,
}

/// Hashes remembered as verified; at 8,000 transactions a second, those of the last 16 seconds.
const VERIFIED_MAX: usize = 1 << 17;

impl Verified {
    fn insert(&mut self, hash: Hash) {
        if !self.hashes.insert(hash) {
            return;
        }
        self.oldest_first.push_back(hash);
        if self.oldest_first.len() > VERIFIED_MAX {
            let oldest = self.oldest_first.pop_front();
            oldest.map(|oldest| self.hashes.remove(&oldest));
        }
    }
}

/// A transaction after the checks that need the state but no cryptography.
#[derive(Debug)]
pub(crate) enum Screened {
    /// The answer is known.
    Answered(Result<Hash, Refusal>),
    /// It may enter if its signature is good.
    Unverified(SignedTransaction),
}

/// The pool of one node; clones share it.
#[derive(Clone)]
pub(crate) struct Mempool {
    chain: Hash,
    limits: PoolLimits,
    queue: Arc<Mutex<Queue>>,
    verified: Arc<Mutex<Verified>>,
}

impl std::fmt::Debug for Mempool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Mempool").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Mempool {
    /// An empty pool for transactions of `chain`.
    pub(crate) fn new(chain: Hash, limits: PoolLimits) -> Self {
        Self { chain, limits, queue: Arc::default(), verified: Arc::default() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Transactions waiting.
    pub(crate) fn len(&self) -> usize {
        self.lock().places.len()
    }

    /// Bytes waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// A waiting transaction.
    pub(crate) fn get(&self, hash: &Hash) -> Option<SignedTransaction> {
        let queue = self.lock();
        let (address, nonce) = queue.places.get(hash)?;
        let entry = queue.accounts.get(address)?.get(nonce)?;
        Some(entry.transaction.signed().clone())
    }

    /// The first nonce of an account that no waiting transaction uses, starting at `next`, its
    /// nonce on chain.
    pub(crate) fn next_nonce(&self, address: &Address, next: u64) -> u64 {
        let queue = self.lock();
        let waiting = queue.accounts.get(address);
        let used = |nonce: &u64| waiting.is_some_and(|waiting| waiting.contains_key(nonce));
        (next..=u64::MAX).find(|nonce| !used(nonce)).unwrap_or(next)
    }

    /// The first half of admission: all checks that need the state. It is quick, because no
    /// block is finalized while the state is read.
    pub(crate) fn screen(
        &self,
        transactions: Vec<SignedTransaction>,
        state: &dyn StateRead,
        now_ms: u64,
    ) -> Vec<Screened> {
        let rules = query::chain(state);
        let screen = |transaction: SignedTransaction| {
            let hash = transaction.hash();
            if self.lock().places.contains_key(&hash) {
                return Screened::Answered(Ok(hash));
            }
            match self.precheck(&transaction, state, &rules, now_ms) {
                Ok(()) => Screened::Unverified(transaction),
                Err(refusal) => Screened::Answered(Err(refusal)),
            }
        };
        transactions.into_iter().map(screen).collect()
    }

    /// The second half of admission: signatures and places in the pool. Answers keep the order. A
    /// transaction that is already waiting is accepted again.
    pub(crate) fn enter(&self, screened: Vec<Screened>) -> Vec<Result<Hash, Refusal>> {
        let mut unverified = Vec::new();
        let answers: Vec<Option<Result<Hash, Refusal>>> = screened
            .into_iter()
            .map(|screened| match screened {
                Screened::Answered(answer) => Some(answer),
                Screened::Unverified(transaction) => {
                    unverified.push(transaction);
                    None
                }
            })
            .collect();
        let mut verified = self.verify(unverified, &self.chain).into_iter();
        answers
            .into_iter()
            .map(|answer| answer.or_else(|| verified.next().map(|verified| self.take(verified?))))
            .map(|answer| answer.unwrap_or(Err(Refusal::MempoolFull)))
            .collect()
    }

    /// Everything that is cheaper than a signature check.
    fn precheck(
        &self,
        signed: &SignedTransaction,
        state: &dyn StateRead,
        rules: &query::Chain,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        let transaction = signed.transaction();
        let account = read::account(state, &transaction.sender);
        let (nonce, next) = (transaction.nonce, account.nonce);
        if transaction.valid_until_ms < now_ms {
            return Err(Refusal::Expired { valid_until_ms: transaction.valid_until_ms, now_ms });
        }
        if nonce < next {
            return Err(Refusal::NonceTooLow { nonce, next });
        }
        if nonce - next >= self.limits.per_account as u64 {
            return Err(Refusal::NonceTooHigh { nonce, next });
        }
        if transaction.action.is_free() {
            let entitled = match transaction.action {
                Action::EndPhase(_) => rules.network.operator == Some(transaction.sender),
                _ => read::validator(state, &transaction.sender).is_some(),
            };
            return if entitled { Ok(()) } else { Err(Refusal::NotEntitled) };
        }
        let (fee_limit, fee_min) = (transaction.fee_limit, rules.params.base_fee);
        if fee_limit < fee_min {
            return Err(Refusal::FeeTooLow { fee_limit: fee_limit.0, fee_min: fee_min.0 });
        }
        if account.balance < fee_limit {
            let balance = account.balance.0;
            return Err(Refusal::InsufficientBalance { balance, fee_limit: fee_limit.0 });
        }
        Ok(())
    }

    fn take(&self, verified: VerifiedTransaction) -> Result<Hash, Refusal> {
        let transaction = verified.transaction();
        let place = (transaction.sender, transaction.nonce);
        let bytes = verified.size_bytes();
        let hash = verified.hash();
        let mut queue = self.lock();
        if queue.places.contains_key(&hash) {
            return Ok(hash);
        }
        queue.arrivals += 1;
        let bid = Bid {
            duty: transaction.action.is_free(),
            fee_per_kilobyte: transaction.fee_limit.0.saturating_mul(1000) / bytes as u64,
            arrival: Reverse(queue.arrivals),
        };
        let waiting = queue.accounts.get(&place.0);
        if let Some(rival) = waiting.and_then(|waiting| waiting.get(&place.1)) {
            let held = rival.transaction.transaction().fee_limit.0;
            let fee_limit = held.saturating_add(held / 10).saturating_add(1);
            if transaction.fee_limit.0 < fee_limit {
                return Err(Refusal::ReplacementUnderpriced { nonce: place.1, fee_limit });
            }
        } else if waiting.is_some_and(|waiting| waiting.len() >= self.limits.per_account) {
            return Err(Refusal::AccountFull(self.limits.per_account));
        }
        let rival = queue.remove(place);
        if let Err(refusal) = queue.make_room(&self.limits, place.0, bid, bytes) {
            // The rival fitted before, so putting it back cannot exceed a limit.
            if let Some(rival) = rival {
                queue.insert(place, rival);
            }
            return Err(refusal);
        }
        queue.insert(place, Entry { transaction: verified, hash, bid, bytes });
        Ok(hash)
    }

    /// Removes what a finalized block settles: its transactions, others with their nonces, and
    /// expired ones.
    pub(crate) fn finalized(&self, transactions: &[SignedTransaction], timestamp_ms: u64) {
        let mut queue = self.lock();
        for signed in transactions {
            let transaction = signed.transaction();
            queue.finalized((transaction.sender, transaction.nonce));
        }
        queue.expire(timestamp_ms);
    }
}

/// No transaction is shorter: 32 bytes of chain, 32 of sender, 24 of numbers, one of the action, 64
/// of signature.
const TRANSACTION_BYTES_MIN: usize = 153;

impl Pool for Mempool {
    fn verify(
        &self,
        transactions: Vec<SignedTransaction>,
        chain: &Hash,
    ) -> Vec<Result<VerifiedTransaction, Error>> {
        let known = |hash: &Hash| self.verified.lock().hashes.contains(hash);
        let answers = verify_batch_unless(transactions, chain, known);
        let mut verified = self.verified.lock();
        for transaction in answers.iter().flatten() {
            verified.insert(transaction.hash());
        }
        drop(verified);
        answers
    }

    fn select(
        &self,
        state: &dyn StateRead,
        timestamp_ms: u64,
        max_bytes: usize,
    ) -> Vec<VerifiedTransaction> {
        let queue = self.lock();
        let mut selection = Selection::new(&queue, state);
        let (mut selected, mut bytes) = (Vec::new(), 0);
        while let Some(entry) = selection.next() {
            // Its account's next transactions cannot run before this one, so they wait too.
            if bytes + entry.bytes > max_bytes || entry.valid_until_ms() < timestamp_ms {
                if max_bytes - bytes < TRANSACTION_BYTES_MIN {
                    break;
                }
                continue;
            }
            bytes += entry.bytes;
            selected.push(entry.transaction.clone());
            selection.follow(entry);
        }
        selected
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

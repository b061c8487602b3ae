//! Transactions that wait for a block: bounded, in nonce order for each account, in fee order between accounts.
//!
//! Cheap checks come before signatures, and signatures are checked in batches. What is in here has a valid signature and
//! could pay its fee limit when it came; whether the rules accept it is decided in its block. It must never grow beyond its
//! limits, never offer a transaction out of nonce order, and never lose one that is still valid except to a better paying one.

mod admission;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use soma_codes::{Code, Coded};
use soma_engine::Pool;
use soma_protocol::{
    Action, Address, Error, Hash, SignedTransaction, StateRead, VerifiedTransaction, query, read,
    verify_batch_unless,
};

pub(crate) use self::admission::{Admission, AdmissionQueue, QueueError};

/// How much a pool holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of encoded transactions in all.
    pub bytes: usize,
    /// Transactions in all.
    pub entries: usize,
    /// Transactions of one account, and how far a nonce may lie ahead of the chain.
    pub per_account: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            entries: 100_000,
            per_account: 256,
        }
    }
}

/// Why a transaction was not taken into the pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Full of transactions that pay at least as much.
    #[error("the pool is full")]
    MempoolFull,
    /// This account has as many waiting as it may.
    #[error("the account has {0} transactions waiting, the most it may have")]
    AccountFull(usize),
    /// The nonce was used by a final transaction.
    #[error("nonce {nonce} is used; the next one is {next}")]
    NonceTooLow {
        /// The transaction's nonce.
        nonce: u64,
        /// The account's next nonce on chain.
        next: u64,
    },
    /// The nonce is too far ahead of the chain.
    #[error("nonce {nonce} is too far ahead; the next one is {next}")]
    NonceTooHigh {
        /// The transaction's nonce.
        nonce: u64,
        /// The account's next nonce on chain.
        next: u64,
    },
    /// Another transaction with this nonce waits, and this one does not pay a tenth more.
    #[error(
        "another transaction with nonce {nonce} waits; to replace it, the fee limit must be at least {fee_limit}"
    )]
    ReplacementUnderpriced {
        /// The nonce of both.
        nonce: u64,
        /// What a replacement has to offer, in base units.
        fee_limit: u64,
    },
    /// Its time is over.
    #[error("the transaction expired at {valid_until_ms}, and it is {now_ms}")]
    Expired {
        /// When it expired, in milliseconds since 1970.
        valid_until_ms: u64,
        /// The time now, in milliseconds since 1970.
        now_ms: u64,
    },
    /// The fee limit is below what any transaction costs.
    #[error("the fee limit is {fee_limit} and must be at least {fee_min}, in base units")]
    FeeTooLow {
        /// What the transaction offers.
        fee_limit: u64,
        /// The least that is accepted.
        fee_min: u64,
    },
    /// The account cannot pay the fee limit.
    #[error("the account has {balance} base units and offers a fee of up to {fee_limit}")]
    InsufficientBalance {
        /// What the account has.
        balance: u64,
        /// What the transaction offers.
        fee_limit: u64,
    },
    /// Free actions are for validators, or the operator of a local network.
    #[error(
        "this action is free because only a validator or the operator may send it, and the sender is neither"
    )]
    NotEntitled,
    /// The protocol refuses the bytes, the chain or the signature.
    #[error(transparent)]
    Invalid(#[from] Error),
}

impl Coded for Refusal {
    fn code(&self) -> Code {
        match self {
            Self::MempoolFull => Code::MempoolFull,
            Self::AccountFull(_) => Code::AccountFull,
            Self::NonceTooLow { .. } => Code::NonceTooLow,
            Self::NonceTooHigh { .. } => Code::NonceTooHigh,
            Self::ReplacementUnderpriced { .. } => Code::ReplacementUnderpriced,
            Self::Expired { .. } => Code::Expired,
            Self::FeeTooLow { .. } => Code::FeeTooLow,
            Self::InsufficientBalance { .. } => Code::InsufficientBalance,
            Self::NotEntitled => Code::NotEntitled,
            Self::Invalid(Error::Signature) => Code::BadSignature,
            Self::Invalid(Error::WrongChain { .. }) => Code::WrongChain,
            Self::Invalid(Error::TransactionTooLarge { .. }) => Code::TransactionTooLarge,
            Self::Invalid(_) => Code::MalformedTransaction,
        }
    }
}

/// What decides between accounts: duties of validators first, then the fee offered per byte, then who came first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bid {
    duty: bool,
    fee_per_kilobyte: u64,
    arrival: Reverse<u64>,
}

impl Bid {
    /// Strictly better than another, arrival aside: only that justifies pushing it out.
    fn beats(&self, other: &Self) -> bool {
        (self.duty, self.fee_per_kilobyte) > (other.duty, other.fee_per_kilobyte)
    }
}

struct Entry {
    transaction: VerifiedTransaction,
    hash: Hash,
    bid: Bid,
    bytes: usize,
}

impl Entry {
    fn valid_until_ms(&self) -> u64 {
        self.transaction.transaction().valid_until_ms
    }
}

type Place = (Address, u64);

#[derive(Default)]
struct Queue {
    /// Waiting transactions of each account by nonce; no account is empty.
    accounts: BTreeMap<Address, BTreeMap<u64, Entry>>,
    places: HashMap<Hash, Place>,
    by_bid: BTreeSet<(Bid, Place)>,
    by_expiry: BTreeSet<(u64, Place)>,
    bytes: usize,
    arrivals: u64,
}

impl Queue {
    fn remove(&mut self, place: Place) -> Option<Entry> {
        let waiting = self.accounts.get_mut(&place.0)?;
        let entry = waiting.remove(&place.1)?;
        if waiting.is_empty() {
            self.accounts.remove(&place.0);
        }
        self.places.remove(&entry.hash);
        self.by_bid.remove(&(entry.bid, place));
        self.by_expiry.remove(&(entry.valid_until_ms(), place));
        self.bytes -= entry.bytes;
        Some(entry)
    }

    /// Removes a transaction and those of the same account that cannot run without it.
    fn remove_from(&mut self, (address, nonce): Place) {
        let Some(waiting) = self.accounts.get(&address) else {
            return;
        };
        let nonces: Vec<u64> = waiting.range(nonce..).map(|(nonce, _)| *nonce).collect();
        for nonce in nonces {
            self.remove((address, nonce));
        }
    }

    fn insert(&mut self, place: Place, entry: Entry) {
        self.places.insert(entry.hash, place);
        self.by_bid.insert((entry.bid, place));
        self.by_expiry.insert((entry.valid_until_ms(), place));
        self.bytes += entry.bytes;
        self.accounts
            .entry(place.0)
            .or_default()
            .insert(place.1, entry);
    }

    fn finalized(&mut self, (address, nonce): Place) {
        let Some(waiting) = self.accounts.get(&address) else {
            return;
        };
        let done: Vec<u64> = waiting.range(..=nonce).map(|(nonce, _)| *nonce).collect();
        for nonce in done {
            self.remove((address, nonce));
        }
    }

    fn expire(&mut self, now_ms: u64) {
        while let Some((valid_until_ms, place)) = self.by_expiry.first().copied() {
            if valid_until_ms >= now_ms {
                return;
            }
            self.remove(place);
        }
    }

    /// Makes room for `bytes` more, pushing out worse bids of other accounts.
    fn make_room(
        &mut self,
        limits: &Limits,
        sender: Address,
        bid: Bid,
        bytes: usize,
    ) -> Result<(), Refusal> {
        while self.places.len() >= limits.entries || self.bytes + bytes > limits.bytes {
            match self.by_bid.first().copied() {
                Some((worst, place)) if bid.beats(&worst) && place.0 != sender => {
                    self.remove_from(place);
                }
                _ => return Err(Refusal::MempoolFull),
            }
        }
        Ok(())
    }
}

/// Hashes of transactions whose signatures were found good: the last [`VERIFIED_MAX`]. What came through the pool is not
/// verified again when it comes in a block, nor when another node sends it once more.
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

/// A transaction after the checks that need the state and no arithmetic.
#[derive(Debug)]
pub enum Screened {
    /// The answer is known.
    Answered(Result<Hash, Refusal>),
    /// It may enter if its signature is good.
    Unverified(Box<SignedTransaction>),
}

/// The pool of one node; clones share it.
#[derive(Clone)]
pub struct Mempool {
    chain: Hash,
    limits: Limits,
    queue: Arc<Mutex<Queue>>,
    verified: Arc<Mutex<Verified>>,
}

impl std::fmt::Debug for Mempool {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Mempool")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Mempool {
    /// An empty pool for transactions of `chain`.
    pub fn new(chain: Hash, limits: Limits) -> Self {
        Self {
            chain,
            limits,
            queue: Arc::default(),
            verified: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock()
    }

    /// Transactions waiting.
    pub fn len(&self) -> usize {
        self.lock().places.len()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// A waiting transaction.
    pub fn get(&self, hash: &Hash) -> Option<SignedTransaction> {
        let queue = self.lock();
        let (address, nonce) = queue.places.get(hash)?;
        let entry = queue.accounts.get(address)?.get(nonce)?;
        Some(entry.transaction.signed().clone())
    }

    /// The first nonce of an account at or after `next` (its nonce on chain) that no waiting transaction uses.
    pub fn next_nonce(&self, address: &Address, next: u64) -> u64 {
        let queue = self.lock();
        let waiting = queue.accounts.get(address);
        let used = |nonce: &u64| waiting.is_some_and(|waiting| waiting.contains_key(nonce));
        (next..=u64::MAX).find(|nonce| !used(nonce)).unwrap_or(next)
    }

    /// Takes transactions in, checking their signatures together; answers in the same order. One that already waits is
    /// accepted again without a check.
    pub fn admit(
        &self,
        transactions: Vec<SignedTransaction>,
        state: &dyn StateRead,
        now_ms: u64,
    ) -> Vec<Result<Hash, Refusal>> {
        self.enter(self.screen(transactions, state, now_ms))
    }

    /// The first half of [`Mempool::admit`]: all checks that need the state. It is quick, because no block becomes final while
    /// a state is read.
    pub fn screen(
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
                Ok(()) => Screened::Unverified(Box::new(transaction)),
                Err(refusal) => Screened::Answered(Err(refusal)),
            }
        };
        transactions.into_iter().map(screen).collect()
    }

    /// The second half of [`Mempool::admit`]: signatures and places; answers in the same order.
    pub fn enter(&self, screened: Vec<Screened>) -> Vec<Result<Hash, Refusal>> {
        let mut unverified = Vec::new();
        let answers: Vec<Option<Result<Hash, Refusal>>> = screened
            .into_iter()
            .map(|one| match one {
                Screened::Answered(answer) => Some(answer),
                Screened::Unverified(transaction) => {
                    unverified.push(*transaction);
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
        let transaction = &signed.transaction;
        let account = read::account(state, &transaction.sender);
        let (nonce, next) = (transaction.nonce, account.nonce);
        if transaction.valid_until_ms < now_ms {
            return Err(Refusal::Expired {
                valid_until_ms: transaction.valid_until_ms,
                now_ms,
            });
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
            return if entitled {
                Ok(())
            } else {
                Err(Refusal::NotEntitled)
            };
        }
        let (fee_limit, fee_min) = (transaction.fee_limit, rules.params.base_fee);
        if fee_limit < fee_min {
            return Err(Refusal::FeeTooLow {
                fee_limit: fee_limit.0,
                fee_min: fee_min.0,
            });
        }
        if account.balance < fee_limit {
            let balance = account.balance.0;
            return Err(Refusal::InsufficientBalance {
                balance,
                fee_limit: fee_limit.0,
            });
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
                return Err(Refusal::ReplacementUnderpriced {
                    nonce: place.1,
                    fee_limit,
                });
            }
        } else if waiting.is_some_and(|waiting| waiting.len() >= self.limits.per_account) {
            return Err(Refusal::AccountFull(self.limits.per_account));
        }
        let rival = queue.remove(place);
        if let Err(refusal) = queue.make_room(&self.limits, place.0, bid, bytes) {
            // Its room was enough for the rival, so putting that back cannot exceed a limit.
            if let Some(rival) = rival {
                queue.insert(place, rival);
            }
            return Err(refusal);
        }
        queue.insert(
            place,
            Entry {
                transaction: verified,
                hash,
                bid,
                bytes,
            },
        );
        Ok(hash)
    }

    /// Forgets what a final block settled: its transactions, others with their nonces, and what its time has ended.
    pub fn finalized(&self, transactions: &[SignedTransaction], timestamp_ms: u64) {
        let mut queue = self.lock();
        for signed in transactions {
            queue.finalized((signed.transaction.sender, signed.transaction.nonce));
        }
        queue.expire(timestamp_ms);
    }
}

/// Waiting transactions in the order in which they may run: best bid first, each account in the order of its nonces. It
/// looks at no more of the pool than a block takes, and at what stands before that.
struct Selection<'a> {
    queue: &'a Queue,
    state: &'a dyn StateRead,
    /// All places, best bid first.
    places: std::iter::Rev<std::collections::btree_set::Iter<'a, (Bid, Place)>>,
    /// Places whose account has come to them, after they were passed.
    ready: BinaryHeap<(Bid, Place)>,
    /// The next nonce of each account that was looked at.
    nonces: HashMap<Address, u64>,
    /// The best place that has not been passed.
    ahead: Option<(Bid, Place)>,
}

impl<'a> Selection<'a> {
    fn new(queue: &'a Queue, state: &'a dyn StateRead) -> Self {
        let mut selection = Self {
            queue,
            state,
            places: queue.by_bid.iter().rev(),
            ready: BinaryHeap::new(),
            nonces: HashMap::new(),
            ahead: None,
        };
        selection.advance();
        selection
    }

    /// Finds the next place by bid whose account has come to it.
    fn advance(&mut self) {
        self.ahead = self.places.by_ref().copied().find(|(_, (address, nonce))| {
            let next = self.nonces.entry(*address);
            *next.or_insert_with(|| read::account(self.state, address).nonce) == *nonce
        });
    }

    fn next(&mut self) -> Option<&'a Entry> {
        let place = if self.ready.peek() > self.ahead.as_ref() {
            self.ready.pop()
        } else {
            let place = self.ahead;
            self.advance();
            place
        };
        let (address, nonce) = place?.1;
        self.queue.accounts.get(&address)?.get(&nonce)
    }

    /// Says that `entry` is taken: the one after it may run.
    fn follow(&mut self, entry: &Entry) {
        let transaction = entry.transaction.transaction();
        let (address, nonce) = (transaction.sender, transaction.nonce + 1);
        self.nonces.insert(address, nonce);
        let waiting = self.queue.accounts.get(&address);
        if let Some(next) = waiting.and_then(|waiting| waiting.get(&nonce)) {
            // Its place by bid may lie ahead or behind; taken from here, it must not be found there.
            let place = (next.bid, (address, nonce));
            if self.ahead.is_none_or(|ahead| place > ahead) {
                self.ready.push(place);
            }
        }
    }
}

/// No transaction is shorter: 32 bytes of chain, 32 of sender, 24 of numbers, a word for the action, 64 of signature.
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
            // The account waits for another block: what follows cannot run before this one.
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

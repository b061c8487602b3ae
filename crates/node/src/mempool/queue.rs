//! The waiting transactions, in the orders in which they leave: by bid, by nonce, by expiry.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};

use soma_protocol::{Address, Hash, StateRead, VerifiedTransaction, read};

use crate::refusal::Refusal;
use crate::settings::PoolLimits;

/// The order between accounts: duties of validators first, then the fee per byte, then arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bid {
    pub(super) duty: bool,
    pub(super) fee_per_kilobyte: u64,
    pub(super) arrival: Reverse<u64>,
}

impl Bid {
    /// Whether this bid is strictly better, arrival aside: only then may it evict the other.
    pub(super) fn beats(&self, other: &Self) -> bool {
        (self.duty, self.fee_per_kilobyte) > (other.duty, other.fee_per_kilobyte)
    }
}

pub(super) struct Entry {
    pub(super) transaction: VerifiedTransaction,
    pub(super) hash: Hash,
    pub(super) bid: Bid,
    pub(super) bytes: usize,
}

impl Entry {
    pub(super) fn valid_until_ms(&self) -> u64 {
        self.transaction.transaction().valid_until_ms
    }
}

pub(super) type Place = (Address, u64);

#[derive(Default)]
pub(super) struct Queue {
    /// Waiting transactions of each account by nonce; no account is empty.
    pub(super) accounts: BTreeMap<Address, BTreeMap<u64, Entry>>,
    pub(super) places: HashMap<Hash, Place>,
    pub(super) by_bid: BTreeSet<(Bid, Place)>,
    pub(super) by_expiry: BTreeSet<(u64, Place)>,
    pub(super) bytes: usize,
    pub(super) arrivals: u64,
}

impl Queue {
    pub(super) fn remove(&mut self, place: Place) -> Option<Entry> {
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
    pub(super) fn remove_from(&mut self, (address, nonce): Place) {
        let Some(waiting) = self.accounts.get(&address) else {
            return;
        };
        let nonces: Vec<u64> = waiting.range(nonce..).map(|(nonce, _)| *nonce).collect();
        for nonce in nonces {
            self.remove((address, nonce));
        }
    }

    pub(super) fn insert(&mut self, place: Place, entry: Entry) {
        self.places.insert(entry.hash, place);
        self.by_bid.insert((entry.bid, place));
        self.by_expiry.insert((entry.valid_until_ms(), place));
        self.bytes += entry.bytes;
        self.accounts.entry(place.0).or_default().insert(place.1, entry);
    }

    pub(super) fn finalized(&mut self, (address, nonce): Place) {
        let Some(waiting) = self.accounts.get(&address) else {
            return;
        };
        let done: Vec<u64> = waiting.range(..=nonce).map(|(nonce, _)| *nonce).collect();
        for nonce in done {
            self.remove((address, nonce));
        }
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some((valid_until_ms, place)) = self.by_expiry.first().copied() {
            if valid_until_ms >= now_ms {
                return;
            }
            self.remove(place);
        }
    }

    /// Makes room for `bytes` more by evicting worse bids of other accounts.
    pub(super) fn make_room(
        &mut self,
        limits: &PoolLimits,
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

/// Waiting transactions in the order in which they may run: best bid first, each account in the
/// order of its nonces. It looks only at what a block takes and at what precedes that.
pub(super) struct Selection<'a> {
    queue: &'a Queue,
    state: &'a dyn StateRead,
    /// All places, best bid first.
    places: std::iter::Rev<std::collections::btree_set::Iter<'a, (Bid, Place)>>,
    /// Places that were passed before their account reached them.
    ready: BinaryHeap<(Bid, Place)>,
    /// The next nonce of each account that was examined.
    nonces: HashMap<Address, u64>,
    /// The best place that has not been passed.
    ahead: Option<(Bid, Place)>,
}

impl<'a> Selection<'a> {
    pub(super) fn new(queue: &'a Queue, state: &'a dyn StateRead) -> Self {
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

    /// Finds the next place by bid that its account has reached.
    pub(super) fn advance(&mut self) {
        self.ahead = self.places.by_ref().copied().find(|(_, (address, nonce))| {
            let next = self.nonces.entry(*address);
            *next.or_insert_with(|| read::account(self.state, address).nonce) == *nonce
        });
    }

    pub(super) fn next(&mut self) -> Option<&'a Entry> {
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

    /// Marks `entry` as taken: the account's next one may run.
    pub(super) fn follow(&mut self, entry: &Entry) {
        let transaction = entry.transaction.transaction();
        let (address, nonce) = (transaction.sender, transaction.nonce + 1);
        self.nonces.insert(address, nonce);
        let waiting = self.queue.accounts.get(&address);
        if let Some(next) = waiting.and_then(|waiting| waiting.get(&nonce)) {
            // Its place by bid may be ahead or passed; once taken from here, it must not be found
            // there again.
            let place = (next.bid, (address, nonce));
            if self.ahead.is_none_or(|ahead| place > ahead) {
                self.ready.push(place);
            }
        }
    }
}

//! What the pool offers to one block: duties as they arrived, then payments, the best bid first and
//! each account in the order of its nonces. It looks only at what the block takes and at what
//! precedes that, and locks the pool only for each step, so that transactions are admitted while a
//! block is built.

use std::collections::{BinaryHeap, HashMap};
use std::ops::Bound;

use soma_protocol::{Address, Candidates, Room, StateRead, VerifiedTransaction, read};

use super::pool::Mempool;
use super::queue::{Bid, Place, Queue};

/// No transaction is lighter: 32 bytes of chain, 32 of sender, 32 of numbers, one of the action, 64
/// of signature.
const WEIGHT_MIN: u64 = 161;
/// After so many payments without room, a block is considered full: it must not cost a search of
/// the whole pool.
const MISFITS_MAX: u32 = 64;

/// The candidates of one block.
pub(super) struct Selection {
    pool: Mempool,
    /// Duties that arrived before this one have been offered.
    arrival: u64,
    payments: Payments,
}

impl Selection {
    pub(super) fn new(pool: Mempool) -> Self {
        Self { pool, arrival: 0, payments: Payments::default() }
    }

    fn duty(&mut self, room: &Room) -> Option<VerifiedTransaction> {
        let duties = self.pool.duties();
        let (arrival, duty) = duties.next(self.arrival, room.duties())?;
        self.arrival = arrival + 1;
        Some(duty.clone())
    }
}

impl Candidates for Selection {
    fn offer(&mut self, state: &dyn StateRead, room: &Room) -> Option<VerifiedTransaction> {
        let duty = self.duty(room);
        duty.or_else(|| self.payments.next(&self.pool.payments(), state, room))
    }
}

/// The order of payments.
struct Payments {
    /// Where the search by bid continues, downwards; `None` if it is done.
    below: Option<Bound<(Bid, Place)>>,
    /// The best place by bid that its account has reached and that was not offered.
    ahead: Option<(Bid, Place)>,
    /// Places that were passed before their account reached them.
    ready: BinaryHeap<(Bid, Place)>,
    /// The next nonce of each account that was examined.
    nonces: HashMap<Address, u64>,
    /// The last one that was offered.
    offered: Option<Place>,
    /// Payments for which there was no room.
    misfits: u32,
}

impl Default for Payments {
    fn default() -> Self {
        Self {
            below: Some(Bound::Unbounded),
            ahead: None,
            ready: BinaryHeap::new(),
            nonces: HashMap::new(),
            offered: None,
            misfits: 0,
        }
    }
}

impl Payments {
    fn next(
        &mut self,
        queue: &Queue,
        state: &dyn StateRead,
        room: &Room,
    ) -> Option<VerifiedTransaction> {
        if let Some(offered) = self.offered.take() {
            self.follow(offered, queue, state);
        }
        while room.payments() >= WEIGHT_MIN && self.misfits < MISFITS_MAX {
            let place = self.best(queue, state)?;
            // It may have left the pool since it was found.
            let Some(entry) = queue.get(place) else {
                continue;
            };
            if entry.bid.weight <= room.payments() {
                self.offered = Some(place);
                return Some(entry.transaction.clone());
            }
            // Its account's next ones wait too.
            self.misfits += 1;
        }
        None
    }

    /// If the block included the last offer, the account's next payment may run.
    fn follow(&mut self, (address, nonce): Place, queue: &Queue, state: &dyn StateRead) {
        let next = read::account(state, &address).nonce;
        self.nonces.insert(address, next);
        let place = (address, next);
        if let Some(entry) = queue.get(place).filter(|_| next > nonce) {
            // Its place by bid may be ahead or passed; once taken from here, it must not be found
            // there again.
            let ready = (entry.bid, place);
            if self.is_passed(&ready) {
                self.ready.push(ready);
            }
        }
    }

    fn is_passed(&self, place: &(Bid, Place)) -> bool {
        match &self.below {
            Some(Bound::Excluded(end) | Bound::Included(end)) => place > end,
            Some(Bound::Unbounded) => false,
            None => true,
        }
    }

    fn best(&mut self, queue: &Queue, state: &dyn StateRead) -> Option<Place> {
        if self.ahead.is_none() {
            self.ahead = self.search(queue, state);
        }
        let best = if self.ready.peek() > self.ahead.as_ref() {
            self.ready.pop()
        } else {
            self.ahead.take()
        };
        best.map(|(_, place)| place)
    }

    /// Finds the next place by bid that its account has reached.
    fn search(&mut self, queue: &Queue, state: &dyn StateRead) -> Option<(Bid, Place)> {
        let below = self.below?;
        let found = queue.by_bid.range((Bound::Unbounded, below)).rev().copied().find(
            |(_, (address, nonce))| {
                let next = self.nonces.entry(*address);
                *next.or_insert_with(|| read::account(state, address).nonce) == *nonce
            },
        );
        self.below = found.map(Bound::Excluded);
        found
    }
}

//! The pool of one simulated node. It has the rules of a real one, in a simpler form: duties have a
//! room of their own and enter only if they would succeed, one of each kind; payments follow each
//! other without gaps and leave by bid.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use soma_engine::Pool;
use soma_protocol::{
    Action, Address, Candidates, Hash, InTurn, Refused, SignedTransaction, Transaction,
    VerifiedTransaction,
};

/// The most payments that a pool holds: few, so that floods fill it.
pub const PAYMENTS_MAX: usize = 64;
/// The most duties that a pool holds.
const DUTIES_MAX: usize = 64;

/// What a pool follows of the rules of real pools.
#[derive(Clone, Copy, Debug)]
pub struct PoolRules {
    /// It checks what enters; an adversary does not.
    pub checks: bool,
    /// Payments leave by bid, and the worst is evicted.
    pub bids: bool,
    /// Duties have a room of their own.
    pub duty_room: bool,
}

/// What the state says about a transaction that arrives.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// The nonce of the sender's next payment.
    pub next_nonce: u64,
    /// Whether the rules would accept it if it is a duty.
    pub accepted: bool,
}

/// What a duty is, and from whom; at most one of each waits.
type DutyId = (Address, &'static str, [u8; 32]);

fn duty_id(transaction: &Transaction) -> DutyId {
    let mut about = [0; 32];
    let target = match &transaction.action {
        Action::CommitVerdict(action) => action.target.0,
        Action::RevealVerdict(action) => action.target.0,
        Action::ReportEquivocation(action) => {
            let about = action.evidence.consensus_key.0;
            return (Address([0; 32]), transaction.action.name(), about);
        }
        _ => 0,
    };
    about[..4].copy_from_slice(&target.to_le_bytes());
    (transaction.sender, transaction.action.name(), about)
}

/// A transaction that waits, and the number of its arrival.
#[derive(Debug)]
struct Entry {
    verified: VerifiedTransaction,
    arrival: u64,
}

impl Entry {
    /// Compares the tips for each unit of weight, exactly.
    fn by_rate(&self, other: &Self) -> Ordering {
        let product = |tip: &Self, weight: &Self| {
            u128::from(tip.verified.transaction().tip.0) * u128::from(weight.verified.weight())
        };
        product(self, other).cmp(&product(other, self))
    }
}

#[derive(Debug, Default)]
struct Waiting {
    payments: BTreeMap<Address, BTreeMap<u64, Entry>>,
    duties: BTreeMap<DutyId, Entry>,
    arrivals: u64,
}

/// The pending transactions of one node.
#[derive(Debug)]
pub struct Mempool {
    rules: PoolRules,
    waiting: Mutex<Waiting>,
}

impl Mempool {
    /// An empty pool.
    pub fn new(rules: PoolRules) -> Self {
        Self { rules, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a transaction if the rules of the pool let it in.
    pub fn add(&self, verified: VerifiedTransaction, standing: Standing) {
        let mut waiting = self.waiting();
        waiting.arrivals += 1;
        let arrival = waiting.arrivals;
        let entry = Entry { verified, arrival };
        if entry.verified.transaction().action.is_duty() {
            self.add_duty(&mut waiting, entry, standing);
        } else {
            self.add_payment(&mut waiting, entry, standing);
        }
    }

    fn add_duty(&self, waiting: &mut Waiting, entry: Entry, standing: Standing) {
        let id = duty_id(entry.verified.transaction());
        let full = if self.rules.duty_room {
            waiting.duties.len() >= DUTIES_MAX
        } else {
            waiting.len() >= PAYMENTS_MAX
        };
        let refused = self.rules.checks && !standing.accepted;
        if !refused && !full {
            waiting.duties.entry(id).or_insert(entry);
        }
    }

    fn add_payment(&self, waiting: &mut Waiting, entry: Entry, standing: Standing) {
        let transaction = entry.verified.transaction();
        let (sender, nonce) = (transaction.sender, transaction.nonce);
        let full = waiting.payments_len() >= PAYMENTS_MAX
            || (!self.rules.duty_room && waiting.len() >= PAYMENTS_MAX);
        let of_sender = waiting.payments.get(&sender);
        let waits = |nonce: u64| of_sender.and_then(|payments| payments.get(&nonce));
        let follows = nonce == standing.next_nonce
            || nonce.checked_sub(1).is_some_and(|before| waits(before).is_some());
        if self.rules.checks && (nonce < standing.next_nonce || !follows) {
            return;
        }
        let replaces = waits(nonce).map(|present| entry.by_rate(present).is_gt());
        if replaces == Some(false) || (replaces.is_none() && full && !self.evict(waiting, &entry)) {
            return;
        }
        waiting.payments.entry(sender).or_default().insert(nonce, entry);
    }

    /// Makes room for a payment by removing the last one of the account that bids least, if that
    /// is less; returns whether there is room.
    fn evict(&self, waiting: &mut Waiting, better: &Entry) -> bool {
        if !self.rules.bids {
            return false;
        }
        let sender = better.verified.transaction().sender;
        let others = waiting.payments.iter().filter(|(address, _)| **address != sender);
        let lasts = others.filter_map(|(_, payments)| payments.last_key_value());
        let worst = lasts
            .map(|(_, entry)| entry)
            .min_by(|a, b| a.by_rate(b).then_with(|| b.arrival.cmp(&a.arrival)));
        let worst = worst.filter(|worst| better.by_rate(worst).is_gt());
        let Some(hash) = worst.map(|worst| worst.verified.hash()) else {
            return false;
        };
        waiting.retain(|verified| verified.hash() != hash);
        true
    }

    /// Removes transactions that are finalized or expired.
    pub fn remove(&self, finalized: &[SignedTransaction], now_ms: u64) {
        let mut waiting = self.waiting();
        for signed in finalized {
            let tx = signed.transaction();
            if tx.action.is_duty() {
                waiting.duties.remove(&duty_id(tx));
            } else if let Some(payments) = waiting.payments.get_mut(&tx.sender) {
                payments.retain(|nonce, _| *nonce > tx.nonce);
            }
        }
        waiting.retain(|verified| verified.transaction().valid_until_ms >= now_ms);
    }
}

impl Waiting {
    fn payments_len(&self) -> usize {
        self.payments.values().map(BTreeMap::len).sum()
    }

    fn len(&self) -> usize {
        self.duties.len() + self.payments_len()
    }

    fn retain(&mut self, keeps: impl Fn(&VerifiedTransaction) -> bool) {
        self.duties.retain(|_, entry| keeps(&entry.verified));
        for payments in self.payments.values_mut() {
            payments.retain(|_, entry| keeps(&entry.verified));
        }
        self.payments.retain(|_, payments| !payments.is_empty());
    }

    /// All that wait in the order in which blocks take them: duties as they came, then payments,
    /// those of an account by nonce; among accounts by bid, by turn and by arrival.
    fn in_order(&self, bids: bool) -> Vec<VerifiedTransaction> {
        let mut duties: Vec<&Entry> = self.duties.values().collect();
        duties.sort_by_key(|entry| entry.arrival);
        let mut queues: Vec<_> =
            self.payments.values().map(|payments| payments.values().peekable()).collect();
        let mut turns = vec![0_u64; queues.len()];
        let mut order: Vec<&Entry> = duties;
        loop {
            let heads = queues.iter_mut().zip(&turns).enumerate();
            let heads = heads.filter_map(|(at, (queue, turn))| Some((at, *queue.peek()?, *turn)));
            let best = heads.max_by(|(_, a, a_turn), (_, b, b_turn)| {
                let by_bid = if bids { a.by_rate(b) } else { Ordering::Equal };
                let turn = if bids { b_turn.cmp(a_turn) } else { Ordering::Equal };
                by_bid.then(turn).then(Reverse(a.arrival).cmp(&Reverse(b.arrival)))
            });
            let Some((at, entry, _)) = best else {
                return order.into_iter().map(|entry| entry.verified.clone()).collect();
            };
            order.push(entry);
            queues[at].next();
            turns[at] += 1;
        }
    }
}

impl Pool for Mempool {
    fn candidates(&self) -> Box<dyn Candidates + '_> {
        let order = self.waiting().in_order(self.rules.bids);
        Box::new(InTurn(order.into_iter()))
    }

    fn refused(&self, refused: &[Refused]) {
        let is_refused =
            |hash: &Hash| refused.iter().any(|refused| refused.transaction.hash() == *hash);
        self.waiting().retain(|verified| !is_refused(&verified.hash()));
    }

    fn is_empty(&self) -> bool {
        self.waiting().len() == 0
    }
}

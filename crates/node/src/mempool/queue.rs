//! The waiting payments, in the orders in which they leave: by bid, by nonce, by expiry.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use soma_protocol::record::Account;
use soma_protocol::{Address, Amount, Hash, SignedTransaction, VerifiedTransaction};

use crate::refusal::Refusal;
use crate::settings::PoolLimits;

/// The order between accounts: the tip for each unit of weight, then the turn, then arrival. Only
/// what is charged counts; among equals, an account that waits with many does not stand before one
/// that waits with few.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bid {
    pub(super) tip: u64,
    pub(super) weight: u64,
    /// How many payments of the same account were ahead of it when it came.
    pub(super) turn: Reverse<u64>,
    pub(super) arrival: Reverse<u64>,
}

impl Bid {
    /// The bid of a payment, before all others of the same rate.
    pub(super) fn of(signed: &SignedTransaction) -> Self {
        let (tip, weight) = (signed.transaction().tip.0, signed.weight());
        Self { tip, weight, turn: Reverse(0), arrival: Reverse(0) }
    }

    /// Compares tips for each unit of weight, exactly.
    fn by_rate(&self, other: &Self) -> Ordering {
        let product = |tip: u64, weight: u64| u128::from(tip) * u128::from(weight);
        product(self.tip, other.weight).cmp(&product(other.tip, self.weight))
    }

    /// Whether this bid is strictly better, turn and arrival aside: only then may it evict the
    /// other.
    pub(super) fn beats(&self, other: &Self) -> bool {
        self.by_rate(other).is_gt()
    }
}

impl Ord for Bid {
    fn cmp(&self, other: &Self) -> Ordering {
        let by_rate = self.by_rate(other);
        by_rate.then_with(|| (self.turn, self.arrival).cmp(&(other.turn, other.arrival)))
    }
}

impl PartialOrd for Bid {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Bid {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Bid {}

pub(super) struct Entry {
    pub(super) transaction: VerifiedTransaction,
    pub(super) bid: Bid,
    /// What it is charged in any case.
    pub(super) fee: Amount,
}

impl Entry {
    pub(super) fn valid_until_ms(&self) -> u64 {
        self.transaction.transaction().valid_until_ms
    }
}

pub(super) type Place = (Address, u64);

/// The waiting payments of an account: their nonces follow each other, starting at the account's
/// next, so each of them can run once those before it have.
#[derive(Default)]
pub(super) struct Waiting {
    pub(super) by_nonce: BTreeMap<u64, Entry>,
    /// The sum of their fees.
    pub(super) fees: Amount,
}

impl Waiting {
    /// The first nonce, starting at `next`, that none of them has.
    fn next_nonce(&self, next: u64) -> u64 {
        let mut nonce = next;
        while self.by_nonce.contains_key(&nonce) {
            nonce += 1;
        }
        nonce
    }
}

#[derive(Default)]
pub(super) struct Queue {
    /// No account is empty.
    pub(super) accounts: BTreeMap<Address, Waiting>,
    pub(super) places: HashMap<Hash, Place>,
    pub(super) by_bid: BTreeSet<(Bid, Place)>,
    pub(super) by_expiry: BTreeSet<(u64, Place)>,
    pub(super) bytes: usize,
    arrivals: u64,
    /// Accounts of finalized payments, whose balances have not been compared with fees since.
    pub(super) charged: BTreeSet<Address>,
}

impl Queue {
    pub(super) fn get(&self, (address, nonce): Place) -> Option<&Entry> {
        self.accounts.get(&address)?.by_nonce.get(&nonce)
    }

    /// The first nonce of an account, starting at `next`, that no waiting payment has.
    pub(super) fn next_nonce(&self, address: &Address, next: u64) -> u64 {
        self.accounts.get(address).map_or(next, |waiting| waiting.next_nonce(next))
    }

    /// Refuses what could not be added even if its signature is valid, by whatever is cheap to look
    /// at. `next` is the first nonce of the account that neither waits nor is about to be added.
    pub(super) fn foresee(
        &self,
        signed: &SignedTransaction,
        fee: Amount,
        next: u64,
        account: &Account,
        limits: &PoolLimits,
    ) -> Result<(), Refusal> {
        let transaction = signed.transaction();
        let place = (transaction.sender, transaction.nonce);
        if self.get(place).is_some() {
            return self.admits(place, fee, account, limits);
        }
        let nonce = transaction.nonce;
        if nonce > next {
            return Err(Refusal::NonceTooHigh { nonce, next });
        }
        let fees = self.accounts.get(&place.0).map_or(Amount::ZERO, |waiting| waiting.fees);
        let (balance, needed) = (account.balance.0, fees.plus(fee).0);
        if balance < needed {
            return Err(Refusal::InsufficientBalance { balance, needed });
        }
        let bid = Bid::of(signed);
        let is_full = self.is_full(limits, signed.bytes().len());
        let evicts = |(worst, of): &(Bid, Place)| bid.beats(worst) && of.0 != place.0;
        if is_full && !self.by_bid.first().is_some_and(evicts) {
            return Err(Refusal::MempoolFull);
        }
        Ok(())
    }

    fn is_full(&self, limits: &PoolLimits, bytes: usize) -> bool {
        self.places.len() >= limits.entries || self.bytes + bytes > limits.bytes
    }

    /// Adds a payment of an account that is as given after the last block.
    pub(super) fn add(
        &mut self,
        verified: VerifiedTransaction,
        fee: Amount,
        account: &Account,
        limits: &PoolLimits,
    ) -> Result<(), Refusal> {
        let transaction = verified.transaction();
        let place = (transaction.sender, transaction.nonce);
        self.admits(place, fee, account, limits)?;
        self.arrivals += 1;
        let turn = Reverse(transaction.nonce.saturating_sub(account.nonce));
        let arrival = Reverse(self.arrivals);
        let bid = Bid { turn, arrival, ..Bid::of(verified.signed()) };
        let rival = self.remove(place);
        if let Err(refusal) = self.make_room(limits, place.0, bid, verified.size_bytes()) {
            // The rival fitted before, so putting it back cannot exceed a limit.
            if let Some(rival) = rival {
                self.insert(place, rival);
            }
            return Err(refusal);
        }
        self.insert(place, Entry { transaction: verified, bid, fee });
        Ok(())
    }

    /// Whether the account can pay for one more payment, and it follows those that wait or replaces
    /// one of them.
    fn admits(
        &self,
        (address, nonce): Place,
        fee: Amount,
        account: &Account,
        limits: &PoolLimits,
    ) -> Result<(), Refusal> {
        let none = Waiting::default();
        let waiting = self.accounts.get(&address).unwrap_or(&none);
        let next = waiting.next_nonce(account.nonce);
        let mut fees = waiting.fees;
        if let Some(rival) = waiting.by_nonce.get(&nonce) {
            let fee_min = rival.fee.0.saturating_add(rival.fee.0 / 10).saturating_add(1);
            if fee.0 < fee_min {
                return Err(Refusal::ReplacementUnderpriced { nonce, fee_min });
            }
            fees = fees.less(rival.fee);
        } else if nonce > next {
            return Err(Refusal::NonceTooHigh { nonce, next });
        } else if waiting.by_nonce.len() >= limits.per_account {
            return Err(Refusal::AccountFull(limits.per_account));
        }
        let (balance, needed) = (account.balance.0, fees.plus(fee).0);
        if balance < needed {
            return Err(Refusal::InsufficientBalance { balance, needed });
        }
        Ok(())
    }

    /// Makes room for `bytes` more by evicting worse bids of other accounts.
    fn make_room(
        &mut self,
        limits: &PoolLimits,
        sender: Address,
        bid: Bid,
        bytes: usize,
    ) -> Result<(), Refusal> {
        while self.is_full(limits, bytes) {
            match self.by_bid.first().copied() {
                Some((worst, place)) if bid.beats(&worst) && place.0 != sender => {
                    self.remove_from(place);
                }
                _ => return Err(Refusal::MempoolFull),
            }
        }
        Ok(())
    }

    fn insert(&mut self, place: Place, entry: Entry) {
        self.places.insert(entry.transaction.hash(), place);
        self.by_bid.insert((entry.bid, place));
        self.by_expiry.insert((entry.valid_until_ms(), place));
        self.bytes += entry.transaction.size_bytes();
        let waiting = self.accounts.entry(place.0).or_default();
        waiting.fees = waiting.fees.plus(entry.fee);
        waiting.by_nonce.insert(place.1, entry);
    }

    fn remove(&mut self, place: Place) -> Option<Entry> {
        let waiting = self.accounts.get_mut(&place.0)?;
        let entry = waiting.by_nonce.remove(&place.1)?;
        waiting.fees = waiting.fees.less(entry.fee);
        if waiting.by_nonce.is_empty() {
            self.accounts.remove(&place.0);
        }
        self.places.remove(&entry.transaction.hash());
        self.by_bid.remove(&(entry.bid, place));
        self.by_expiry.remove(&(entry.valid_until_ms(), place));
        self.bytes -= entry.transaction.size_bytes();
        Some(entry)
    }

    /// Removes a payment and those of the same account that cannot run without it.
    pub(super) fn remove_from(&mut self, (address, nonce): Place) {
        let Some(waiting) = self.accounts.get(&address) else {
            return;
        };
        let nonces: Vec<u64> = waiting.by_nonce.range(nonce..).map(|(nonce, _)| *nonce).collect();
        for nonce in nonces {
            self.remove((address, nonce));
        }
    }

    /// Removes the payments of an account up to one that is finalized.
    pub(super) fn finalized(&mut self, (address, nonce): Place) {
        let Some(waiting) = self.accounts.get(&address) else {
            return;
        };
        let done: Vec<u64> = waiting.by_nonce.range(..=nonce).map(|(nonce, _)| *nonce).collect();
        for nonce in done {
            self.remove((address, nonce));
        }
        self.charged.insert(address);
    }

    /// Removes the last payments of an account that it can no longer pay for.
    pub(super) fn limit_to(&mut self, address: Address, account: &Account) {
        while let Some(waiting) = self.accounts.get(&address)
            && waiting.fees > account.balance
            && let Some(nonce) = waiting.by_nonce.keys().next_back()
        {
            self.remove((address, *nonce));
        }
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some((valid_until_ms, place)) = self.by_expiry.first().copied() {
            if valid_until_ms >= now_ms {
                return;
            }
            self.remove_from(place);
        }
    }
}

//! The room of a block: how much it may hold. A rule of valid blocks, so that no proposer can make
//! one that takes others too long, and neither payments nor duties can keep the other out.

use crate::SignedTransaction;
use crate::ruleset::{Defense, Ruleset};

/// The most weight of a block's transactions; a unit costs about 0.2 us, so a full block about a
/// fifth of a second.
pub const BLOCK_WEIGHT_MAX: u64 = 1 << 20;
/// The most weight of a block's payments, and of its duties: each leaves the other a quarter.
pub const KIND_WEIGHT_MAX: u64 = BLOCK_WEIGHT_MAX / 4 * 3;
/// The most transactions of a block.
pub const BLOCK_TRANSACTIONS_MAX: u32 = 5_000;

/// The room that is left in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    weight: u64,
    payments: u64,
    duties: u64,
    transactions: u32,
}

impl Room {
    /// The room of an empty block.
    pub const fn new() -> Self {
        Self {
            weight: BLOCK_WEIGHT_MAX,
            payments: KIND_WEIGHT_MAX,
            duties: KIND_WEIGHT_MAX,
            transactions: BLOCK_TRANSACTIONS_MAX,
        }
    }

    /// The room of an empty block under these rules.
    pub(crate) fn under(rules: &Ruleset) -> Self {
        let whole = Self { payments: BLOCK_WEIGHT_MAX, duties: BLOCK_WEIGHT_MAX, ..Self::new() };
        if rules.defends(Defense::Quarters) { Self::new() } else { whole }
    }

    /// The most weight that another payment may have.
    pub fn payments(&self) -> u64 {
        if self.transactions == 0 { 0 } else { self.weight.min(self.payments) }
    }

    /// The most weight that another duty may have.
    pub fn duties(&self) -> u64 {
        if self.transactions == 0 { 0 } else { self.weight.min(self.duties) }
    }

    /// Takes the room of a transaction; `None` if there is not enough left.
    #[must_use]
    pub fn without(mut self, signed: &SignedTransaction) -> Option<Self> {
        let weight = signed.weight();
        let is_duty = signed.transaction().action.is_duty();
        let of_kind = if is_duty { &mut self.duties } else { &mut self.payments };
        *of_kind = of_kind.checked_sub(weight)?;
        self.weight = self.weight.checked_sub(weight)?;
        self.transactions = self.transactions.checked_sub(1)?;
        Some(self)
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new()
    }
}

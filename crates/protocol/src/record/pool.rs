//! Staking pools: stake of many accounts on one model or validator. Stakers hold shares, so rewards
//! and slashes change the value of a share without touching any staker's record.
//!
//! A pool has three parts: the active stake, which earns, votes and is routed; the stake that joins
//! it later; and the stake being withdrawn. The last two do none of that but can be slashed.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Address, Amount, Epoch, PoolId, decimal};

/// Maximum shares in one part of a pool, so that their product with any amount fits in 128 bits.
pub const SHARES_MAX: u128 = 10_u128.pow(22);

/// Minimum shares of a staker in the active part, unless it has none: shares are never so few that
/// rounding to one of them takes a noticeable part of somebody's stake.
pub const SHARES_MIN: u128 = 1_000_000;

/// Stake on a model or validator, and the shares in it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Pool {
    /// The active stake.
    pub stake: Amount,
    /// Shares in that.
    #[serde(with = "decimal")]
    pub shares: u128,
    /// The stake being withdrawn, which can still be slashed.
    pub leaving: Amount,
    /// Shares in that.
    #[serde(with = "decimal")]
    pub leaving_shares: u128,
    /// The stake that is not active yet, but can be slashed.
    pub joining: Amount,
    /// Shares in that.
    #[serde(with = "decimal")]
    pub joining_shares: u128,
}

/// Shares that `amount` buys in a part that holds `stake`; `None` if it would buy less than one, or
/// if the part was slashed to nothing.
fn bought(amount: Amount, stake: Amount, shares: u128) -> Option<u128> {
    let minted = if shares == 0 {
        amount.0.into()
    } else {
        u128::from(amount.0).checked_mul(shares)?.checked_div(stake.0.into())?
    };
    let fits = shares.checked_add(minted)? <= SHARES_MAX;
    (minted > 0 && fits).then_some(minted)
}

impl Pool {
    /// A pool whose first staker holds all shares.
    pub(crate) fn begin(stake: Amount) -> Self {
        Self { stake, shares: stake.0.into(), ..Self::default() }
    }

    /// Whether it was slashed to nothing: its shares are worthless, and nothing can be added.
    pub const fn is_closed(&self) -> bool {
        self.stake.0 == 0 && self.shares > 0
    }

    /// What `shares` of the active part are worth.
    pub fn value(&self, shares: u128) -> Amount {
        self.stake.of(shares, self.shares)
    }

    /// Shares worth `amount`, which is less than the whole stake; rounded up.
    pub(crate) fn shares_of(&self, amount: Amount) -> u128 {
        let product = u128::from(amount.0).saturating_mul(self.shares);
        match self.stake.0 {
            0 => 0,
            stake => product.div_ceil(stake.into()).min(self.shares),
        }
    }

    /// What `shares` of the leaving part are worth.
    pub fn leaving_value(&self, shares: u128) -> Amount {
        self.leaving.of(shares, self.leaving_shares)
    }

    /// What `shares` of the joining part are worth.
    pub fn joining_value(&self, shares: u128) -> Amount {
        self.joining.of(shares, self.joining_shares)
    }

    /// The shares that `amount` would buy in the active part now, if any.
    pub(crate) fn price(&self, amount: Amount) -> Option<u128> {
        bought(amount, self.stake, self.shares)
    }

    /// Adds `amount` to the joining part; returns the new shares, or `None` if it would buy none.
    pub(crate) fn join(&mut self, amount: Amount) -> Option<u128> {
        let minted = bought(amount, self.joining, self.joining_shares)?;
        self.joining = self.joining.plus(amount);
        self.joining_shares = self.joining_shares.saturating_add(minted);
        Some(minted)
    }

    /// Takes `shares` out of the joining part; returns what they are worth.
    pub(crate) fn end_joining(&mut self, shares: u128) -> Amount {
        let amount = self.joining_value(shares);
        self.joining = self.joining.less(amount);
        self.joining_shares = self.joining_shares.saturating_sub(shares);
        amount
    }

    /// Adds `amount`; returns the new shares, or `None` if it would buy none.
    pub(crate) fn deposit(&mut self, amount: Amount) -> Option<u128> {
        let minted = bought(amount, self.stake, self.shares)?;
        self.stake = self.stake.plus(amount);
        self.shares = self.shares.saturating_add(minted);
        Some(minted)
    }

    /// Adds what the pool has earned, for all shares alike. Returns whether there is a staker to
    /// receive it.
    pub(crate) fn earn(&mut self, amount: Amount) -> bool {
        let has_stakers = self.shares > 0 && !self.is_closed();
        if has_stakers {
            self.stake = self.stake.plus(amount);
        }
        has_stakers
    }

    /// Moves `shares` to the leaving part; returns what they are worth and the shares in that part.
    pub(crate) fn leave(&mut self, shares: u128) -> Option<(Amount, u128)> {
        let amount = self.value(shares);
        let minted = bought(amount, self.leaving, self.leaving_shares)?;
        self.take(shares, amount);
        self.leaving = self.leaving.plus(amount);
        self.leaving_shares = self.leaving_shares.saturating_add(minted);
        Some((amount, minted))
    }

    /// Takes `shares` out of the active part at once; returns what they are worth.
    pub(crate) fn withdraw(&mut self, shares: u128) -> Amount {
        let amount = self.value(shares);
        self.take(shares, amount);
        amount
    }

    fn take(&mut self, shares: u128, amount: Amount) {
        self.stake = self.stake.less(amount);
        self.shares = self.shares.saturating_sub(shares);
    }

    /// Takes `shares` out of the leaving part; returns what they are worth.
    pub(crate) fn release(&mut self, shares: u128) -> Amount {
        let amount = self.leaving_value(shares);
        self.leaving = self.leaving.less(amount);
        self.leaving_shares = self.leaving_shares.saturating_sub(shares);
        amount
    }

    /// Burns a share of all parts; returns what the supply must record as burned.
    pub(crate) fn slash(&mut self, bps: u16) -> Amount {
        let mut burned = Amount::ZERO;
        for part in [&mut self.stake, &mut self.leaving, &mut self.joining] {
            let lost = part.bps(bps);
            *part = part.less(lost);
            burned = burned.plus(lost);
        }
        burned
    }

    /// All that can be slashed.
    pub fn total(&self) -> Amount {
        self.stake.plus(self.leaving).plus(self.joining)
    }
}

/// A staker's shares in a pool.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Share {
    /// Shares of the active part.
    #[serde(with = "decimal")]
    pub shares: u128,
    /// Shares of the leaving part.
    #[serde(with = "decimal")]
    pub leaving_shares: u128,
    /// Shares of the joining part.
    #[serde(with = "decimal")]
    pub joining_shares: u128,
    /// The place of the pool in the list of the staker's pools.
    pub place: u32,
}

impl Share {
    /// Whether the staker has nothing in the pool.
    pub fn is_empty(&self) -> bool {
        (self.shares, self.leaving_shares, self.joining_shares) == (0, 0, 0)
    }
}

/// The number of pools in which a staker has something. They are listed without gaps, so that they
/// can be found without a walk over all pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StakeCount(pub u32);

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StakedPool(pub PoolId);

/// Number of stakers whose stake in some pool changes as an epoch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StakeChangeCount(pub u32);

/// One of them. Each staker is queued once for a pool and an epoch, however often it acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct QueuedStaker {
    /// The pool.
    pub pool: PoolId,
    /// The staker.
    pub staker: Address,
}

/// What changes for a staker of a pool as an epoch begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct StakeChange {
    /// Shares of the joining part, whose stake becomes active.
    pub joining_shares: u128,
    /// Shares of the leaving part, whose stake is paid out.
    pub leaving_shares: u128,
}

/// A pending change of a commission.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct NextCommission {
    /// The new commission.
    pub bps: u16,
    /// The first epoch in which it applies.
    pub epoch: Epoch,
}

#[cfg(test)]
mod tests {
    use super::{Pool, PoolId, SHARES_MAX};
    use crate::{Address, Amount, ModelId};
    use proptest::prelude::*;

    #[test]
    fn text_of_a_pool_is_read_back() {
        for id in [PoolId::Model(ModelId(7)), PoolId::Validator(Address([3; 32]))] {
            assert_eq!(id.to_string().parse::<PoolId>().unwrap(), id);
        }
        for bad in ["", "model", "model:", "model:x", "target:1", "validator:soma1"] {
            assert!(bad.parse::<PoolId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_deposit_that_would_buy_no_share_fails_and_changes_nothing() {
        let mut pool = Pool::begin(Amount(10));
        assert!(pool.earn(Amount(1_000)));
        let before = pool;
        assert_eq!(pool.deposit(Amount(100)), None);
        assert_eq!(pool.deposit(Amount(0)), None);
        assert_eq!(pool, before);
        assert_eq!(pool.deposit(Amount(101)), Some(1));
    }

    #[test]
    fn a_pool_slashed_to_nothing_is_closed() {
        let mut pool = Pool::begin(Amount(10));
        pool.leave(4).unwrap();
        assert_eq!(pool.slash(10_000), Amount(10));
        assert!(pool.is_closed() && !pool.earn(Amount(5)));
        assert_eq!(pool.deposit(Amount(5)), None);
        assert_eq!((pool.value(6), pool.release(4)), (Amount(0), Amount(0)));
    }

    #[test]
    fn what_is_leaving_is_slashed_and_earns_nothing() {
        let mut pool = Pool::begin(Amount(1_000));
        let (amount, shares) = pool.leave(500).unwrap();
        assert_eq!(amount, Amount(500));
        assert!(pool.earn(Amount(500)));
        assert_eq!(pool.slash(1_000), Amount(150));
        assert_eq!(pool.release(shares), Amount(450));
        assert_eq!(pool.withdraw(500), Amount(900));
        assert_eq!(pool, Pool::default());
    }

    proptest! {
        #[test]
        fn nobody_takes_out_more_than_is_there_and_the_last_takes_all(
            first in 1..1_000_000_u64, second in 1..1_000_000_u64,
            earned in 0..1_000_000_u64, bps in 0..10_000_u16,
        ) {
            let mut pool = Pool::begin(Amount(first));
            pool.earn(Amount(earned));
            let minted = pool.deposit(Amount(second)).unwrap_or(0);
            prop_assert!(pool.value(minted) <= Amount(second));
            let whole = pool.stake;
            let burned = pool.slash(bps);
            let mut out = burned;
            out = out.plus(pool.withdraw(minted));
            if pool.shares > 0 {
                out = out.plus(pool.withdraw(pool.shares));
            }
            prop_assert_eq!(out, whole);
            prop_assert_eq!(pool.stake, Amount(0));
        }

        #[test]
        fn shares_never_exceed_their_bound(rounds in 1..40_usize) {
            let mut pool = Pool::begin(Amount(1_000_000_000));
            for _ in 0..rounds {
                pool.slash(9_999);
                if pool.deposit(Amount(1_000_000_000_000)).is_none() { break; }
                prop_assert!(pool.shares <= SHARES_MAX);
            }
        }
    }
}

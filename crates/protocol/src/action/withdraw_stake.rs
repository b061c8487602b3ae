//! Withdrawing stake from a model or a validator. It is paid out `unbonding_epochs` later; until
//! then it earns nothing, counts for nothing and can be slashed. Stake on a retired model is paid
//! out at once.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::money::{PoolOwner, credit, save_share};
use crate::record::{ModelStatus, Withdrawal, WithdrawalCount};
use crate::state::{Key, load};
use crate::{Amount, Epoch, Event, PoolId, Rejection, read};

/// Withdraws stake from a model or validator; it is paid out `unbonding_epochs` later.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WithdrawStake {
    /// The model's or validator's pool.
    pub pool: PoolId,
    /// The amount to withdraw; if it exceeds the stake, everything is withdrawn.
    pub amount: Amount,
}

impl Apply for WithdrawStake {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let Self { pool, amount } = *self;
        let mut owner = PoolOwner::load(&context.state, pool)?;
        let staker = context.sender;
        let mut share = read::share(&context.state, pool, &staker);
        let whole = owner.pool().value(share.shares);
        if amount == Amount::ZERO || whole == Amount::ZERO {
            return Err(Rejection::ZeroAmount);
        }
        // A larger amount withdraws everything: nobody can know the stake to the last base unit.
        let shares = if amount >= whole { share.shares } else { owner.pool().shares_of(amount) };
        share.shares = share.shares.saturating_sub(shares);
        let retired =
            matches!(&owner, PoolOwner::Model(model) if model.status == ModelStatus::Retired);
        let (amount, release) = if retired {
            let amount = owner.pool().withdraw(shares);
            credit(&mut context.state, &staker, amount);
            (amount, context.clock.epoch)
        } else {
            let leaving = owner.pool().leave(shares);
            let (amount, leaving) = leaving.ok_or(Rejection::NoShare { pool })?;
            share.leaving_shares = share.leaving_shares.saturating_add(leaving);
            let withdrawal = Withdrawal { pool, staker, shares: leaving };
            (amount, queue(context, &withdrawal)?)
        };
        owner.save(&mut context.state);
        save_share(&mut context.state, pool, &staker, share);
        context.events.push(Event::StakeWithdrawn { pool, staker, amount, release });
        Ok(())
    }
}

/// Queues a withdrawal for the epoch in which it is paid out; returns that epoch.
fn queue(context: &mut Context<'_>, withdrawal: &Withdrawal) -> Result<Epoch, Rejection> {
    let wait = context.config.params.unbonding_epochs;
    let epoch = context.clock.epoch.after(wait);
    let key = Key::release_count(epoch);
    let WithdrawalCount(count) = load(&context.state, &key).unwrap_or_default();
    context.state.save(Key::release(epoch, count), withdrawal);
    let count = count.checked_add(1).ok_or(Rejection::Full)?;
    context.state.save(key, &WithdrawalCount(count));
    Ok(epoch)
}

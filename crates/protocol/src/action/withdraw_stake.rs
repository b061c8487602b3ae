//! Withdrawing stake from a model or a validator. It is paid out `unbonding_epochs` later; until
//! then it earns nothing, counts for nothing and can be slashed. Stake on a retired model is paid
//! out at once. An owner keeps its model's minimum in place until it retires the model.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::money::{PoolOwner, credit, save_share, stake_queue};
use crate::record::{Model, ModelStatus, StakeChange};
use crate::{Address, Amount, Event, PoolId, Rejection, read};

/// Withdraws stake from a model or validator; it is paid out `unbonding_epochs` later.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WithdrawStake {
    /// The model's or validator's pool.
    pub pool: PoolId,
    /// The amount to withdraw; if it exceeds the active stake, everything is withdrawn, and
    /// likewise if less than [`SHARES_MIN`](crate::record::SHARES_MIN) shares would be left.
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
        let rest = share.shares.saturating_sub(shares);
        let shares = if rest < context.config.shares_min() { share.shares } else { shares };
        share.shares = share.shares.saturating_sub(shares);
        let status = match &owner {
            PoolOwner::Model(model) => {
                check_minimum(context, model, &staker, model.pool.value(share.shares))?;
                Some(model.status)
            }
            PoolOwner::Validator(_) => None,
        };
        let (amount, release) = if status == Some(ModelStatus::Retired) {
            let amount = owner.pool().withdraw(shares);
            credit(&mut context.state, &staker, amount);
            (amount, context.clock.epoch)
        } else {
            let leaving = owner.pool().leave(shares);
            let (amount, leaving_shares) = leaving.ok_or(Rejection::NoShare { pool })?;
            share.leaving_shares = share.leaving_shares.saturating_add(leaving_shares);
            let release = context.clock.epoch.after(context.config.params.unbonding_epochs);
            let change = StakeChange { leaving_shares, ..StakeChange::default() };
            stake_queue::add(&mut context.state, release, pool, &staker, change)?;
            (amount, release)
        };
        owner.save(&mut context.state);
        save_share(&mut context.state, pool, &staker, share);
        context.events.push(Event::StakeWithdrawn { pool, staker, amount, release });
        Ok(())
    }
}

/// Rejects a withdrawal that leaves an owner less than the minimum in a model that competes: the
/// stake of a model is what it can be punished with.
fn check_minimum(
    context: &Context<'_>,
    model: &Model,
    staker: &Address,
    stake: Amount,
) -> Result<(), Rejection> {
    let retired = matches!(model.status, ModelStatus::Retiring { .. } | ModelStatus::Retired);
    let minimum = context.config.params.model_stake_min;
    if model.owner == *staker && !retired && stake < minimum {
        return Err(Rejection::StakeTooLow { stake, minimum });
    }
    Ok(())
}

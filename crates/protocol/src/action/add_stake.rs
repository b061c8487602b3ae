//! Staking on a model or a validator. The stake can be slashed immediately. It earns and counts
//! once every win is settled that was known when it was added, and not before.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::money::stake_queue::{self, JOINING_EPOCHS};
use crate::money::{PoolOwner, debit, save_share};
use crate::record::{ModelStatus, StakeChange, ValidatorStatus};
use crate::{Amount, Defense, Event, PoolId, Rejection, read};

/// Adds stake to a model or validator.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct AddStake {
    /// The model's or validator's pool.
    pub pool: PoolId,
    /// The amount to stake.
    pub amount: Amount,
}

impl Apply for AddStake {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let Self { pool, amount } = *self;
        let mut owner = PoolOwner::load(&context.state, pool)?;
        match &owner {
            PoolOwner::Model(model) => match model.status {
                ModelStatus::Retiring { .. } | ModelStatus::Retired => {
                    return Err(Rejection::ModelRetired { model: model.id });
                }
                _ => {}
            },
            PoolOwner::Validator(validator) => match validator.status {
                ValidatorStatus::Expelled => return Err(Rejection::Expelled),
                ValidatorStatus::Left | ValidatorStatus::Leaving => {
                    return Err(Rejection::AlreadyLeaving);
                }
                ValidatorStatus::Ready | ValidatorStatus::Jailed => {}
            },
        }
        let staker = context.sender;
        debit(&mut context.state, &staker, amount)?;
        let mut share = read::share(&context.state, pool, &staker);
        let price = owner.pool().price(amount).ok_or(Rejection::NoShare { pool })?;
        if price.saturating_add(share.shares) < context.config.shares_min() {
            return Err(Rejection::NoShare { pool });
        }
        let joining_shares = owner.pool().join(amount).ok_or(Rejection::NoShare { pool })?;
        owner.save(&mut context.state);
        share.joining_shares = share.joining_shares.saturating_add(joining_shares);
        save_share(&mut context.state, pool, &staker, share);
        let waits = context.config.defends(Defense::JoiningWait);
        let joins = context.clock.epoch.after(if waits { JOINING_EPOCHS } else { 1 });
        let change = StakeChange { joining_shares, ..StakeChange::default() };
        stake_queue::add(&mut context.state, joins, pool, &staker, change)?;
        context.events.push(Event::StakeAdded { pool, staker, amount, joins });
        Ok(())
    }
}

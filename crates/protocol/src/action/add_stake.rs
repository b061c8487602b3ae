//! Staking on a model or a validator. The stake can be slashed immediately; it counts from the next
//! draw of targets and the next committee onward.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::money::{PoolOwner, debit, save_share};
use crate::record::{ModelStatus, ValidatorStatus};
use crate::{Amount, Event, PoolId, Rejection, read};

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
                ValidatorStatus::Ready | ValidatorStatus::Jailed { .. } => {}
            },
        }
        let staker = context.sender;
        debit(&mut context.state, &staker, amount)?;
        let minted = owner.pool().deposit(amount);
        let minted = minted.ok_or(Rejection::NoShare { pool })?;
        owner.save(&mut context.state);
        let mut share = read::share(&context.state, pool, &staker);
        share.shares = share.shares.saturating_add(minted);
        save_share(&mut context.state, pool, &staker, share);
        context.events.push(Event::StakeAdded { pool, staker, amount });
        Ok(())
    }
}

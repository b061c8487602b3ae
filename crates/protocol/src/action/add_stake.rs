//! Putting money behind a model or a validator. It stands at once; it counts from the next draw of
//! targets and the next committee on.

use crate::action::Context;
use crate::money::{PoolOwner, debit, save_share};
use crate::record::{ModelStatus, ValidatorStatus};
use crate::{Amount, Event, PoolId, Rejection, read};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: PoolId,
    amount: Amount,
) -> Result<(), Rejection> {
    let mut backed = PoolOwner::load(&context.state, id)?;
    match &backed {
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
    let minted = backed.pool().deposit(amount);
    let minted = minted.ok_or(Rejection::NoShare { pool: id })?;
    backed.save(&mut context.state);
    let mut share = read::share(&context.state, id, &staker);
    share.shares = share.shares.saturating_add(minted);
    save_share(&mut context.state, id, &staker, share);
    context.events.push(Event::StakeAdded {
        pool: id,
        staker,
        amount,
    });
    Ok(())
}

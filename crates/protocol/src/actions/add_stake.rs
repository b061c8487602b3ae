//! Putting money behind a model or a validator. It stands at once; it counts from the next draw of
//! targets and the next committee on.

use crate::apply::Context;
use crate::balance::debit;
use crate::pool::{self, Backed, PoolId, save_share};
use crate::record::ModelStatus;
use crate::validator::ValidatorStatus;
use crate::{Amount, Event, Rejection};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: PoolId,
    amount: Amount,
) -> Result<(), Rejection> {
    let mut backed = Backed::load(&context.state, id)?;
    match &backed {
        Backed::Model(model) => match model.status {
            ModelStatus::Retiring { .. } | ModelStatus::Retired => {
                return Err(Rejection::ModelRetired { model: model.id });
            }
            _ => {}
        },
        Backed::Validator(validator) => match validator.status {
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
    let mut share = pool::share(&context.state, id, &staker);
    share.shares = share.shares.saturating_add(minted);
    save_share(&mut context.state, id, &staker, share);
    context.events.push(Event::StakeAdded {
        pool: id,
        staker,
        amount,
    });
    Ok(())
}

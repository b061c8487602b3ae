//! Taking money from behind a model or a validator. It waits `unbonding_epochs`, in which it earns
//! nothing, counts for nothing and can be slashed. What stood behind a retired model has waited.

use crate::action::Context;
use crate::money::{PoolOwner, credit, save_share};
use crate::record::{ModelStatus, Withdrawal, WithdrawalCount};
use crate::state::{Key, load};
use crate::{Amount, Epoch, Event, PoolId, Rejection, read};

pub(crate) fn apply(
    context: &mut Context<'_>,
    id: PoolId,
    amount: Amount,
) -> Result<(), Rejection> {
    let mut backed = PoolOwner::load(&context.state, id)?;
    let staker = context.sender;
    let mut share = read::share(&context.state, id, &staker);
    let whole = backed.pool().value(share.shares);
    if amount == Amount::ZERO || whole == Amount::ZERO {
        return Err(Rejection::ZeroAmount);
    }
    // Everything is asked for by any amount that is not less: nobody can know the last base unit.
    let shares = if amount >= whole {
        share.shares
    } else {
        backed.pool().shares_of(amount)
    };
    share.shares = share.shares.saturating_sub(shares);
    let retired =
        matches!(&backed, PoolOwner::Model(model) if model.status == ModelStatus::Retired);
    let (amount, release) = if retired {
        let amount = backed.pool().withdraw(shares);
        credit(&mut context.state, &staker, amount);
        (amount, context.clock.epoch)
    } else {
        let left = backed.pool().leave(shares);
        let (amount, leaving) = left.ok_or(Rejection::NoShare { pool: id })?;
        share.leaving_shares = share.leaving_shares.saturating_add(leaving);
        let release = Withdrawal {
            pool: id,
            staker,
            shares: leaving,
        };
        (amount, queue(context, &release)?)
    };
    backed.save(&mut context.state);
    save_share(&mut context.state, id, &staker, share);
    context.events.push(Event::StakeWithdrawn {
        pool: id,
        staker,
        amount,
        release,
    });
    Ok(())
}

/// Puts a withdrawal among those of the epoch in which its waiting ends.
fn queue(context: &mut Context<'_>, release: &Withdrawal) -> Result<Epoch, Rejection> {
    let wait = context.config.params.unbonding_epochs;
    let epoch = context.clock.epoch.after(wait);
    let key = Key::release_count(epoch);
    let WithdrawalCount(count) = load(&context.state, &key).unwrap_or_default();
    context.state.save(Key::release(epoch, count), release);
    let count = count.checked_add(1).ok_or(Rejection::Full)?;
    context.state.save(key, &WithdrawalCount(count));
    Ok(epoch)
}

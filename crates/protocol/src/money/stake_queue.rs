//! The queue of stake changes: stake that becomes active and withdrawals that are paid out as an
//! epoch begins. A staker is queued once for a pool and an epoch: acting often makes its entry
//! larger, not the queue longer. A task carries out the changes, some in each block.

use crate::money::{PoolOwner, credit, save_share};
use crate::record::{ModelStatus, QueuedStaker, Share, StakeChange, StakeChangeCount, StakeTask};
use crate::state::{Draft, Key, load};
use crate::transition::{Transition, Work};
use crate::{Address, Amount, Epoch, Event, PoolId, Rejection, read};

/// Epochs until added stake is active: every win that was known when it was added is then settled.
pub(crate) const JOINING_EPOCHS: u32 = 2;

/// Work of carrying out one change.
const CHANGE_WORK: u64 = 25;

/// Adds to what changes for a staker as `epoch` begins.
pub(crate) fn add(
    state: &mut Draft<'_>,
    epoch: Epoch,
    pool: PoolId,
    staker: &Address,
    more: StakeChange,
) -> Result<(), Rejection> {
    let key = Key::stake_change(epoch, pool, staker);
    let queued = load(state, &key);
    if queued.is_none() {
        queue(state, epoch, QueuedStaker { pool, staker: *staker })?;
    }
    let mut change: StakeChange = queued.unwrap_or_default();
    change.joining_shares = change.joining_shares.saturating_add(more.joining_shares);
    change.leaving_shares = change.leaving_shares.saturating_add(more.leaving_shares);
    state.save(key, &change);
    Ok(())
}

fn queue(state: &mut Draft<'_>, epoch: Epoch, staker: QueuedStaker) -> Result<(), Rejection> {
    let key = Key::stake_change_count(epoch);
    let StakeChangeCount(number) = load(state, &key).unwrap_or_default();
    let count = number.checked_add(1).ok_or(Rejection::Full)?;
    state.save(Key::queued_staker(epoch, number), &staker);
    state.save(key, &StakeChangeCount(count));
    Ok(())
}

/// Carries out the changes that are due; returns whether all of them are.
pub(crate) fn carry_out(
    transition: &mut Transition<'_, '_>,
    task: &mut StakeTask,
    work: &mut Work,
) -> bool {
    let count_key = Key::stake_change_count(task.epoch);
    let Some(StakeChangeCount(count)) = load(transition.state, &count_key) else {
        return true;
    };
    while task.next < count {
        if !work.take(CHANGE_WORK) {
            return false;
        }
        let key = Key::queued_staker(task.epoch, task.next);
        if let Some(queued) = load(transition.state, &key) {
            transition.state.delete(key);
            change_one(transition, task.epoch, &queued);
        }
        task.next = task.next.saturating_add(1);
    }
    transition.state.delete(count_key);
    true
}

fn change_one(transition: &mut Transition<'_, '_>, epoch: Epoch, queued: &QueuedStaker) {
    let QueuedStaker { pool, staker } = *queued;
    let key = Key::stake_change(epoch, pool, &staker);
    let Some(change) = load::<StakeChange>(transition.state, &key) else {
        return;
    };
    transition.state.delete(key);
    let Ok(mut owner) = PoolOwner::load(transition.state, pool) else {
        return;
    };
    let mut share = read::share(transition.state, pool, &staker);
    let mut paid = Amount::ZERO;
    if change.joining_shares > 0 {
        paid = join(transition, &mut owner, &mut share, queued, change.joining_shares);
    }
    if change.leaving_shares > 0 {
        let amount = owner.pool().release(change.leaving_shares);
        share.leaving_shares = share.leaving_shares.saturating_sub(change.leaving_shares);
        paid = paid.plus(amount);
        transition.events.push(Event::WithdrawalPaid { pool, staker, amount });
    }
    owner.save(transition.state);
    save_share(transition.state, pool, &staker, share);
    credit(transition.state, &staker, paid);
}

/// Makes joining stake active. Returns what goes back to the staker instead: everything, if the
/// model was retired meanwhile or the pool's shares have become too expensive.
fn join(
    transition: &mut Transition<'_, '_>,
    owner: &mut PoolOwner,
    share: &mut Share,
    queued: &QueuedStaker,
    joining_shares: u128,
) -> Amount {
    let QueuedStaker { pool, staker } = *queued;
    let amount = owner.pool().end_joining(joining_shares);
    share.joining_shares = share.joining_shares.saturating_sub(joining_shares);
    let retired =
        matches!(&*owner, PoolOwner::Model(model) if model.status == ModelStatus::Retired);
    let shares_min = transition.config.shares_min();
    let active = if retired { None } else { buy(owner, share, amount, shares_min) };
    if let Some(shares) = active {
        share.shares = shares;
        transition.events.push(Event::StakeJoined { pool, staker, amount });
        return Amount::ZERO;
    }
    transition.events.push(Event::StakeReturned { pool, staker, amount });
    amount
}

/// Buys active shares; returns the shares that the staker then has.
fn buy(owner: &mut PoolOwner, share: &Share, amount: Amount, shares_min: u128) -> Option<u128> {
    let minted = owner.pool().price(amount)?;
    let shares = share.shares.checked_add(minted).filter(|shares| *shares >= shares_min)?;
    owner.pool().deposit(amount)?;
    Some(shares)
}

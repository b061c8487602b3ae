//! Delayed effects: withdrawals that are paid out and commissions that change as an epoch begins.

use crate::money::{PoolOwner, credit, save_share};
use crate::record::{NextCommission, Withdrawal, WithdrawalCount};
use crate::state::{Key, load};
use crate::transition::Transition;
use crate::{Epoch, Event, PoolId, read};

/// Pays out the withdrawals that are due as `epoch` begins, less what was slashed from them.
pub(crate) fn release(transition: &mut Transition<'_, '_>, epoch: Epoch) {
    let key = Key::release_count(epoch);
    let Some(WithdrawalCount(count)) = load(transition.state, &key) else {
        return;
    };
    transition.state.delete(key);
    for number in 0..count {
        let key = Key::release(epoch, number);
        let Some(Withdrawal { pool, staker, shares }) = load(transition.state, &key) else {
            continue;
        };
        transition.state.delete(key);
        let Ok(mut backed) = PoolOwner::load(transition.state, pool) else {
            continue;
        };
        let amount = backed.pool().release(shares);
        backed.save(transition.state);
        let mut share = read::share(transition.state, pool, &staker);
        share.leaving_shares = share.leaving_shares.saturating_sub(shares);
        save_share(transition.state, pool, &staker, share);
        credit(transition.state, &staker, amount);
        transition.events.push(Event::WithdrawalPaid { pool, staker, amount });
    }
}

/// Puts the commissions that were announced for `epoch` into effect.
pub(crate) fn change_commissions(transition: &mut Transition<'_, '_>, epoch: Epoch) {
    let is_due = |next: Option<NextCommission>| next.filter(|next| next.epoch <= epoch);
    for id in read::model_ids(transition.state) {
        let Some(mut model) = read::model(transition.state, id) else {
            continue;
        };
        let Some(next) = is_due(model.next_commission) else {
            continue;
        };
        model.commission_bps = next.bps;
        model.next_commission = None;
        transition.state.save(Key::model(id), &model);
        changed(transition, PoolId::Model(id), next.bps);
    }
    for mut validator in read::validators(transition.state) {
        let Some(next) = is_due(validator.next_commission) else {
            continue;
        };
        validator.commission_bps = next.bps;
        validator.next_commission = None;
        transition.state.save(Key::validator(&validator.address), &validator);
        changed(transition, PoolId::Validator(validator.address), next.bps);
    }
}

fn changed(transition: &mut Transition<'_, '_>, pool: PoolId, commission_bps: u16) {
    transition.events.push(Event::CommissionChanged { pool, commission_bps });
}

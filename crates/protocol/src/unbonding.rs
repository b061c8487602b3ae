//! What waits for an epoch to begin: withdrawals that are paid out, commissions that change.

use crate::balance::credit;
use crate::epoch::Turn;
use crate::pool::{self, Backed, NextCommission, PoolId, Release, ReleaseCount, save_share};
use crate::record::load;
use crate::state::Key;
use crate::{Epoch, Event, ModelId, view};

/// Pays out the withdrawals whose waiting ends as `epoch` begins: whatever slashes have left of them.
pub(crate) fn release(turn: &mut Turn<'_, '_>, epoch: Epoch) {
    let key = Key::release_count(epoch);
    let Some(ReleaseCount(count)) = load(turn.state, &key) else {
        return;
    };
    turn.state.delete(key);
    for number in 0..count {
        let key = Key::release(epoch, number);
        let Some(Release {
            pool,
            staker,
            shares,
        }) = load(turn.state, &key)
        else {
            continue;
        };
        turn.state.delete(key);
        let Ok(mut backed) = Backed::load(turn.state, pool) else {
            continue;
        };
        let amount = backed.pool().release(shares);
        backed.save(turn.state);
        let mut share = pool::share(turn.state, pool, &staker);
        share.leaving_shares = share.leaving_shares.saturating_sub(shares);
        save_share(turn.state, pool, &staker, share);
        credit(turn.state, &staker, amount);
        turn.events.push(Event::WithdrawalPaid {
            pool,
            staker,
            amount,
        });
    }
}

/// Commissions that were announced for `epoch` take effect.
pub(crate) fn change_commissions(turn: &mut Turn<'_, '_>, epoch: Epoch) {
    let is_due = |next: Option<NextCommission>| next.filter(|next| next.epoch <= epoch);
    for id in (1..=view::model_count(turn.state)).map(ModelId) {
        let Some(mut model) = view::model(turn.state, id) else {
            continue;
        };
        let Some(next) = is_due(model.next_commission) else {
            continue;
        };
        model.commission_bps = next.bps;
        model.next_commission = None;
        turn.state.save(Key::model(id), &model);
        changed(turn, PoolId::Model(id), next.bps);
    }
    for mut validator in view::registered(turn.state) {
        let Some(next) = is_due(validator.next_commission) else {
            continue;
        };
        validator.commission_bps = next.bps;
        validator.next_commission = None;
        turn.state
            .save(Key::validator(&validator.address), &validator);
        changed(turn, PoolId::Validator(validator.address), next.bps);
    }
}

fn changed(turn: &mut Turn<'_, '_>, pool: PoolId, commission_bps: u16) {
    turn.events.push(Event::CommissionChanged {
        pool,
        commission_bps,
    });
}

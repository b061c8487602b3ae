//! The emission of an epoch and the validators' part of it. What is not earned is not minted: it
//! returns to the reserve.

use crate::money::credit;
use crate::record::{Committee, Validator, ValidatorStatus};
use crate::state::Key;
use crate::transition::Transition;
use crate::{Address, Amount, Epoch, Event, PoolId, read};

/// What an epoch pays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Emission {
    /// The reward of each target, an even amount so that its halves are exact.
    pub(crate) target_reward: Amount,
    /// The total for all validators together.
    pub(crate) validator_pot: Amount,
}

/// Takes an epoch's emission from the reserve.
pub(crate) fn emit(transition: &mut Transition<'_, '_>) -> Emission {
    let params = &transition.config.params;
    let emission = transition.supply.reserve.over(params.emission_divisor);
    let validator_pot = emission.bps(params.validator_reward_bps);
    let each = emission.less(validator_pot).over(params.targets_per_epoch.into());
    let target_reward = each.over(2).times(2);
    let targets = target_reward.times(params.targets_per_epoch.into());
    transition.supply.reserve = transition.supply.reserve.less(targets).less(validator_pot);
    let epoch = transition.clock.epoch;
    transition.events.push(Event::EmissionTaken { epoch, targets, validators: validator_pot });
    Emission { target_reward, validator_pot }
}

/// Pays an epoch's pot, by the stake that each seat of its committee counts, to those that revealed
/// their beacon, in proportion to the published targets on which their verdict is the decided one.
/// The rest returns to the reserve, and so does the whole pot if too few revealed verdicts to
/// decide any target: collective silence pays nobody.
pub(crate) fn pay_validators(
    transition: &mut Transition<'_, '_>,
    epoch: Epoch,
    committee: &Committee,
) {
    let Some(mut record) = read::epoch(transition.state, epoch) else {
        return;
    };
    let pot = std::mem::take(&mut record.validator_pot);
    transition.state.save(Key::epoch(epoch), &record);
    let total = committee.stake();
    let mut unearned = pot;
    for seat in &committee.seats {
        let share = pot.of(seat.stake.0.into(), total.0.into());
        let amount = audited(transition, &seat.validator, share);
        let revealed = record.revealed.contains(&seat.validator);
        let Some(validator) = read::validator(transition.state, &seat.validator) else {
            continue;
        };
        let expelled = validator.status == ValidatorStatus::Expelled;
        if revealed && !expelled && amount > Amount::ZERO {
            unearned = unearned.less(amount);
            pay(transition, &validator, amount);
            transition.events.push(Event::ValidatorRewarded {
                epoch,
                validator: validator.address,
                amount,
            });
        }
    }
    transition.return_to_reserve(unearned);
}

/// Puts the commissions of validators into effect that were announced for `epoch`.
pub(crate) fn change_commissions(transition: &mut Transition<'_, '_>, epoch: Epoch) {
    for mut validator in read::validators(transition.state) {
        let next = validator.next_commission.filter(|next| next.epoch <= epoch);
        let Some(next) = next else {
            continue;
        };
        validator.commission_bps = next.bps;
        validator.next_commission = None;
        transition.state.save(Key::validator(&validator.address), &validator);
        let pool = PoolId::Validator(validator.address);
        transition.events.push(Event::CommissionChanged { pool, commission_bps: next.bps });
    }
}

/// The earned part of a share: the fraction of published targets with the decided verdict.
fn audited(transition: &Transition<'_, '_>, validator: &Address, share: Amount) -> Amount {
    let agreed = transition.audits.agreed.get(validator).copied().unwrap_or(0);
    match transition.audits.published {
        0 => share,
        published => share.of(agreed.into(), published.into()),
    }
}

/// Pays the commission to the operator's account, the rest to everyone who staked on the validator.
fn pay(transition: &mut Transition<'_, '_>, validator: &Validator, amount: Amount) {
    let mut validator = validator.clone();
    let commission = amount.bps(validator.commission_bps);
    let rest = amount.less(commission);
    let cash = if validator.pool.earn(rest) { commission } else { amount };
    transition.state.save(Key::validator(&validator.address), &validator);
    credit(transition.state, &validator.address, cash);
}

//! Rent: what a commit pays for keeping its file, and who is paid for keeping it.

use std::collections::BTreeMap;

use crate::amount::BPS;
use crate::balance::credit;
use crate::epoch::Turn;
use crate::record::{Rent, load};
use crate::state::Key;
use crate::{Address, Amount, Epoch, Event, ModelId, Params, view};

const MIB: u128 = 1 << 20;

/// Rent due for a file of `size_bytes` that is committed for `epoch`, until its next refresh;
/// rounded up, so that nothing is kept for free.
pub fn due(size_bytes: u64, epoch: Epoch, params: &Params) -> Amount {
    let bps = u128::from(BPS.saturating_sub(discount_bps(epoch, params)));
    let product = u128::from(size_bytes)
        .saturating_mul(params.rent_price_per_mib_epoch.0.into())
        .saturating_mul(params.refresh_epochs.into())
        .saturating_mul(bps);
    let rent = product.div_ceil(MIB.saturating_mul(BPS.into()));
    Amount(u64::try_from(rent).unwrap_or(u64::MAX))
}

/// What is off the rent in an epoch: all of `bootstrap_discount_bps` in the first, then evenly less.
fn discount_bps(epoch: Epoch, params: &Params) -> u16 {
    let left = params.bootstrap_epochs.saturating_sub(epoch.previous().0);
    let discount = u64::from(params.bootstrap_discount_bps).saturating_mul(left.into());
    let discount = discount
        .checked_div(params.bootstrap_epochs.into())
        .unwrap_or(0);
    u16::try_from(discount).unwrap_or(params.bootstrap_discount_bps)
}

/// What of the rent paid ahead will be left when the file is replaced in the next epoch.
pub(crate) fn left_over(rent: &Rent) -> Amount {
    rent.prepaid.less(installment(rent))
}

/// One epoch's rent. The last one takes whatever rounding left.
fn installment(rent: &Rent) -> Amount {
    rent.prepaid.over(rent.epochs_left.into())
}

/// Pays the epoch's rent of every file in equal parts to those who hold it.
pub(crate) fn pay(turn: &mut Turn<'_, '_>) {
    let mut paid: BTreeMap<Address, Amount> = BTreeMap::new();
    for id in (1..=view::model_count(turn.state)).map(ModelId) {
        let Some(mut rent) = load::<Rent>(turn.state, &Key::rent(id)) else {
            continue;
        };
        if rent.epochs_left == 0 {
            continue;
        }
        let total = installment(&rent);
        rent.prepaid = rent.prepaid.less(total);
        rent.epochs_left = rent.epochs_left.saturating_sub(1);
        turn.state.save(Key::rent(id), &rent);
        let holders = u64::try_from(rent.holders.len()).unwrap_or(u64::MAX);
        let part = total.over(holders);
        for holder in &rent.holders {
            let sum = paid.entry(*holder).or_default();
            *sum = sum.plus(part);
        }
        turn.supply.reserve = turn.supply.reserve.plus(total.less(part.times(holders)));
    }
    let epoch = turn.clock.epoch;
    for (validator, amount) in paid {
        if amount > Amount::ZERO {
            credit(turn.state, &validator, amount);
            turn.events.push(Event::RentPaid {
                epoch,
                validator,
                amount,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{discount_bps, due, left_over};
    use crate::record::Rent;
    use crate::{Amount, Epoch, Params};

    #[test]
    fn rent_is_rounded_up_and_grows_with_the_file() {
        let params = Params {
            bootstrap_discount_bps: 0,
            ..Params::network()
        };
        assert_eq!(due(1 << 20, Epoch(1), &params), Amount(7 * 100_000));
        assert_eq!(due(1, Epoch(1), &params), Amount(1));
        assert_eq!(due(0, Epoch(1), &params), Amount(0));
    }

    #[test]
    fn the_discount_shrinks_from_all_to_nothing() {
        let params = Params {
            bootstrap_discount_bps: 8_000,
            bootstrap_epochs: 4,
            ..Params::network()
        };
        let discounts = [1, 2, 3, 4, 5, 99].map(|epoch| discount_bps(Epoch(epoch), &params));
        assert_eq!(discounts, [8_000, 6_000, 4_000, 2_000, 0, 0]);
        let none = Params {
            bootstrap_epochs: 0,
            ..params
        };
        assert_eq!(discount_bps(Epoch(1), &none), 0);
    }

    #[test]
    fn what_is_left_over_excludes_the_epoch_that_still_runs() {
        let rent = Rent {
            prepaid: Amount(10),
            epochs_left: 3,
            holders: Vec::new(),
        };
        assert_eq!(left_over(&rent), Amount(7));
        let rent = Rent {
            prepaid: Amount(10),
            epochs_left: 1,
            holders: Vec::new(),
        };
        assert_eq!(left_over(&rent), Amount(0));
        let rent = Rent {
            prepaid: Amount(0),
            epochs_left: 0,
            holders: Vec::new(),
        };
        assert_eq!(left_over(&rent), Amount(0));
    }
}

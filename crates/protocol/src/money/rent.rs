//! Rent: what a commit pays for keeping its file, and which validators are paid for it.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::LapseReason;
use crate::money::credit;
use crate::record::{FileRoom, Model, Params, Rent, RentPrice, WeightsCommit};
use crate::state::{Draft, Key, StateRead, load};
use crate::transition::Transition;
use crate::value::BPS;
use crate::{Address, Amount, Epoch, Event, ModelId, Rejection, read};

const MIB: u128 = 1 << 20;

/// Rent due until the next refresh for a file of `size_bytes` that is committed for `epoch`;
/// rounded up, so that nothing is kept for free.
pub fn due(size_bytes: u64, epoch: Epoch, price: Amount, params: &Params) -> Amount {
    let bps = u128::from(BPS.saturating_sub(discount_bps(epoch, params)));
    let product = u128::from(size_bytes)
        .saturating_mul(price.0.into())
        .saturating_mul(params.refresh_epochs.into())
        .saturating_mul(bps);
    let rent = product.div_ceil(MIB.saturating_mul(BPS.into()));
    Amount(u64::try_from(rent).unwrap_or(u64::MAX))
}

/// What new room for files costs besides the rent, when `free_bytes` are left after it: nothing
/// while half of all room is free, then the rent without a discount times the square of what half
/// of all room is to that, less one. So room runs out for nobody who pays for it, filling it up
/// costs many times what it is worth, and what a model has stays as cheap as it was.
pub fn premium(new_bytes: u64, free_bytes: u64, price: Amount, params: &Params) -> Amount {
    let plain = Params { bootstrap_discount_bps: 0, ..params.clone() };
    let rent = due(new_bytes, Epoch(1), price, &plain);
    let half = u128::from(params.files_bytes_max / 2);
    // In 2^-16: how many times what is left goes into half of all room.
    let scarcity = half.saturating_mul(1 << 16).checked_div(free_bytes.max(1).into());
    let scarcity = scarcity.unwrap_or(0).max(1 << 16);
    let factor = scarcity.saturating_mul(scarcity).saturating_sub(1 << 32);
    let premium = u128::from(rent.0).saturating_mul(factor) >> 32;
    Amount(u64::try_from(premium).unwrap_or(u64::MAX))
}

/// Bytes of room that a model has for an architecture: those of the longest of its files, because
/// each takes the place of the one before it. Nodes keep both until the later one is revealed.
pub(crate) fn room_of(state: &dyn StateRead, id: ModelId, number: u32) -> u64 {
    let now = read::clock(state).epoch;
    room_with(state, id, number, &[now.previous(), now, now.next()])
}

/// Bytes of the longest of the file in use and those committed for these epochs.
fn room_with(state: &dyn StateRead, id: ModelId, number: u32, epochs: &[Epoch]) -> u64 {
    let in_use = load::<Rent>(state, &Key::rent(id, number)).map(|rent| rent.size_bytes);
    let committed = epochs.iter().filter_map(|&epoch| {
        let commit: WeightsCommit = load(state, &Key::commit(id, epoch, number))?;
        Some(commit.size_bytes)
    });
    committed.chain(in_use).max().unwrap_or(0)
}

/// The premium of a commit for the next epoch, which is for the room that its model does not have
/// yet.
///
/// # Errors
/// [`Rejection::NoFileRoom`]
pub(crate) fn premium_of(
    state: &dyn StateRead,
    params: &Params,
    id: ModelId,
    number: u32,
    size_bytes: u64,
) -> Result<Amount, Rejection> {
    let now = read::clock(state).epoch;
    let before = room_of(state, id, number);
    let after = room_with(state, id, number, &[now.previous(), now]).max(size_bytes);
    if after <= before {
        return Ok(Amount::ZERO);
    }
    let others = read::file_room(state).saturating_sub(before);
    let free_bytes = params.files_bytes_max.saturating_sub(others);
    match free_bytes.checked_sub(after) {
        Some(left) => {
            Ok(premium(after.saturating_sub(before), left, read::rent_price(state), params))
        }
        None => Err(Rejection::NoFileRoom { size_bytes, free_bytes }),
    }
}

/// Changes which files a model has for an architecture, and counts the room that they take.
pub(crate) fn change_files<T>(
    state: &mut Draft<'_>,
    id: ModelId,
    number: u32,
    change: impl FnOnce(&mut Draft<'_>) -> T,
) -> T {
    let before = room_of(state, id, number);
    let changed = change(state);
    let after = room_of(state, id, number);
    if after != before {
        let all = read::file_room(state).saturating_sub(before).saturating_add(after);
        state.save(Key::file_room(), &FileRoom(all));
    }
    changed
}

/// Sets the price for the epoch that begins: the stake-weighted median of the validators' standing
/// votes. A validator that has not voted counts as voting for the parameter's value.
pub(crate) fn count_votes(transition: &mut Transition<'_, '_>) {
    let default = transition.config.params.rent_price_per_mib_epoch;
    let price = |address| {
        let validator = read::validator(transition.state, address);
        validator.and_then(|validator| validator.rent_price).unwrap_or(default)
    };
    let seats = read::committee(transition.state).seats;
    let mut votes: Vec<(Amount, Amount)> =
        seats.iter().map(|seat| (price(&seat.validator), seat.stake)).collect();
    votes.sort_unstable();
    let median = median(&votes).unwrap_or(default);
    if median != read::rent_price(transition.state) {
        transition.state.save(Key::rent_price(), &RentPrice(median));
        transition.events.push(Event::RentPriceChanged { price: median });
    }
}

/// The lowest price that, with all below it, has at least half of the stake. `votes` are sorted.
fn median(votes: &[(Amount, Amount)]) -> Option<Amount> {
    let total: Amount = votes.iter().map(|(_, stake)| *stake).sum();
    let mut below = Amount::ZERO;
    votes.iter().find_map(|(price, stake)| {
        below = below.plus(*stake);
        (below.times(2) >= total).then_some(*price)
    })
}

/// Discount on the rent in an epoch: `bootstrap_discount_bps` in the first, then falling linearly.
fn discount_bps(epoch: Epoch, params: &Params) -> u16 {
    let left = params.bootstrap_epochs.saturating_sub(epoch.previous().0);
    let discount = u64::from(params.bootstrap_discount_bps).saturating_mul(left.into());
    let discount = discount.checked_div(params.bootstrap_epochs.into()).unwrap_or(0);
    u16::try_from(discount).unwrap_or(params.bootstrap_discount_bps)
}

/// The part of the prepaid rent that will be left when the file is replaced in the next epoch.
fn left_over(rent: &Rent) -> Amount {
    rent.prepaid.less(installment(rent))
}

/// The current file's rent that will be left when a commit replaces it. While a commit for the
/// running epoch awaits its reveal, that rent belongs to it: nothing is credited twice.
pub(crate) fn carried_over(state: &dyn StateRead, id: ModelId, number: u32) -> Amount {
    let clock = read::clock(state);
    let commit = load::<WeightsCommit>(state, &Key::commit(id, clock.epoch, number));
    if clock.phase.reveals() && commit.is_some() {
        return Amount::ZERO;
    }
    load::<Rent>(state, &Key::rent(id, number)).map_or(Amount::ZERO, |rent| left_over(&rent))
}

/// One epoch's rent. The last one includes the rounding remainder.
fn installment(rent: &Rent) -> Amount {
    rent.prepaid.over(rent.epochs_left.into())
}

/// Takes a file's rent for an epoch and adds it, in equal parts, to what those of its holders have
/// earned that answered the epoch's challenge. What nobody earns goes to the reserve.
pub(crate) fn pay_installment(
    transition: &mut Transition<'_, '_>,
    key: Key,
    answered: &BTreeSet<Address>,
    earned: &mut BTreeMap<Address, Amount>,
) {
    let Some(mut rent) = load::<Rent>(transition.state, &key) else {
        return;
    };
    if rent.epochs_left == 0 {
        return;
    }
    let total = installment(&rent);
    rent.prepaid = rent.prepaid.less(total);
    rent.epochs_left = rent.epochs_left.saturating_sub(1);
    transition.state.save(key, &rent);
    let earners = rent.holders.iter().filter(|one| answered.contains(one));
    let holders = u64::try_from(earners.clone().count()).unwrap_or(u64::MAX);
    let part = total.over(holders);
    for holder in earners {
        let sum = earned.entry(*holder).or_default();
        *sum = sum.plus(part);
    }
    transition.return_to_reserve(total.less(part.times(holders)));
}

/// Pays what validators have earned in an epoch by holding files.
pub(crate) fn pay(
    transition: &mut Transition<'_, '_>,
    epoch: Epoch,
    earned: &BTreeMap<Address, Amount>,
) {
    for (&validator, &amount) in earned {
        if amount > Amount::ZERO {
            credit(transition.state, &validator, amount);
            transition.events.push(Event::RentPaid { epoch, validator, amount });
        }
    }
}

/// Lets a commit lapse through nobody's fault: what it paid is returned to the owner.
pub(crate) fn refund(
    transition: &mut Transition<'_, '_>,
    model: &Model,
    commit: &WeightsCommit,
    reason: LapseReason,
) {
    let epoch = commit.epoch;
    let key = Key::commit(model.id, epoch, commit.architecture);
    change_files(transition.state, model.id, commit.architecture, |state| state.delete(key));
    credit(transition.state, &model.owner, commit.paid);
    transition.events.push(Event::CommitLapsed {
        model: model.id,
        epoch,
        reason,
        returned: commit.paid,
        burned: Amount::ZERO,
    });
}

/// Takes a model's rent for an architecture out of the state; returns what was left of it. To be
/// called by a change of [`change_files`].
pub(crate) fn take(state: &mut Draft<'_>, id: ModelId, number: u32) -> Amount {
    let key = Key::rent(id, number);
    let Some(rent) = load::<Rent>(state, &key) else {
        return Amount::ZERO;
    };
    state.delete(key);
    rent.prepaid
}

#[cfg(test)]
mod tests {
    use super::{discount_bps, due, left_over, median, premium};
    use crate::record::Rent;
    use crate::{Amount, Epoch, Params};

    #[test]
    fn rent_is_rounded_up_and_grows_with_the_file() {
        let params = Params { bootstrap_discount_bps: 0, ..Params::network() };
        assert_eq!(due(1 << 20, Epoch(1), Amount(100_000), &params), Amount(7 * 100_000));
        assert_eq!(due(1, Epoch(1), Amount(100_000), &params), Amount(1));
        assert_eq!(due(0, Epoch(1), Amount(100_000), &params), Amount(0));
    }

    #[test]
    fn new_room_costs_more_the_less_is_left_and_nothing_more_while_half_is_free() {
        let params = Params { files_bytes_max: 1 << 30, ..Params::network() };
        let cost = |left: u64| premium(1 << 20, left, Amount(100_000), &params).0;
        let rent = 7 * 100_000;
        assert_eq!([cost(1 << 30), cost(1 << 29)], [0, 0]);
        assert_eq!([cost(1 << 28), cost(1 << 27), cost(1 << 26)], [3, 15, 63].map(|m| m * rent));
        assert!(cost(0) > 1_000_000_000 * rent, "{}", cost(0));
    }

    #[test]
    fn the_price_is_the_median_by_stake() {
        let votes = |list: &[(u64, u64)]| -> Vec<(Amount, Amount)> {
            let pairs = list.iter();
            pairs.map(|(price, stake)| (Amount(*price), Amount(*stake))).collect()
        };
        assert_eq!(median(&[]), None);
        assert_eq!(median(&votes(&[(5, 1)])), Some(Amount(5)));
        assert_eq!(median(&votes(&[(1, 1), (2, 1), (1_000, 1)])), Some(Amount(2)));
        assert_eq!(median(&votes(&[(1, 1), (2, 1), (1_000, 3)])), Some(Amount(1_000)));
        assert_eq!(median(&votes(&[(1, 2), (9, 2)])), Some(Amount(1)));
    }

    #[test]
    fn the_discount_shrinks_from_all_to_nothing() {
        let params =
            Params { bootstrap_discount_bps: 8_000, bootstrap_epochs: 4, ..Params::network() };
        let discounts = [1, 2, 3, 4, 5, 99].map(|epoch| discount_bps(Epoch(epoch), &params));
        assert_eq!(discounts, [8_000, 6_000, 4_000, 2_000, 0, 0]);
        let none = Params { bootstrap_epochs: 0, ..params };
        assert_eq!(discount_bps(Epoch(1), &none), 0);
    }

    #[test]
    fn what_is_left_over_excludes_the_epoch_that_still_runs() {
        let rent = Rent { prepaid: Amount(10), epochs_left: 3, size_bytes: 1, holders: Vec::new() };
        assert_eq!(left_over(&rent), Amount(7));
        let rent = Rent { prepaid: Amount(10), epochs_left: 1, size_bytes: 1, holders: Vec::new() };
        assert_eq!(left_over(&rent), Amount(0));
        let rent = Rent { prepaid: Amount(0), epochs_left: 0, size_bytes: 1, holders: Vec::new() };
        assert_eq!(left_over(&rent), Amount(0));
    }
}

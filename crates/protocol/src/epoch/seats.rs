//! Elects the committee as an epoch begins. Whatever happens to stakes, at most a third of the
//! seats change at once (one if there are fewer than six), so that most of every committee was in
//! the one before it; and the last seat is never left empty.

use crate::record::{Committee, LastCommittee, Seat, Validator, ValidatorStatus, Validators};
use crate::state::Key;
use crate::transition::Transition;
use crate::{Address, Epoch, Event, read};

/// Jails validators that were absent too long, elects the committee of the epoch that begins, and
/// unregisters validators that have left.
pub(crate) fn elect(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    mark_absent(transition, beginning);
    let old = read::committee(transition.state);
    let seats = next_seats(transition, &old.seats);
    if seats != old.seats {
        let new = Committee {
            number: old.number.saturating_add(1),
            height: transition.height,
            epoch: beginning,
            seats,
        };
        announce(transition, &old, &new);
        transition.state.save(Key::committee(new.number), &new);
        transition.state.save(Key::last_committee(), &LastCommittee(new.number));
    }
    forget_gone(transition, beginning);
}

/// Counts the epochs that a seat has missed. If nobody revealed, no validator is at fault.
fn mark_absent(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    let revealed = read::epoch(transition.state, transition.clock.epoch)
        .map(|record| record.revealed)
        .unwrap_or_default();
    if revealed.is_empty() {
        return;
    }
    for mut validator in read::seated_validators(transition.state) {
        let before = (validator.missed, validator.status);
        validator.missed = if revealed.contains(&validator.address) {
            0
        } else {
            validator.missed.saturating_add(1)
        };
        let absent = validator.missed >= transition.config.params.absence_epochs;
        if absent && validator.status == ValidatorStatus::Ready {
            let until = beginning.after(transition.config.params.jail_epochs);
            validator.status = ValidatorStatus::Jailed { until };
            validator.missed = 0;
            transition.events.push(Event::ValidatorJailed { validator: validator.address, until });
        }
        if (validator.missed, validator.status) != before {
            transition.state.save(Key::validator(&validator.address), &validator);
        }
    }
}

/// Number of seats that may change at one epoch boundary.
pub(crate) const fn changes_max(seats: usize) -> usize {
    match seats.checked_div(3) {
        None | Some(0) => 1,
        Some(third) => third,
    }
}

/// The seats after this boundary: first, ineligible validators give up their seats; then keys are
/// rotated; then the validators with the most stake take free seats, or the seats of validators
/// with less.
fn next_seats(transition: &mut Transition<'_, '_>, old: &[Seat]) -> Vec<Seat> {
    let params = &transition.config.params;
    let seats_max = usize::try_from(params.seats_max).unwrap_or(usize::MAX);
    let all = read::validators(transition.state);
    let mut eligible: Vec<&Validator> =
        all.iter().filter(|validator| validator.is_eligible(params.validator_stake_min)).collect();
    eligible.sort_by_key(|validator| {
        (std::cmp::Reverse(validator.pool.stake), validator.since, validator.address)
    });
    let ranking: Vec<Address> = eligible.iter().map(|validator| validator.address).collect();
    let is_eligible = |address: &Address| ranking.contains(address);
    let wanted: Vec<Address> = ranking.iter().copied().take(seats_max).collect();

    let mut changes = SeatChanges::new(changes_max(old.len()));
    let mut seats = old.to_vec();
    // Ineligible validators leave, except the last one.
    for seat in old.iter().filter(|seat| !is_eligible(&seat.validator)) {
        if changes.may_leave() && seats.len() > 1 {
            seats.retain(|kept| kept != seat);
            changes.record_leave();
        }
    }
    let rotating: Vec<Validator> =
        all.iter().filter(|validator| validator.next_key.is_some()).cloned().collect();
    let joining: Vec<Seat> = eligible
        .iter()
        .map(|validator| Seat {
            consensus_key: validator.consensus_key,
            validator: validator.address,
        })
        .filter(|new| wanted.contains(&new.validator))
        .filter(|new| old.iter().all(|seat| seat.validator != new.validator))
        .collect();
    rotate(transition, rotating, &mut seats, &mut changes);
    shrink(&mut seats, seats_max, &wanted, &mut changes);
    for seat in joining {
        if !changes.may_join() {
            break;
        }
        if seats.len() >= seats_max {
            // The last unwanted seat makes room.
            let out = seats.iter().rposition(|seat| !wanted.contains(&seat.validator));
            let Some(at) = out.filter(|_| changes.may_leave()) else {
                break;
            };
            seats.remove(at);
            changes.record_leave();
        }
        seats.push(seat);
        changes.record_join();
    }
    replace_a_lone_seat(&mut seats, &mut changes, is_eligible);
    seats
}

/// Gives up the seats beyond a voted maximum, starting with those that have the least stake.
fn shrink(seats: &mut Vec<Seat>, seats_max: usize, wanted: &[Address], changes: &mut SeatChanges) {
    while seats.len() > seats_max.max(1) && changes.may_leave() {
        let unwanted = |seat: &Seat| !wanted.contains(&seat.validator);
        let Some(at) = seats.iter().rposition(unwanted) else {
            return;
        };
        seats.remove(at);
        changes.record_leave();
    }
}

/// Keeps a committee's only seat until another can take over; then it goes.
fn replace_a_lone_seat(
    seats: &mut Vec<Seat>,
    changes: &mut SeatChanges,
    is_eligible: impl Fn(&Address) -> bool,
) {
    while seats.len() > 1 && changes.may_leave() {
        let Some(at) = seats.iter().position(|seat| !is_eligible(&seat.validator)) else {
            return;
        };
        seats.remove(at);
        changes.record_leave();
    }
}

/// Replaces old keys with new ones: at once without a seat, otherwise as one seat change.
fn rotate(
    transition: &mut Transition<'_, '_>,
    rotating: Vec<Validator>,
    seats: &mut [Seat],
    changes: &mut SeatChanges,
) {
    for mut validator in rotating {
        let Some(key) = validator.next_key else {
            continue;
        };
        let seat = seats.iter_mut().find(|seat| seat.validator == validator.address);
        if let Some(seat) = seat {
            if !(changes.may_join() && changes.may_leave()) {
                continue;
            }
            changes.record_join();
            changes.record_leave();
            seat.consensus_key = key;
        }
        validator.consensus_key = key;
        validator.next_key = None;
        transition.state.save(Key::validator(&validator.address), &validator);
        transition
            .events
            .push(Event::KeyRotated { validator: validator.address, consensus_key: key });
    }
}

/// How many more seats may change at this boundary.
struct SeatChanges {
    leaving: usize,
    joining: usize,
}

impl SeatChanges {
    const fn new(changes: usize) -> Self {
        Self { leaving: changes, joining: changes }
    }

    const fn may_leave(&self) -> bool {
        self.leaving > 0
    }

    const fn may_join(&self) -> bool {
        self.joining > 0
    }

    const fn record_leave(&mut self) {
        self.leaving = self.leaving.saturating_sub(1);
    }

    const fn record_join(&mut self) {
        self.joining = self.joining.saturating_sub(1);
    }
}

fn announce(transition: &mut Transition<'_, '_>, old: &Committee, new: &Committee) {
    for seat in &old.seats {
        if !new.seats_validator(&seat.validator) {
            transition.events.push(Event::SeatLost { validator: seat.validator, epoch: new.epoch });
        }
    }
    for seat in &new.seats {
        if !old.seats_validator(&seat.validator) {
            transition
                .events
                .push(Event::SeatTaken { validator: seat.validator, epoch: new.epoch });
        }
    }
}

/// Unregisters validators that are leaving or expelled and have lost their seat.
fn forget_gone(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    let committee = read::committee(transition.state);
    let mut stay = Vec::new();
    let all = read::validators(transition.state);
    for mut validator in all.iter().cloned() {
        let leaves =
            matches!(validator.status, ValidatorStatus::Leaving | ValidatorStatus::Expelled);
        if !leaves || committee.seats_validator(&validator.address) {
            stay.push(validator.address);
            continue;
        }
        let randomness = Key::beacon(beginning, &validator.address);
        if transition.state.contains(&randomness) {
            transition.state.delete(randomness);
        }
        if validator.status == ValidatorStatus::Leaving {
            validator.status = ValidatorStatus::Left;
            transition.state.save(Key::validator(&validator.address), &validator);
        }
    }
    if stay.len() < all.len() {
        transition.state.save(Key::validators(), &Validators(stay));
    }
}

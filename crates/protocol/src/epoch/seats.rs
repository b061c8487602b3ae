//! Who sits in the committee, decided as an epoch begins. Whatever happens to stakes, at most a
//! third of the seats change at once (one, if there are fewer than six), so that most of every
//! committee has seen the one before it; and the last seat is never empty.

use crate::record::{Committee, LastCommittee, Seat, Validator, ValidatorStatus, Validators};
use crate::state::Key;
use crate::transition::Transition;
use crate::{Address, Epoch, Event, read};

/// Jails those that were absent too long, elects the committee of the epoch that begins, and
/// forgets validators that are gone.
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
        transition
            .state
            .save(Key::last_committee(), &LastCommittee(new.number));
    }
    forget_gone(transition, beginning);
}

/// Counts the epochs that a seat has missed. If nobody opened, the fault is not one validator's.
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
            transition.events.push(Event::ValidatorJailed {
                validator: validator.address,
                until,
            });
        }
        if (validator.missed, validator.status) != before {
            transition
                .state
                .save(Key::validator(&validator.address), &validator);
        }
    }
}

/// Seats that may change at one boundary.
pub(crate) const fn changes_max(seats: usize) -> usize {
    match seats.checked_div(3) {
        None | Some(0) => 1,
        Some(third) => third,
    }
}

/// The seats after this boundary: first those that must go do, then keys are rotated, then the
/// best-backed come, in free seats or in the place of those with less behind them.
fn next_seats(transition: &mut Transition<'_, '_>, old: &[Seat]) -> Vec<Seat> {
    let params = &transition.config.params;
    let seats_max = usize::try_from(params.seats_max).unwrap_or(usize::MAX);
    let all = read::validators(transition.state);
    let mut eligible: Vec<&Validator> = all
        .iter()
        .filter(|validator| validator.is_eligible(params.validator_stake_min))
        .collect();
    eligible.sort_by_key(|one| (std::cmp::Reverse(one.pool.stake), one.since, one.address));
    let is_eligible = |address: &Address| eligible.iter().any(|one| one.address == *address);
    let wanted: Vec<Address> = eligible
        .iter()
        .take(seats_max)
        .map(|one| one.address)
        .collect();

    let mut budget = SeatChanges::new(changes_max(old.len()));
    let mut seats = old.to_vec();
    // Those that may not stay: out, as far as somebody is left.
    for seat in old.iter().filter(|seat| !is_eligible(&seat.validator)) {
        if budget.may_leave() && seats.len() > 1 {
            seats.retain(|other| other != seat);
            budget.left();
        }
    }
    let rotating: Vec<Validator> = all
        .iter()
        .filter(|one| one.next_key.is_some())
        .cloned()
        .collect();
    let comers: Vec<Seat> = eligible
        .iter()
        .filter(|one| wanted.contains(&one.address))
        .filter(|one| old.iter().all(|seat| seat.validator != one.address))
        .map(|one| Seat {
            consensus_key: one.consensus_key,
            validator: one.address,
        })
        .collect();
    rotate(transition, rotating, &mut seats, &mut budget);
    shrink(&mut seats, seats_max, &wanted, &mut budget);
    for comer in comers {
        if !budget.may_come() {
            break;
        }
        if seats.len() >= seats_max {
            // The last in the order of stake that has no claim to its seat makes room.
            let out = seats
                .iter()
                .rposition(|seat| !wanted.contains(&seat.validator));
            let Some(at) = out.filter(|_| budget.may_leave()) else {
                break;
            };
            seats.remove(at);
            budget.left();
        }
        seats.push(comer);
        budget.came();
    }
    replace_a_lone_seat(&mut seats, &mut budget, is_eligible);
    seats
}

/// Gives up seats that a vote has abolished, those with the least behind them.
fn shrink(seats: &mut Vec<Seat>, seats_max: usize, wanted: &[Address], budget: &mut SeatChanges) {
    while seats.len() > seats_max.max(1) && budget.may_leave() {
        let unwanted = |seat: &Seat| !wanted.contains(&seat.validator);
        let Some(at) = seats.iter().rposition(unwanted) else {
            return;
        };
        seats.remove(at);
        budget.left();
    }
}

/// The only seat of a committee stays until another can take over; then it goes.
fn replace_a_lone_seat(
    seats: &mut Vec<Seat>,
    budget: &mut SeatChanges,
    is_eligible: impl Fn(&Address) -> bool,
) {
    while seats.len() > 1 && budget.may_leave() {
        let Some(at) = seats.iter().position(|seat| !is_eligible(&seat.validator)) else {
            return;
        };
        seats.remove(at);
        budget.left();
    }
}

/// New keys take the place of old ones: at once where there is no seat, else as one change of seat.
fn rotate(
    transition: &mut Transition<'_, '_>,
    rotating: Vec<Validator>,
    seats: &mut [Seat],
    budget: &mut SeatChanges,
) {
    for mut validator in rotating {
        let Some(key) = validator.next_key else {
            continue;
        };
        let seat = seats
            .iter_mut()
            .find(|seat| seat.validator == validator.address);
        if let Some(seat) = seat {
            if !(budget.may_come() && budget.may_leave()) {
                continue;
            }
            budget.came();
            budget.left();
            seat.consensus_key = key;
        }
        validator.consensus_key = key;
        validator.next_key = None;
        transition
            .state
            .save(Key::validator(&validator.address), &validator);
        transition.events.push(Event::KeyRotated {
            validator: validator.address,
            consensus_key: key,
        });
    }
}

/// How many more seats may be given up and taken.
struct SeatChanges {
    leaving: usize,
    coming: usize,
}

impl SeatChanges {
    const fn new(changes: usize) -> Self {
        Self {
            leaving: changes,
            coming: changes,
        }
    }

    const fn may_leave(&self) -> bool {
        self.leaving > 0
    }

    const fn may_come(&self) -> bool {
        self.coming > 0
    }

    const fn left(&mut self) {
        self.leaving = self.leaving.saturating_sub(1);
    }

    const fn came(&mut self) {
        self.coming = self.coming.saturating_sub(1);
    }
}

fn announce(transition: &mut Transition<'_, '_>, old: &Committee, new: &Committee) {
    for seat in &old.seats {
        if !new.seats_validator(&seat.validator) {
            transition.events.push(Event::SeatLost {
                validator: seat.validator,
                epoch: new.epoch,
            });
        }
    }
    for seat in &new.seats {
        if !old.seats_validator(&seat.validator) {
            transition.events.push(Event::SeatTaken {
                validator: seat.validator,
                epoch: new.epoch,
            });
        }
    }
}

/// Validators that are leaving or expelled and have no seat any more are off the list.
fn forget_gone(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    let committee = read::committee(transition.state);
    let mut stay = Vec::new();
    let all = read::validators(transition.state);
    for mut validator in all.iter().cloned() {
        let leaves = matches!(
            validator.status,
            ValidatorStatus::Leaving | ValidatorStatus::Expelled
        );
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
            transition
                .state
                .save(Key::validator(&validator.address), &validator);
        }
    }
    if stay.len() < all.len() {
        transition.state.save(Key::validators(), &Validators(stay));
    }
}

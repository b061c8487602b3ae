//! Elects the committee as an epoch begins. A seat needs about as much stake as the others have, so
//! that no part of the committee is much cheaper than its votes; `seat_stake.rs` says how much.
//! Whatever happens to stakes, at most a third of the seats changes at once (one if there are fewer
//! than six), so that most of every committee was in the one before it; and the last seat is never
//! left empty.

use std::cmp::Reverse;

use crate::epoch::seat_stake::{self, Needed};
use crate::record::{
    Committee, LastCommittee, Params, Seat, Validator, ValidatorStatus, Validators,
};
use crate::state::Key;
use crate::transition::Transition;
use crate::{Address, Amount, Defense, Epoch, Event, read};

/// In every election of this many, keys of seats are changed before seats are given to others;
/// in the rest, afterwards. So neither can be kept waiting by the other.
const KEYS_FIRST_EVERY: u32 = 3;

/// Jails validators that were absent too long, elects the committee of the epoch that begins, and
/// unregisters validators that have left or have too little stake.
pub(crate) fn elect(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    let old = read::committee(transition.state);
    mark_absent(transition, &old, beginning);
    let mut validators = read::validators(transition.state);
    change_keys_without_seat(transition, &mut validators, &old);
    let seats = next_seats(transition, &mut validators, &old, beginning);
    let new = Committee {
        number: old.number.saturating_add(1),
        height: transition.height,
        epoch: beginning,
        seats,
    };
    if new.seats != old.seats {
        announce(transition, &old, &new);
        transition.state.save(Key::committee(new.number), &new);
        transition.state.save(Key::last_committee(), &LastCommittee(new.number));
    }
    unlist(transition, validators, &new);
}

/// Counts the epochs that a seat has missed, except the first, for which its validator could not
/// yet commit. If nobody revealed, no validator is at fault.
fn mark_absent(transition: &mut Transition<'_, '_>, committee: &Committee, beginning: Epoch) {
    let ending = transition.clock.epoch;
    let revealed =
        read::epoch(transition.state, ending).map(|record| record.revealed).unwrap_or_default();
    if revealed.is_empty() {
        return;
    }
    for seat in committee.seats.iter().filter(|seat| seat.since < ending) {
        let Some(mut validator) = read::validator(transition.state, &seat.validator) else {
            continue;
        };
        let before = (validator.missed, validator.status);
        validator.missed = if revealed.contains(&validator.address) {
            0
        } else {
            validator.missed.saturating_add(1)
        };
        let absent = validator.missed >= transition.config.params.absence_epochs;
        if absent && validator.status == ValidatorStatus::Ready {
            let until = beginning.after(transition.config.params.jail_epochs);
            validator.status = ValidatorStatus::Jailed;
            validator.jailed_until = until;
            validator.missed = 0;
            transition.events.push(Event::ValidatorJailed { validator: validator.address, until });
        }
        if (validator.missed, validator.status) != before {
            transition.state.save(Key::validator(&validator.address), &validator);
        }
    }
}

/// Number of seats that may be given up, and of keys that may be new, at one epoch boundary.
const fn changes_max(seats: usize) -> usize {
    match seats.checked_div(3) {
        None | Some(0) => 1,
        Some(third) => third,
    }
}

/// The validators among which a committee is elected.
struct Candidates<'a> {
    /// At most `seats_max`, those with the most stake first; among equals, the one that registered
    /// first.
    all: Vec<&'a Validator>,
    needed: Needed,
}

impl<'a> Candidates<'a> {
    fn among(validators: &'a [Validator], params: &Params) -> Self {
        let seats_max = usize::try_from(params.seats_max).unwrap_or(usize::MAX);
        let is_eligible =
            |validator: &&Validator| validator.is_eligible(params.validator_stake_min);
        let mut all: Vec<&Validator> = validators.iter().filter(is_eligible).collect();
        all.sort_by_key(|validator| {
            (Reverse(validator.pool.stake), validator.since, validator.address)
        });
        all.truncate(seats_max);
        let stakes: Vec<Amount> = all.iter().map(|validator| validator.pool.stake).collect();
        Self { all, needed: seat_stake::needed(&stakes) }
    }

    /// Those that may take a seat.
    fn takers(&self) -> impl Iterator<Item = &'a Validator> + '_ {
        let to_take = self.needed.to_take;
        self.all.iter().copied().filter(move |validator| validator.pool.stake >= to_take)
    }

    /// Whether one that has a seat may keep it.
    fn may_keep(&self, address: &Address) -> bool {
        let candidate = self.all.iter().find(|validator| validator.address == *address);
        candidate.is_some_and(|validator| validator.pool.stake >= self.needed.to_keep)
    }
}

/// The stake that the next election would demand of a seat; never less than any seat must have.
pub(crate) fn needed(validators: &[Validator], params: &Params) -> Needed {
    let candidates = Candidates::among(validators, params);
    let Needed { to_take, to_keep } = candidates.needed;
    let full = candidates.all.len() >= usize::try_from(params.seats_max).unwrap_or(usize::MAX);
    let last = candidates.all.last().filter(|_| full);
    // A candidate more replaces the last one.
    let more = last.map_or(Amount::ZERO, |last| last.pool.stake.plus(Amount(1)));
    let least = params.validator_stake_min;
    Needed { to_take: to_take.max(least).max(more), to_keep: to_keep.max(least) }
}

/// The first seats of a network, in the order of its validators.
pub(crate) fn first(validators: &[Validator], params: &Params) -> Vec<Seat> {
    let takers: Vec<Address> =
        Candidates::among(validators, params).takers().map(|validator| validator.address).collect();
    let seated = validators.iter().filter(|validator| takers.contains(&validator.address));
    let mut seats: Vec<Seat> =
        seated.map(|validator| new_seat(validator, validator.since)).collect();
    limit_stakes(&mut seats);
    seats
}

/// The seats after this boundary: validators that should not have one give it up; those that should
/// have one take one, those first that have waited longest, so that nobody who comes and goes keeps
/// others waiting; and seats get the new keys of their validators.
fn next_seats(
    transition: &mut Transition<'_, '_>,
    validators: &mut [Validator],
    old: &Committee,
    beginning: Epoch,
) -> Vec<Seat> {
    let mut candidates = Candidates::among(validators, &transition.config.params);
    if !transition.config.defends(Defense::SeatStake) {
        candidates.needed = Needed::default();
    }
    let mut takers: Vec<&Validator> = candidates.takers().collect();
    takers.sort_by_key(|validator| validator.since);
    let comers: Vec<Seat> = takers
        .iter()
        .filter(|validator| !old.seats_validator(&validator.address))
        .map(|validator| new_seat(validator, beginning))
        .collect();
    let unwanted = unwanted(validators, old, &candidates);
    let mut changes = SeatChanges::new(old.seats.len());
    let mut seats = old.seats.clone();
    give_up(&mut seats, &unwanted, &mut changes);
    let seats_max = transition.config.params.seats_max;
    if beginning.0.is_multiple_of(KEYS_FIRST_EVERY) {
        change_keys(transition, validators, &mut seats, &mut changes, beginning);
        take(&mut seats, &comers, seats_max, &mut changes);
    } else {
        take(&mut seats, &comers, seats_max, &mut changes);
        change_keys(transition, validators, &mut seats, &mut changes, beginning);
    }
    // A committee's only seat was kept until another could take over.
    give_up(&mut seats, &unwanted, &mut changes);
    count_stakes(validators, &mut seats, transition.config.params.validator_stake_min);
    if transition.config.defends(Defense::SeatLimit) {
        limit_stakes(&mut seats);
    }
    seats
}

/// Validators that should give up their seats, the most urgent first: those that may have none at
/// all, then those with the least stake.
fn unwanted(
    validators: &[Validator],
    old: &Committee,
    candidates: &Candidates<'_>,
) -> Vec<Address> {
    let mut unwanted: Vec<&Validator> = validators
        .iter()
        .filter(|validator| {
            old.seats_validator(&validator.address) && !candidates.may_keep(&validator.address)
        })
        .collect();
    unwanted.sort_by_key(|validator| {
        (validator.status == ValidatorStatus::Ready, validator.pool.stake, validator.address)
    });
    unwanted.iter().map(|validator| validator.address).collect()
}

/// Gives up seats while seats may change, but not the last.
fn give_up(seats: &mut Vec<Seat>, unwanted: &[Address], changes: &mut SeatChanges) {
    for validator in unwanted {
        let place = seats.iter().position(|seat| seat.validator == *validator);
        let Some(place) = place.filter(|_| seats.len() > 1) else {
            continue;
        };
        if !changes.may_give_up() {
            return;
        }
        seats.remove(place);
    }
}

/// Gives free seats to validators that have none, while keys may change. A committee's only seat,
/// if unwanted, waits beside the one that replaces it.
fn take(seats: &mut Vec<Seat>, comers: &[Seat], seats_max: u32, changes: &mut SeatChanges) {
    let room = usize::try_from(seats_max.max(2)).unwrap_or(usize::MAX);
    for comer in comers {
        if seats.len() >= room || !changes.may_take_key() {
            return;
        }
        seats.push(*comer);
    }
}

/// What a new seat looks like before its stake is counted.
const fn new_seat(validator: &Validator, since: Epoch) -> Seat {
    Seat {
        consensus_key: validator.consensus_key,
        validator: validator.address,
        stake: validator.pool.stake,
        since,
    }
}

/// Changes the keys of validators without a seat at once: they sign nothing that counts.
fn change_keys_without_seat(
    transition: &mut Transition<'_, '_>,
    validators: &mut [Validator],
    old: &Committee,
) {
    for validator in
        validators.iter_mut().filter(|validator| !old.seats_validator(&validator.address))
    {
        change_key(transition, validator);
    }
}

/// Gives seats the new keys of their validators, while keys may change. Every election starts at
/// another seat, so that nobody who changes keys often keeps others waiting.
fn change_keys(
    transition: &mut Transition<'_, '_>,
    validators: &mut [Validator],
    seats: &mut [Seat],
    changes: &mut SeatChanges,
    beginning: Epoch,
) {
    let waits = |seat: &&mut Seat| {
        let validator = validators.iter().find(|validator| validator.address == seat.validator);
        validator.is_some_and(|validator| validator.next_key.is_some())
    };
    let mut waiting: Vec<&mut Seat> = seats.iter_mut().filter(waits).collect();
    let epoch = usize::try_from(beginning.0).unwrap_or(0);
    let first = epoch.checked_rem(waiting.len()).unwrap_or(0);
    waiting.rotate_left(first);
    for seat in waiting {
        let validator = validators.iter_mut().find(|validator| validator.address == seat.validator);
        if let Some(validator) = validator.filter(|_| changes.may_take_key()) {
            change_key(transition, validator);
            seat.consensus_key = validator.consensus_key;
        }
    }
}

/// Replaces a validator's key with its next one, if it has announced one.
fn change_key(transition: &mut Transition<'_, '_>, validator: &mut Validator) {
    let Some(consensus_key) = validator.next_key.take() else {
        return;
    };
    validator.consensus_key = consensus_key;
    transition.state.save(Key::validator(&validator.address), validator);
    let event = Event::KeyRotated { validator: validator.address, consensus_key };
    transition.events.push(event);
}

/// Sets each seat's stake in the epoch that begins, before it is limited to what counts.
fn count_stakes(validators: &[Validator], seats: &mut [Seat], stake_min: Amount) {
    let at_stake = |seat: &Seat| {
        let validator = validators.iter().find(|validator| validator.address == seat.validator);
        validator.map_or(Amount::ZERO, |validator| {
            if validator.is_eligible(stake_min) {
                return validator.pool.stake;
            }
            // It may no longer have its seat and waits to give it up: until then, all that it can
            // lose stands behind it.
            validator.pool.stake.plus(validator.pool.leaving)
        })
    };
    for seat in seats.iter_mut() {
        seat.stake = at_stake(seat);
    }
}

/// Limits what each seat counts, given the stakes of their validators.
fn limit_stakes(seats: &mut [Seat]) {
    let mut stakes: Vec<Amount> = seats.iter().map(|seat| seat.stake).collect();
    stakes.sort_unstable_by_key(|stake| Reverse(*stake));
    let limit = seat_stake::limit(&stakes);
    for seat in seats {
        seat.stake = seat.stake.min(limit);
    }
}

/// How many more seats may change at this boundary.
struct SeatChanges {
    /// Seats that may be given up.
    given_up: usize,
    /// Keys that may enter the committee, by a new seat or in place of an old key.
    keys: usize,
}

impl SeatChanges {
    const fn new(seats: usize) -> Self {
        Self { given_up: changes_max(seats), keys: changes_max(seats) }
    }

    /// Whether one more seat may be given up; then it counts.
    const fn may_give_up(&mut self) -> bool {
        Self::may(&mut self.given_up)
    }

    /// Whether one more key may enter the committee; then it counts.
    const fn may_take_key(&mut self) -> bool {
        Self::may(&mut self.keys)
    }

    const fn may(left: &mut usize) -> bool {
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }
}

fn announce(transition: &mut Transition<'_, '_>, old: &Committee, new: &Committee) {
    for seat in &old.seats {
        if !new.seats_validator(&seat.validator) {
            // Nobody else has revealed anything yet, so this gives it nothing to choose.
            let randomness = Key::beacon(new.epoch, &seat.validator);
            if transition.state.contains(&randomness) {
                transition.state.delete(randomness);
            }
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

/// Unregisters validators without a seat that are leaving, are expelled or have too little stake
/// for a seat, so that no place in the list is held for free.
fn unlist(transition: &mut Transition<'_, '_>, validators: Vec<Validator>, new: &Committee) {
    let stake_min = transition.config.params.validator_stake_min;
    let listed = validators.len();
    let mut stay = Vec::with_capacity(listed);
    for validator in validators {
        let goes = match validator.status {
            ValidatorStatus::Ready | ValidatorStatus::Jailed => validator.pool.stake < stake_min,
            ValidatorStatus::Leaving | ValidatorStatus::Left | ValidatorStatus::Expelled => true,
        };
        if goes && !new.seats_validator(&validator.address) {
            leave(transition, validator);
        } else {
            stay.push(validator.address);
        }
    }
    if stay.len() < listed {
        transition.state.save(Key::validators(), &Validators(stay));
    }
}

fn leave(transition: &mut Transition<'_, '_>, mut validator: Validator) {
    if validator.status != ValidatorStatus::Expelled {
        validator.status = ValidatorStatus::Left;
        transition.state.save(Key::validator(&validator.address), &validator);
    }
    transition.state.delete(Key::endpoints(&validator.address));
    transition.events.push(Event::ValidatorUnregistered { validator: validator.address });
}

//! Slashing models and validators. What is taken is burned and never paid to anyone, so that nobody
//! earns from another's fault.

use crate::money::{credit, rent};
use crate::record::{Model, ModelStatus, ValidatorStatus, WeightsCommit};
use crate::state::{Draft, Key, load};
use crate::transition::Transition;
use crate::{Address, Amount, Event, ModelId, living, read};

/// Slashes a model. One that has lost everything is closed: it is retired at once.
pub(crate) fn model(transition: &mut Transition<'_, '_>, model: &mut Model, bps: u16) {
    let amount = model.pool.slash(bps);
    if amount == Amount::ZERO {
        return;
    }
    transition.burn(amount);
    transition.events.push(Event::ModelSlashed { model: model.id, amount });
    if model.pool.is_closed() {
        let rent = forget_files(transition.state, model);
        credit(transition.state, &model.owner, rent);
        living::remove(transition.state, model);
        let before = model.clone();
        model.status = ModelStatus::Retired;
        living::count_ready(transition.state, &before, model);
        transition.events.push(Event::ModelClosed { model: model.id, rent });
    }
}

/// Deletes a retired model's commits, rent and specialization; returns the rent that is left and
/// what the commits paid.
pub(crate) fn forget_files(state: &mut Draft<'_>, model: &Model) -> Amount {
    // As the network switches, models wait to be moved off the old architecture.
    let old = Some(model.architecture).filter(|old| *old < read::architecture_number(state));
    let numbers: Vec<u32> = old.into_iter().chain(read::open_architectures(state)).collect();
    let mut left = Amount::ZERO;
    for number in numbers {
        forget_specialization(state, model.id, number);
        left = left.plus(rent::change_files(state, model.id, number, |state| {
            rent::take(state, model.id, number).plus(forget_commits(state, model.id, number))
        }));
    }
    left
}

/// Deletes a model's commits for an architecture; returns what they paid.
fn forget_commits(state: &mut Draft<'_>, id: ModelId, number: u32) -> Amount {
    let now = read::clock(state).epoch;
    let mut paid = Amount::ZERO;
    for epoch in [now.previous(), now, now.next()] {
        let key = Key::commit(id, epoch, number);
        if let Some(commit) = load::<WeightsCommit>(state, &key) {
            state.delete(key);
            paid = paid.plus(commit.paid);
        }
    }
    paid
}

/// Deletes a model's rent and specialization for an architecture; returns the rent that is left.
pub(crate) fn forget_file(state: &mut Draft<'_>, id: ModelId, number: u32) -> Amount {
    forget_specialization(state, id, number);
    rent::change_files(state, id, number, |state| rent::take(state, id, number))
}

fn forget_specialization(state: &mut Draft<'_>, id: ModelId, number: u32) {
    let key = Key::specialization(id, number);
    if state.contains(&key) {
        state.delete(key);
    }
}

/// Slashes a validator and saves it. One that has lost everything is expelled.
pub(crate) fn validator(transition: &mut Transition<'_, '_>, address: &Address, bps: u16) {
    let Some(mut validator) = read::validator(transition.state, address) else {
        return;
    };
    let amount = validator.pool.slash(bps);
    if amount == Amount::ZERO {
        return;
    }
    transition.burn(amount);
    transition.events.push(Event::ValidatorSlashed { validator: validator.address, amount });
    if validator.pool.is_closed() {
        validator.status = ValidatorStatus::Expelled;
    }
    transition.state.save(Key::validator(&validator.address), &validator);
}

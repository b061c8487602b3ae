//! Slashing models and validators. What is taken is burned and never paid to anyone, so that nobody
//! earns from another's fault.

use crate::money::{credit, rent};
use crate::record::{Model, ModelStatus, ValidatorStatus};
use crate::state::{Draft, Key};
use crate::transition::Transition;
use crate::{Address, Amount, Event, ModelId, read};

/// Slashes a model. One that has lost everything is closed: it is retired at once.
pub(crate) fn model(transition: &mut Transition<'_, '_>, model: &mut Model, bps: u16) {
    let amount = model.pool.slash(bps);
    if amount == Amount::ZERO {
        return;
    }
    transition.burn(amount);
    transition.events.push(Event::ModelSlashed { model: model.id, amount });
    if model.pool.is_closed() {
        let rent = forget_files(transition.state, model.id);
        credit(transition.state, &model.owner, rent);
        model.status = ModelStatus::Retired;
        transition.events.push(Event::ModelClosed { model: model.id, rent });
    }
}

/// Deletes a retired model's rent and specialization; returns the rent that is left.
pub(crate) fn forget_files(state: &mut Draft<'_>, id: ModelId) -> Amount {
    let numbers = read::open_architectures(state);
    for number in numbers.clone() {
        let key = Key::embedding(id, number);
        if state.contains(&key) {
            state.delete(key);
        }
    }
    numbers.map(|number| rent::take(state, id, number)).sum()
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

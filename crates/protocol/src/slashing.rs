//! Taking stake from models and validators that did what they must not. What is taken is burned; it
//! never goes to anyone, so nobody earns by another's fault.

use crate::Amount;
use crate::balance::credit;
use crate::epoch::Turn;
use crate::record::{Model, ModelStatus};
use crate::state::{Draft, Key, Read};
use crate::validator::{Validator, ValidatorStatus};
use crate::{Event, ModelId, migration};

/// Slashes a model. One that has lost everything is closed: it is retired at once.
pub(crate) fn model(turn: &mut Turn<'_, '_>, model: &mut Model, bps: u16) {
    let amount = model.pool.slash(bps);
    if amount == Amount::ZERO {
        return;
    }
    turn.supply.burned = turn.supply.burned.plus(amount);
    turn.events.push(Event::ModelSlashed {
        model: model.id,
        amount,
    });
    if model.pool.is_closed() {
        let rent = forget_files(turn.state, model.id);
        credit(turn.state, &model.owner, rent);
        model.status = ModelStatus::Retired;
        turn.events.push(Event::ModelClosed {
            model: model.id,
            rent,
        });
    }
}

/// Forgets the rent and the specialization of a model that is gone; returns the rent that is left.
pub(crate) fn forget_files(state: &mut Draft<'_>, id: ModelId) -> Amount {
    let numbers = migration::numbers(state);
    for number in numbers.clone() {
        let key = Key::embedding(id, number);
        if state.get(&key).is_some() {
            state.delete(key);
        }
    }
    numbers
        .map(|number| migration::take_rent(state, id, number))
        .sum()
}

/// Slashes a validator and saves it. One that has lost everything is expelled.
pub(crate) fn validator(turn: &mut Turn<'_, '_>, mut validator: Validator, bps: u16) {
    let amount = validator.pool.slash(bps);
    if amount == Amount::ZERO {
        return;
    }
    turn.supply.burned = turn.supply.burned.plus(amount);
    turn.events.push(Event::ValidatorSlashed {
        validator: validator.address,
        amount,
    });
    if validator.pool.is_closed() {
        validator.status = ValidatorStatus::Expelled;
    }
    turn.state
        .save(Key::validator(&validator.address), &validator);
}

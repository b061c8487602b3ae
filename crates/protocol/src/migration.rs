//! Models move to another architecture under the same id and stake: for a time they may commit and
//! reveal weights for both, then the network switches, if enough of them are ready.

use crate::architecture::ArchitectureSpec;
use crate::balance::credit;
use crate::epoch::Turn;
use crate::event::Lapse;
use crate::genesis::Network;
use crate::proposal::{Migration, PastArchitecture};
use crate::record::{Commit, Model, ModelStatus, Rent, Weights, load};
use crate::state::{Draft, Key, Read};
use crate::{Amount, Epoch, Event, ModelId, apply, view};

/// Number of the architecture in force; that of genesis is 1.
pub(crate) fn current(state: &dyn Read) -> u32 {
    apply::network(state).architecture_number
}

/// Numbers of the architectures for which weights may be committed: the one in force, then the one
/// to which models migrate.
pub(crate) fn numbers(state: &dyn Read) -> impl Iterator<Item = u32> + Clone + use<> {
    let next = view::migration(state).map(|migration| migration.number);
    std::iter::once(current(state)).chain(next)
}

/// An architecture by its number: in force, to come, or past.
pub(crate) fn architecture(state: &dyn Read, number: u32) -> Option<ArchitectureSpec> {
    let network = apply::network(state);
    if network.architecture_number == number {
        return Some(network.architecture);
    }
    let next = view::migration(state).filter(|migration| migration.number == number);
    next.map(|migration| migration.architecture)
        .or_else(|| load(state, &Key::architecture(number)).map(|PastArchitecture(spec)| spec))
}

/// The weights of a model for an architecture, once revealed.
pub(crate) fn weights(state: &dyn Read, model: &Model, number: u32) -> Option<Weights> {
    let next = model.next.filter(|next| next.architecture == number);
    let hash = match next {
        Some(next) => next.weights,
        None if number == current(state) => model.weights?,
        None => return None,
    };
    view::weights(state, model.id, &hash)
}

/// Takes a model's rent for an architecture out of the state; returns what was left of it.
pub(crate) fn take_rent(state: &mut Draft<'_>, id: ModelId, number: u32) -> Amount {
    let key = Key::rent(id, number);
    let Some(rent) = load::<Rent>(state, &key) else {
        return Amount::ZERO;
    };
    state.delete(key);
    rent.prepaid
}

/// Switches to the next architecture when its time has come and `models_per_target` models are
/// ready; with fewer the time is extended, so that there are always models to route.
pub(crate) fn switch(turn: &mut Turn<'_, '_>, beginning: Epoch) {
    let Some(mut migration) = view::migration(turn.state) else {
        return;
    };
    if beginning < migration.ends {
        return;
    }
    let needed = usize::try_from(turn.rules.params.models_per_target).unwrap_or(usize::MAX);
    if ready(turn, migration.number).count() < needed {
        migration.ends = beginning.after(turn.rules.params.migration_epochs);
        turn.state.save(Key::migration(), &migration);
        turn.events.push(Event::MigrationExtended {
            architecture: migration.number,
            ends: migration.ends,
        });
        return;
    }
    let network = apply::network(turn.state);
    let old = network.architecture_number;
    for id in (1..=view::model_count(turn.state)).map(ModelId) {
        lapse(turn, id, beginning, old);
        if let Some(model) = view::model(turn.state, id) {
            move_model(turn, model, old, beginning);
        }
    }
    let past = PastArchitecture(network.architecture.clone());
    turn.state.save(Key::architecture(old), &past);
    turn.state.delete(Key::migration());
    let Migration {
        number,
        architecture,
        ..
    } = migration;
    turn.events.push(Event::ArchitectureSwitched {
        architecture: number,
        name: architecture.name.clone(),
    });
    let network = Network {
        architecture,
        architecture_number: number,
        ..network
    };
    turn.state.save(Key::network(), &network);
}

/// Models that could be routed under the next architecture.
fn ready<'a>(turn: &'a Turn<'_, '_>, number: u32) -> impl Iterator<Item = Model> + 'a {
    let stake_min = turn.rules.params.model_stake_min;
    view::models(turn.state, 1..=u32::MAX).filter(move |model| {
        let gone = matches!(
            model.status,
            ModelStatus::Retiring { .. } | ModelStatus::Retired
        );
        !gone && model.pool.stake >= stake_min && model.is_ready_for(number)
    })
}

/// A commit for the old architecture that could be revealed in the epoch that begins: nobody's
/// fault, so what was paid returns.
fn lapse(turn: &mut Turn<'_, '_>, model: ModelId, epoch: Epoch, old: u32) {
    let key = Key::commit(model, epoch, old);
    let Some(commit) = load::<Commit>(turn.state, &key) else {
        return;
    };
    turn.state.delete(key);
    if let Some(record) = view::model(turn.state, model) {
        credit(turn.state, &record.owner, commit.paid);
    }
    turn.events.push(Event::CommitLapsed {
        model,
        epoch,
        reason: Lapse::OldArchitecture,
        returned: commit.paid,
        burned: Amount::ZERO,
    });
}

/// A model leaves the old architecture: with its new weights, or inactive until it has some.
fn move_model(turn: &mut Turn<'_, '_>, mut model: Model, old: u32, beginning: Epoch) {
    if model.status == ModelStatus::Retired {
        return;
    }
    let left = take_rent(turn.state, model.id, old);
    credit(turn.state, &model.owner, left);
    let embedding = Key::embedding(model.id, old);
    if turn.state.get(&embedding).is_some() {
        turn.state.delete(embedding);
    }
    let active = model.status == ModelStatus::Active;
    let waits = matches!(
        model.status,
        ModelStatus::Registered | ModelStatus::Inactive
    );
    if let Some(next) = model.next.take() {
        model.weights = Some(next.weights);
        model.revealed = next.revealed;
        if waits {
            model.status = ModelStatus::Active;
            model.activated = beginning;
        }
    } else {
        model.weights = None;
        if active {
            model.status = ModelStatus::Inactive;
            turn.events.push(Event::ModelInactive {
                model: model.id,
                epoch: beginning,
            });
        }
    }
    turn.state.save(Key::model(model.id), &model);
}

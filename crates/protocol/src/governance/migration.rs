//! Models move to another architecture under the same id and stake: for a time they may commit and
//! reveal weights for both; then the network switches, if enough of them are ready.

use crate::event::LapseReason;
use crate::money::{credit, rent};
use crate::record::{Migration, Model, ModelStatus, Network, PastArchitecture};
use crate::state::{Key, load};
use crate::transition::Transition;
use crate::{Epoch, Event, read};

/// Switches to the next architecture when its time has come and `models_per_target` models are
/// ready; with fewer, the time is extended, so that there are always models to route.
pub(crate) fn switch(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    let Some(mut migration) = read::migration(transition.state) else {
        return;
    };
    if beginning < migration.ends {
        return;
    }
    let needed = usize::try_from(transition.config.params.models_per_target).unwrap_or(usize::MAX);
    if ready(transition, migration.number).count() < needed {
        migration.ends = beginning.after(transition.config.params.migration_epochs);
        transition.state.save(Key::migration(), &migration);
        transition.events.push(Event::MigrationExtended {
            architecture: migration.number,
            ends: migration.ends,
        });
        return;
    }
    let network = read::network(transition.state);
    let old = network.architecture_number;
    for id in read::model_ids(transition.state) {
        // A commit for the old architecture can no longer be revealed; the owner is not at fault.
        if let Some(commit) = load(transition.state, &Key::commit(id, beginning, old)) {
            rent::refund(transition, id, &commit, LapseReason::OldArchitecture);
        }
        if let Some(model) = read::model(transition.state, id) {
            move_model(transition, model, old, beginning);
        }
    }
    let past = PastArchitecture(network.architecture.clone());
    transition.state.save(Key::architecture(old), &past);
    transition.state.delete(Key::migration());
    let Migration { number, architecture, .. } = migration;
    transition.events.push(Event::ArchitectureSwitched {
        architecture: number,
        name: architecture.name.clone(),
    });
    let network = Network { architecture, architecture_number: number, ..network };
    transition.state.save(Key::network(), &network);
}

/// Models that could be routed under the next architecture.
fn ready<'a>(transition: &'a Transition<'_, '_>, number: u32) -> impl Iterator<Item = Model> + 'a {
    let stake_min = transition.config.params.model_stake_min;
    read::models(transition.state, 1..=u32::MAX).filter(move |model| {
        let gone = matches!(model.status, ModelStatus::Retiring { .. } | ModelStatus::Retired);
        !gone && model.pool.stake >= stake_min && model.is_ready_for(number)
    })
}

/// Moves a model off the old architecture, with its new weights, or inactive until it has some.
fn move_model(transition: &mut Transition<'_, '_>, mut model: Model, old: u32, beginning: Epoch) {
    if model.status == ModelStatus::Retired {
        return;
    }
    let left = rent::take(transition.state, model.id, old);
    credit(transition.state, &model.owner, left);
    let embedding = Key::embedding(model.id, old);
    if transition.state.contains(&embedding) {
        transition.state.delete(embedding);
    }
    let active = model.status == ModelStatus::Active;
    let waits = matches!(model.status, ModelStatus::Registered | ModelStatus::Inactive);
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
            transition.events.push(Event::ModelInactive { model: model.id, epoch: beginning });
        }
    }
    transition.state.save(Key::model(model.id), &model);
}

//! Models move to another architecture under the same id and stake: for a time they may commit and
//! reveal weights for both; then the network switches, if enough of them are ready. Each model
//! follows when the pass after the epoch visits it.

use crate::money::{credit, slashing};
use crate::record::{Migration, Model, ModelStatus, Network, PastArchitecture};
use crate::state::Key;
use crate::transition::Transition;
use crate::{Epoch, Event, read};

/// Switches to the next architecture when its time has come and `models_per_target` models are
/// ready; with fewer, the time is extended, so that there are always models to route. Models are
/// counted as they reveal.
pub(crate) fn switch(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    let Some(mut migration) = read::migration(transition.state) else {
        return;
    };
    if beginning < migration.ends {
        return;
    }
    if migration.ready < transition.config.params.models_per_target {
        migration.ends = beginning.after(transition.config.params.migration_epochs);
        transition.state.save(Key::migration(), &migration);
        transition.events.push(Event::MigrationExtended {
            architecture: migration.number,
            ends: migration.ends,
        });
        return;
    }
    let network = read::network(transition.state);
    let past = PastArchitecture(network.architecture.clone());
    transition.state.save(Key::architecture(network.architecture_number), &past);
    transition.state.delete(Key::migration());
    let Migration { number, architecture, .. } = migration;
    transition.events.push(Event::ArchitectureSwitched {
        architecture: number,
        name: architecture.name.clone(),
    });
    let network = Network { architecture, architecture_number: number, ..network };
    transition.state.save(Key::network(), &network);
}

/// Moves a model off the old architecture if the network has switched: with its new weights, or
/// inactive until it has some.
pub(crate) fn follow(transition: &mut Transition<'_, '_>, model: &mut Model) {
    let architecture = transition.config.network.architecture_number;
    if model.architecture == architecture {
        return;
    }
    let left = slashing::forget_file(transition.state, model.id, model.architecture);
    credit(transition.state, &model.owner, left);
    model.architecture = architecture;
    let epoch = transition.clock.epoch;
    if let Some(next) = model.next.take() {
        model.weights = Some(next.weights);
        model.revealed = next.revealed;
        if matches!(model.status, ModelStatus::Registered | ModelStatus::Inactive) {
            model.status = ModelStatus::Active;
            model.activated = epoch;
        }
        return;
    }
    model.weights = None;
    if model.status == ModelStatus::Active {
        model.status = ModelStatus::Inactive;
        transition.events.push(Event::ModelInactive { model: model.id, epoch });
    }
}

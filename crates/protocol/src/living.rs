//! The list of living models: those that are not retired. It has no gaps, so a pass over it costs
//! what the models cost that still compete, not all that were ever registered.

use crate::record::{LivingCount, LivingModel, Model, ModelStatus};
use crate::state::{Draft, Key};
use crate::{Rejection, read};

/// Adds a model at the end of the list; the caller saves the model.
pub(crate) fn add(state: &mut Draft<'_>, model: &mut Model) -> Result<(), Rejection> {
    let place = read::living_count(state);
    let count = place.checked_add(1).ok_or(Rejection::Full)?;
    model.place = place;
    state.save(Key::living_model(place), &LivingModel(model.id));
    state.save(Key::living_count(), &LivingCount(count));
    Ok(())
}

/// Whether a model counts as ready for a migration.
fn is_ready(model: &Model, architecture: u32) -> bool {
    let retiring = matches!(model.status, ModelStatus::Retiring { .. } | ModelStatus::Retired);
    !retiring && model.is_ready_for(architecture)
}

/// Counts the models that are ready for a migration: `before` has become `after`.
pub(crate) fn count_ready(state: &mut Draft<'_>, before: &Model, after: &Model) {
    let Some(mut migration) = read::migration(state) else {
        return;
    };
    let ready = migration.ready;
    let [was, is] = [before, after].map(|model| u32::from(is_ready(model, migration.number)));
    migration.ready = ready.saturating_add(is).saturating_sub(was);
    if migration.ready != ready {
        state.save(Key::migration(), &migration);
    }
}

/// Removes a model from the list; the last one takes its place.
pub(crate) fn remove(state: &mut Draft<'_>, model: &Model) {
    let Some(last) = read::living_count(state).checked_sub(1) else {
        return;
    };
    let mover = read::living_model(state, last).filter(|mover| *mover != model.id);
    if let Some(mut mover) = mover.and_then(|mover| read::model(state, mover)) {
        mover.place = model.place;
        state.save(Key::model(mover.id), &mover);
        state.save(Key::living_model(model.place), &LivingModel(mover.id));
    }
    state.delete(Key::living_model(last));
    state.save(Key::living_count(), &LivingCount(last));
}

//! Retiring a model: it is routed no more, and its stake returns once nothing can hang on it.

use crate::action::Context;
use crate::record::ModelStatus;
use crate::state::Key;
use crate::{Event, ModelId, Rejection};

pub(crate) fn apply(context: &mut Context<'_>, id: ModelId) -> Result<(), Rejection> {
    let mut model = context.own_model(id)?;
    let release = context
        .clock
        .epoch
        .after(context.config.params.unbonding_epochs);
    model.status = ModelStatus::Retiring { release };
    context.state.save(Key::model(id), &model);
    context
        .events
        .push(Event::ModelRetired { model: id, release });
    Ok(())
}

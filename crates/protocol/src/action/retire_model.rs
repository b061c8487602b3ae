//! Retiring a model. It is no longer routed, and its stake is returned once it can no longer be
//! slashed.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::record::ModelStatus;
use crate::state::Key;
use crate::{Event, ModelId, Rejection, living};

/// Retires a model; its stake is returned after `unbonding_epochs`.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RetireModel {
    /// The model; the sender owns it.
    pub model: ModelId,
}

impl Apply for RetireModel {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let id = self.model;
        let mut model = context.own_model(id)?;
        let wait = context.config.params.unbonding_epochs;
        let release = context.clock.epoch.after(wait);
        let before = model.clone();
        model.status = ModelStatus::Retiring { release };
        living::count_ready(&mut context.state, &before, &model);
        context.state.save(Key::model(id), &model);
        let event = Event::ModelRetired { model: id, release };
        context.events.push(event);
        Ok(())
    }
}

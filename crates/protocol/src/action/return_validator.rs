//! A validator that was jailed for absence, or was leaving, asks for a seat again.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::record::ValidatorStatus;
use crate::state::Key;
use crate::{Event, Rejection};

/// A validator that was jailed, or is leaving, asks for a seat again.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ReturnValidator {}

impl Apply for ReturnValidator {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let mut validator = context.validator()?;
        match validator.status {
            ValidatorStatus::Jailed { until } if context.clock.epoch < until => {
                return Err(Rejection::StillJailed { until });
            }
            ValidatorStatus::Jailed { .. } | ValidatorStatus::Leaving => {}
            _ => return Err(Rejection::AlreadyValidator),
        }
        validator.status = ValidatorStatus::Ready;
        validator.missed = 0;
        let address = validator.address;
        context.state.save(Key::validator(&address), &validator);
        let event = Event::ValidatorReturned { validator: address };
        context.events.push(event);
        Ok(())
    }
}

//! A validator that was jailed for absence, or was leaving, asks for a seat again.

use crate::action::Context;
use crate::record::ValidatorStatus;
use crate::state::Key;
use crate::{Event, Rejection};

pub(crate) fn apply(context: &mut Context<'_>) -> Result<(), Rejection> {
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
    context
        .events
        .push(Event::ValidatorReturned { validator: address });
    Ok(())
}

//! A validator gives up its seat. It keeps working until the seat is gone; its stake stays where it
//! is until it is withdrawn, and can be slashed as long as that takes.

use crate::action::Context;
use crate::record::ValidatorStatus;
use crate::state::Key;
use crate::{Event, Rejection};

pub(crate) fn apply(context: &mut Context<'_>) -> Result<(), Rejection> {
    let mut validator = context.validator()?;
    if validator.status == ValidatorStatus::Leaving {
        return Err(Rejection::AlreadyLeaving);
    }
    validator.status = ValidatorStatus::Leaving;
    let address = validator.address;
    context.state.save(Key::validator(&address), &validator);
    context
        .events
        .push(Event::ValidatorLeaving { validator: address });
    Ok(())
}

//! A validator gives up its seat. It keeps working until the seat is gone; its stake stays in
//! place, and can be slashed, until it is withdrawn. A jail that it is in does not end.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::record::ValidatorStatus;
use crate::state::Key;
use crate::{Event, Rejection};

/// A validator gives up its seat.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct LeaveValidator {}

impl Apply for LeaveValidator {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let mut validator = context.validator()?;
        if validator.status == ValidatorStatus::Leaving {
            return Err(Rejection::AlreadyLeaving);
        }
        validator.status = ValidatorStatus::Leaving;
        let address = validator.address;
        context.state.save(Key::validator(&address), &validator);
        let event = Event::ValidatorLeaving { validator: address };
        context.events.push(event);
        Ok(())
    }
}

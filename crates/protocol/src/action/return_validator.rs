//! A validator that was jailed for absence, or was leaving, asks for a seat again. It has to wait
//! for the end of its jail even if it has left in between, and behind those that wait already.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::record::{Validator, ValidatorStatus};
use crate::state::Key;
use crate::{Event, Rejection};

/// A validator that was jailed, or is leaving, asks for a seat again.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ReturnValidator {}

impl Apply for ReturnValidator {
    // What it costs is paid by the sender, whoever that is.
    const BY_DUTY_KEY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let mut validator = context.validator()?;
        match validator.status {
            ValidatorStatus::Jailed => {}
            // Leaving is the account's decision, and so is staying.
            ValidatorStatus::Leaving if context.signer == context.sender => {}
            ValidatorStatus::Leaving => return Err(Rejection::NotValidator),
            _ => return Err(Rejection::AlreadyValidator),
        }
        check_jail(context, &validator)?;
        validator.status = ValidatorStatus::Ready;
        validator.since = context.clock.epoch;
        let address = validator.address;
        context.state.save(Key::validator(&address), &validator);
        let event = Event::ValidatorReturned { validator: address };
        context.events.push(event);
        Ok(())
    }
}

/// Rejects a validator that is still in jail.
pub(super) const fn check_jail(
    context: &Context<'_>,
    validator: &Validator,
) -> Result<(), Rejection> {
    let until = validator.jailed_until;
    if context.clock.epoch.0 < until.0 { Err(Rejection::StillJailed { until }) } else { Ok(()) }
}

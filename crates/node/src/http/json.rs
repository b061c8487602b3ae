//! The state and the history in the JSON of the API. It must never reimplement a rule: answers
//! contain only what the records hold or the protocol computes.

mod validators;
mod state;
mod history;
#[cfg(test)]
mod tests;

pub(super) use history::{
    block, event_number, events, events_of, events_of_block, events_of_submission,
    finalized_transaction,
};
pub(super) use state::{
    account, clock, direction, epoch, model, specialization, supply, target, transaction, winner,
};
pub(super) use validators::{governance, stakes, validator, validators};

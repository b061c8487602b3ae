//! The state and the history in the JSON of the API. It must never reimplement a rule: answers
//! contain only what the records hold or the protocol computes.

mod validators;
mod transactions;
mod history;
#[cfg(test)]
mod tests;

pub(super) use history::{
    block, event_number, events, events_of, events_of_block, events_of_submission,
    finalized_transaction,
};
pub(super) use soma_sdk::answers::{
    account, clock, direction, epoch, model, specialization, supply, target, winner,
};
pub(super) use transactions::transaction;
pub(super) use validators::{governance, stakes, validator, validators};

//! What happens as phases end: randomness, targets, settlement, lives of models and validators.
//! `schedule.rs` is the list of it all.

pub(crate) mod beacon;
pub(crate) mod lifecycle;
pub mod routing;
mod schedule;
pub(crate) mod seats;
pub(crate) mod settlement;
pub(crate) mod targets;
pub mod winner;

pub(crate) use schedule::{deadline_ms, end_phase};

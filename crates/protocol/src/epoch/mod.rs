//! What happens as phases end: the beacon, targets, settlement, and the status of models and
//! validators. `schedule.rs` lists all steps in order.

pub mod winner;
pub mod routing;
pub(crate) mod targets;
pub(crate) mod beacon;
pub(crate) mod settlement;
pub(crate) mod lifecycle;
pub mod seat_stake;
pub(crate) mod seats;
pub(crate) mod tasks;
mod schedule;

pub(crate) use schedule::{begin_block, deadline_ms, end_phase};

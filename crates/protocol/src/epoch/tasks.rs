//! The tasks that the end of a phase leaves: which wait, and working on them within the limits of a
//! block.

use crate::epoch::{lifecycle, settlement, targets};
use crate::money::stake_queue;
use crate::read;
use crate::record::{Task, Tasks};
use crate::state::{Draft, Key};
use crate::transition::{Transition, Work};

/// Whether a task waits. No phase ends before all are done.
pub(crate) fn are_waiting(state: &Draft<'_>) -> bool {
    state.contains(&Key::tasks())
}

/// Leaves tasks, in this order. No others wait, since a phase has just ended.
pub(crate) fn add(transition: &mut Transition<'_, '_>, tasks: impl Into<Vec<Task>>) {
    transition.state.save(Key::tasks(), &Tasks(tasks.into()));
}

/// Works on the tasks in order, until all are done or the block has no work left.
pub(crate) fn run(transition: &mut Transition<'_, '_>, work: &mut Work) {
    let Tasks(mut waiting) = read::tasks(transition.state);
    while let Some(task) = waiting.first_mut() {
        let done = match task {
            Task::Settle(task) => settlement::settle(transition, task, work),
            Task::Models(task) => lifecycle::visit_models(transition, task, work),
            Task::Stakes(task) => stake_queue::carry_out(transition, task, work),
            Task::Route(task) => targets::route(transition, task, work),
        };
        if !done {
            transition.state.save(Key::tasks(), &Tasks(waiting));
            return;
        }
        waiting.remove(0);
    }
    if are_waiting(transition.state) {
        transition.state.delete(Key::tasks());
    }
}

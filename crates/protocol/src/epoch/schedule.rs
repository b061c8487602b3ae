//! What happens when a phase ends, in order. This file only lists the steps; the work is done in
//! the files it names. A step that takes longer the more models or stakers there are is a task.

use crate::epoch::{beacon, lifecycle, seats, settlement, targets, tasks};
use crate::governance::{migration, rules, vote};
use crate::money::rent;
use crate::read::ChainConfig;
use crate::record::{Clock, Params, StakeTask, Task};
use crate::state::Draft;
use crate::transition::{Transition, Work};
use crate::{BlockInfo, Event, Phase, Rejection, Ruleset};

/// Block time from which the running phase may end; `None` if only the operator ends phases.
pub(crate) fn deadline_ms(clock: &Clock, params: &Params) -> Option<u64> {
    if params.epoch_ms == 0 {
        return None;
    }
    let length = match clock.phase {
        Phase::Reveal => params.reveal_ms(),
        Phase::Publish(_) => params.publish_part_ms(),
        Phase::Compete => params.compete_ms(),
        Phase::Attest => params.attest_ms(),
    };
    Some(clock.phase_started_ms.saturating_add(length))
}

/// Begins a block: works on the tasks that wait, ends the running phase if it is `due` and none is
/// left, and begins with what that leaves. Returns the work spent on tasks, or `None` if there was
/// nothing to do.
pub(crate) fn begin_block(
    state: &mut Draft<'_>,
    rules: &Ruleset,
    block: &BlockInfo,
    due: bool,
    events: &mut Vec<Event>,
) -> Option<u64> {
    let waiting = tasks::are_waiting(state);
    if !due && !waiting {
        return None;
    }
    let mut schedule = Schedule::new(state, rules, block, events);
    if waiting {
        schedule.run_tasks();
    }
    if due && !tasks::are_waiting(schedule.state) {
        schedule.end_phase();
    }
    Some(schedule.work.done())
}

/// Ends the running phase by command and begins the next.
pub(crate) fn end_phase(
    state: &mut Draft<'_>,
    rules: &Ruleset,
    block: &BlockInfo,
    events: &mut Vec<Event>,
) -> Result<(), Rejection> {
    if tasks::are_waiting(state) {
        return Err(Rejection::TasksPending);
    }
    Schedule::new(state, rules, block, events).end_phase();
    Ok(())
}

/// What happens in one block besides its transactions, and the work that is left for it.
struct Schedule<'a, 'b> {
    state: &'a mut Draft<'b>,
    rules: &'a Ruleset,
    block: &'a BlockInfo,
    work: Work,
    events: &'a mut Vec<Event>,
}

impl<'a, 'b> Schedule<'a, 'b> {
    fn new(
        state: &'a mut Draft<'b>,
        rules: &'a Ruleset,
        block: &'a BlockInfo,
        events: &'a mut Vec<Event>,
    ) -> Self {
        Self { state, rules, block, work: Work::of_a_block(rules), events }
    }

    /// Ends the running phase, begins the next, and begins with the tasks that this leaves.
    fn end_phase(&mut self) {
        self.step(|transition, _| transition.end_phase());
        self.run_tasks();
    }

    fn run_tasks(&mut self) {
        self.step(tasks::run);
    }

    /// Takes a step. Each reads the configuration again: the one before it may have changed the
    /// parameters, or the architecture.
    fn step(&mut self, step: impl FnOnce(&mut Transition<'_, '_>, &mut Work)) {
        let config = ChainConfig::read(self.state, *self.rules);
        let mut transition = Transition::begin(self.state, &config, self.block, self.events);
        step(&mut transition, &mut self.work);
        transition.finish();
    }
}

impl Transition<'_, '_> {
    fn end_phase(&mut self) {
        match self.clock.phase {
            Phase::Reveal => self.publish_or_compete(0),
            Phase::Publish(rank) => {
                settlement::forfeit_silent(self, rank);
                self.publish_or_compete(rank.saturating_add(1));
            }
            Phase::Compete => self.attest_or_end(),
            Phase::Attest => self.end_epoch(),
        }
    }

    /// Ends epoch e and begins epoch e + 1. What takes longer the more models and stakers there are
    /// is left to tasks: settling e - 1, visiting all models, and stake changes.
    fn end_epoch(&mut self) {
        let beginning = self.clock.epoch.next();
        let settle = settlement::task(self);
        let visit = lifecycle::task(self);
        rent::count_votes(self);
        migration::switch(self, beginning);
        rules::switch(self, beginning);
        vote::tally(self, beginning);
        seats::elect(self, beginning);
        self.clock.epoch = beginning;
        self.events.push(Event::EpochBegan { epoch: beginning });
        self.begin_phase(Phase::Reveal);
        let change = StakeTask { epoch: beginning, next: 0 };
        tasks::add(self, [Task::Settle(settle), Task::Models(visit), Task::Stakes(change)]);
    }

    /// Ends the reveal phase and all its parts: from here on, weights and targets are fixed, though
    /// it may take some blocks until the targets are known.
    fn end_reveals(&mut self) {
        let (beacon, revealed) = beacon::draw(self);
        let route = targets::begin(self, beacon, revealed);
        self.begin_phase(Phase::Compete);
        tasks::add(self, [Task::Route(route)]);
    }

    /// Begins a rank's part of the publish phase. By the clock, every rank gets its part, because
    /// reveals are accepted meanwhile; by command, ranks without a pending candidate are skipped.
    fn publish_or_compete(&mut self, rank: u32) {
        let has_part = if self.config.params.epoch_ms == 0 {
            settlement::awaits(self.state, self.clock.epoch.previous(), rank)
        } else {
            rank < self.config.params.candidates_per_target
        };
        if has_part {
            self.begin_phase(Phase::Publish(rank));
        } else {
            self.end_reveals();
        }
    }

    /// Begins the attest phase. By command, it is skipped when no verdict is pending.
    fn attest_or_end(&mut self) {
        let by_command = self.config.params.epoch_ms == 0;
        if by_command && !settlement::awaits_verdicts(self.state, self.clock.epoch.previous()) {
            self.end_epoch();
        } else {
            self.begin_phase(Phase::Attest);
        }
    }

    fn begin_phase(&mut self, phase: Phase) {
        self.clock.phase = phase;
        self.clock.phase_started_ms = self.now_ms;
        self.events.push(Event::PhaseBegan { epoch: self.clock.epoch, phase });
    }
}

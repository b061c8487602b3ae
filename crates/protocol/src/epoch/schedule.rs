//! What happens when a phase ends, in order. This file only lists the steps; the work is done in
//! the files it names.

use crate::epoch::{beacon, lifecycle, seats, settlement, targets};
use crate::governance::{migration, vote};
use crate::money::{rent, rewards, unbonding};
use crate::read::ChainConfig;
use crate::record::{Clock, Params};
use crate::state::{Draft, Key};
use crate::transition::{Audits, Transition};
use crate::{BlockInfo, Event, Phase, read};

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

/// Ends the running phase and begins the next.
pub(crate) fn end_phase(
    state: &mut Draft<'_>,
    config: &ChainConfig,
    block: &BlockInfo,
    events: &mut Vec<Event>,
) {
    let (clock, supply) = (read::clock(state), read::supply(state));
    let mut transition = Transition {
        state,
        config,
        events,
        clock,
        supply,
        audits: Audits::default(),
        height: block.height,
        now_ms: block.timestamp_ms,
    };
    match clock.phase {
        Phase::Reveal => transition.publish_or_compete(0),
        Phase::Publish(rank) => {
            settlement::forfeit_silent(&mut transition, rank);
            transition.publish_or_compete(rank.saturating_add(1));
        }
        Phase::Compete => transition.attest_or_end(),
        Phase::Attest => transition.end_epoch(),
    }
    transition.state.save(Key::clock(), &transition.clock);
    if transition.supply != supply {
        transition.state.save(Key::supply(), &transition.supply);
    }
}

impl Transition<'_, '_> {
    /// Ends epoch e and begins epoch e + 1.
    fn end_epoch(&mut self) {
        let (ending, beginning) = (self.clock.epoch, self.clock.epoch.next());
        settlement::settle(self, ending.previous());
        rewards::pay_validators(self);
        rent::pay(self);
        rent::count_votes(self);
        lifecycle::judge_commits(self, beginning);
        lifecycle::release_stakes(self, beginning);
        migration::switch(self, beginning);
        unbonding::release(self, beginning);
        unbonding::change_commissions(self, beginning);
        vote::tally(self, beginning);
        seats::elect(self, beginning);
        self.clock.epoch = beginning;
        self.events.push(Event::EpochBegan { epoch: beginning });
        self.begin(Phase::Reveal);
    }

    /// Ends the reveal phase and all its parts: from here on, weights and targets are fixed.
    fn end_reveals(&mut self) {
        lifecycle::lapse_and_refresh(self);
        let (beacon, revealed) = beacon::draw(self);
        targets::draw(self, beacon, revealed);
        self.begin(Phase::Compete);
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
            self.begin(Phase::Publish(rank));
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
            self.begin(Phase::Attest);
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.clock.phase = phase;
        self.clock.phase_started_ms = self.now_ms;
        self.events.push(Event::PhaseBegan { epoch: self.clock.epoch, phase });
    }
}

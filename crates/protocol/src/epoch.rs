//! What happens when a phase ends, in order. This file is the list; the work is in the files it names.

use crate::apply::{Rules, clock, supply};
use crate::params::Params;
use crate::phase::Phase;
use crate::record::{Clock, Supply};
use crate::settlement::Audits;
use crate::state::{Draft, Key};
use crate::{
    BlockInfo, Event, beacon, governance, lifecycle, migration, rent, rewards, seats, settlement,
    targets, unbonding,
};

/// The end of a phase, under way.
pub(crate) struct Turn<'a, 'b> {
    pub(crate) state: &'a mut Draft<'b>,
    pub(crate) rules: &'a Rules,
    pub(crate) events: &'a mut Vec<Event>,
    pub(crate) clock: Clock,
    pub(crate) supply: Supply,
    /// What settlement has found about the auditors.
    pub(crate) audits: Audits,
    /// Height of the block in which it happens.
    pub(crate) height: u64,
    now_ms: u64,
}

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
    rules: &Rules,
    block: &BlockInfo,
    events: &mut Vec<Event>,
) {
    let (clock, supply) = (clock(state), supply(state));
    let mut turn = Turn {
        state,
        rules,
        events,
        clock,
        supply,
        audits: Audits::default(),
        height: block.height,
        now_ms: block.timestamp_ms,
    };
    match clock.phase {
        Phase::Reveal => turn.publish_or_compete(0),
        Phase::Publish(rank) => {
            settlement::forfeit_silent(&mut turn, rank);
            turn.publish_or_compete(rank.saturating_add(1));
        }
        Phase::Compete => turn.attest_or_end(),
        Phase::Attest => turn.end_epoch(),
    }
    turn.state.save(Key::clock(), &turn.clock);
    if turn.supply != supply {
        turn.state.save(Key::supply(), &turn.supply);
    }
}

impl Turn<'_, '_> {
    /// End of epoch e, beginning of e + 1.
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
        governance::tally(self, beginning);
        seats::elect(self, beginning);
        self.clock.epoch = beginning;
        self.events.push(Event::EpochBegan { epoch: beginning });
        self.begin(Phase::Reveal);
    }

    /// End of the reveal phase with all its parts: from here on weights and targets stand.
    fn end_reveals(&mut self) {
        lifecycle::lapse_and_refresh(self);
        let (beacon, opened) = beacon::draw(self);
        targets::draw(self, beacon, opened);
        self.begin(Phase::Compete);
    }

    /// Begins the publish part of a rank. By the clock every rank has its part, because reveals are
    /// accepted meanwhile; by command, ranks that nobody waits for are skipped.
    fn publish_or_compete(&mut self, rank: u32) {
        let has_part = if self.rules.params.epoch_ms == 0 {
            settlement::awaits(self.state, self.clock.epoch.previous(), rank)
        } else {
            rank < self.rules.params.candidates_per_target
        };
        if has_part {
            self.begin(Phase::Publish(rank));
        } else {
            self.end_reveals();
        }
    }

    /// Begins the attest phase. By command it is skipped when no finding waits to be shown.
    fn attest_or_end(&mut self) {
        let by_command = self.rules.params.epoch_ms == 0;
        if by_command && !settlement::awaits_findings(self.state, self.clock.epoch.previous()) {
            self.end_epoch();
        } else {
            self.begin(Phase::Attest);
        }
    }

    fn begin(&mut self, phase: Phase) {
        self.clock.phase = phase;
        self.clock.phase_started_ms = self.now_ms;
        self.events.push(Event::PhaseBegan {
            epoch: self.clock.epoch,
            phase,
        });
    }
}

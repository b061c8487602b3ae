//! The transition from one phase to the next and the tasks that it leaves: what all their steps
//! read and write, and how much of it a block may do.

use crate::read::{self, ChainConfig};
use crate::record::{Audits, Clock, Supply};
use crate::ruleset::{Defense, Ruleset};
use crate::state::{Draft, Key};
use crate::{Amount, BlockInfo, Event};

/// The work on tasks in a block.
pub(crate) struct Work {
    /// What is left for it.
    left: u64,
    /// What a block has for it.
    of_a_block: u64,
    /// What was done so far.
    done: u64,
}

impl Work {
    /// The work of one block.
    pub(crate) fn of_a_block(rules: &Ruleset) -> Self {
        let of_a_block = rules.task_work_max();
        let left = if rules.defends(Defense::TaskBudget) { of_a_block } else { u64::MAX };
        Self { left, of_a_block, done: 0 }
    }

    /// Takes the cost of a step, if there is enough left; otherwise the step waits for the next
    /// block. A step that costs more than a whole block has it to itself.
    pub(crate) fn take(&mut self, cost: u64) -> bool {
        let cost = cost.min(self.of_a_block);
        let Some(rest) = self.left.checked_sub(cost) else {
            return false;
        };
        self.left = rest;
        self.done = self.done.saturating_add(cost);
        true
    }

    /// What was done in the block.
    pub(crate) const fn done(&self) -> u64 {
        self.done
    }
}

/// The transition from one phase to the next, or the tasks that it has left.
pub(crate) struct Transition<'a, 'b> {
    pub(crate) state: &'a mut Draft<'b>,
    pub(crate) config: &'a ChainConfig,
    pub(crate) events: &'a mut Vec<Event>,
    pub(crate) clock: Clock,
    pub(crate) supply: Supply,
    /// Results of the auditors, from settlement.
    pub(crate) audits: Audits,
    /// Height of the block in which it happens.
    pub(crate) height: u64,
    pub(crate) now_ms: u64,
}

impl<'a, 'b> Transition<'a, 'b> {
    pub(crate) fn begin(
        state: &'a mut Draft<'b>,
        config: &'a ChainConfig,
        block: &BlockInfo,
        events: &'a mut Vec<Event>,
    ) -> Self {
        let (clock, supply) = (read::clock(state), read::supply(state));
        let (height, now_ms) = (block.height, block.timestamp_ms);
        Self { state, config, events, clock, supply, audits: Audits::default(), height, now_ms }
    }

    /// Saves the clock and the supply, if they have changed.
    pub(crate) fn finish(self) {
        if self.clock != read::clock(self.state) {
            self.state.save(Key::clock(), &self.clock);
        }
        if self.supply != read::supply(self.state) {
            self.state.save(Key::supply(), &self.supply);
        }
    }

    /// Burns money that nobody holds anymore.
    pub(crate) fn burn(&mut self, amount: Amount) {
        self.supply.burned = self.supply.burned.plus(amount);
    }

    /// Returns money that nobody holds anymore to the reserve.
    pub(crate) fn return_to_reserve(&mut self, amount: Amount) {
        self.supply.reserve = self.supply.reserve.plus(amount);
    }
}

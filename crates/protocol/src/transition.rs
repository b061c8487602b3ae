//! The transition from one phase to the next and the tasks that it leaves: what all their steps
//! read and write, and how much of it a block may do.

use crate::read::{self, ChainConfig};
use crate::record::{Audits, Clock, Supply};
use crate::state::{Draft, Key};
use crate::{Amount, BlockInfo, Event};

/// The work that a block may spend on tasks, in units of about a microsecond on one core.
pub const TASK_WORK_MAX: u64 = 100_000;

/// The work that is left in a block.
pub(crate) struct Work(u64);

impl Work {
    /// The work of one block.
    pub(crate) const fn of_a_block() -> Self {
        Self(TASK_WORK_MAX)
    }

    /// Takes the cost of a step, if there is enough left; otherwise the step waits for the next
    /// block. A step that costs more than a whole block has it to itself.
    pub(crate) fn take(&mut self, cost: u64) -> bool {
        let rest = self.0.checked_sub(cost.min(TASK_WORK_MAX));
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
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

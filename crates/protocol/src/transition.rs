//! The transition from one phase to the next: what all its steps read and write.

use std::collections::BTreeMap;

use crate::read::ChainConfig;
use crate::record::{Clock, Supply};
use crate::state::Draft;
use crate::{Address, Amount, Event};

/// The transition from one phase to the next.
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

impl Transition<'_, '_> {
    /// Burns money that nobody holds anymore.
    pub(crate) fn burn(&mut self, amount: Amount) {
        self.supply.burned = self.supply.burned.plus(amount);
    }

    /// Returns money that nobody holds anymore to the reserve.
    pub(crate) fn return_to_reserve(&mut self, amount: Amount) {
        self.supply.reserve = self.supply.reserve.plus(amount);
    }
}

/// Results of the auditors of an epoch's targets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audits {
    /// Targets with a published claim to audit.
    pub(crate) published: u32,
    /// Number of them on which each validator had the verdict of more than two thirds of the stake.
    pub(crate) agreed: BTreeMap<Address, u32>,
}

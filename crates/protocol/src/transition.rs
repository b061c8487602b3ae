//! The end of a phase, under way: the state and what all its steps write to.

use std::collections::BTreeMap;

use crate::read::ChainConfig;
use crate::record::{Clock, Supply};
use crate::state::Draft;
use crate::{Address, Event};

/// The end of a phase, under way.
pub(crate) struct Transition<'a, 'b> {
    pub(crate) state: &'a mut Draft<'b>,
    pub(crate) config: &'a ChainConfig,
    pub(crate) events: &'a mut Vec<Event>,
    pub(crate) clock: Clock,
    pub(crate) supply: Supply,
    /// What settlement has found about the auditors.
    pub(crate) audits: Audits,
    /// Height of the block in which it happens.
    pub(crate) height: u64,
    pub(crate) now_ms: u64,
}

/// How the auditors of an epoch's targets have done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audits {
    /// Targets for which something was published, so that there was something to audit.
    pub(crate) published: u32,
    /// Those of them on which each validator found what more than two thirds of the stake did.
    pub(crate) agreed: BTreeMap<Address, u32>,
}

//! The money that records hold, kept as blocks change them, so that nobody has to look at all of
//! them to know it. No rule uses it.

use crate::record::{
    Account, Candidates, EpochRecord, Model, Proposal, Rent, Target, TargetStatus, Validator,
    WeightsCommit,
};
use crate::state::{Changes, MemoryState, Record, StateRead};
use crate::{Amount, invariants, read};

/// The money in all records of a state, but for rewards of targets that are not drawn yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally(Amount);

impl Tally {
    /// Counts a whole state.
    pub fn of(state: &MemoryState) -> Self {
        Self(state.iter().map(|(_, value)| money(value)).sum())
    }

    /// Takes over the changes of a block to the state `before` it.
    pub fn apply(&mut self, before: &dyn StateRead, changes: &Changes) {
        for (key, after) in &changes.0 {
            let gone = before.get(key).map_or(Amount::ZERO, |value| money(&value));
            let come = after.as_ref().map_or(Amount::ZERO, |value| money(value));
            self.0 = self.0.plus(come).less(gone);
        }
    }

    /// The money that all records of the state hold, other than what is in the reserve or burned.
    pub fn held(&self, state: &dyn StateRead) -> Amount {
        let undrawn = read::epoch(state, read::clock(state).epoch)
            .map_or(Amount::ZERO, |record| invariants::undrawn(state, &record));
        self.0.plus(undrawn)
    }
}

/// The money in a record; nothing in one that is malformed.
fn money(value: &[u8]) -> Amount {
    fn of<R: Record>(value: &[u8], money: impl FnOnce(R) -> Amount) -> Amount {
        R::from_bytes(value).map_or(Amount::ZERO, money)
    }
    match value.first().copied().unwrap_or(0) {
        Account::TAG => of(value, |account: Account| account.balance),
        Model::TAG => of(value, |model: Model| model.pool.total()),
        Validator::TAG => of(value, |validator: Validator| validator.pool.total()),
        WeightsCommit::TAG => of(value, |commit: WeightsCommit| commit.paid),
        Rent::TAG => of(value, |rent: Rent| rent.prepaid),
        Candidates::TAG => of(value, |Candidates(candidates)| {
            candidates.iter().map(|candidate| candidate.bond).sum()
        }),
        Target::TAG => of(value, |target: Target| match target.status {
            TargetStatus::Open | TargetStatus::Published { .. } => target.reward,
            TargetStatus::Settled { .. } | TargetStatus::Returned { .. } => Amount::ZERO,
        }),
        EpochRecord::TAG => of(value, |record: EpochRecord| record.validator_pot),
        Proposal::TAG => of(value, |proposal: Proposal| proposal.deposit),
        _ => Amount::ZERO,
    }
}

//! Proving that a validator signed conflicting votes. Its stake, including what is being
//! withdrawn, is slashed, and it can never hold a seat again.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::proof::evidence::Evidence;
use crate::record::ValidatorStatus;
use crate::state::Key;
use crate::{Event, Rejection, read};

/// Proves that a validator signed conflicting votes. Anyone may send it. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct ReportEquivocation {
    /// The two votes.
    pub evidence: Evidence,
}

impl Apply for ReportEquivocation {
    const DUTY: bool = true;

    // Two signatures.
    fn work(&self) -> u64 {
        600
    }

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let holder = read::key_holder(&context.state, &self.evidence.consensus_key);
        let offender = holder.and_then(|address| read::validator(&context.state, &address));
        let mut offender = offender.ok_or(Rejection::NoSuchKey)?;
        if offender.status == ValidatorStatus::Expelled {
            return Err(Rejection::Expelled);
        }
        if !self.evidence.proves(&context.config.network.chain_id) {
            return Err(Rejection::BadEvidence);
        }
        let bps = context.config.params.equivocation_slash_bps;
        let amount = offender.pool.slash(bps);
        let mut supply = read::supply(&context.state);
        supply.burned = supply.burned.plus(amount);
        context.state.save(Key::supply(), &supply);
        offender.status = ValidatorStatus::Expelled;
        let validator = offender.address;
        context.state.save(Key::validator(&validator), &offender);
        let event = Event::ValidatorExpelled { validator, amount };
        context.events.push(event);
        Ok(())
    }
}

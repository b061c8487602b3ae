//! A validator commits to its verdict on a published claim, so that nobody can copy it. A
//! commitment cannot be replaced.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::record::{TargetStatus, VerdictCommit};
use crate::state::Key;
use crate::{Event, Hash, Phase, Rejection, TargetId, read};

/// A validator commits to its verdict on a published claim. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct CommitVerdict {
    /// The target.
    pub target: TargetId,
    /// [`crate::commitment::verdict`].
    pub commitment: Hash,
}

impl Apply for CommitVerdict {
    const DUTY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let id = self.target;
        let validator = context.seated()?;
        let phase = context.clock.phase;
        if phase == Phase::Attest {
            return Err(Rejection::WrongPhase { phase });
        }
        let target = context.target_of(id, context.clock.epoch.previous())?;
        if !matches!(target.status, TargetStatus::Published { .. }) {
            return Err(Rejection::NotPublished { target: id });
        }
        if read::verdict(&context.state, id, &validator).is_some() {
            return Err(Rejection::AlreadyAttested { target: id });
        }
        let commitment = self.commitment;
        let commit = VerdictCommit { target: id, validator, commitment, verdict: None };
        context.state.save(Key::verdict(id, &validator), &commit);
        context.events.push(Event::VerdictCommitted { target: id, validator });
        Ok(())
    }
}

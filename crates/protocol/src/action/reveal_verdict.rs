//! A validator reveals its verdict in the last part of the epoch, when no more verdicts can be
//! committed. Stake is counted when the target is settled.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::proof::commitment;
use crate::record::Verdict;
use crate::state::Key;
use crate::{Event, Phase, Rejection, TargetId, read};

/// A validator reveals the verdict that it committed to. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct RevealVerdict {
    /// The target.
    pub target: TargetId,
    /// The verdict.
    pub verdict: Verdict,
}

impl Apply for RevealVerdict {
    const DUTY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let (id, verdict) = (self.target, &self.verdict);
        let validator = context.seated()?;
        let phase = context.clock.phase;
        if phase != Phase::Attest {
            return Err(Rejection::WrongPhase { phase });
        }
        context.target_of(id, context.clock.epoch.previous())?;
        let commit = read::verdict(&context.state, id, &validator);
        let mut commit = commit.ok_or(Rejection::VerdictNotCommitted { target: id })?;
        if commit.verdict.is_some() {
            return Err(Rejection::AlreadyAttested { target: id });
        }
        let chain = &context.config.network.chain_id;
        if commitment::verdict(chain, &validator, id, verdict) != commit.commitment {
            return Err(Rejection::CommitmentMismatch);
        }
        commit.verdict = Some(verdict.clone());
        context.state.save(Key::verdict(id, &validator), &commit);
        context.events.push(Event::VerdictRevealed {
            target: id,
            validator,
            validity: verdict.validity,
            trace: verdict.trace,
        });
        Ok(())
    }
}

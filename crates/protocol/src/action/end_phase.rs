//! The operator of a local network ends a phase by command. The command names the phase, so that
//! a second copy is rejected.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context, check_epoch};
use crate::{Epoch, Phase, Rejection, epoch};

/// The operator of a local network ends a phase. A duty.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct EndPhase {
    /// The running epoch.
    pub epoch: Epoch,
    /// Its phase.
    pub phase: Phase,
}

impl Apply for EndPhase {
    const DUTY: bool = true;

    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let Self { epoch, phase } = *self;
        if context.config.network.operator != Some(context.sender) {
            return Err(Rejection::NotOperator);
        }
        let running = (context.clock.epoch, context.clock.phase);
        if (epoch, phase) > running {
            return Err(Rejection::PhaseNotBegun { epoch, phase });
        }
        check_epoch(epoch, running.0)?;
        if phase != running.1 {
            return Err(Rejection::WrongPhase { phase: running.1 });
        }
        let rules = &context.config.rules;
        epoch::end_phase(&mut context.state, rules, context.block, &mut context.events)
    }
}

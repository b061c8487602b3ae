//! The operator of a local network ends a phase by command. It names the phase, so a command that
//! comes twice ends only one.

use crate::action::Context;
use crate::{Epoch, Phase, Rejection, epoch};

pub(crate) fn apply(
    context: &mut Context<'_>,
    epoch: Epoch,
    phase: Phase,
) -> Result<(), Rejection> {
    if context.config.network.operator != Some(context.sender) {
        return Err(Rejection::NotOperator);
    }
    let running = (context.clock.epoch, context.clock.phase);
    if (epoch, phase) > running {
        return Err(Rejection::PhaseNotBegun { epoch, phase });
    }
    if (epoch, phase) == running {
        epoch::end_phase(
            &mut context.state,
            context.config,
            context.block,
            &mut context.events,
        );
    }
    Ok(())
}

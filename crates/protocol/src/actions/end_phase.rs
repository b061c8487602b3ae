//! The operator of a local network ends a phase by command. It names the phase, so a command that
//! comes twice ends only one.

use crate::apply::Context;
use crate::phase::Phase;
use crate::{Epoch, Rejection, epoch};

pub(crate) fn apply(
    context: &mut Context<'_>,
    epoch: Epoch,
    phase: Phase,
) -> Result<(), Rejection> {
    if context.rules.network.operator != Some(context.sender) {
        return Err(Rejection::NotOperator);
    }
    let running = (context.clock.epoch, context.clock.phase);
    if (epoch, phase) > running {
        return Err(Rejection::PhaseNotBegun { epoch, phase });
    }
    if (epoch, phase) == running {
        epoch::end_phase(
            &mut context.state,
            context.rules,
            context.block,
            &mut context.events,
        );
    }
    Ok(())
}

//! What happens when a phase ends, in order.

use crate::Event;
use crate::apply::Rules;
use crate::params::Params;
use crate::phase::Phase;
use crate::record::Clock;
use crate::state::Draft;

/// Block time from which the running phase may end; `None` if only the operator ends phases.
pub(crate) fn deadline_ms(clock: &Clock, params: &Params) -> Option<u64> {
    if params.epoch_ms == 0 {
        return None;
    }
    let length = match clock.phase {
        Phase::Reveal => params.reveal_ms(),
        Phase::Publish(_) => params.publish_part_ms(),
        Phase::Compete => params.compete_ms(),
    };
    Some(clock.phase_started_ms.saturating_add(length))
}

pub(crate) fn end_phase(_: &mut Draft<'_>, _: &Rules, _: u64, _: &mut Vec<Event>) {}

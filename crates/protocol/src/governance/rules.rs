//! Blocks follow other rules some epochs after a vote for them: whoever runs a node needs the time
//! to install software that executes them. A block follows the rules that the state before it
//! names, so the block with which an epoch begins is the last one under the rules of before.

use crate::record::{NextRules, RulesInForce};
use crate::state::{Key, StateRead};
use crate::transition::Transition;
use crate::{Epoch, Event, Rejection, read};

/// Whether validators may vote for this version now: the one after the version in force, or, while
/// that one is scheduled, the version in force, which cancels it.
pub(crate) fn check(state: &dyn StateRead, version: u16) -> Result<(), Rejection> {
    let RulesInForce { version: current, next } = read::rules(state);
    let expected = if next.is_some() { current } else { current.saturating_add(1) };
    if version == expected { Ok(()) } else { Err(Rejection::BadRules { version, expected }) }
}

/// Schedules a version, or cancels the one that is scheduled; returns whether that was possible.
pub(crate) fn carry_out(
    transition: &mut Transition<'_, '_>,
    version: u16,
    beginning: Epoch,
) -> bool {
    if check(transition.state, version).is_err() {
        return false;
    }
    let mut rules = read::rules(transition.state);
    let event = if let Some(cancelled) = rules.next.take() {
        Event::RulesCancelled { rules: cancelled.version }
    } else {
        let epoch = beginning.after(transition.config.params.rules_notice_epochs);
        rules.next = Some(NextRules { version, from: epoch });
        Event::RulesScheduled { rules: version, epoch }
    };
    transition.state.save(Key::rules(), &rules);
    transition.events.push(event);
    true
}

/// Brings the scheduled version into force if its epoch begins: the next block follows it.
pub(crate) fn switch(transition: &mut Transition<'_, '_>, beginning: Epoch) {
    let rules = read::rules(transition.state);
    let Some(NextRules { version, .. }) = rules.next.filter(|next| next.from <= beginning) else {
        return;
    };
    transition.state.save(Key::rules(), &RulesInForce { version, next: None });
    transition.events.push(Event::RulesChanged { rules: version });
}

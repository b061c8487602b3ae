//! One file for each action: what it checks and what it changes.

pub(crate) mod register_model;
pub(crate) mod reveal_weights;
mod transfer;

use crate::Rejection;
use crate::action::Action;
use crate::apply::Context;

/// Applies an action, or says why not. What it wrote before a rejection is thrown away.
pub(crate) fn apply(context: &mut Context<'_>, action: &Action) -> Result<(), Rejection> {
    match action {
        Action::Transfer { to, amount } => transfer::apply(context, to, *amount),
        _ => Err(Rejection::Full),
    }
}

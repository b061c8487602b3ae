//! Sending money. It creates the recipient's account if there is none.

use crate::action::Context;
use crate::money::{credit, debit};
use crate::{Address, Amount, Event, Rejection};

pub(crate) fn apply(
    context: &mut Context<'_>,
    to: &Address,
    amount: Amount,
) -> Result<(), Rejection> {
    if amount == Amount::ZERO {
        return Err(Rejection::ZeroAmount);
    }
    debit(&mut context.state, &context.sender, amount)?;
    credit(&mut context.state, to, amount);
    context.events.push(Event::Transferred {
        from: context.sender,
        to: *to,
        amount,
    });
    Ok(())
}

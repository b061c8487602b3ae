//! Sending money. The recipient's account is created if it does not exist.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::context::{Apply, Context};
use crate::money::{credit, debit};
use crate::{Address, Amount, Event, Rejection};

/// Sends money.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Transfer {
    /// The recipient.
    pub to: Address,
    /// The amount, which must not be zero.
    pub amount: Amount,
}

impl Apply for Transfer {
    fn apply(&self, context: &mut Context<'_>) -> Result<(), Rejection> {
        let Self { to, amount } = *self;
        if amount == Amount::ZERO {
            return Err(Rejection::ZeroAmount);
        }
        debit(&mut context.state, &context.sender, amount)?;
        credit(&mut context.state, &to, amount);
        context.events.push(Event::Transferred { from: context.sender, to, amount });
        Ok(())
    }
}

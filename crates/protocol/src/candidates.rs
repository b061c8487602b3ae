//! Where the transactions of a block that is being built come from.

use crate::read;
use crate::room::Room;
use crate::state::StateRead;
use crate::transaction::VerifiedTransaction;

/// Offers transactions to a block that is being built.
pub trait Candidates {
    /// The next transaction, given the state after those that the block includes so far, and the
    /// room that is left. One that does not fit is left out. Each is offered at most once.
    fn offer(&mut self, state: &dyn StateRead, room: &Room) -> Option<VerifiedTransaction>;
}

impl<I: Iterator<Item = VerifiedTransaction>> Candidates for I {
    fn offer(&mut self, _: &dyn StateRead, _: &Room) -> Option<VerifiedTransaction> {
        self.next()
    }
}

/// Offers transactions in the order of an iterator, without payments whose turn has not come: those
/// of an account must be in the order of their nonces.
#[derive(Clone, Debug)]
pub struct InTurn<I>(pub I);

impl<I: Iterator<Item = VerifiedTransaction>> Candidates for InTurn<I> {
    fn offer(&mut self, state: &dyn StateRead, _: &Room) -> Option<VerifiedTransaction> {
        self.0.by_ref().find(|verified| {
            let transaction = verified.transaction();
            transaction.action.is_duty()
                || read::account(state, &transaction.sender).nonce == transaction.nonce
        })
    }
}

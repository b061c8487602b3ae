//! Moving money in and out of accounts. Money that leaves an account must enter something else in
//! the same step; `invariants.rs` checks that it did.

use crate::state::{Draft, Key};
use crate::{Address, Amount, Rejection, read};

/// Adds to an account.
pub(crate) fn credit(state: &mut Draft<'_>, address: &Address, amount: Amount) {
    if amount == Amount::ZERO {
        return;
    }
    let mut account = read::account(state, address);
    account.balance = account.balance.plus(amount);
    state.save(Key::account(address), &account);
}

/// Burns money that was taken from an account.
pub(crate) fn burn(state: &mut Draft<'_>, amount: Amount) {
    if amount == Amount::ZERO {
        return;
    }
    let mut supply = read::supply(state);
    supply.burned = supply.burned.plus(amount);
    state.save(Key::supply(), &supply);
}

/// Takes from an account.
pub(crate) fn debit(
    state: &mut Draft<'_>,
    address: &Address,
    amount: Amount,
) -> Result<(), Rejection> {
    let mut account = read::account(state, address);
    let available = account.balance;
    let rest = available.minus(amount);
    account.balance = rest.ok_or(Rejection::InsufficientBalance { needed: amount, available })?;
    state.save(Key::account(address), &account);
    Ok(())
}

//! Turns an action into a signed transaction with a fee limit that covers it.

use soma_protocol::{Action, Amount, Hash, Params, SecretKey, SignedTransaction, Transaction};

/// Bytes of records beyond a transaction's own length that the fee limit covers.
const WRITTEN_BYTES: u64 = 16 << 10;
/// Bytes of new permanent records, with what each counts more, that it covers: no action creates
/// as many.
const ROOM_BYTES: u64 = 1 << 10;

/// What a transaction says besides its sender and its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The chain it is for.
    pub chain: Hash,
    /// The sender's next nonce; ignored for a duty, which has none.
    pub nonce: u64,
    /// What the sender adds to the fee to come earlier; ignored for a duty.
    pub tip: Amount,
    /// Last block time at which it may be executed, in ms since 1970.
    pub valid_until_ms: u64,
}

/// Signs an action. The fee limit covers the most that such an action costs; less is charged.
#[must_use]
pub fn sign(action: Action, terms: &Terms, params: &Params, key: &SecretKey) -> SignedTransaction {
    let Terms { chain, nonce, tip, valid_until_ms } = *terms;
    let sender = key.address();
    if action.is_duty() {
        let (nonce, tip, fee_limit) = (0, Amount::ZERO, Amount::ZERO);
        return Transaction { chain, sender, nonce, tip, fee_limit, valid_until_ms, action }
            .sign(key);
    }
    let fee_limit = Amount::ZERO;
    let mut transaction =
        Transaction { chain, sender, nonce, tip, fee_limit, valid_until_ms, action };
    // The length does not depend on the limit, so the fee of the draft is that of the transaction.
    let draft = transaction.clone().sign(key);
    let written_bytes = WRITTEN_BYTES.saturating_add(draft.bytes().len() as u64);
    transaction.fee_limit = draft
        .admission_fee(params)
        .plus(params.byte_fee.times(written_bytes))
        .plus(params.room_fee.times(ROOM_BYTES));
    transaction.sign(key)
}

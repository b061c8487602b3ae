//! Turns an action into a signed transaction with a fee limit that covers it.

use soma_protocol::{Action, Amount, Hash, Params, SecretKey, SignedTransaction, Transaction};

/// Bytes of records beyond a transaction's own length that the fee limit covers.
const WRITTEN_BYTES: u64 = 16 << 10;
/// Bytes of new permanent records, with what each counts more, that it covers: no action creates
/// as many.
const ROOM_BYTES: u64 = 1 << 10;

/// A suggested tip is at most this many times the rest of the fee: what a node suggests is its own
/// claim, and whoever wants to pay more can say so.
pub const SUGGESTED_TIP_FEES_MAX: u64 = 10;

/// What the sender of a payment adds to the fee to come earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tip {
    /// This amount.
    Exactly(Amount),
    /// This amount, in base units, for each 1,024 units of weight, as a node suggests; at most
    /// [`SUGGESTED_TIP_FEES_MAX`] times the fee.
    PerKib(u64),
}

impl Tip {
    /// The tip of a payment with this weight, whose fee is `fee` without it.
    #[must_use]
    pub fn of(self, weight: u64, fee: Amount) -> Amount {
        match self {
            Self::Exactly(tip) => tip,
            Self::PerKib(tip) => {
                let product = u128::from(tip).saturating_mul(u128::from(weight));
                let tip = u64::try_from(product.div_ceil(1_024)).unwrap_or(u64::MAX);
                Amount(tip).min(fee.times(SUGGESTED_TIP_FEES_MAX))
            }
        }
    }
}

/// What a transaction says besides its sender and its action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The chain it is for.
    pub chain: Hash,
    /// The sender's next nonce; ignored for a duty, which has none.
    pub nonce: u64,
    /// What the sender adds to the fee to come earlier; ignored for a duty.
    pub tip: Tip,
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
    let (no_tip, fee_limit) = (Amount::ZERO, Amount::ZERO);
    let mut transaction =
        Transaction { chain, sender, nonce, tip: no_tip, fee_limit, valid_until_ms, action };
    // The length depends on neither tip nor limit, so the fee of the draft is that of the
    // transaction.
    let draft = transaction.clone().sign(key);
    let fee = draft.admission_fee(params);
    transaction.tip = tip.of(draft.weight(), fee);
    let room_bytes = ROOM_BYTES.saturating_add(transaction.action.room_bytes());
    let written_bytes = WRITTEN_BYTES.saturating_add(draft.bytes().len() as u64);
    transaction.fee_limit = fee
        .plus(transaction.tip)
        .plus(params.byte_fee.times(written_bytes))
        .plus(params.room_fee.times(room_bytes));
    transaction.sign(key)
}

#[cfg(test)]
mod tests {
    use soma_protocol::{Amount, Hash, Params, SecretKey, action};

    use super::{SUGGESTED_TIP_FEES_MAX, Terms, Tip, sign};

    #[test]
    fn a_suggested_tip_is_for_the_weight_and_has_a_limit_and_the_fee_limit_covers_it() {
        let key = SecretKey::from_bytes(&[1; 32]);
        let params = Params::network();
        let signed = |tip| {
            let (chain, nonce, valid_until_ms) = (Hash([1; 32]), 0, 0);
            let pay = action::Transfer { to: key.address(), amount: Amount(1) };
            sign(pay.into(), &Terms { chain, nonce, tip, valid_until_ms }, &params, &key)
        };
        let plain = signed(Tip::Exactly(Amount::ZERO));
        let fee = plain.admission_fee(&params);
        assert_eq!(signed(Tip::PerKib(0)).transaction(), plain.transaction());
        for tip in [1, 1_000, 100_000, u64::MAX] {
            let suggested = signed(Tip::PerKib(tip));
            let paid = suggested.transaction().tip.0;
            let needed = (u128::from(tip) * u128::from(suggested.weight())).div_ceil(1_024);
            let most = fee.0 * SUGGESTED_TIP_FEES_MAX;
            assert_eq!(u128::from(paid), needed.min(most.into()), "{tip}");
            let rest = suggested.transaction().fee_limit.less(plain.transaction().fee_limit);
            assert_eq!(rest.0, paid, "the fee limit covers the tip");
        }
        let exact = signed(Tip::Exactly(Amount::soma(5)));
        assert_eq!(exact.transaction().tip, Amount::soma(5), "whoever says so pays more");
    }
}

//! Transactions and their receipts in the JSON of the API.

use soma_codes::Coded as _;
use soma_protocol::{Rejection, SignedTransaction};
use soma_sdk::api as types;
use soma_sdk::api::text::Text;

/// A transaction, with its height and receipt if it is finalized; without them, it is pending.
pub(crate) fn transaction(
    signed: &SignedTransaction,
    finalized: Option<(u64, &soma_protocol::Receipt)>,
) -> types::Transaction {
    let transaction = signed.transaction();
    types::Transaction {
        hash: Text(signed.hash()),
        state: match finalized {
            Some(_) => types::TransactionState::Finalized,
            None => types::TransactionState::Pending,
        },
        sender: Text(transaction.sender),
        nonce: Text(transaction.nonce),
        tip: transaction.tip.into(),
        action: transaction.action.name().to_owned(),
        valid_until_ms: Text(transaction.valid_until_ms),
        height: finalized.map(|(height, _)| Text(height)),
        receipt: finalized.map(|(_, record)| receipt(record)),
    }
}

pub(super) fn receipt(receipt: &soma_protocol::Receipt) -> types::Receipt {
    types::Receipt {
        fee: receipt.fee.into(),
        rejection: receipt.result.as_ref().err().map(rejection),
    }
}

fn rejection(rejection: &Rejection) -> types::Rejection {
    types::Rejection {
        code: Text(rejection.code()),
        message: rejection.to_string(),
        help: rejection.hint().to_owned(),
    }
}

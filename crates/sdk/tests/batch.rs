//! Batches of transactions.

use proptest::prelude::*;
use soma_protocol::{
    Action, Address, Amount, Hash, SecretKey, SignedTransaction, Transaction, action,
};
use soma_sdk::api::batch::{BATCH_BYTES_MAX, BATCH_MAX, MalformedBatch, push, split};

fn transaction(nonce: u64, data: usize) -> SignedTransaction {
    let key = SecretKey::from_bytes(&[1; 32]);
    let action = match data {
        0 => Action::Transfer(action::Transfer { to: Address([2; 32]), amount: Amount(1) }),
        data => Action::PublishData(action::PublishData {
            target: soma_protocol::TargetId(1),
            data: vec![7; data],
            ..action::PublishData::default()
        }),
    };
    Transaction {
        chain: Hash([9; 32]),
        sender: key.address(),
        nonce,
        tip: Amount(0),
        fee_limit: Amount(1),
        valid_until_ms: 1,
        action,
    }
    .sign(&key)
}

proptest! {
    #[test]
    fn a_batch_splits_into_the_transactions_pushed(
        sizes in prop::collection::vec(0usize..2_000, 0..20),
    ) {
        let sized = sizes.iter().zip(0..);
        let sent: Vec<_> = sized.map(|(data, nonce)| transaction(nonce, *data)).collect();
        let mut batch = Vec::new();
        for transaction in &sent {
            prop_assert!(push(&mut batch, transaction));
        }
        let parts = split(&batch).unwrap().into_iter();
        let found: Vec<_> = parts.map(|bytes| SignedTransaction::decode(bytes).unwrap()).collect();
        prop_assert_eq!(&found, &sent);
        for cut in [1, 5, 100] {
            if cut < batch.len() {
                let split = split(&batch[..batch.len() - cut]);
                let truncated = matches!(split, Err(MalformedBatch::Truncated { .. }));
                prop_assert!(truncated);
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_split_or_an_error(
        bytes in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        if let Ok(parts) = split(&bytes) {
            let length: usize = parts.iter().map(|part| part.len() + 4).sum();
            prop_assert_eq!(length, bytes.len());
        }
    }
}

#[test]
fn a_batch_beyond_its_limits_is_malformed() {
    let mut batch = Vec::new();
    let large = transaction(0, 60_000);
    while push(&mut batch, &large) {}
    assert!(batch.len() <= BATCH_BYTES_MAX && split(&batch).is_ok());
    assert_eq!(split(&[0; 4 * (BATCH_MAX + 1)]), Err(MalformedBatch::TooLarge));
    assert_eq!(split(&vec![0; BATCH_BYTES_MAX + 1]), Err(MalformedBatch::TooLarge));
}

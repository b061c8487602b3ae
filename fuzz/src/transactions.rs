//! The decoders of a transaction and of a batch of them.

use soma_protocol::SignedTransaction;
use soma_sdk::api::batch;

/// Whatever decodes has one encoding.
///
/// # Panics
/// If a transaction or a batch encodes to bytes other than those it was decoded from.
pub fn check(input: &[u8]) {
    if let Ok(transaction) = SignedTransaction::decode(input) {
        let (content, signature) = (transaction.transaction().clone(), *transaction.signature());
        assert_eq!(
            SignedTransaction::new(content, signature).bytes(),
            input,
            "a second encoding of a transaction"
        );
    }
    let Ok(parts) = batch::split(input) else {
        return;
    };
    let mut encoded = Vec::new();
    for part in parts {
        // Batches are split before they are decoded, so that one bad transaction spoils no other.
        drop(SignedTransaction::decode(part));
        assert!(batch::push_bytes(&mut encoded, part), "a part exceeds its batch");
    }
    assert_eq!(encoded, input, "a second encoding of a batch");
}

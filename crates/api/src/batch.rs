//! Many transactions in one body: each as its length in four little-endian bytes, then its bytes.
//!
//! Clients and nodes send batches in this form. Each transaction is decoded, checked and answered
//! by itself.

use soma_protocol::{SignedTransaction, TRANSACTION_BYTES_MAX};

/// The most transactions in one batch.
pub const BATCH_MAX: usize = 1_024;
/// The most bytes in one batch.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes before each transaction.
pub const LENGTH_BYTES: usize = 4;

/// Why bytes are not a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedBatch {
    /// A length exceeds the rest of the batch, or the limit of a transaction.
    #[error("the batch ends inside transaction {index}")]
    Truncated {
        /// Index of the transaction, from 0.
        index: usize,
    },
    /// Too many transactions or bytes.
    #[error("a batch has at most {BATCH_MAX} transactions and {BATCH_BYTES_MAX} bytes")]
    TooLarge,
}

/// Appends a transaction. Returns false, with nothing appended, if the batch would be too long.
pub fn push(batch: &mut Vec<u8>, transaction: &SignedTransaction) -> bool {
    push_bytes(batch, transaction.bytes())
}

/// Like [`push`], for a transaction's bytes.
pub fn push_bytes(batch: &mut Vec<u8>, transaction: &[u8]) -> bool {
    let Ok(length) = u32::try_from(transaction.len()) else {
        return false;
    };
    if batch.len() + LENGTH_BYTES + transaction.len() > BATCH_BYTES_MAX {
        return false;
    }
    batch.extend_from_slice(&length.to_le_bytes());
    batch.extend_from_slice(transaction);
    true
}

/// The bytes of each transaction, in order.
///
/// # Errors
/// [`MalformedBatch`], even if only the end of the batch is malformed.
pub fn split(mut batch: &[u8]) -> Result<Vec<&[u8]>, MalformedBatch> {
    if batch.len() > BATCH_BYTES_MAX {
        return Err(MalformedBatch::TooLarge);
    }
    let mut transactions = Vec::new();
    while !batch.is_empty() {
        let index = transactions.len();
        if index == BATCH_MAX {
            return Err(MalformedBatch::TooLarge);
        }
        let (length, rest) =
            batch.split_first_chunk::<LENGTH_BYTES>().ok_or(MalformedBatch::Truncated { index })?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > TRANSACTION_BYTES_MAX || length > rest.len() {
            return Err(MalformedBatch::Truncated { index });
        }
        let (transaction, rest) = rest.split_at(length);
        transactions.push(transaction);
        batch = rest;
    }
    Ok(transactions)
}

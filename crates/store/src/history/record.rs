//! What the history holds: blocks, transactions with their receipts, and events.
//!
//! Records are encoded with borsh; nothing here opens a table.

use std::ops::Range;

use borsh::{BorshDeserialize, BorshSerialize};
use soma_protocol::{Address, Event, Hash, Receipt, SignedTransaction};

use crate::StoreError;

/// A finalized block with everything it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalizedBlock {
    /// Its height; the first after genesis is 1.
    pub height: u64,
    /// The digest that the network voted on.
    pub digest: Hash,
    /// The digest of the block before it.
    pub parent: Hash,
    /// Block time, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The account that proposed it.
    pub proposer: Address,
    /// The root of the state after it.
    pub state_root: Hash,
    /// Its transactions, in order.
    pub transactions: Vec<SignedTransaction>,
    /// One receipt per transaction, in the same order.
    pub receipts: Vec<Receipt>,
    /// Its events, in order.
    pub events: Vec<Event>,
}

/// A block without its contents.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct BlockRecord {
    /// Its height.
    pub height: u64,
    /// Its digest.
    pub digest: Hash,
    /// The digest of the block before it.
    pub parent: Hash,
    /// Block time, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// The account that proposed it.
    pub proposer: Address,
    /// The root of the state after it.
    pub state_root: Hash,
    /// The number of its transactions.
    pub transactions: u32,
    /// The sequence number of its first event, or of the next one if it has none.
    pub first_event: u64,
    /// The number of its events.
    pub events: u32,
}

impl BlockRecord {
    /// The sequence numbers of its events.
    pub(super) fn event_sequences(&self) -> Range<u64> {
        self.first_event..self.first_event + u64::from(self.events)
    }
}

/// A finalized transaction.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TransactionRecord {
    /// The block that holds it.
    pub height: u64,
    /// Its position in the block, from 0.
    pub index: u32,
    /// The transaction as it was signed.
    pub transaction: SignedTransaction,
    /// Its result.
    pub receipt: Receipt,
}

/// An event with its position among all events.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct EventRecord {
    /// Its number, counted from 1 over the whole chain.
    pub sequence: u64,
    /// The block that caused it.
    pub height: u64,
    /// Block time, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// What happened.
    pub event: Event,
}

pub(super) fn encode(record: &impl BorshSerialize) -> Result<Vec<u8>, StoreError> {
    borsh::to_vec(record).map_err(|_| StoreError::Damaged { record: "history record" })
}

pub(super) fn decode<T: BorshDeserialize>(
    bytes: &[u8],
    record: &'static str,
) -> Result<T, StoreError> {
    borsh::from_slice(bytes).map_err(|_| StoreError::Damaged { record })
}

//! The history's blocks by height, their transactions and events by position, and its counters.
//! Writing a block here does not index it.

use redb::{Key, ReadableTable, TableDefinition, Value, WriteTransaction};

use super::record::{BlockRecord, EventRecord, FinalizedBlock, TransactionRecord, decode, encode};
use crate::StoreError;

/// An encoded record.
pub(super) type Bytes = &'static [u8];

pub(super) const BLOCKS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("blocks");
/// Transactions, by height and index.
pub(super) const TRANSACTIONS: TableDefinition<'_, (u64, u32), Bytes> =
    TableDefinition::new("transactions");
/// Events, by sequence number.
pub(super) const EVENTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("events");

/// Counters, by name.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// The height of the last block.
pub(super) const HEIGHT: &str = "height";
/// The height of the first block.
pub(super) const FIRST: &str = "first";
/// The sequence number of the last event.
pub(super) const LAST_EVENT: &str = "last_event";

/// Creates the tables, or empties them; counters are kept.
pub(super) fn empty_tables(write: &WriteTransaction) -> Result<(), StoreError> {
    write.open_table(META)?;
    empty(write, BLOCKS)?;
    empty(write, TRANSACTIONS)?;
    empty(write, EVENTS)
}

/// Creates a table, or empties it.
pub(super) fn empty<K: Key + 'static, V: Value + 'static>(
    write: &WriteTransaction,
    table: TableDefinition<'_, K, V>,
) -> Result<(), StoreError> {
    write.delete_table(table)?;
    write.open_table(table)?;
    Ok(())
}

/// A counter; 0 if it was never set.
pub(super) fn counter(write: &WriteTransaction, name: &str) -> Result<u64, StoreError> {
    let meta = write.open_table(META)?;
    let counter = meta.get(name)?;
    Ok(counter.map_or(0, |counter| counter.value()))
}

/// Adds a block with its contents, and returns its record.
pub(super) fn insert(
    write: &WriteTransaction,
    block: &FinalizedBlock,
) -> Result<BlockRecord, StoreError> {
    let mut sequence = counter(write, LAST_EVENT)?;
    let record = BlockRecord {
        height: block.height,
        digest: block.digest,
        parent: block.parent,
        timestamp_ms: block.timestamp_ms,
        proposer: block.proposer,
        state_root: block.state_root,
        transactions: u32::try_from(block.transactions.len()).unwrap_or(u32::MAX),
        first_event: sequence + 1,
        events: u32::try_from(block.events.len()).unwrap_or(u32::MAX),
    };
    let mut blocks = write.open_table(BLOCKS)?;
    blocks.insert(block.height, encode(&record)?.as_slice())?;
    let mut transactions = write.open_table(TRANSACTIONS)?;
    let contents = block.transactions.iter().zip(&block.receipts);
    for (index, (transaction, receipt)) in (0u32..).zip(contents) {
        let record = TransactionRecord {
            height: block.height,
            index,
            transaction: transaction.clone(),
            receipt: receipt.clone(),
        };
        transactions.insert((block.height, index), encode(&record)?.as_slice())?;
    }
    let mut events = write.open_table(EVENTS)?;
    for event in &block.events {
        sequence += 1;
        let record = EventRecord {
            sequence,
            height: block.height,
            timestamp_ms: block.timestamp_ms,
            event: event.clone(),
        };
        events.insert(sequence, encode(&record)?.as_slice())?;
    }
    write.open_table(META)?.insert(LAST_EVENT, sequence)?;
    Ok(record)
}

/// The record of a block, if the history holds it.
pub(super) fn get(
    blocks: &impl ReadableTable<u64, Bytes>,
    height: u64,
) -> Result<Option<BlockRecord>, StoreError> {
    let record = blocks.get(height)?;
    record.map(|bytes| decode(bytes.value(), "block")).transpose()
}

/// A block with its contents, if the history holds it.
pub(super) fn whole(
    write: &WriteTransaction,
    height: u64,
) -> Result<Option<(BlockRecord, FinalizedBlock)>, StoreError> {
    let Some(record) = get(&write.open_table(BLOCKS)?, height)? else { return Ok(None) };
    let (mut transactions, mut receipts) = (Vec::new(), Vec::new());
    for entry in write.open_table(TRANSACTIONS)?.range((height, 0)..=(height, u32::MAX))? {
        let entry: TransactionRecord = decode(entry?.1.value(), "transaction")?;
        transactions.push(entry.transaction);
        receipts.push(entry.receipt);
    }
    let mut events = Vec::new();
    for entry in write.open_table(EVENTS)?.range(record.event_sequences())? {
        events.push(decode::<EventRecord>(entry?.1.value(), "event")?.event);
    }
    let block = FinalizedBlock {
        height,
        digest: record.digest,
        parent: record.parent,
        timestamp_ms: record.timestamp_ms,
        proposer: record.proposer,
        state_root: record.state_root,
        transactions,
        receipts,
        events,
    };
    Ok(Some((record, block)))
}

/// Removes a block with its contents.
pub(super) fn remove(write: &WriteTransaction, block: &BlockRecord) -> Result<(), StoreError> {
    write.open_table(BLOCKS)?.remove(block.height)?;
    let mut transactions = write.open_table(TRANSACTIONS)?;
    for index in 0..block.transactions {
        transactions.remove((block.height, index))?;
    }
    let mut events = write.open_table(EVENTS)?;
    for sequence in block.event_sequences() {
        events.remove(sequence)?;
    }
    Ok(())
}

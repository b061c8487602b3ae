//! The history's records in the API's words; the state's are read by the types themselves. It must never compute a rule.

use std::ops::Bound;

use soma_sdk::cursor::Cursor;
use soma_sdk::text::Text;
use soma_sdk::types::{Block, Event, Transaction};
use soma_store::history::{BlockRecord, TransactionRecord};
use soma_store::{History, StoreError};

pub(super) fn block(history: &History, record: &BlockRecord) -> Result<Block, StoreError> {
    let transactions = history.transactions_of_block(record.height)?;
    Ok(Block {
        height: Text(record.height),
        hash: Text(record.digest),
        parent: Text(record.parent),
        timestamp_ms: Text(record.timestamp_ms),
        proposer: Text(record.proposer),
        state_root: Text(record.state_root),
        transactions: transactions
            .iter()
            .map(|one| Text(one.receipt.hash))
            .collect(),
    })
}

pub(super) fn transaction(record: &TransactionRecord) -> Transaction {
    Transaction::new(&record.transaction, Some((record.height, &record.receipt)))
}

/// Up to `limit` events that come after `cursor`, oldest first.
pub(super) fn events(
    history: &History,
    cursor: Cursor,
    limit: usize,
) -> Result<Vec<Event>, StoreError> {
    let after = match history.block(cursor.height)? {
        Some(block) if block.events > 0 => {
            block.first_event + u64::from(cursor.index.min(block.events - 1))
        }
        Some(block) => block.first_event.saturating_sub(1),
        // Before the first block, or after the last: nothing of it has happened, so nothing of it is skipped.
        None if cursor.height == 0 => 0,
        None => history.last_event()?,
    };
    let records = history.events((Bound::Excluded(after), Bound::Unbounded), limit)?;
    let mut first = (0, 0);
    let mut events = Vec::with_capacity(records.len());
    for record in records {
        if first.0 != record.height {
            let block = history.block(record.height)?;
            first = (
                record.height,
                block.map_or(record.sequence, |block| block.first_event),
            );
        }
        let index = u32::try_from(record.sequence.saturating_sub(first.1)).unwrap_or(u32::MAX);
        let cursor = Cursor {
            height: record.height,
            index,
        };
        let event = Event::new(cursor, record.timestamp_ms, &record.event);
        events.push(event.map_err(|_| StoreError::Damaged { record: "event" })?);
    }
    Ok(events)
}

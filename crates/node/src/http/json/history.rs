//! Blocks, finalized transactions and events in the JSON of the API, read from the history.

use std::ops::Bound;

use serde::Deserialize;
use serde_json::{Map, Value};
use soma_protocol::{Address, Hash, TargetId};
use soma_sdk::api::cursor::Cursor;
use soma_sdk::api::text::Text;
use soma_sdk::api::{Block, Event, Transaction};
use soma_store::history::{BlockRecord, EventRecord, Subject, TransactionRecord};
use soma_store::{History, StoreError};

use super::transactions;

/// The most events of a target that are read to find those of one submitter.
const SUBMISSION_EVENTS_READ: usize = 2_000;
/// The most events of a submission that are told.
const SUBMISSION_EVENTS_MAX: usize = 500;

/// A block with the hashes of its transactions.
pub(crate) fn block(record: &BlockRecord, transactions: Vec<Hash>) -> Block {
    Block {
        height: Text(record.height),
        hash: Text(record.digest),
        parent: Text(record.parent),
        timestamp_ms: Text(record.timestamp_ms),
        proposer: Text(record.proposer),
        state_root: Text(record.state_root),
        transactions: transactions.into_iter().map(Text).collect(),
    }
}

pub(crate) fn finalized_transaction(record: &TransactionRecord) -> Transaction {
    transactions::transaction(&record.transaction, Some((record.height, &record.receipt)))
}

/// The number of the event at a cursor, which is the last one before those that come after it.
pub(crate) fn event_number(history: &History, cursor: Cursor) -> Result<u64, StoreError> {
    Ok(match history.block(cursor.height)? {
        Some(block) if block.events > 0 => {
            block.first_event + u64::from(cursor.index.min(block.events - 1))
        }
        Some(block) => block.first_event.saturating_sub(1),
        // Before the first block, or after the last one: it has no events, so none is skipped.
        None if cursor.height == 0 => 0,
        None => history.last_event()?,
    })
}

/// Up to `limit` events after the one with this number, each with its own, oldest first.
pub(crate) fn events(
    history: &History,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Event)>, StoreError> {
    let records = history.events((Bound::Excluded(after), Bound::Unbounded), limit)?;
    with_cursors(history, records)
}

/// Up to `limit` events of a block after the one with this number, each with its own, in order.
pub(crate) fn events_of_block(
    history: &History,
    block: &BlockRecord,
    after: u64,
    limit: usize,
) -> Result<Vec<(u64, Event)>, StoreError> {
    let end = block.first_event.saturating_add(block.events.into());
    let first = block.first_event.max(after.saturating_add(1));
    with_cursors(history, history.events(first..end.max(first), limit)?)
}

/// Up to `limit` events that concern a subject, newest first, each with its number, before the one
/// with the number `before` if there is one.
pub(crate) fn events_of(
    history: &History,
    subject: Subject,
    before: Option<u64>,
    limit: usize,
) -> Result<Vec<(u64, Event)>, StoreError> {
    with_cursors(history, history.events_of(subject, before, limit)?)
}

/// What happened to the submissions of an account for a target and, since the first of them, to the
/// target itself, newest first. Nothing if the account submitted nothing.
pub(crate) fn events_of_submission(
    history: &History,
    target: TargetId,
    submitter: Address,
) -> Result<Vec<Event>, StoreError> {
    let subject = Subject::Target(target);
    let mut records = history.events_of(subject, None, SUBMISSION_EVENTS_READ)?;
    records.retain(|record| submitter_of(&record.event).is_none_or(|by| by == submitter));
    let Some(first) = records.iter().rposition(|record| submitter_of(&record.event).is_some())
    else {
        return Ok(Vec::new());
    };
    records.truncate(first + 1);
    records.truncate(SUBMISSION_EVENTS_MAX);
    let events = with_cursors(history, records)?;
    Ok(events.into_iter().map(|(_, event)| event).collect())
}

/// Whose submission an event is about, if it is about one.
fn submitter_of(event: &soma_protocol::Event) -> Option<Address> {
    use soma_protocol::Event as E;
    Some(match *event {
        E::SubmissionAccepted { submitter, .. }
        | E::SubmissionDisplaced { submitter, .. }
        | E::SubmissionReleased { submitter, .. }
        | E::SubmissionForfeited { submitter, .. } => submitter,
        _ => return None,
    })
}

/// Events in the JSON of the API, each with its number. Those of one block come together.
fn with_cursors(
    history: &History,
    records: Vec<EventRecord>,
) -> Result<Vec<(u64, Event)>, StoreError> {
    let mut first = (0, 0);
    let mut events = Vec::with_capacity(records.len());
    for record in records {
        if first.0 != record.height {
            let block = history.block(record.height)?;
            first = (record.height, block.map_or(record.sequence, |block| block.first_event));
        }
        let index = u32::try_from(record.sequence.saturating_sub(first.1)).unwrap_or(u32::MAX);
        let cursor = Cursor { height: record.height, index };
        let event = event(cursor, record.timestamp_ms, &record.event);
        let event = event.map_err(|_| StoreError::Damaged { record: "event" })?;
        events.push((record.sequence, event));
    }
    Ok(events)
}

/// An event and its position.
///
/// # Errors
/// If the event has no JSON form, which does not happen for an event of the protocol.
pub(super) fn event(
    cursor: Cursor,
    timestamp_ms: u64,
    event: &soma_protocol::Event,
) -> Result<Event, serde_json::Error> {
    #[derive(Deserialize)]
    struct Parts {
        event: String,
        #[serde(flatten)]
        fields: Map<String, Value>,
    }
    let Parts { event, fields } = serde_json::from_value(serde_json::to_value(event)?)?;
    Ok(Event { cursor: Text(cursor), timestamp_ms: Text(timestamp_ms), event, fields })
}

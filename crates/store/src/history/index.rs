//! The index of the history, which locates blocks by digest, transactions by hash and by sender,
//! and events by subject. It holds only positions, and no data that is not in the blocks.

use redb::{ReadableTable, TableDefinition, WriteTransaction};
use serde::de::DeserializeOwned;
use serde_json::Value;
use soma_protocol::{Address, Epoch, Event, ModelId, PoolId, TargetId};

use super::{
    blocks::{self, Bytes, EVENTS, FIRST, HEIGHT, META, TRANSACTIONS, empty},
    record::{BlockRecord, EventRecord, FinalizedBlock, TransactionRecord, decode},
};
use crate::StoreError;

/// Compared as a whole; an array held by value would be compared byte by byte.
type Id = &'static [u8; 32];

/// Heights of blocks, by digest.
pub(super) const DIGESTS: TableDefinition<'_, Id, u64> = TableDefinition::new("digests");
/// Positions of transactions, by hash.
pub(super) const HASHES: TableDefinition<'_, Id, (u64, u32)> = TableDefinition::new("hashes");
/// Senders with the positions of their transactions.
pub(super) const SENDERS: TableDefinition<'_, (Id, u64, u32), ()> = TableDefinition::new("senders");
/// The same for transactions that were rejected.
pub(super) const REJECTED: TableDefinition<'_, (Id, u64, u32), ()> =
    TableDefinition::new("rejected");
/// Subjects with the sequence numbers of their events.
pub(super) const SUBJECTS: TableDefinition<'_, (u8, Id, u64), ()> =
    TableDefinition::new("subjects");

/// The hashes of a block's transactions, one after the other, by height: a list of blocks reads no
/// transactions.
pub(super) const CONTENTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("contents");

/// Name of the counter that says what the index has.
const INDEX: &str = "index";
/// What an index has that this software writes; another number is another index.
const INDEX_VERSION: u64 = 1;

/// Creates the tables, or empties them.
pub(super) fn empty_tables(write: &WriteTransaction) -> Result<(), StoreError> {
    write.open_table(META)?.insert(INDEX, INDEX_VERSION)?;
    empty(write, DIGESTS)?;
    empty(write, HASHES)?;
    empty(write, SENDERS)?;
    empty(write, REJECTED)?;
    empty(write, SUBJECTS)?;
    empty(write, CONTENTS)
}

/// Makes the index again from the blocks, if other software wrote it.
pub(super) fn renew(write: &WriteTransaction) -> Result<(), StoreError> {
    if blocks::counter(write, INDEX)? == INDEX_VERSION {
        return Ok(());
    }
    empty_tables(write)?;
    for height in blocks::counter(write, FIRST)?..=blocks::counter(write, HEIGHT)? {
        if let Some((record, block)) = blocks::whole(write, height)? {
            insert(write, &block, &record)?;
        }
    }
    Ok(())
}

/// What an event can be looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Events that concern an account.
    Account(Address),
    /// Events that concern a model.
    Model(ModelId),
    /// Events that concern a target.
    Target(TargetId),
    /// The course of an epoch: its phases, its beacon and its emission.
    Epoch(Epoch),
    /// Proposals, votes on them, and what they and other votes changed.
    Governance,
    /// What became of the submissions of an account, however much else happened to it.
    Submitter(Address),
}

impl Subject {
    pub(super) fn key(self) -> (u8, [u8; 32]) {
        let number = |id: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&id.to_be_bytes());
            bytes
        };
        match self {
            Self::Account(address) => (0, address.0),
            Self::Model(ModelId(id)) => (1, number(id)),
            Self::Target(TargetId(id)) => (2, number(id)),
            Self::Epoch(Epoch(id)) => (3, number(id)),
            Self::Governance => (4, [0; 32]),
            Self::Submitter(address) => (5, address.0),
        }
    }
}

/// Indexes a block that has been inserted.
pub(super) fn insert(
    write: &WriteTransaction,
    block: &FinalizedBlock,
    record: &BlockRecord,
) -> Result<(), StoreError> {
    let mut digests = write.open_table(DIGESTS)?;
    digests.insert(&block.digest.0, block.height)?;
    let listed: Vec<u8> = block.receipts.iter().flat_map(|receipt| receipt.hash.0).collect();
    write.open_table(CONTENTS)?.insert(block.height, listed.as_slice())?;
    let transactions = write.open_table(TRANSACTIONS)?;
    let mut hashes = write.open_table(HASHES)?;
    let mut senders = write.open_table(SENDERS)?;
    let mut rejected = write.open_table(REJECTED)?;
    let contents = block.transactions.iter().zip(&block.receipts);
    for (index, (transaction, receipt)) in (0u32..).zip(contents) {
        let place = (block.height, index);
        let sender = &transaction.transaction().sender.0;
        senders.insert((sender, block.height, index), ())?;
        if receipt.result.is_err() {
            rejected.insert((sender, block.height, index), ())?;
        }
        // A rejected transaction can be included again and succeed; the inclusion that succeeded is
        // the one to find.
        let known = hashes.get(&receipt.hash.0)?.map(|place| place.value());
        let known = match known {
            Some(place) => transactions.get(place)?,
            None => None,
        };
        let replace = match known {
            Some(bytes) => {
                decode::<TransactionRecord>(bytes.value(), "transaction")?.receipt.result.is_err()
            }
            None => true,
        };
        if replace {
            hashes.insert(&receipt.hash.0, place)?;
        }
    }
    let mut subjects = write.open_table(SUBJECTS)?;
    for (event, sequence) in block.events.iter().zip(record.event_sequences()) {
        for subject in subjects_of(event)? {
            let (kind, id) = subject.key();
            subjects.insert((kind, &id, sequence), ())?;
        }
    }
    Ok(())
}

/// Removes the entries of a block, before the block is removed.
pub(super) fn remove(write: &WriteTransaction, block: &BlockRecord) -> Result<(), StoreError> {
    write.open_table(DIGESTS)?.remove(&block.digest.0)?;
    write.open_table(CONTENTS)?.remove(block.height)?;
    let transactions = write.open_table(TRANSACTIONS)?;
    let mut hashes = write.open_table(HASHES)?;
    let mut senders = write.open_table(SENDERS)?;
    let mut rejected = write.open_table(REJECTED)?;
    for index in 0..block.transactions {
        let place = (block.height, index);
        let Some(bytes) = transactions.get(place)? else {
            continue;
        };
        let record: TransactionRecord = decode(bytes.value(), "transaction")?;
        let sender = record.transaction.transaction().sender.0;
        senders.remove((&sender, block.height, index))?;
        rejected.remove((&sender, block.height, index))?;
        let hash = record.receipt.hash.0;
        // The hash may point to a later inclusion of the same transaction.
        let leads_here = hashes.get(&hash)?.is_some_and(|found| found.value() == place);
        if leads_here {
            hashes.remove(&hash)?;
        }
    }
    let events = write.open_table(EVENTS)?;
    let mut subjects = write.open_table(SUBJECTS)?;
    for sequence in block.event_sequences() {
        let Some(bytes) = events.get(sequence)? else {
            continue;
        };
        let record: EventRecord = decode(bytes.value(), "event")?;
        for subject in subjects_of(&record.event)? {
            let (kind, id) = subject.key();
            subjects.remove((kind, &id, sequence))?;
        }
    }
    Ok(())
}

/// The subjects that an event concerns: by its kind, and those that its fields name. Reading fields
/// by name covers events that are added later; the most frequent event is read directly.
fn subjects_of(event: &Event) -> Result<Vec<Subject>, StoreError> {
    if let Event::Transferred { from, to, .. } = event {
        return Ok(vec![Subject::Account(*from), Subject::Account(*to)]);
    }
    let mut subjects = subjects_named(event)?;
    match event {
        Event::EpochBegan { epoch }
        | Event::PhaseBegan { epoch, .. }
        | Event::BeaconDrawn { epoch, .. }
        | Event::EmissionTaken { epoch, .. } => subjects.push(Subject::Epoch(*epoch)),
        Event::ProposalMade { .. }
        | Event::VoteCast { .. }
        | Event::ProposalPassed { .. }
        | Event::ProposalLapsed { .. }
        | Event::ParameterChanged { .. }
        | Event::RentPriceVoted { .. }
        | Event::RentPriceChanged { .. }
        | Event::MigrationBegan { .. }
        | Event::MigrationExtended { .. }
        | Event::ArchitectureSwitched { .. }
        | Event::RulesScheduled { .. }
        | Event::RulesCancelled { .. }
        | Event::RulesChanged { .. } => subjects.push(Subject::Governance),
        _ => {}
    }
    Ok(subjects)
}

/// The subjects that the fields of an event name.
fn subjects_named(event: &Event) -> Result<Vec<Subject>, StoreError> {
    let Value::Object(fields) = serde_json::to_value(event).map_err(damaged)? else {
        return Ok(Vec::new());
    };
    let mut subjects = Vec::new();
    for (name, value) in fields {
        match name.as_str() {
            "account" | "from" | "to" | "owner" | "staker" | "proposer" | "validator" => {
                subjects.push(Subject::Account(from_value(value)?));
            }
            "submitter" => {
                let submitter = from_value(value)?;
                subjects.push(Subject::Account(submitter));
                subjects.push(Subject::Submitter(submitter));
            }
            "model" => subjects.push(Subject::Model(from_value(value)?)),
            "models" => {
                let models: Vec<ModelId> = from_value(value)?;
                subjects.extend(models.into_iter().map(Subject::Model));
            }
            "pool" => subjects.push(match from_value(value)? {
                PoolId::Model(model) => Subject::Model(model),
                PoolId::Validator(validator) => Subject::Account(validator),
            }),
            "target" => subjects.push(Subject::Target(from_value(value)?)),
            _ => {}
        }
    }
    Ok(subjects)
}

fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, StoreError> {
    serde_json::from_value(value).map_err(damaged)
}

fn damaged(_: serde_json::Error) -> StoreError {
    StoreError::Damaged { record: "event" }
}

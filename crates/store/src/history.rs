//! What happened, for questions about the past: blocks, transactions with their receipts, events.
//!
//! A redb file written once per finalized block, in one transaction, in order. It answers questions
//! and decides nothing: deleting it loses nothing that the blocks which the consensus engine keeps
//! can give back by executing them. It may begin later than the chain: where a node joined, or where
//! it was pruned. Lists come newest first, in pages.

use std::{fs, io, ops::RangeBounds, path::Path};

use borsh::{BorshDeserialize, BorshSerialize};
use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition,
    WriteTransaction, backends::InMemoryBackend,
};
use serde_json::Value;
use soma_protocol::{Address, Event, Hash, ModelId, PoolId, Receipt, SignedTransaction, TargetId};

use crate::StoreError;

type Bytes = &'static [u8];
/// Compared as a whole; an array by value would be compared byte by byte.
type Id = &'static [u8; 32];

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const BLOCKS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("blocks");
const DIGESTS: TableDefinition<'_, Id, u64> = TableDefinition::new("digests");
const TRANSACTIONS: TableDefinition<'_, (u64, u32), Bytes> = TableDefinition::new("transactions");
const HASHES: TableDefinition<'_, Id, (u64, u32)> = TableDefinition::new("hashes");
const SENDERS: TableDefinition<'_, (Id, u64, u32), ()> = TableDefinition::new("senders");
const EVENTS: TableDefinition<'_, u64, Bytes> = TableDefinition::new("events");
const SUBJECTS: TableDefinition<'_, (u8, Id, u64), ()> = TableDefinition::new("subjects");

const HEIGHT: &str = "height";
const FIRST: &str = "first";
const LAST_EVENT: &str = "last_event";

/// A block that is final, with everything it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalizedBlock {
    /// Its height; the first after genesis is 1.
    pub height: u64,
    /// The digest the network voted on.
    pub digest: Hash,
    /// The digest of the block before it.
    pub parent: Hash,
    /// Block time, in milliseconds since 1970.
    pub timestamp_ms: u64,
    /// Who proposed it.
    pub proposer: Address,
    /// The root of the state after it.
    pub state_root: Hash,
    /// Its transactions, in order.
    pub transactions: Vec<SignedTransaction>,
    /// One receipt per transaction, in the same order.
    pub receipts: Vec<Receipt>,
    /// What happened, in order.
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
    /// Who proposed it.
    pub proposer: Address,
    /// The root of the state after it.
    pub state_root: Hash,
    /// How many transactions it holds.
    pub transactions: u32,
    /// The sequence number of its first event, or of the next one when it has none.
    pub first_event: u64,
    /// How many events it caused.
    pub events: u32,
}

/// A transaction that is final.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct TransactionRecord {
    /// The block that holds it.
    pub height: u64,
    /// Its place in the block, from 0.
    pub index: u32,
    /// The transaction as it was signed.
    pub transaction: SignedTransaction,
    /// What came of it.
    pub receipt: Receipt,
}

/// An event with its place in the order of all events.
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

/// What an event can be looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Everything that concerns an account.
    Account(Address),
    /// Everything that concerns a model.
    Model(ModelId),
    /// Everything that concerns a target.
    Target(TargetId),
}

impl Subject {
    fn key(self) -> (u8, [u8; 32]) {
        let number = |id: u32| {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&id.to_be_bytes());
            bytes
        };
        match self {
            Self::Account(address) => (0, address.0),
            Self::Model(ModelId(id)) => (1, number(id)),
            Self::Target(TargetId(id)) => (2, number(id)),
        }
    }
}

/// The open history.
pub struct History {
    database: Database,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History")
            .field("height", &self.height().ok())
            .finish_non_exhaustive()
    }
}

fn encode(record: &impl BorshSerialize) -> Result<Vec<u8>, StoreError> {
    borsh::to_vec(record).map_err(|_| StoreError::Damaged {
        record: "history record",
    })
}

fn decode<T: BorshDeserialize>(bytes: &[u8], record: &'static str) -> Result<T, StoreError> {
    borsh::from_slice(bytes).map_err(|_| StoreError::Damaged { record })
}

impl History {
    /// Opens the history, creating an empty one. A file that is damaged is set aside, and an empty
    /// one takes its place: it can be rebuilt.
    ///
    /// # Errors
    /// [`StoreError::History`] when the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        if path.exists() {
            match Database::open(path) {
                Ok(database) => return Ok(Self { database }),
                Err(error) if is_damage(&error) => fs::rename(path, path.with_extension("damaged"))
                    .map_err(|source| StoreError::Io {
                        path: path.into(),
                        source,
                    })?,
                Err(error) => return Err(error.into()),
            }
        }
        // Made under another name, so that a crash meanwhile leaves nothing that looks like one.
        let draft = path.with_extension("new");
        let io = |source| StoreError::Io {
            path: draft.clone(),
            source,
        };
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io(error)),
            _ => create(&draft)?,
        }
        soma_os::file::rename(&draft, path).map_err(io)?;
        Ok(Self {
            database: Database::open(path)?,
        })
    }

    /// A history that is gone when it is dropped, for simulations.
    ///
    /// # Errors
    /// [`StoreError::History`] when there is no memory for it.
    pub fn in_memory() -> Result<Self, StoreError> {
        let database = Database::builder().create_with_backend(InMemoryBackend::new())?;
        make_tables(&database)?;
        Ok(Self { database })
    }

    /// Writes finalized blocks in one transaction; blocks it already holds are passed over.
    ///
    /// # Errors
    /// [`StoreError::Gap`] when the first new block does not follow the last one held,
    /// [`StoreError::History`] when the disk refuses; then nothing was written.
    pub fn append(&self, blocks: &[FinalizedBlock]) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        let mut height = meta(&write, HEIGHT)?;
        for block in blocks {
            if block.height <= height {
                continue;
            }
            if block.height != height + 1 {
                return Err(StoreError::Gap {
                    height,
                    next: block.height,
                });
            }
            append_block(&write, block)?;
            height = block.height;
        }
        write.open_table(META)?.insert(HEIGHT, height)?;
        write.commit()?;
        Ok(())
    }

    /// The height of the last block; 0 when only genesis has happened.
    pub fn height(&self) -> Result<u64, StoreError> {
        let read = self.database.begin_read()?;
        Ok(read
            .open_table(META)?
            .get(HEIGHT)?
            .map_or(0, |height| height.value()))
    }

    /// The first block that it holds, or will hold: blocks below it were pruned, or never came.
    pub fn first(&self) -> Result<u64, StoreError> {
        let read = self.database.begin_read()?;
        let first = read.open_table(META)?.get(FIRST)?;
        Ok(first.map_or(1, |first| first.value()))
    }

    /// Forgets everything and goes on after this block, up to which so many events have happened.
    ///
    /// # Errors
    /// [`StoreError::History`] when the disk refuses; then nothing was forgotten.
    pub fn begin_after(&self, height: u64, last_event: u64) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        write.delete_table(BLOCKS)?;
        write.delete_table(DIGESTS)?;
        write.delete_table(TRANSACTIONS)?;
        write.delete_table(HASHES)?;
        write.delete_table(SENDERS)?;
        write.delete_table(EVENTS)?;
        write.delete_table(SUBJECTS)?;
        open_tables(&write)?;
        let mut meta = write.open_table(META)?;
        meta.insert(HEIGHT, height)?;
        meta.insert(FIRST, height + 1)?;
        meta.insert(LAST_EVENT, last_event)?;
        drop(meta);
        write.commit()?;
        Ok(())
    }

    /// Forgets blocks below `first`, at most `limit` of them, never the last one, and says how many
    /// it forgot. Their transactions and events go with them.
    ///
    /// # Errors
    /// [`StoreError::History`] when the disk refuses; then nothing was forgotten.
    pub fn prune(&self, first: u64, limit: u64) -> Result<u64, StoreError> {
        let (from, height) = (self.first()?, self.height()?);
        let to = first.min(height).min(from.saturating_add(limit));
        if to <= from {
            return Ok(0);
        }
        let write = self.database.begin_write()?;
        for height in from..to {
            forget_block(&write, height)?;
        }
        write.open_table(META)?.insert(FIRST, to)?;
        write.commit()?;
        Ok(to - from)
    }

    /// One block.
    pub fn block(&self, height: u64) -> Result<Option<BlockRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let record = read.open_table(BLOCKS)?.get(height)?;
        record
            .map(|bytes| decode(bytes.value(), "block"))
            .transpose()
    }

    /// One block, by its digest.
    pub fn block_by_digest(&self, digest: &Hash) -> Result<Option<BlockRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let height = read
            .open_table(DIGESTS)?
            .get(&digest.0)?
            .map(|height| height.value());
        height.map_or(Ok(None), |height| self.block(height))
    }

    /// Up to `limit` blocks below height `before`, newest first.
    pub fn blocks(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<BlockRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(BLOCKS)?;
        let range = table.range(..before.unwrap_or(u64::MAX))?;
        range
            .rev()
            .take(limit)
            .map(|entry| decode(entry?.1.value(), "block"))
            .collect()
    }

    /// One transaction with its receipt.
    pub fn transaction(&self, hash: &Hash) -> Result<Option<TransactionRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let place = read
            .open_table(HASHES)?
            .get(&hash.0)?
            .map(|place| place.value());
        let Some(place) = place else { return Ok(None) };
        let record = read.open_table(TRANSACTIONS)?.get(place)?;
        record
            .map(|bytes| decode(bytes.value(), "transaction"))
            .transpose()
    }

    /// The transactions of one block, in order.
    pub fn transactions_of_block(&self, height: u64) -> Result<Vec<TransactionRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(TRANSACTIONS)?;
        let range = table.range((height, 0)..=(height, u32::MAX))?;
        range
            .map(|entry| decode(entry?.1.value(), "transaction"))
            .collect()
    }

    /// Up to `limit` transactions that `sender` signed, newest first, before the place `before`
    /// (height and index) if one is given.
    pub fn transactions_of_sender(
        &self,
        sender: &Address,
        before: Option<(u64, u32)>,
        limit: usize,
    ) -> Result<Vec<TransactionRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let (height, index) = before.unwrap_or((u64::MAX, u32::MAX));
        let senders = read.open_table(SENDERS)?;
        let transactions = read.open_table(TRANSACTIONS)?;
        let mut page = Vec::new();
        let range = (&sender.0, 0, 0)..(&sender.0, height, index);
        for entry in senders.range(range)?.rev().take(limit) {
            let (_, height, index) = entry?.0.value();
            let bytes = transactions.get((height, index))?;
            let bytes = bytes.ok_or(StoreError::Damaged {
                record: "transaction",
            })?;
            page.push(decode(bytes.value(), "transaction")?);
        }
        Ok(page)
    }

    /// Up to `limit` events whose numbers lie in `numbers`, oldest first: what a stream needs to
    /// go on where it broke off.
    pub fn events(
        &self,
        numbers: impl RangeBounds<u64>,
        limit: usize,
    ) -> Result<Vec<EventRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(EVENTS)?;
        let range = table.range((numbers.start_bound().cloned(), numbers.end_bound().cloned()))?;
        range
            .take(limit)
            .map(|entry| decode(entry?.1.value(), "event"))
            .collect()
    }

    /// The number of the last event; 0 when nothing has happened.
    pub fn last_event(&self) -> Result<u64, StoreError> {
        let read = self.database.begin_read()?;
        Ok(read
            .open_table(META)?
            .get(LAST_EVENT)?
            .map_or(0, |last| last.value()))
    }

    /// Up to `limit` events that concern `subject`, newest first, below the number `before` if one
    /// is given.
    pub fn events_of(
        &self,
        subject: Subject,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<EventRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let (kind, id) = subject.key();
        let subjects = read.open_table(SUBJECTS)?;
        let events = read.open_table(EVENTS)?;
        let mut page = Vec::new();
        let range = (kind, &id, 0)..(kind, &id, before.unwrap_or(u64::MAX));
        for entry in subjects.range(range)?.rev().take(limit) {
            let bytes = events.get(entry?.0.value().2)?;
            let bytes = bytes.ok_or(StoreError::Damaged { record: "event" })?;
            page.push(decode(bytes.value(), "event")?);
        }
        Ok(page)
    }
}

fn is_damage(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(_)) => true,
        DatabaseError::Storage(StorageError::Io(error)) => {
            matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            )
        }
        _ => false,
    }
}

fn create(path: &Path) -> Result<(), StoreError> {
    make_tables(&Database::create(path)?)
}

fn make_tables(database: &Database) -> Result<(), StoreError> {
    let write = database.begin_write()?;
    open_tables(&write)?;
    write.commit()?;
    Ok(())
}

fn open_tables(write: &WriteTransaction) -> Result<(), StoreError> {
    write.open_table(META)?;
    write.open_table(BLOCKS)?;
    write.open_table(DIGESTS)?;
    write.open_table(TRANSACTIONS)?;
    write.open_table(HASHES)?;
    write.open_table(SENDERS)?;
    write.open_table(EVENTS)?;
    write.open_table(SUBJECTS)?;
    Ok(())
}

/// Removes a block with all that leads to it.
fn forget_block(write: &WriteTransaction, height: u64) -> Result<(), StoreError> {
    let mut blocks = write.open_table(BLOCKS)?;
    let removed = blocks.remove(height)?;
    let Some(bytes) = removed.map(|bytes| bytes.value().to_vec()) else {
        return Ok(());
    };
    let block: BlockRecord = decode(&bytes, "block")?;
    write.open_table(DIGESTS)?.remove(&block.digest.0)?;
    let mut transactions = write.open_table(TRANSACTIONS)?;
    let mut hashes = write.open_table(HASHES)?;
    let mut senders = write.open_table(SENDERS)?;
    for index in 0..block.transactions {
        let place = (height, index);
        let removed = transactions.remove(place)?;
        let Some(bytes) = removed.map(|bytes| bytes.value().to_vec()) else {
            continue;
        };
        let record: TransactionRecord = decode(&bytes, "transaction")?;
        let sender = record.transaction.transaction.sender.0;
        senders.remove((&sender, height, index))?;
        let hash = record.receipt.hash.0;
        // It may have been included again, later.
        if hashes
            .get(&hash)?
            .is_some_and(|known| known.value() == place)
        {
            hashes.remove(&hash)?;
        }
    }
    let mut events = write.open_table(EVENTS)?;
    let mut subjects = write.open_table(SUBJECTS)?;
    for sequence in block.first_event..block.first_event + u64::from(block.events) {
        let removed = events.remove(sequence)?;
        let Some(bytes) = removed.map(|bytes| bytes.value().to_vec()) else {
            continue;
        };
        let record: EventRecord = decode(&bytes, "event")?;
        for subject in subjects_of(&record.event)? {
            let (kind, id) = subject.key();
            subjects.remove((kind, &id, sequence))?;
        }
    }
    Ok(())
}

fn meta(write: &WriteTransaction, name: &str) -> Result<u64, StoreError> {
    Ok(write
        .open_table(META)?
        .get(name)?
        .map_or(0, |value| value.value()))
}

fn append_block(write: &WriteTransaction, block: &FinalizedBlock) -> Result<(), StoreError> {
    let last_event = meta(write, LAST_EVENT)?;
    let record = BlockRecord {
        height: block.height,
        digest: block.digest,
        parent: block.parent,
        timestamp_ms: block.timestamp_ms,
        proposer: block.proposer,
        state_root: block.state_root,
        transactions: u32::try_from(block.transactions.len()).unwrap_or(u32::MAX),
        first_event: last_event + 1,
        events: u32::try_from(block.events.len()).unwrap_or(u32::MAX),
    };
    write
        .open_table(BLOCKS)?
        .insert(block.height, encode(&record)?.as_slice())?;
    write
        .open_table(DIGESTS)?
        .insert(&block.digest.0, block.height)?;
    append_transactions(write, block)?;
    append_events(write, block, last_event)
}

fn append_transactions(write: &WriteTransaction, block: &FinalizedBlock) -> Result<(), StoreError> {
    let mut transactions = write.open_table(TRANSACTIONS)?;
    let mut hashes = write.open_table(HASHES)?;
    let mut senders = write.open_table(SENDERS)?;
    for (index, (transaction, receipt)) in
        (0u32..).zip(block.transactions.iter().zip(&block.receipts))
    {
        let place = (block.height, index);
        let record = TransactionRecord {
            height: block.height,
            index,
            transaction: transaction.clone(),
            receipt: receipt.clone(),
        };
        transactions.insert(place, encode(&record)?.as_slice())?;
        senders.insert((&transaction.transaction.sender.0, block.height, index), ())?;
        // A transaction that was refused can be included again and succeed; one that succeeded
        // keeps its place.
        let known = hashes.get(&receipt.hash.0)?.map(|place| place.value());
        let replace = match known {
            Some(place) => match transactions.get(place)? {
                Some(bytes) => decode::<TransactionRecord>(bytes.value(), "transaction")?
                    .receipt
                    .result
                    .is_err(),
                None => true,
            },
            None => true,
        };
        if replace {
            hashes.insert(&receipt.hash.0, place)?;
        }
    }
    Ok(())
}

fn append_events(
    write: &WriteTransaction,
    block: &FinalizedBlock,
    mut sequence: u64,
) -> Result<(), StoreError> {
    let mut events = write.open_table(EVENTS)?;
    let mut subjects = write.open_table(SUBJECTS)?;
    for event in &block.events {
        sequence += 1;
        let record = EventRecord {
            sequence,
            height: block.height,
            timestamp_ms: block.timestamp_ms,
            event: event.clone(),
        };
        events.insert(sequence, encode(&record)?.as_slice())?;
        for subject in subjects_of(event)? {
            let (kind, id) = subject.key();
            subjects.insert((kind, &id, sequence), ())?;
        }
    }
    write.open_table(META)?.insert(LAST_EVENT, sequence)?;
    Ok(())
}

/// What an event concerns: whatever its fields name. Reading the fields by name keeps this right for
/// events that do not exist yet; the one event that comes by the thousand is read without.
fn subjects_of(event: &Event) -> Result<Vec<Subject>, StoreError> {
    if let Event::Transferred { from, to, .. } = event {
        return Ok(vec![Subject::Account(*from), Subject::Account(*to)]);
    }
    let damaged = |_| StoreError::Damaged { record: "event" };
    let Value::Object(fields) = serde_json::to_value(event).map_err(damaged)? else {
        return Ok(Vec::new());
    };
    let mut subjects = Vec::new();
    for (name, value) in fields {
        match name.as_str() {
            "from" | "to" | "owner" | "staker" | "proposer" | "submitter" | "validator" => {
                subjects.push(Subject::Account(
                    serde_json::from_value(value).map_err(damaged)?,
                ));
            }
            "model" => {
                subjects.push(Subject::Model(
                    serde_json::from_value(value).map_err(damaged)?,
                ));
            }
            "models" => {
                let models: Vec<ModelId> = serde_json::from_value(value).map_err(damaged)?;
                subjects.extend(models.into_iter().map(Subject::Model));
            }
            "pool" => {
                let pool = serde_json::from_value(value).map_err(damaged)?;
                subjects.push(match pool {
                    PoolId::Model(model) => Subject::Model(model),
                    PoolId::Validator(validator) => Subject::Account(validator),
                });
            }
            "target" => {
                subjects.push(Subject::Target(
                    serde_json::from_value(value).map_err(damaged)?,
                ));
            }
            _ => {}
        }
    }
    Ok(subjects)
}

#[cfg(test)]
mod tests {
    use soma_protocol::{Address, Amount, Event, Hash, ModelId, PoolId};

    use super::{FinalizedBlock, History, Subject};
    use crate::StoreError;

    fn block(height: u64) -> FinalizedBlock {
        let account = |number: u64| Address([u8::try_from(number % 3).unwrap(); 32]);
        let transferred = Event::Transferred {
            from: account(height),
            to: account(height + 1),
            amount: Amount(height),
        };
        let registered = Event::ModelRegistered {
            model: ModelId(u32::try_from(height).unwrap()),
            owner: account(height),
            name: "model".into(),
            stake: Amount(1),
        };
        let added = Event::StakeAdded {
            pool: PoolId::Model(ModelId(u32::try_from(height).unwrap())),
            staker: account(height + 2),
            amount: Amount(1),
        };
        FinalizedBlock {
            height,
            digest: Hash([u8::try_from(height).unwrap(); 32]),
            parent: Hash([u8::try_from(height - 1).unwrap(); 32]),
            timestamp_ms: height * 10,
            proposer: account(0),
            state_root: Hash([9; 32]),
            transactions: Vec::new(),
            receipts: Vec::new(),
            events: vec![transferred, registered, added],
        }
    }

    #[test]
    fn writing_blocks_again_changes_nothing_and_a_gap_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("history.redb")).unwrap();
        history.append(&[block(1), block(2)]).unwrap();
        let before = (
            history.blocks(None, 9).unwrap(),
            history.events(.., 99).unwrap(),
        );
        history.append(&[block(1), block(2)]).unwrap();
        history.append(&[block(2)]).unwrap();
        assert_eq!(
            (
                history.blocks(None, 9).unwrap(),
                history.events(.., 99).unwrap()
            ),
            before
        );
        let gap = history.append(&[block(3), block(5)]);
        assert!(
            matches!(gap, Err(StoreError::Gap { height: 3, next: 5 })),
            "{gap:?}"
        );
        assert_eq!(
            history.height().unwrap(),
            2,
            "a refused write leaves nothing behind"
        );
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_the_history_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        History::open(&path).unwrap().append(&[block(1)]).unwrap();
        for garbage in [&b""[..], b"not a history", &[0; 4_096]] {
            std::fs::write(&path, garbage).unwrap();
            let history = History::open(&path).unwrap();
            assert_eq!(history.height().unwrap(), 0);
            history.append(&[block(1)]).unwrap();
            drop(history);
            assert_eq!(
                std::fs::read(dir.path().join("history.damaged")).unwrap(),
                garbage
            );
            assert_eq!(History::open(&path).unwrap().height().unwrap(), 1);
        }
    }

    #[test]
    fn what_is_pruned_is_gone_from_every_question_and_the_rest_is_as_it_was() {
        let history = History::in_memory().unwrap();
        history
            .append(&(1..=20).map(block).collect::<Vec<_>>())
            .unwrap();
        let kept: Vec<_> = (9..=20).map(|at| history.block(at).unwrap()).collect();
        let events = history.events(25.., 99).unwrap();
        assert_eq!(history.prune(9, 5).unwrap(), 5, "in steps");
        assert_eq!(history.prune(9, 5).unwrap(), 3);
        assert_eq!(history.prune(9, 5).unwrap(), 0);
        assert_eq!(
            (history.first().unwrap(), history.height().unwrap()),
            (9, 20)
        );
        assert!(history.block(8).unwrap().is_none());
        let digest = block(8).digest;
        assert!(history.block_by_digest(&digest).unwrap().is_none());
        let now: Vec<_> = (9..=20).map(|at| history.block(at).unwrap()).collect();
        assert_eq!(now, kept);
        assert_eq!(history.events(.., 99).unwrap(), events);
        let account = Subject::Account(Address([1; 32]));
        let of_account = history.events_of(account, None, 99).unwrap();
        assert!(of_account.iter().all(|event| event.height >= 9));
        history.append(&[block(21)]).unwrap();
        assert_eq!(history.prune(99, 99).unwrap(), 12, "the last block stays");
    }

    #[test]
    fn a_history_that_begins_later_goes_on_from_there_and_counts_events_on() {
        let history = History::in_memory().unwrap();
        history.append(&[block(1), block(2)]).unwrap();
        history.begin_after(7, 14).unwrap();
        assert_eq!(
            (history.first().unwrap(), history.height().unwrap()),
            (8, 7)
        );
        assert!(history.block(1).unwrap().is_none());
        assert!(history.append(&[block(9)]).is_err(), "a gap");
        history.append(&[block(8)]).unwrap();
        assert_eq!(history.events(.., 99).unwrap()[0].sequence, 15);
    }

    #[test]
    fn pages_of_blocks_and_events_hold_everything_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        History::open(&path)
            .unwrap()
            .append(&(1..=20).map(block).collect::<Vec<_>>())
            .unwrap();
        let history = History::open(&path).unwrap();

        let mut heights = Vec::new();
        let mut before = None;
        loop {
            let page = history.blocks(before, 6).unwrap();
            heights.extend(page.iter().map(|block| block.height));
            let Some(last) = page.last() else { break };
            before = Some(last.height);
        }
        assert_eq!(heights, (1..=20).rev().collect::<Vec<_>>());

        let account = Subject::Account(Address([1; 32]));
        let all = history.events_of(account, None, 99).unwrap();
        let mut pages = Vec::new();
        let mut before = None;
        loop {
            let page = history.events_of(account, before, 4).unwrap();
            let Some(last) = page.last() else { break };
            before = Some(last.sequence);
            pages.extend(page);
        }
        assert_eq!(pages, all);
        let named = |event: &Event| format!("{event:?}").contains(&Address([1; 32]).to_string());
        let events = history.events(1.., 99).unwrap();
        assert_eq!(
            all.len(),
            events.iter().filter(|record| named(&record.event)).count()
        );
        let model = history
            .events_of(Subject::Model(ModelId(7)), None, 9)
            .unwrap();
        assert_eq!(
            model.iter().map(|record| record.height).collect::<Vec<_>>(),
            [7, 7],
            "registered, and staked behind"
        );
        assert_eq!(history.events(59.., 99).unwrap().len(), 2);
    }
}

//! The history: finalized blocks, their transactions with receipts, and events, for queries.
//!
//! It is a redb file, written once per finalized block, in one transaction, in order. No decision
//! depends on it: if it is lost, executing the blocks that the consensus engine keeps restores it.
//! It may start later than the chain: where the node synced, or where the history was pruned. Lists
//! are newest first, in pages.

mod record;
mod blocks;
mod index;

use std::{fs, io::ErrorKind, ops::RangeBounds, path::Path};

use redb::{Database, DatabaseError, ReadableDatabase, StorageError, backends::InMemoryBackend};
use soma_protocol::{Address, Hash};

use self::{
    blocks::{BLOCKS, EVENTS, FIRST, HEIGHT, LAST_EVENT, META, TRANSACTIONS},
    index::{CONTENTS, DIGESTS, HASHES, REJECTED, SENDERS, SUBJECTS},
    record::decode,
};
pub use self::{
    index::Subject,
    record::{BlockRecord, EventRecord, FinalizedBlock, TransactionRecord},
};
use crate::StoreError;

/// The most bytes of transactions that a page is made from, if it has more than one: what a client
/// is sent of them may be short.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// The most transactions in a page of blocks, if it has more than one block.
const PAGE_HASHES_MAX: usize = 16_384;

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// In the order of the list.
    pub items: Vec<T>,
    /// Whether there may be more after it.
    pub more: bool,
}

impl<T> Page<T> {
    /// Takes items with their sizes until there are `limit`, or their sizes reach `most` together.
    fn take(
        items: impl Iterator<Item = Result<(T, usize), StoreError>>,
        limit: usize,
        most: usize,
    ) -> Result<Self, StoreError> {
        let (mut page, mut size) = (Self { items: Vec::new(), more: false }, 0);
        for item in items {
            let (item, bytes) = item?;
            size += bytes;
            page.items.push(item);
            if page.items.len() >= limit || size >= most {
                page.more = true;
                break;
            }
        }
        Ok(page)
    }
}

/// The open history.
pub struct History {
    database: Database,
    was_replaced: bool,
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("History").field("height", &self.height().ok()).finish_non_exhaustive()
    }
}

impl History {
    /// Opens the history, or creates an empty one. A damaged file is renamed to `*.damaged` and
    /// replaced by an empty one, which can be rebuilt.
    ///
    /// # Errors
    /// [`StoreError::History`] when the file cannot be used.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let was_replaced = path.exists();
        if was_replaced {
            // The database promises only to panic if something else has changed the file.
            let opened = std::panic::catch_unwind(|| Database::open(path));
            match opened {
                Ok(Ok(database)) => return Self { database, was_replaced: false }.upgraded(),
                Ok(Err(error)) if !is_damage(&error) => return Err(error.into()),
                Ok(Err(_)) | Err(_) => fs::rename(path, path.with_extension("damaged"))
                    .map_err(|source| StoreError::Io { path: path.into(), source })?,
            }
        }
        // Created under a temporary name, so that a crash leaves no incomplete file under the final
        // one.
        let draft = path.with_extension("new");
        let io = |source| StoreError::Io { path: draft.clone(), source };
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(io(error)),
            _ => create_tables(&Database::create(&draft)?)?,
        }
        soma_os::file::rename(&draft, path).map_err(io)?;
        Ok(Self { database: Database::open(path)?, was_replaced })
    }

    /// Makes the index of other software again.
    fn upgraded(self) -> Result<Self, StoreError> {
        let write = self.database.begin_write()?;
        index::renew(&write)?;
        write.commit()?;
        Ok(self)
    }

    /// Whether a damaged file was set aside when this one was opened.
    pub const fn was_replaced(&self) -> bool {
        self.was_replaced
    }

    /// Reads the whole file, if there is one, and replaces nothing.
    ///
    /// # Errors
    /// [`StoreError::DamagedFile`] when it is damaged; [`StoreError::History`] when it cannot be
    /// used.
    pub fn check(path: &Path) -> Result<(), StoreError> {
        if !path.exists() {
            return Ok(());
        }
        let damaged = |reason: String| StoreError::DamagedFile { path: path.into(), reason };
        match Database::builder().set_check_integrity_on_open(true).open(path) {
            Ok(_) => Ok(()),
            Err(error) if is_damage(&error) => Err(damaged(error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// A history in memory, for simulations.
    ///
    /// # Errors
    /// [`StoreError::History`] when there is no memory for it.
    pub fn in_memory() -> Result<Self, StoreError> {
        let database = Database::builder().create_with_backend(InMemoryBackend::new())?;
        create_tables(&database)?;
        Ok(Self { database, was_replaced: false })
    }

    /// Writes finalized blocks in one transaction, skipping those that it already holds.
    ///
    /// # Errors
    /// [`StoreError::Gap`] when a new block does not follow the last one,
    /// [`StoreError::History`] when the disk fails; then nothing is written.
    pub fn append(&self, blocks: &[FinalizedBlock]) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        let mut height = blocks::counter(&write, HEIGHT)?;
        for block in blocks {
            if block.height <= height {
                continue;
            }
            if block.height != height + 1 {
                return Err(StoreError::Gap { height, next: block.height });
            }
            let record = blocks::insert(&write, block)?;
            index::insert(&write, block, &record)?;
            height = block.height;
        }
        write.open_table(META)?.insert(HEIGHT, height)?;
        write.commit()?;
        Ok(())
    }

    fn counter(&self, name: &str, default: u64) -> Result<u64, StoreError> {
        let read = self.database.begin_read()?;
        let counter = read.open_table(META)?.get(name)?;
        Ok(counter.map_or(default, |counter| counter.value()))
    }

    /// The height of the last block; 0 if there is only genesis.
    pub fn height(&self) -> Result<u64, StoreError> {
        self.counter(HEIGHT, 0)
    }

    /// The height of the first block that it holds, or will hold: blocks below it were pruned or
    /// never written.
    pub fn first(&self) -> Result<u64, StoreError> {
        self.counter(FIRST, 1)
    }

    /// The number of the last event; 0 if there is none.
    pub fn last_event(&self) -> Result<u64, StoreError> {
        self.counter(LAST_EVENT, 0)
    }

    /// Deletes everything and continues after block `height`, with `last_event` events before it.
    ///
    /// # Errors
    /// [`StoreError::History`] when the disk fails; then nothing is deleted.
    pub fn begin_after(&self, height: u64, last_event: u64) -> Result<(), StoreError> {
        let write = self.database.begin_write()?;
        blocks::empty_tables(&write)?;
        index::empty_tables(&write)?;
        let mut meta = write.open_table(META)?;
        meta.insert(HEIGHT, height)?;
        meta.insert(FIRST, height + 1)?;
        meta.insert(LAST_EVENT, last_event)?;
        drop(meta);
        write.commit()?;
        Ok(())
    }

    /// Removes blocks below `first` with their transactions and events, at most `limit` blocks and
    /// never the last one. Returns how many it removed.
    ///
    /// # Errors
    /// [`StoreError::History`] when the disk fails; then nothing is deleted.
    pub fn prune(&self, first: u64, limit: u64) -> Result<u64, StoreError> {
        let (from, height) = (self.first()?, self.height()?);
        let to = first.min(height).min(from.saturating_add(limit));
        if to <= from {
            return Ok(0);
        }
        let write = self.database.begin_write()?;
        for height in from..to {
            let block = blocks::get(&write.open_table(BLOCKS)?, height)?;
            if let Some(block) = block {
                index::remove(&write, &block)?;
                blocks::remove(&write, &block)?;
            }
        }
        write.open_table(META)?.insert(FIRST, to)?;
        write.commit()?;
        Ok(to - from)
    }

    /// One block.
    pub fn block(&self, height: u64) -> Result<Option<BlockRecord>, StoreError> {
        let read = self.database.begin_read()?;
        blocks::get(&read.open_table(BLOCKS)?, height)
    }

    /// One block, by its digest.
    pub fn block_by_digest(&self, digest: &Hash) -> Result<Option<BlockRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let height = read.open_table(DIGESTS)?.get(&digest.0)?.map(|height| height.value());
        height.map_or(Ok(None), |height| self.block(height))
    }

    /// Blocks below height `before`, newest first, each with the hashes of its transactions: up to
    /// `limit`, and fewer if they have many.
    pub fn blocks(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page<(BlockRecord, Vec<Hash>)>, StoreError> {
        let read = self.database.begin_read()?;
        let (blocks, contents) = (read.open_table(BLOCKS)?, read.open_table(CONTENTS)?);
        let items = blocks.range(..before.unwrap_or(u64::MAX))?.rev().map(|entry| {
            let record: BlockRecord = decode(entry?.1.value(), "block")?;
            let hashes =
                hashes(contents.get(record.height)?.map(|listed| listed.value().to_vec()))?;
            let count = hashes.len();
            Ok(((record, hashes), count))
        });
        Page::take(items, limit, PAGE_HASHES_MAX)
    }

    /// The hashes of a block's transactions, in order.
    pub fn contents(&self, height: u64) -> Result<Vec<Hash>, StoreError> {
        let read = self.database.begin_read()?;
        let listed = read.open_table(CONTENTS)?.get(height)?;
        hashes(listed.map(|listed| listed.value().to_vec()))
    }

    /// One transaction with its receipt.
    pub fn transaction(&self, hash: &Hash) -> Result<Option<TransactionRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let place = read.open_table(HASHES)?.get(&hash.0)?.map(|place| place.value());
        let Some(place) = place else { return Ok(None) };
        let record = read.open_table(TRANSACTIONS)?.get(place)?;
        record.map(|bytes| decode(bytes.value(), "transaction")).transpose()
    }

    /// The transactions of one block from the one with this index on, in order: up to `limit`, and
    /// fewer if they are long.
    pub fn transactions_of_block(
        &self,
        height: u64,
        first: u32,
        limit: usize,
    ) -> Result<Page<TransactionRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(TRANSACTIONS)?;
        let items = table.range((height, first)..=(height, u32::MAX))?.map(|entry| {
            let bytes = entry?.1;
            Ok((decode(bytes.value(), "transaction")?, bytes.value().len()))
        });
        Page::take(items, limit, PAGE_BYTES_MAX)
    }

    /// The transactions of `sender`, or only those that were rejected, newest first, before the
    /// position `before` (height and index) if one is given: up to `limit`, and fewer if they are
    /// long.
    pub fn transactions_of_sender(
        &self,
        sender: &Address,
        only_rejected: bool,
        before: Option<(u64, u32)>,
        limit: usize,
    ) -> Result<Page<TransactionRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let (height, index) = before.unwrap_or((u64::MAX, u32::MAX));
        let senders = read.open_table(if only_rejected { REJECTED } else { SENDERS })?;
        let transactions = read.open_table(TRANSACTIONS)?;
        let range = (&sender.0, 0, 0)..(&sender.0, height, index);
        let items = senders.range(range)?.rev().map(|entry| {
            let (_, height, index) = entry?.0.value();
            let bytes = transactions.get((height, index))?;
            let bytes = bytes.ok_or(StoreError::Damaged { record: "transaction" })?;
            Ok((decode(bytes.value(), "transaction")?, bytes.value().len()))
        });
        Page::take(items, limit, PAGE_BYTES_MAX)
    }

    /// Up to `limit` events whose numbers lie in `numbers`, oldest first: what a stream needs to
    /// resume.
    pub fn events(
        &self,
        numbers: impl RangeBounds<u64>,
        limit: usize,
    ) -> Result<Vec<EventRecord>, StoreError> {
        let read = self.database.begin_read()?;
        let table = read.open_table(EVENTS)?;
        let range = table.range((numbers.start_bound().cloned(), numbers.end_bound().cloned()))?;
        range.take(limit).map(|entry| decode(entry?.1.value(), "event")).collect()
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

/// The hashes in the contents of a block.
fn hashes(listed: Option<Vec<u8>>) -> Result<Vec<Hash>, StoreError> {
    let listed = listed.ok_or(StoreError::Damaged { record: "contents" })?;
    Ok(listed.as_chunks::<32>().0.iter().copied().map(Hash).collect())
}

fn is_damage(error: &DatabaseError) -> bool {
    match error {
        DatabaseError::Storage(StorageError::Corrupted(_)) => true,
        DatabaseError::Storage(StorageError::Io(error)) => {
            matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
        }
        _ => false,
    }
}

fn create_tables(database: &Database) -> Result<(), StoreError> {
    let write = database.begin_write()?;
    blocks::empty_tables(&write)?;
    index::empty_tables(&write)?;
    write.commit()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use soma_protocol::{
        Address, Amount, Epoch, Event, Hash, ModelId, Phase, PoolId, Receipt, Rejection, SecretKey,
        TargetId, Transaction, action,
    };

    use super::{FinalizedBlock, History, META, REJECTED, SUBJECTS, Subject};
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
            joins: Epoch(3),
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
        let before = (history.blocks(None, 9).unwrap(), history.events(.., 99).unwrap());
        history.append(&[block(1), block(2)]).unwrap();
        history.append(&[block(2)]).unwrap();
        assert_eq!((history.blocks(None, 9).unwrap(), history.events(.., 99).unwrap()), before);
        let gap = history.append(&[block(3), block(5)]);
        assert!(matches!(gap, Err(StoreError::Gap { height: 3, next: 5 })), "{gap:?}");
        assert_eq!(history.height().unwrap(), 2, "a rejected write changes nothing");
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_replaced_by_an_empty_history() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        History::open(&path).unwrap().append(&[block(1)]).unwrap();
        for garbage in [&b""[..], b"not a history", &[0; 4_096]] {
            std::fs::write(&path, garbage).unwrap();
            let found = History::check(&path);
            assert!(matches!(found, Err(StoreError::DamagedFile { .. })), "{found:?}");
            assert_eq!(std::fs::read(&path).unwrap(), garbage, "a check replaces nothing");
            let history = History::open(&path).unwrap();
            assert_eq!(history.height().unwrap(), 0);
            history.append(&[block(1)]).unwrap();
            drop(history);
            assert_eq!(std::fs::read(dir.path().join("history.damaged")).unwrap(), garbage);
            assert_eq!(History::open(&path).unwrap().height().unwrap(), 1);
        }
    }

    #[test]
    fn pruned_blocks_are_gone_from_every_query_and_the_rest_is_unchanged() {
        let history = History::in_memory().unwrap();
        history.append(&(1..=20).map(block).collect::<Vec<_>>()).unwrap();
        let expected: Vec<_> = (9..=20).map(|at| history.block(at).unwrap()).collect();
        let events = history.events(25.., 99).unwrap();
        assert_eq!(history.prune(9, 5).unwrap(), 5, "in steps");
        assert_eq!(history.prune(9, 5).unwrap(), 3);
        assert_eq!(history.prune(9, 5).unwrap(), 0);
        assert_eq!((history.first().unwrap(), history.height().unwrap()), (9, 20));
        assert!(history.block(8).unwrap().is_none());
        let digest = block(8).digest;
        assert!(history.block_by_digest(&digest).unwrap().is_none());
        let remaining: Vec<_> = (9..=20).map(|at| history.block(at).unwrap()).collect();
        assert_eq!(remaining, expected);
        assert_eq!(history.events(.., 99).unwrap(), events);
        let account = Subject::Account(Address([1; 32]));
        let of_account = history.events_of(account, None, 99).unwrap();
        assert!(of_account.iter().all(|event| event.height >= 9));
        history.append(&[block(21)]).unwrap();
        assert_eq!(history.prune(99, 99).unwrap(), 12, "the last block stays");
    }

    /// A block full of long transactions: what its length in JSON is has nothing to do with that.
    fn full(height: u64) -> FinalizedBlock {
        let key = SecretKey::from_bytes(&[1; 32]);
        let transactions: Vec<_> = (0..8_u64)
            .map(|nonce| {
                let data = vec![7; 120_000];
                let action = action::PublishData {
                    target: TargetId(1),
                    data,
                    salt: [0; 32],
                    index: 0,
                    leaf_salt: [0; 32],
                    path: Vec::new(),
                };
                Transaction {
                    chain: Hash([1; 32]),
                    sender: key.address(),
                    nonce: height * 8 + nonce,
                    tip: Amount(0),
                    fee_limit: Amount(0),
                    valid_until_ms: 0,
                    action: action.into(),
                }
                .sign(&key)
            })
            .collect();
        let receipts = transactions
            .iter()
            .map(|transaction| Receipt { hash: transaction.hash(), fee: Amount(0), result: Ok(()) })
            .collect();
        FinalizedBlock { transactions, receipts, ..block(height) }
    }

    #[test]
    fn pages_read_no_more_however_long_the_transactions_are_and_contain_everything_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        let history = History::open(&path).unwrap();
        let blocks: Vec<_> = (1..=4).map(full).collect();
        history.append(&blocks).unwrap();
        let hashes = |block: &FinalizedBlock| -> Vec<Hash> {
            block.receipts.iter().map(|receipt| receipt.hash).collect()
        };
        let page = history.blocks(None, 9).unwrap();
        let listed: Vec<_> = page.items.into_iter().map(|(_, hashes)| hashes).collect();
        assert_eq!(listed, blocks.iter().rev().map(hashes).collect::<Vec<_>>());

        let sender = blocks[0].transactions[0].transaction().sender;
        let (mut before, mut found) = (None, Vec::new());
        loop {
            let page = history.transactions_of_sender(&sender, false, before, 500).unwrap();
            assert!(page.items.len() <= 9, "{} long transactions", page.items.len());
            before = page.items.last().map(|record| (record.height, record.index));
            found.extend(page.items.into_iter().map(|record| record.receipt.hash));
            if !page.more {
                break;
            }
        }
        let all: Vec<_> =
            blocks.iter().rev().flat_map(|block| hashes(block).into_iter().rev()).collect();
        assert_eq!(found, all);
        let rest = history.transactions_of_block(2, 6, 500).unwrap();
        assert_eq!((rest.items.len(), rest.more), (2, false));

        history.prune(4, 9).unwrap();
        assert!(history.contents(3).is_err());
    }

    /// A block in which the sender of all transactions pays often, is refused once, and loses a
    /// place to a closer submission.
    fn busy(height: u64) -> FinalizedBlock {
        let mut block = full(height);
        block.receipts[3].result = Err(Rejection::WrongPhase { phase: Phase::Compete });
        let submitter = block.transactions[0].transaction().sender;
        let to = Address([2; 32]);
        let payment = Event::Transferred { from: submitter, to, amount: Amount(1) };
        block.events = vec![payment; 50];
        let bond = Amount(1);
        block.events.push(Event::SubmissionDisplaced { target: TargetId(1), submitter, bond });
        block
    }

    #[test]
    fn what_was_submitted_and_refused_is_found_among_any_number_of_payments() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        let history = History::open(&path).unwrap();
        let blocks: Vec<_> = (1..=4).map(busy).collect();
        history.append(&blocks).unwrap();
        let submitter = blocks[0].transactions[0].transaction().sender;
        let found = |history: &History| {
            let submitted = history.events_of(Subject::Submitter(submitter), None, 9).unwrap();
            let refused = history.transactions_of_sender(&submitter, true, None, 9).unwrap();
            let heights = submitted.iter().map(|record| record.height).collect::<Vec<_>>();
            let places = refused.items.iter().map(|record| (record.height, record.index));
            (heights, places.collect::<Vec<_>>())
        };
        let all = (vec![4, 3, 2, 1], vec![(4, 3), (3, 3), (2, 3), (1, 3)]);
        assert_eq!(found(&history), all);

        // Another index is made again as the history is opened.
        let write = history.database.begin_write().unwrap();
        write.open_table(META).unwrap().remove("index").unwrap();
        write.delete_table(REJECTED).unwrap();
        write.delete_table(SUBJECTS).unwrap();
        write.commit().unwrap();
        drop(history);
        let history = History::open(&path).unwrap();
        assert_eq!(found(&history), all);
        history.prune(4, 9).unwrap();
        assert_eq!(found(&history), (vec![4], vec![(4, 3)]));
    }

    #[test]
    fn a_history_that_starts_later_continues_the_count_of_events() {
        let history = History::in_memory().unwrap();
        history.append(&[block(1), block(2)]).unwrap();
        history.begin_after(7, 14).unwrap();
        assert_eq!((history.first().unwrap(), history.height().unwrap()), (8, 7));
        assert!(history.block(1).unwrap().is_none());
        assert!(history.append(&[block(9)]).is_err(), "a gap");
        history.append(&[block(8)]).unwrap();
        assert_eq!(history.events(.., 99).unwrap()[0].sequence, 15);
    }

    #[test]
    fn pages_of_blocks_and_events_contain_everything_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("history.redb");
        History::open(&path).unwrap().append(&(1..=20).map(block).collect::<Vec<_>>()).unwrap();
        let history = History::open(&path).unwrap();

        let mut heights = Vec::new();
        let mut before = None;
        loop {
            let page = history.blocks(before, 6).unwrap().items;
            heights.extend(page.iter().map(|(block, _)| block.height));
            let Some((last, _)) = page.last() else { break };
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
        assert_eq!(all.len(), events.iter().filter(|record| named(&record.event)).count());
        let model = history.events_of(Subject::Model(ModelId(7)), None, 9).unwrap();
        assert_eq!(
            model.iter().map(|record| record.height).collect::<Vec<_>>(),
            [7, 7],
            "its registration and its first stake"
        );
        assert_eq!(history.events(59.., 99).unwrap().len(), 2);
    }
}

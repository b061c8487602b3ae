//! The record of the last vote that a key signed, kept apart from the journals of the consensus
//! library: if a journal is lost or older than what the key signed, the node must know, because a
//! key that votes twice in one view loses its stake.
//!
//! One file of fixed length, overwritten in place before a vote leaves this node. It survives the
//! process; it is synced only now and then, because after a loss of power a record that is behind
//! its journal does no harm. Nothing here decides whether to vote.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use soma_os::clock::now_ms;
use soma_protocol::{ConsensusKey, Hash};
use soma_store::StoreError;

use crate::{EngineError, Remedy};

const MAGIC: &[u8; 8] = b"somavote";
/// The same of a key that was made a moment ago: the time in ms stands in place of the term.
const NEW_MAGIC: &[u8; 8] = b"somanew1";
/// How long a key counts as new. A backup that is older must not say that it never voted.
const NEW_MS: u64 = 24 * 60 * 60 * 1_000;
/// Magic, key, the four numbers of [`Known`], and the beginning of a hash of these.
const RECORD_BYTES: usize = 8 + 32 + 4 * 8 + 8;
/// How many views pass before the file is synced again, unless a term begins.
const VIEWS_UNSYNCED_MAX: u64 = 16;

/// The place of a vote: the later term first, then the later view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VotePlace {
    pub(crate) term: u64,
    pub(crate) view: u64,
}

/// Where a key that has voted for nothing has voted.
const NOTHING: VotePlace = VotePlace { term: 0, view: 0 };

/// What is recorded of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Known {
    /// The last vote that the journal has as well; `None` if nothing is known.
    last: Option<VotePlace>,
    /// A view of the last vote's term that the key nullified without its journal; 0 if it did not.
    loose: u64,
    /// The first term in which nobody else is known to have voted with this key.
    free_from: u64,
}

#[derive(Debug)]
struct Record {
    file: Option<File>,
    known: Known,
    synced: Option<VotePlace>,
}

/// The last vote that a key signed.
#[derive(Debug)]
pub struct VoteRecord {
    key: ConsensusKey,
    record: Mutex<Record>,
}

impl VoteRecord {
    /// A record that is lost with the process, for simulations.
    pub fn in_memory(key: ConsensusKey) -> Self {
        let record = Record { file: None, known: Known::default(), synced: None };
        Self { key, record: Mutex::new(record) }
    }

    /// Opens the record of a key, or begins one. The record of another key is replaced.
    ///
    /// # Errors
    /// [`EngineError::Damaged`] if the file is no record; [`EngineError::Store`] if it cannot be
    /// used.
    pub fn open(path: &Path, key: ConsensusKey) -> Result<Self, EngineError> {
        let io = |source| StoreError::Io { path: path.to_path_buf(), source };
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(io)?;
        let mut bytes = Vec::with_capacity(RECORD_BYTES + 1);
        (&mut file).take(RECORD_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        let known = match decode(&bytes) {
            None if bytes.is_empty() => Known::default(),
            Some((owner, known)) if owner == key => known,
            Some(_) => Known::default(),
            None => {
                let reason = String::from("it is not a record of votes");
                let path = PathBuf::from(path);
                return Err(EngineError::Damaged { path, reason, remedy: Remedy::Remade });
            }
        };
        let record = Record { file: Some(file), known, synced: None };
        Ok(Self { key, record: Mutex::new(record) })
    }

    /// Says of a key that was made just now that it has voted for nothing; this counts for a day.
    /// Only who made the key knows: a key without a record does not vote before the next term.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(&self) -> io::Result<()> {
        let mut record = self.lock();
        if record.known.last.is_some() {
            return Ok(());
        }
        let made = Some(VotePlace { term: now_ms(), view: 0 });
        let known = Known { last: made, ..record.known };
        if let Some(file) = &mut record.file {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&encode(*NEW_MAGIC, &self.key, known))?;
            file.sync_data()?;
        }
        record.known.last = Some(NOTHING);
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last vote that the journal has as well; `None` if nothing is recorded.
    pub(crate) fn last(&self) -> Option<VotePlace> {
        self.lock().known.last
    }

    /// The last nullify that the journal lacks, if it is of this term.
    pub(crate) fn loose(&self, term: u64) -> Option<u64> {
        let known = self.lock().known;
        let is_of_term = known.last.is_some_and(|last| last.term == term);
        Some(known.loose).filter(|view| is_of_term && *view > 0)
    }

    /// The first term in which nobody else is known to have voted with this key.
    pub(crate) fn free_from(&self) -> u64 {
        self.lock().known.free_from
    }

    /// The last vote that the key is known to have signed.
    pub(crate) fn last_signed(&self) -> VotePlace {
        let known = self.lock().known;
        match known.last {
            // Nothing is known: the view only says that the key must not vote in this term.
            Some(last) if last.view == u64::MAX => NOTHING,
            Some(last) => VotePlace { view: last.view.max(known.loose), ..last },
            None => NOTHING,
        }
    }

    /// Records a vote, unless a later one is recorded.
    ///
    /// # Errors
    /// If it cannot be written: the vote must not leave then.
    pub(crate) fn note(&self, place: VotePlace) -> io::Result<()> {
        let mut record = self.lock();
        let known = record.known;
        let is_of_term = known.last.is_some_and(|last| last.term == place.term);
        if known.last >= Some(place) || (is_of_term && known.loose == place.view) {
            return Ok(());
        }
        let loose = if is_of_term { known.loose } else { 0 };
        record.write(&self.key, Known { last: Some(place), loose, ..known })
    }

    /// Records a nullify that the journal will lack, before it is signed. The library writes only
    /// the first one of a view to its journal, even if that could not be signed.
    ///
    /// # Errors
    /// If it cannot be written: the vote must not be signed then.
    pub(crate) fn note_loose(&self, place: VotePlace) -> io::Result<()> {
        let mut record = self.lock();
        if record.known.last.is_some_and(|last| last.term > place.term) {
            return Err(io::Error::other("a vote of a later term is recorded"));
        }
        let last = record.known.last.filter(|last| last.term == place.term);
        let last = Some(last.unwrap_or(VotePlace { view: 0, ..place }));
        let known = Known { last, loose: place.view, ..record.known };
        if known == record.known {
            return Ok(());
        }
        record.write(&self.key, known)?;
        // The journal does not have it, so a loss of power must not lose it.
        record.sync()
    }

    /// Records that somebody else voted with this key in a term before this one.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn note_free_from(&self, term: u64) -> io::Result<()> {
        let mut record = self.lock();
        let known = Known { free_from: term.max(record.known.free_from), ..record.known };
        if known == record.known {
            return Ok(());
        }
        // Without a file of before, nothing may look as if it had voted.
        let last = known.last.or(Some(VotePlace { term: 0, view: u64::MAX }));
        // It counts in this process even if the disk fails.
        record.known.free_from = known.free_from;
        record.write(&self.key, Known { last, ..known })?;
        record.sync()
    }

    /// Forgets later votes: the operator takes the risk that the key has cast them.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn restart(&self, place: VotePlace) -> io::Result<()> {
        let mut record = self.lock();
        let known = Known { last: Some(place), loose: 0, ..record.known };
        record.write(&self.key, known)
    }
}

impl Record {
    fn write(&mut self, key: &ConsensusKey, known: Known) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&encode(*MAGIC, key, known))?;
        }
        self.known = known;
        let place = known.last.unwrap_or(NOTHING);
        let is_due = self.synced.is_none_or(|synced| {
            synced.term != place.term
                || place.view.saturating_sub(synced.view) >= VIEWS_UNSYNCED_MAX
        });
        if is_due {
            self.synced = Some(place);
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_data)
    }
}

fn check(bytes: &[u8]) -> [u8; 8] {
    let hash = Hash::of_parts("soma vote record", &[bytes]);
    let mut check = [0; 8];
    check.copy_from_slice(&hash.0[..8]);
    check
}

fn encode(magic: [u8; 8], key: &ConsensusKey, known: Known) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&key.0);
    let last = known.last.unwrap_or(NOTHING);
    for number in [last.term, last.view, known.loose, known.free_from] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let check = check(&bytes);
    bytes.extend_from_slice(&check);
    bytes
}

/// Whose record it is, and what it says.
fn decode(bytes: &[u8]) -> Option<(ConsensusKey, Known)> {
    let (content, found) = bytes.split_last_chunk::<8>()?;
    if bytes.len() != RECORD_BYTES || *found != check(content) {
        return None;
    }
    let (magic, content) = content.split_first_chunk::<8>()?;
    let (key, content) = content.split_first_chunk::<32>()?;
    let ([term, view, loose, free_from], []) = content.as_chunks::<8>() else {
        return None;
    };
    let numbers = [term, view, loose, free_from].map(|bytes| u64::from_le_bytes(*bytes));
    let [term, view, loose, free_from] = numbers;
    let last = match magic {
        MAGIC => Some(VotePlace { term, view }),
        NEW_MAGIC => is_new(term, now_ms()).then_some(NOTHING),
        _ => return None,
    };
    Some((ConsensusKey(*key), Known { last, loose, free_from }))
}

/// Whether a key that was made at this time still counts as new.
fn is_new(made_ms: u64, now_ms: u64) -> bool {
    (made_ms..made_ms.saturating_add(NEW_MS)).contains(&now_ms)
}

#[cfg(test)]
mod tests {
    use super::{ConsensusKey, EngineError, NEW_MS, RECORD_BYTES, VotePlace, VoteRecord, is_new};

    const KEY: ConsensusKey = ConsensusKey([7; 32]);

    fn place(term: u64, view: u64) -> VotePlace {
        VotePlace { term, view }
    }

    #[test]
    fn the_last_vote_of_a_key_is_known_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        let record = VoteRecord::open(&path, KEY).unwrap();
        assert_eq!(record.last(), None);
        for (term, view) in [(0, 3), (0, 2), (1, 1), (0, 9)] {
            record.note(place(term, view)).unwrap();
        }
        drop(record);
        assert_eq!(VoteRecord::open(&path, KEY).unwrap().last(), Some(place(1, 1)));
        assert_eq!(std::fs::read(&path).unwrap().len(), RECORD_BYTES);
        let rotated = VoteRecord::open(&path, ConsensusKey([8; 32])).unwrap();
        assert_eq!(rotated.last(), None, "another key has signed nothing");
    }

    #[test]
    fn a_new_key_has_voted_for_nothing_and_never_says_so_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        VoteRecord::open(&path, KEY).unwrap().begin().unwrap();
        let record = VoteRecord::open(&path, KEY).unwrap();
        assert_eq!(record.last(), Some(place(0, 0)));
        let other = folder.path().join("other");
        std::fs::copy(&path, &other).unwrap();
        let other = VoteRecord::open(&other, ConsensusKey([8; 32])).unwrap();
        assert_eq!(other.last(), None, "of another key");
        record.note(place(3, 4)).unwrap();
        record.begin().unwrap();
        assert_eq!(VoteRecord::open(&path, KEY).unwrap().last(), Some(place(3, 4)));
    }

    #[test]
    fn a_nullify_that_the_journal_lacks_is_known_after_a_restart_and_is_no_loss() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        let record = VoteRecord::open(&path, KEY).unwrap();
        record.note(place(3, 7)).unwrap();
        record.note_loose(place(3, 8)).unwrap();
        record.note(place(3, 8)).unwrap();
        let known = |record: &VoteRecord| (record.last(), record.loose(3), record.last_signed());
        assert_eq!(known(&record), (Some(place(3, 7)), Some(8), place(3, 8)));
        assert_eq!(known(&VoteRecord::open(&path, KEY).unwrap()), known(&record));
        record.note(place(3, 9)).unwrap();
        assert_eq!(known(&record), (Some(place(3, 9)), Some(8), place(3, 9)));
        record.note_loose(place(4, 2)).unwrap();
        assert_eq!(known(&record), (Some(place(4, 0)), None, place(4, 2)), "another term");
        assert_eq!(record.loose(4), Some(2));
        record.note(place(5, 1)).unwrap();
        assert_eq!(record.loose(5), None);
        record.note_free_from(6).unwrap();
        record.note_free_from(4).unwrap();
        assert_eq!(VoteRecord::open(&path, KEY).unwrap().free_from(), 6);
        assert_eq!(record.last(), Some(place(5, 1)), "of its own votes it changes nothing");
        record.note(place(6, u64::MAX)).unwrap();
        assert_eq!(record.last_signed(), place(0, 0), "nothing is known of its votes");
    }

    #[test]
    fn a_backup_of_a_new_key_does_not_say_that_it_never_voted() {
        assert!(is_new(1_000, 1_000) && is_new(1_000, 1_000 + NEW_MS - 1));
        assert!(!is_new(1_000, 1_000 + NEW_MS), "it may have voted since");
        assert!(!is_new(1_000, 999), "a clock that is wrong");
    }

    #[test]
    fn a_damaged_record_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        VoteRecord::open(&path, KEY).unwrap().note(place(4, 5)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            let refused = VoteRecord::open(&path, KEY);
            assert!(
                matches!(&refused, Err(EngineError::Damaged { path: named, .. }) if *named == path),
                "{at}: {refused:?}"
            );
        }
        std::fs::write(&path, &whole[..20]).unwrap();
        assert!(VoteRecord::open(&path, KEY).is_err());
    }
}

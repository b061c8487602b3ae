//! The record of the last vote that a key signed, kept apart from the journals of the consensus
//! library: if a journal is lost or older than what the key signed, the node must know, because a
//! key that votes twice in one view loses its stake.
//!
//! One file of fixed length, overwritten in place before a vote leaves this node. It survives the
//! process; it is synced only now and then, because after a loss of power a record that is behind
//! its journal does no harm. Nothing here decides whether to vote.
//!
//! `known` owns what a record says and its bytes, `carried` what leaves the machine with the key.

mod carried;
mod known;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use soma_os::clock::now_ms;
use soma_protocol::ConsensusKey;
use soma_store::StoreError;

pub use self::carried::CarriedVotes;
pub(crate) use self::known::{Before, VotePlace};
use self::known::{
    Elsewhere, Known, NOTHING, RECORD_BYTES_MAX, UNKNOWN, decode, encode, encode_new,
};
use crate::{EngineError, Remedy};

/// How many views pass before the file is synced again, unless a term begins.
const VIEWS_UNSYNCED_MAX: u64 = 16;

/// The error of a file that should be a record.
fn not_a_record(path: &Path) -> EngineError {
    let reason = String::from("it is not a record of votes");
    EngineError::Damaged { path: path.into(), reason, remedy: Remedy::Remade }
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
    /// [`EngineError::KeyMoved`] if the key has left this machine; [`EngineError::Damaged`] if the
    /// file is no record; [`EngineError::Store`] if it cannot be used.
    pub fn open(path: &Path, key: ConsensusKey) -> Result<Self, EngineError> {
        let io = |source| StoreError::Io { path: path.to_path_buf(), source };
        let mut options = OpenOptions::new();
        let opened = options.read(true).write(true).create(true).truncate(false).open(path);
        let mut file = opened.map_err(io)?;
        let mut bytes = Vec::with_capacity(RECORD_BYTES_MAX + 1);
        (&mut file).take(RECORD_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(io)?;
        let known = match decode(&bytes) {
            None if bytes.is_empty() => Known::default(),
            Some((owner, known)) if owner == key => known,
            Some(_) => Known::default(),
            None => return Err(not_a_record(path)),
        };
        if known.elsewhere == Elsewhere::Moved {
            return Err(EngineError::KeyMoved { path: path.into() });
        }
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
        let bytes = encode_new(&self.key, now_ms(), record.known);
        if let Some(file) = &mut record.file {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&bytes)?;
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
        Some(self.lock().known.in_term(term).loose).filter(|view| *view > 0)
    }

    /// The first term in which nobody else is known to have voted with this key.
    pub(crate) fn free_from(&self) -> u64 {
        self.lock().known.free_from
    }

    /// The last vote that the key is known to have signed.
    pub(crate) fn last_signed(&self) -> VotePlace {
        self.lock().known.last_signed()
    }

    /// What the key voted in a term before it came to this machine.
    pub(crate) fn before(&self, term: u64) -> Before {
        self.lock().known.in_term(term).before
    }

    /// Whether the record is from a backup, so that the key may have voted since.
    pub(crate) fn is_restored(&self) -> bool {
        self.lock().known.elsewhere == Elsewhere::Since
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
        record.write(&self.key, Known { last: Some(place), ..known.in_term(place.term) })
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
        let known = Known { last, loose: place.view, ..record.known.in_term(place.term) };
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
        let last = known.last.or(Some(UNKNOWN));
        // It counts in this process even if the disk fails.
        record.known.free_from = known.free_from;
        record.write(&self.key, Known { last, ..known })?;
        record.sync()
    }

    /// Records that whatever the key did since the backup that this record is from is over when
    /// this term begins.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn settle(&self, free_from: u64) -> io::Result<()> {
        let mut record = self.lock();
        let free_from = free_from.max(record.known.free_from);
        let known = Known { free_from, elsewhere: Elsewhere::Nowhere, ..record.known };
        record.write(&self.key, known)?;
        record.sync()
    }

    /// Forgets later votes: the operator takes the risk that the key has cast them.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn restart(&self, place: VotePlace) -> io::Result<()> {
        let mut record = self.lock();
        let known = Known { last: Some(place), loose: 0, ..record.known };
        let known = Known { before: Before::default(), elsewhere: Elsewhere::Nowhere, ..known };
        record.write(&self.key, known)
    }
}

impl Record {
    fn write(&mut self, key: &ConsensusKey, known: Known) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(&encode(key, known))?;
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

#[cfg(test)]
const KEY: ConsensusKey = ConsensusKey([7; 32]);

#[cfg(test)]
fn place(term: u64, view: u64) -> VotePlace {
    VotePlace { term, view }
}

#[cfg(test)]
mod tests {
    use super::{ConsensusKey, EngineError, KEY, VoteRecord, place};

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
        assert_eq!(std::fs::read(&path).unwrap().len(), 80);
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

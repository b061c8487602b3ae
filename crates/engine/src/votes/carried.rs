//! What is known of the votes of a key, apart from the machine on which it votes: in a backup, or
//! on the way to another machine. It decides nothing: whoever carries it says what it is.

use std::{fs, io, path::Path, thread, time::Duration};

use soma_protocol::ConsensusKey;
use soma_store::StoreError;

use super::{
    known::{Before, Elsewhere, Known, UNKNOWN, VotePlace, decode, encode},
    not_a_record,
};
use crate::EngineError;

/// How often a record is read that a running node writes, and how long it takes to write it.
const READS_MAX: u32 = 5;
const WRITING: Duration = Duration::from_millis(20);

/// What is known of the votes of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedVotes {
    key: ConsensusKey,
    known: Known,
}

impl CarriedVotes {
    /// What the record at `path` says, which a running node may write at the same time; nothing if
    /// there is none of this key.
    ///
    /// # Errors
    /// [`EngineError::KeyMoved`] if the key has left this machine; [`EngineError::Damaged`] if the
    /// file is no record; [`EngineError::Store`] if it cannot be read.
    pub fn read(path: &Path, key: ConsensusKey) -> Result<Self, EngineError> {
        for _ in 0..READS_MAX {
            let bytes = match fs::read(path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                Err(source) => return Err(StoreError::Io { path: path.into(), source }.into()),
            };
            match decode(&bytes) {
                Some((owner, known)) if owner == key && known.elsewhere == Elsewhere::Moved => {
                    return Err(EngineError::KeyMoved { path: path.into() });
                }
                Some((owner, known)) if owner == key => return Ok(Self { key, known }),
                None if !bytes.is_empty() => thread::sleep(WRITING),
                _ => return Ok(Self { key, known: Known::default() }),
            }
        }
        Err(not_a_record(path))
    }

    /// The same from its bytes; `None` if they are no record.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        decode(bytes).map(|(key, known)| Self { key, known })
    }

    /// The bytes of a record.
    pub fn bytes(&self) -> Vec<u8> {
        let last = Some(self.known.last.unwrap_or(UNKNOWN));
        encode(&self.key, Known { last, ..self.known })
    }

    /// Whose votes they are.
    pub fn key(&self) -> ConsensusKey {
        self.key
    }

    /// Whether this says how the key voted, as long as it has not voted since.
    pub fn is_exact(&self) -> bool {
        let is_known = self.known.last.is_some_and(|last| last.view != u64::MAX);
        is_known && self.known.elsewhere == Elsewhere::Nowhere
    }

    /// The same for a machine on which the key does not vote before it is sure that nobody else
    /// does: it may have voted since.
    #[must_use]
    pub fn restored(self) -> Self {
        let known = Known {
            last: Some(self.known.last.unwrap_or(UNKNOWN)),
            loose: 0,
            // Whatever is said of others meanwhile can be older than what the key did since.
            free_from: 0,
            before: Before::default(),
            elsewhere: Elsewhere::Since,
        };
        Self { known, ..self }
    }

    /// The same for the machine that the key leaves: no node starts there with it.
    #[must_use]
    pub fn left(self) -> Self {
        Self { known: Known { elsewhere: Elsewhere::Moved, ..self.known }, ..self }
    }

    /// Takes back that the key has left a machine: what the record at `path` says, as if it was
    /// [restored](Self::restored). `None` if the key has not left.
    ///
    /// # Errors
    /// Those of [`Self::read`], but the first.
    pub fn returned(path: &Path, key: ConsensusKey) -> Result<Option<Self>, EngineError> {
        match Self::read(path, key) {
            Err(EngineError::KeyMoved { .. }) => {
                let bytes = fs::read(path);
                let bytes = bytes.map_err(|source| StoreError::Io { path: path.into(), source })?;
                let left = Self::parse(&bytes).ok_or_else(|| not_a_record(path))?;
                Ok(Some(left.restored()))
            }
            read => read.map(|_| None),
        }
    }

    /// Writes the record to `path`, which no node uses.
    ///
    /// # Errors
    /// [`EngineError::Store`].
    pub fn write(&self, path: &Path) -> Result<(), EngineError> {
        let written = soma_os::file::write(path, &self.bytes());
        Ok(written.map_err(|source| StoreError::Io { path: path.into(), source })?)
    }

    /// The last vote that the key signed, if it is known.
    pub(crate) fn last_signed(&self) -> Option<VotePlace> {
        self.is_exact().then(|| self.known.last_signed())
    }

    /// The same for a machine that has no journal of these votes.
    pub(crate) fn without_journal(self, last: VotePlace, finalized: u64) -> Self {
        let before = self.known.in_term(last.term).before;
        let before = Before { voted: last.view, finalized: finalized.max(before.finalized) };
        let known = Known { last: Some(last), loose: 0, before, ..self.known };
        Self { known, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::{CarriedVotes, ConsensusKey, EngineError};
    use crate::votes::{KEY, VoteRecord, place};

    #[test]
    fn a_record_from_a_backup_says_so_until_the_key_votes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let [path, backup] = ["votes", "backup"].map(|name| folder.path().join(name));
        let record = VoteRecord::open(&path, KEY).unwrap();
        record.note(place(4, 9)).unwrap();
        record.note_free_from(7).unwrap();
        CarriedVotes::read(&path, KEY).unwrap().restored().write(&backup).unwrap();
        let restored = VoteRecord::open(&backup, KEY).unwrap();
        assert!(restored.is_restored() && !record.is_restored());
        assert_eq!((restored.last(), restored.free_from()), (Some(place(4, 9)), 0));
        restored.note_free_from(6).unwrap();
        assert!(VoteRecord::open(&backup, KEY).unwrap().is_restored(), "others were heard of");
        restored.settle(11).unwrap();
        let settled = VoteRecord::open(&backup, KEY).unwrap();
        assert_eq!((settled.is_restored(), settled.free_from()), (false, 11));
    }

    #[test]
    fn without_a_record_a_backup_says_that_nothing_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        let nothing = CarriedVotes::read(&path, KEY).unwrap();
        assert!(!nothing.is_exact());
        nothing.restored().write(&path).unwrap();
        assert_eq!(VoteRecord::open(&path, KEY).unwrap().last(), Some(place(0, u64::MAX)));
    }

    #[test]
    fn what_a_key_voted_before_it_moved_counts_for_that_term_and_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        VoteRecord::open(&path, KEY).unwrap().note(place(4, 9)).unwrap();
        let carried = CarriedVotes::read(&path, KEY).unwrap();
        let carried = carried.without_journal(place(4, 10), 8);
        assert!(carried.is_exact());
        assert_eq!(CarriedVotes::parse(&carried.bytes()), Some(carried.clone()));
        carried.write(&path).unwrap();
        let record = VoteRecord::open(&path, KEY).unwrap();
        record.note(place(4, 12)).unwrap();
        record.note_loose(place(4, 13)).unwrap();
        for record in [&record, &VoteRecord::open(&path, KEY).unwrap()] {
            let before = record.before(4);
            assert_eq!((before.voted, before.finalized), (10, 8));
            assert_eq!(record.before(5).voted, 0);
        }
        record.note(place(5, 1)).unwrap();
        assert_eq!(VoteRecord::open(&path, KEY).unwrap().before(4).voted, 0, "the term is over");
    }

    #[test]
    fn a_key_that_has_left_is_not_used_until_it_returns_and_then_as_from_a_backup() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        VoteRecord::open(&path, KEY).unwrap().note(place(4, 9)).unwrap();
        assert_eq!(CarriedVotes::returned(&path, KEY).unwrap(), None, "it is here");
        CarriedVotes::read(&path, KEY).unwrap().left().write(&path).unwrap();
        let opened = VoteRecord::open(&path, KEY);
        assert!(matches!(opened, Err(EngineError::KeyMoved { .. })), "{opened:?}");
        assert!(VoteRecord::open(&path, ConsensusKey([8; 32])).is_ok(), "another key");
        assert!(CarriedVotes::read(&path, KEY).is_err());
        CarriedVotes::returned(&path, KEY).unwrap().unwrap().write(&path).unwrap();
        let record = VoteRecord::open(&path, KEY).unwrap();
        assert!(record.is_restored());
        assert_eq!(record.last(), Some(place(4, 9)));
    }
}

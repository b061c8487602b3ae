//! What is known of the votes of a key, and its bytes. Nothing here touches a file.

use soma_os::clock::now_ms;
use soma_protocol::{ConsensusKey, Hash};

/// A record of the machine on which the key votes.
const OWN: &[u8; 8] = b"somavote";
/// The same of a key that was made a moment ago: the time in ms stands in place of the term.
const NEW: &[u8; 8] = b"somanew1";
/// The same of a key that came from another machine, exactly: two more numbers follow.
const ARRIVED: &[u8; 8] = b"somamove";
/// A record from a backup.
const RESTORED: &[u8; 8] = b"somaback";
/// A record of a machine that the key has left.
const LEFT: &[u8; 8] = b"somagone";
/// How long a key counts as new. A backup that is older must not say that it never voted.
const NEW_MS: u64 = 24 * 60 * 60 * 1_000;

/// Magic, key, four numbers, and the beginning of a hash of these.
const RECORD_BYTES: usize = 8 + 32 + 4 * 8 + CHECK_BYTES;
/// The same with the two numbers more.
pub(super) const RECORD_BYTES_MAX: usize = RECORD_BYTES + 2 * 8;
const CHECK_BYTES: usize = 8;

/// The place of a vote: the later term first, then the later view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct VotePlace {
    pub(crate) term: u64,
    pub(crate) view: u64,
}

/// Where a key that has voted for nothing has voted.
pub(super) const NOTHING: VotePlace = VotePlace { term: 0, view: 0 };
/// Nothing is known: the view only says that the key must not vote in this term.
pub(super) const UNKNOWN: VotePlace = VotePlace { term: 0, view: u64::MAX };

/// How far the key voted in a term on the machine that it came from. No journal here has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// The last view in which it voted.
    pub(crate) voted: u64,
    /// The last view whose block it voted to finalize; at least as high if that is not known.
    pub(crate) finalized: u64,
}

/// Where else a key may vote or have voted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// Nowhere that is known.
    #[default]
    Nowhere,
    /// It may have voted since the backup that this record was restored from.
    Since,
    /// It has moved, and votes there.
    Moved,
}

/// What is known of the votes of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// The last vote that the journal has as well; `None` if nothing is known.
    pub(super) last: Option<VotePlace>,
    /// A view of the last vote's term that the key nullified without its journal; 0 if it did not.
    pub(super) loose: u64,
    /// The first term in which nobody else is known to have voted with this key.
    pub(super) free_from: u64,
    /// What it voted in the last vote's term before it came here.
    pub(super) before: Before,
    pub(super) elsewhere: Elsewhere,
}

impl Known {
    /// What stays known if the key votes in `term` next.
    pub(super) fn in_term(self, term: u64) -> Self {
        if self.last.is_some_and(|last| last.term == term) {
            return self;
        }
        Self { loose: 0, before: Before::default(), ..self }
    }

    /// The last vote that the key is known to have signed.
    pub(super) fn last_signed(self) -> VotePlace {
        match self.last {
            Some(last) if last.view == u64::MAX => NOTHING,
            Some(last) => VotePlace { view: last.view.max(self.loose), ..last },
            None => NOTHING,
        }
    }
}

fn check(bytes: &[u8]) -> [u8; CHECK_BYTES] {
    let hash = Hash::of_parts("soma vote record", &[bytes]);
    let mut check = [0; CHECK_BYTES];
    check.copy_from_slice(&hash.0[..CHECK_BYTES]);
    check
}

/// The record of a key that was made at this time and has voted for nothing.
pub(super) fn encode_new(key: &ConsensusKey, made_ms: u64, known: Known) -> Vec<u8> {
    let made = VotePlace { term: made_ms, view: 0 };
    write(*NEW, key, Known { last: Some(made), ..known }, &[])
}

pub(super) fn encode(key: &ConsensusKey, known: Known) -> Vec<u8> {
    let Before { voted, finalized } = known.before;
    match known.elsewhere {
        Elsewhere::Since => write(*RESTORED, key, known, &[]),
        Elsewhere::Moved => write(*LEFT, key, known, &[]),
        Elsewhere::Nowhere if voted > 0 => write(*ARRIVED, key, known, &[voted, finalized]),
        Elsewhere::Nowhere => write(*OWN, key, known, &[]),
    }
}

fn write(magic: [u8; 8], key: &ConsensusKey, known: Known, more: &[u64]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(RECORD_BYTES_MAX);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&key.0);
    let last = known.last.unwrap_or(NOTHING);
    for number in [last.term, last.view, known.loose, known.free_from].iter().chain(more) {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let check = check(&bytes);
    bytes.extend_from_slice(&check);
    bytes
}

/// Whose record it is, and what it says.
pub(super) fn decode(bytes: &[u8]) -> Option<(ConsensusKey, Known)> {
    let magic = bytes.first_chunk::<8>()?;
    let length = if magic == ARRIVED { RECORD_BYTES_MAX } else { RECORD_BYTES };
    // Records are overwritten in place: a longer one leaves its end behind.
    if bytes.len() != length && bytes.len() != RECORD_BYTES_MAX {
        return None;
    }
    let (content, found) = bytes.get(..length)?.split_last_chunk::<CHECK_BYTES>()?;
    if *found != check(content) {
        return None;
    }
    let (key, numbers) = content.get(8..)?.split_first_chunk::<32>()?;
    let (numbers, []) = numbers.as_chunks::<8>() else {
        return None;
    };
    let number = |at: usize| numbers.get(at).map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let last = VotePlace { term: number(0), view: number(1) };
    let (last, elsewhere) = match magic {
        OWN | ARRIVED => (Some(last), Elsewhere::Nowhere),
        NEW => (is_new(last.term, now_ms()).then_some(NOTHING), Elsewhere::Nowhere),
        RESTORED => (Some(last), Elsewhere::Since),
        LEFT => (Some(last), Elsewhere::Moved),
        _ => return None,
    };
    let before = Before { voted: number(4), finalized: number(5) };
    let known = Known { last, loose: number(2), free_from: number(3), before, elsewhere };
    Some((ConsensusKey(*key), known))
}

/// Whether a key that was made at this time still counts as new.
fn is_new(made_ms: u64, now_ms: u64) -> bool {
    (made_ms..made_ms.saturating_add(NEW_MS)).contains(&now_ms)
}

#[cfg(test)]
mod tests {
    use super::{Before, Elsewhere, Known, NEW_MS, VotePlace, decode, encode, is_new};
    use crate::votes::KEY;

    #[test]
    fn a_backup_of_a_new_key_does_not_say_that_it_never_voted() {
        assert!(is_new(1_000, 1_000) && is_new(1_000, 1_000 + NEW_MS - 1));
        assert!(!is_new(1_000, 1_000 + NEW_MS), "it may have voted since");
        assert!(!is_new(1_000, 999), "a clock that is wrong");
    }

    #[test]
    fn a_record_says_after_it_was_read_what_was_written_and_over_a_longer_one_too() {
        let last = Some(VotePlace { term: 4, view: 9 });
        let own = Known { last, loose: 3, free_from: 2, ..Known::default() };
        let arrived = Known { before: Before { voted: 8, finalized: 6 }, ..own };
        let restored = Known { elsewhere: Elsewhere::Since, ..own };
        let left = Known { elsewhere: Elsewhere::Moved, ..own };
        let longest = encode(&KEY, arrived);
        for known in [own, arrived, restored, left] {
            let bytes = encode(&KEY, known);
            assert_eq!(decode(&bytes), Some((KEY, known)));
            let over = [&bytes[..], &longest[bytes.len()..]].concat();
            assert_eq!(decode(&over), Some((KEY, known)));
            for cut in 0..bytes.len() {
                assert_eq!(decode(&bytes[..cut]), None);
            }
        }
        assert_eq!(decode(&[&longest[..], &[0]].concat()), None);
    }
}

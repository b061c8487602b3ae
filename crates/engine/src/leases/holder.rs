//! The leases that a node holds itself, and the permission to sign that follows from them.
//!
//! Everything here errs towards silence: a lease counts from when it was asked for, by the clock of
//! this machine that has advanced the most, and for less time than it binds whoever granted it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use commonware_cryptography::ed25519::PrivateKey;
use soma_protocol::{ConsensusKey, Hash};
use tokio::sync::watch;

use super::{
    messages::{Answer, Claim},
    pace::Pace,
    presence::{Presence, Statement},
};
use crate::{
    keys::{ConsensusSecret, private_key},
    votes::{Before, VotePlace, VoteRecord},
    watching::{KeyUse, OtherProcess, Overtaken, Unleased},
};

/// Claims that may still be answered.
const CLAIMS_OPEN_MAX: usize = 8;
/// How many presences of this key are recognized when they come again.
const HEARD_MAX: usize = 16;

/// A moment, by both clocks of a machine: one that never goes back, and that of the wall, which
/// also counts the time in which the machine was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) steady: Duration,
    pub(crate) wall_ms: u64,
}

impl Moment {
    /// The longest time that may have passed since `earlier`.
    fn since(self, earlier: Self) -> Duration {
        let wall = Duration::from_millis(self.wall_ms.saturating_sub(earlier.wall_ms));
        self.steady.saturating_sub(earlier.steady).max(wall)
    }
}

/// The clocks of this machine.
pub(crate) type Clocks = Arc<dyn Fn() -> Moment + Send + Sync>;

/// Whom a seat needs leases of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    others: BTreeSet<ConsensusKey>,
    /// As many as make a quorum with it. Two sets of this size have at least as many seats in
    /// common as a committee may have faulty ones.
    needed: usize,
}

impl Seat {
    /// The seat of `me` in a committee of which `quorum` seats decide.
    pub(crate) fn new(
        me: &ConsensusKey,
        committee: impl Iterator<Item = ConsensusKey>,
        quorum: usize,
    ) -> Self {
        Self { others: committee.filter(|key| key != me).collect(), needed: quorum - 1 }
    }

    fn faults_max(&self) -> usize {
        self.others.len() - self.needed
    }
}

/// A lease that another node granted.
#[derive(Clone, Copy, Debug)]
struct Lease {
    asked: Moment,
    /// The term that it was in.
    term: u64,
}

#[derive(Debug, Default)]
struct Held {
    pace: Pace,
    number: u64,
    claims: VecDeque<(u64, Moment)>,
    leases: BTreeMap<ConsensusKey, Lease>,
    /// The seat of this node in the running term, if it has one.
    seat: Option<(u64, Seat)>,
    /// Since when it has not had enough leases.
    lacks_since: Option<Moment>,
    /// Another process with this key, when it was heard, and what it said then.
    other: Option<(OtherProcess, Moment, u64)>,
    /// What was heard last of other processes with this key.
    heard: VecDeque<Statement>,
}

impl Held {
    fn valid(&self, seat: &Seat, now: Moment) -> impl Iterator<Item = &Lease> {
        let of_seat = self.leases.iter().filter(|(key, _)| seat.others.contains(*key));
        let counted_on = self.pace.counted_on();
        of_seat.map(|(_, lease)| lease).filter(move |lease| now.since(lease.asked) < counted_on)
    }

    /// Whether enough seats let this node vote in `term`. A seat that is in a later term knows that
    /// nobody needs votes of this one: who signs them was restored from a backup.
    fn suffices(&self, seat: &Seat, term: u64, now: Moment) -> bool {
        let later = self.valid(seat, now).filter(|lease| lease.term > term).count();
        self.valid(seat, now).count() >= seat.needed && later <= seat.faults_max()
    }
}

/// The keys with a seat, now or soon, and the running term.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) term: u64,
    pub(crate) voters: BTreeSet<ConsensusKey>,
}

/// Who a process is, and by which clocks it lives.
pub(crate) struct Process {
    pub(crate) chain: Hash,
    pub(crate) key: ConsensusSecret,
    pub(crate) number: u64,
    pub(crate) clocks: Clocks,
    pub(crate) pace: Pace,
    pub(crate) record: Arc<VoteRecord>,
    /// Whether it votes although others have voted with its key: an operator's decision.
    pub(crate) ignores_others: bool,
    /// Whether it votes without asking anybody, as an adversary does.
    pub(crate) asks_nobody: bool,
}

/// The leases of this node's key.
pub(crate) struct Leases {
    process: Process,
    me: ConsensusKey,
    key: PrivateKey,
    started: Moment,
    held: Mutex<Held>,
    running: watch::Sender<Running>,
}

impl Leases {
    pub(crate) fn new(process: Process) -> Self {
        Self {
            me: process.key.public(),
            key: private_key(&process.key),
            started: (process.clocks)(),
            held: Mutex::new(Held { pace: process.pace, ..Held::default() }),
            running: watch::Sender::default(),
            process,
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn me(&self) -> &ConsensusKey {
        &self.me
    }

    pub(crate) fn chain(&self) -> &Hash {
        &self.process.chain
    }

    pub(crate) fn pace(&self) -> Pace {
        self.process.pace
    }

    pub(crate) fn now(&self) -> Moment {
        (self.process.clocks)()
    }

    /// The running term, and who has a seat: it changes with the term.
    pub(crate) fn running(&self) -> watch::Receiver<Running> {
        self.running.subscribe()
    }

    /// A term begins, in which this node has this seat, if any.
    pub(crate) fn begin_term(&self, running: Running, seat: Option<Seat>) {
        let term = running.term;
        self.held().seat = seat.map(|seat| (term, seat));
        self.running.send_replace(running);
    }

    /// The next claim; `None` if this node has no seat.
    pub(crate) fn claim(&self) -> Option<Claim> {
        if self.process.asks_nobody || !self.running.borrow().voters.contains(&self.me) {
            return None;
        }
        let now = self.now();
        let mut held = self.held();
        held.number += 1;
        let number = held.number;
        held.claims.push_back((number, now));
        if held.claims.len() > CLAIMS_OPEN_MAX {
            held.claims.pop_front();
        }
        let statement = Statement {
            process: self.process.number,
            started_ms: self.started.wall_ms,
            now_ms: now.wall_ms,
            last: self.process.record.last_signed(),
        };
        Some(Claim { number, presence: Presence::sign(&self.key, self.chain(), statement) })
    }

    /// Takes an answer. What it says about others of this key has been heard before.
    pub(crate) fn answered(&self, from: ConsensusKey, answer: &Answer) {
        if answer.process != self.process.number {
            return;
        }
        let mut held = self.held();
        let claim = held.claims.iter().find(|(number, _)| *number == answer.number);
        let Some(asked) = claim.map(|(_, asked)| *asked) else {
            return;
        };
        if answer.is_granted {
            held.leases.insert(from, Lease { asked, term: answer.term });
        } else {
            held.leases.remove(&from);
        }
    }

    /// Whether a presence of this key was heard before, so that its signature does not matter.
    pub(crate) fn is_known(&self, presence: &Presence) -> bool {
        let statement = presence.statement;
        let is_own = statement.process == self.process.number;
        is_own || self.held().heard.iter().any(|heard| statement.is_covered_by(heard))
    }

    /// Takes what another process with this key said, as its signature proves.
    pub(crate) fn hear(&self, through: ConsensusKey, presence: &Presence) {
        let Statement { process, started_ms, now_ms, last } = presence.statement;
        if process == self.process.number || presence.key != self.me {
            return;
        }
        if !self.has_begun() {
            return;
        }
        let now = self.now();
        let beside_ms = self.started.wall_ms.saturating_add(self.pace().clocks_differ_ms());
        let is_alive = now_ms > beside_ms;
        let mut held = self.held();
        held.heard.push_back(presence.statement);
        if held.heard.len() > HEARD_MAX {
            held.heard.pop_front();
        }
        let is_newer = held.other.is_none_or(|(_, _, said_ms)| said_ms < now_ms);
        if is_alive && is_newer {
            let other = OtherProcess { process, started_ms, through };
            held.other = Some((other, now, now_ms));
        }
        drop(held);
        self.hear_vote(last);
    }

    /// Whether a term has begun. Before, the record may lack what the journal has, and nothing is
    /// concluded from what others say: they say it again.
    fn has_begun(&self) -> bool {
        !self.running.borrow().voters.is_empty()
    }

    /// Whether a vote of this key changes nothing. On the same disk, a process of before this one
    /// voted no further than the record says.
    pub(crate) fn is_no_news(&self, vote: VotePlace) -> bool {
        let record = &self.process.record;
        !self.has_begun()
            || vote <= record.last_signed()
            || record.free_from() >= free_after(vote.term)
    }

    /// Takes a vote that this key signed, in this process or another one.
    pub(crate) fn hear_vote(&self, vote: VotePlace) {
        if self.is_no_news(vote) {
            return;
        }
        // The other process may have come to a later term since.
        let free_from = free_after(vote.term);
        tracing::warn!("{}", Overtaken { free_from, is_restored: false });
        if let Err(error) = self.process.record.note_free_from(free_from) {
            tracing::error!(%error, "cannot record that another process voted");
        }
    }

    /// Whether this node may sign votes of a term now.
    fn may_vote(&self, term: u64, seat: &Seat) -> bool {
        if self.process.asks_nobody || seat.needed == 0 {
            return true;
        }
        let now = self.now();
        let suffices = self.held().suffices(seat, term, now);
        // In a term before its last vote nobody needs another.
        let is_over = self.process.record.last_signed().term > term;
        if !suffices || is_over {
            return false;
        }
        self.settle(term);
        self.is_free(term)
    }

    /// Says of a key whose record is from a backup from when on it votes. Nobody else votes with it
    /// now, and the network is in this term. What the key did since the backup, it did in this term
    /// or before, or in the next one if it got there as the last thing it did.
    fn settle(&self, term: u64) {
        let record = &self.process.record;
        if self.process.ignores_others || !record.is_restored() {
            return;
        }
        let free_from = free_after(term);
        tracing::warn!("{}", Overtaken { free_from, is_restored: true });
        if let Err(error) = record.settle(free_from) {
            tracing::error!(%error, "cannot record from when on this key votes again");
        }
    }

    /// Whether nobody else is known to have voted with this key in a term.
    fn is_free(&self, term: u64) -> bool {
        let record = &self.process.record;
        self.process.ignores_others || (record.free_from() <= term && !record.is_restored())
    }

    /// Why this node does not vote in a term, if its key voted elsewhere or may have.
    fn overtaken(&self, term: u64) -> Option<Overtaken> {
        let record = &self.process.record;
        let is_restored = record.is_restored();
        let at_least = if is_restored { free_after(term) } else { 0 };
        let free_from = record.free_from().max(at_least);
        (!self.is_free(term)).then_some(Overtaken { free_from, is_restored })
    }

    /// Whether it lacks leases for the running term.
    pub(crate) fn lacks(&self) -> bool {
        let now = self.now();
        let mut held = self.held();
        let lacks = held.seat.as_ref().is_some_and(|(term, seat)| {
            seat.needed > 0 && !self.process.asks_nobody && !held.suffices(seat, *term, now)
        });
        held.lacks_since = lacks.then(|| held.lacks_since.unwrap_or(now));
        lacks
    }

    /// What is known about other processes with this key.
    pub(crate) fn key_use(&self) -> KeyUse {
        self.lacks();
        let now = self.now();
        let held = self.held();
        let other = held.other.filter(|(_, heard, _)| now.since(*heard) < self.pace().alive());
        let running = self.running.borrow().term;
        let unleased = held.lacks_since.zip(held.seat.as_ref()).map(|(since, (_, seat))| {
            let (held, needed) = (held.valid(seat, now).count(), seat.needed);
            Unleased { held, needed, lasts: now.since(since) }
        });
        KeyUse {
            other: other.map(|(other, ..)| other),
            overtaken: held.seat.as_ref().and_then(|_| self.overtaken(running)),
            unleased,
        }
    }
}

/// The first term that is safe for a key which may have voted elsewhere in `term`: the last thing
/// it did may have been to come to the next one.
fn free_after(term: u64) -> u64 {
    term.saturating_add(2)
}

/// The permission to sign the votes of one term.
pub(crate) struct Permit {
    leases: Arc<Leases>,
    term: u64,
    seat: Seat,
    /// Up to this view the key may have nullified what the journal does not show.
    nullified: u64,
    /// What the key voted in this term on the machine that it came from.
    before: Before,
    /// The last view whose nullify was refused.
    refused: Mutex<u64>,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("term", &self.term).finish_non_exhaustive()
    }
}

impl Permit {
    pub(crate) fn new(leases: Arc<Leases>, term: u64, seat: Seat) -> Self {
        let record = &leases.process.record;
        let (nullified, before) = (record.loose(term).unwrap_or(0), record.before(term));
        Self { leases, term, seat, nullified, before, refused: Mutex::new(0) }
    }

    /// Whether a vote for a block may be signed.
    pub(crate) fn allows_block(&self, view: u64) -> bool {
        let voted = self.nullified.max(self.before.voted);
        view > voted && self.leases.may_vote(self.term, &self.seat)
    }

    /// Whether a nullify may be signed. One that was refused is asked for again, and the library
    /// takes it for one that is in its journal.
    pub(crate) fn allows_nullify(&self, view: u64) -> bool {
        if view <= self.before.finalized {
            return false;
        }
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.leases.may_vote(self.term, &self.seat) {
            *refused = view;
            return false;
        }
        let place = VotePlace { term: self.term, view };
        let noted =
            if *refused == view { self.leases.process.record.note_loose(place) } else { Ok(()) };
        noted.inspect_err(|error| tracing::error!(%error, "cannot record a vote")).is_ok()
    }
}

#[cfg(test)]
impl Permit {
    /// A permit that allows everything.
    pub(crate) fn of_adversary() -> Self {
        let leases = tests::leases(true, &Arc::default());
        Self::new(Arc::new(leases), 0, Seat { others: BTreeSet::new(), needed: 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::{
        Answer, ConsensusKey, Leases, Moment, Pace, Permit, Presence, Process, Running, Seat,
        Statement, VotePlace, VoteRecord,
    };
    use crate::{CarriedVotes, ConsensusSecret, keys::private_key, watching::Overtaken};

    const CHAIN: soma_protocol::Hash = soma_protocol::Hash([7; 32]);
    const PROCESS: u64 = 40;
    const TERM: u64 = 3;
    const PEERS: [ConsensusKey; 3] =
        [ConsensusKey([1; 32]), ConsensusKey([2; 32]), ConsensusKey([3; 32])];

    /// Clocks that a test sets.
    type Time = Arc<Mutex<Moment>>;

    impl Default for Moment {
        fn default() -> Self {
            Self { steady: Duration::from_secs(100), wall_ms: 1_000_000 }
        }
    }

    fn key() -> ConsensusSecret {
        ConsensusSecret([9; 32])
    }

    pub(super) fn leases(asks_nobody: bool, time: &Time) -> Leases {
        leases_with(asks_nobody, time, Arc::new(VoteRecord::in_memory(key().public())))
    }

    fn leases_with(asks_nobody: bool, time: &Time, record: Arc<VoteRecord>) -> Leases {
        let time = Arc::clone(time);
        Leases::new(Process {
            chain: CHAIN,
            key: key(),
            number: PROCESS,
            clocks: Arc::new(move || *time.lock().unwrap()),
            pace: Pace::default(),
            record,
            ignores_others: false,
            asks_nobody,
        })
    }

    /// One seat of four.
    fn seat() -> Seat {
        Seat::new(&key().public(), PEERS.into_iter().chain([key().public()]), 3)
    }

    struct Setup {
        time: Time,
        leases: Arc<Leases>,
        permit: Permit,
    }

    impl Setup {
        fn new() -> Self {
            Self::with(Arc::new(VoteRecord::in_memory(key().public())))
        }

        fn with(record: Arc<VoteRecord>) -> Self {
            let time = Time::default();
            let leases = Arc::new(leases_with(false, &time, record));
            let voters = PEERS.into_iter().chain([key().public()]).collect();
            leases.begin_term(Running { term: TERM, voters }, Some(seat()));
            let permit = Permit::new(Arc::clone(&leases), TERM, seat());
            Self { time, leases, permit }
        }

        fn pass(&self, steady: Duration, wall: Duration) {
            let mut now = self.time.lock().unwrap();
            now.steady += steady;
            now.wall_ms += u64::try_from(wall.as_millis()).unwrap();
        }

        /// These peers, which are in a term, answer the next claim.
        fn granted(&self, peers: &[usize], term: u64) {
            let number = self.leases.claim().unwrap().number;
            self.answered(peers, term, number, PROCESS);
        }

        fn answered(&self, peers: &[usize], term: u64, number: u64, process: u64) {
            for peer in peers {
                let is_granted = true;
                let (others, vote) = (Vec::new(), None);
                let answer = Answer { process, number, is_granted, term, others, vote };
                self.leases.answered(PEERS[*peer], &answer);
            }
        }

        /// Another process with the key, which has voted there, says so this long after the start.
        fn told(&self, last: VotePlace, after_ms: u64) {
            let now_ms = 1_000_000 + after_ms;
            let statement = Statement { process: 41, started_ms: 0, now_ms, last };
            let presence = Presence::sign(&private_key(&key()), &CHAIN, statement);
            self.leases.hear(PEERS[0], &presence);
        }

        fn votes(&self) -> bool {
            self.permit.allows_block(5)
        }
    }

    const SECOND: Duration = Duration::from_secs(1);
    const COUNTED_ON: Duration = Duration::from_secs(4);
    const NONE: Duration = Duration::ZERO;

    #[test]
    fn a_node_votes_while_it_has_leases_of_a_quorum_and_no_longer() {
        let node = Setup::new();
        assert!(!node.votes());
        node.granted(&[0], TERM);
        assert!(!node.votes(), "one of the two that it takes");
        node.granted(&[0, 2], TERM);
        assert!(node.votes());
        node.pass(3 * SECOND, 3 * SECOND);
        assert!(node.votes());
        node.pass(SECOND, NONE);
        assert!(!node.votes(), "a clock that was set back changes nothing");
        node.granted(&[0, 1], TERM);
        node.pass(NONE, COUNTED_ON);
        assert!(!node.votes(), "a machine that was suspended");
    }

    #[test]
    fn a_lease_counts_from_when_it_was_asked_for_and_for_the_process_that_asked() {
        let node = Setup::new();
        let number = node.leases.claim().unwrap().number;
        node.answered(&[0, 1], TERM, number, PROCESS + 1);
        assert!(!node.votes(), "another process asked");
        node.answered(&[0, 1], TERM, number + 1, PROCESS);
        assert!(!node.votes(), "nobody asked");
        node.pass(COUNTED_ON, COUNTED_ON);
        node.answered(&[0, 1], TERM, number, PROCESS);
        assert!(!node.votes(), "too late");
        node.granted(&[0, 1], TERM);
        let number = node.leases.claim().unwrap().number;
        let (others, vote) = (Vec::new(), None);
        let refused =
            Answer { process: PROCESS, number, is_granted: false, term: TERM, others, vote };
        node.leases.answered(PEERS[1], &refused);
        assert!(!node.votes(), "a refusal counts at once");
    }

    #[test]
    fn a_node_whose_key_voted_elsewhere_watches_until_a_term_that_the_other_has_not_reached() {
        let node = Setup::new();
        node.granted(&[0, 1], TERM);
        let record = &node.leases.process.record;
        record.note(VotePlace { term: TERM, view: 20 }).unwrap();
        node.told(VotePlace { term: TERM, view: 20 }, 0);
        assert!(node.votes(), "the process before it, whose last vote is recorded");
        node.told(VotePlace { term: TERM, view: 21 }, 0);
        assert!(!node.votes());
        let may_vote = |term| node.leases.may_vote(term, &seat());
        assert!(!may_vote(TERM) && !may_vote(TERM + 1) && may_vote(TERM + 2));
        node.told(VotePlace { term: TERM, view: 22 }, 10_001);
        let seen = node.leases.key_use();
        assert_eq!(seen.other.map(|other| other.process), Some(41));
        assert_eq!(seen.overtaken.map(|it| it.free_from), Some(TERM + 2));
    }

    #[test]
    fn a_vote_that_the_record_lacks_counts_whatever_the_other_process_said() {
        let node = Setup::new();
        node.granted(&[0, 1], TERM);
        let place = |view| VotePlace { term: TERM, view };
        node.leases.process.record.note(place(20)).unwrap();
        node.told(place(20), 0);
        node.leases.hear_vote(place(20));
        assert!(node.votes(), "its own last vote");
        node.leases.hear_vote(place(21));
        assert!(!node.votes() && !node.leases.may_vote(TERM + 1, &seat()));
    }

    #[test]
    fn what_is_repeated_of_a_process_that_is_gone_silences_nobody() {
        let node = Setup::new();
        node.granted(&[0, 1], TERM);
        node.leases.process.record.note(VotePlace { term: TERM, view: 20 }).unwrap();
        for view in 0..=20 {
            node.told(VotePlace { term: TERM, view }, 0);
        }
        assert!(node.votes());
        assert_eq!(node.leases.key_use().other, None, "it said so before this one started");
    }

    #[test]
    fn a_node_restored_from_a_backup_signs_nothing_in_terms_that_are_over() {
        let node = Setup::new();
        node.granted(&[0, 1], TERM + 1);
        assert!(!node.votes(), "two of four cannot both lie");
        node.granted(&[1, 2], TERM);
        assert!(node.votes(), "one is ahead");
    }

    #[test]
    fn a_key_from_a_backup_signs_nothing_before_a_term_that_nobody_had_reached() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        let me = key().public();
        VoteRecord::open(&path, me).unwrap().note(VotePlace { term: TERM, view: 4 }).unwrap();
        CarriedVotes::read(&path, me).unwrap().restored().write(&path).unwrap();
        let record = || Arc::new(VoteRecord::open(&path, me).unwrap());
        let node = Setup::with(record());
        let may_vote = |node: &Setup, term| node.leases.may_vote(term, &seat());
        let seen = |node: &Setup| node.leases.key_use().overtaken;
        let watches = |free_from, is_restored| Some(Overtaken { free_from, is_restored });

        // The original may still run: without leases nothing is settled, whatever is said of it.
        node.told(VotePlace { term: TERM, view: 9 }, 0);
        assert!(!may_vote(&node, TERM) && !may_vote(&node, TERM + 7));
        assert_eq!(seen(&node), watches(TERM + 2, true));
        // The network is ahead.
        node.granted(&[0, 1], TERM + 7);
        assert!(!may_vote(&node, TERM + 6));
        assert_eq!(node.leases.process.record.free_from(), TERM + 2);
        // It is in this term: whoever voted with the key before may have got to the next one.
        assert!(!may_vote(&node, TERM + 7) && !may_vote(&node, TERM + 8));
        assert_eq!(seen(&node), watches(TERM + 9, false));
        let node = Setup::with(record());
        node.granted(&[0, 1], TERM + 8);
        assert!(!may_vote(&node, TERM + 8), "a restart changes nothing");
        assert!(may_vote(&node, TERM + 9));
    }

    #[test]
    fn a_key_that_moved_signs_what_it_cannot_have_contradicted_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("votes");
        let me = key().public();
        let last = VotePlace { term: TERM, view: 9 };
        VoteRecord::open(&path, me).unwrap().note(last).unwrap();
        let carried = CarriedVotes::read(&path, me).unwrap().without_journal(last, 7);
        carried.write(&path).unwrap();
        let node = Setup::with(Arc::new(VoteRecord::open(&path, me).unwrap()));
        node.granted(&[0, 1], TERM);
        assert!(!node.permit.allows_block(9) && node.permit.allows_block(10));
        assert!(!node.permit.allows_nullify(7), "it voted to finalize this view");
        assert!(node.permit.allows_nullify(8) && node.permit.allows_nullify(10));
        let next = Permit::new(Arc::clone(&node.leases), TERM + 1, seat());
        assert!(next.allows_block(1) && next.allows_nullify(1));
    }

    #[test]
    fn a_nullify_that_was_refused_is_recorded_when_it_is_signed_and_binds_the_next_process() {
        let node = Setup::new();
        assert!(!node.permit.allows_nullify(7));
        node.granted(&[0, 1], TERM);
        assert!(node.permit.allows_nullify(7));
        let record = &node.leases.process.record;
        assert_eq!(record.loose(TERM), Some(7));
        assert!(node.permit.allows_nullify(8));
        assert_eq!(record.loose(TERM), Some(7), "the journal has the others");
        let next = Permit::new(Arc::clone(&node.leases), TERM, seat());
        assert!(!next.allows_block(7) && next.allows_block(8) && next.allows_nullify(7));
    }

    #[test]
    fn the_only_validator_asks_nobody() {
        let time = Time::default();
        let alone = Seat::new(&key().public(), [key().public()].into_iter(), 1);
        assert!(Permit::new(Arc::new(leases(false, &time)), 0, alone).allows_block(1));
    }
}

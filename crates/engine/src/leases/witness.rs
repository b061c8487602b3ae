//! What a node grants to the others: of each key with a seat, one process at a time. It asks nobody
//! and is asked again every second, so it decides nothing about who votes: a quorum of nodes does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use soma_protocol::{ConsensusKey, Hash};

use super::{
    messages::{Answer, Claim, PROCESSES_MAX},
    pace::Pace,
    presence::Presence,
    seen::SeenVotes,
};

/// The process that has this node's lease of a key.
#[derive(Clone, Copy, Debug)]
struct Holder {
    process: u64,
    until: Duration,
}

/// What this node knows about a key.
#[derive(Debug, Default)]
struct Known {
    holder: Option<Holder>,
    /// The process that spoke here itself last, and when.
    speaker: Option<(u64, Duration)>,
    /// The newest presence of each process.
    presences: Vec<Presence>,
}

impl Known {
    fn knows(&self, presence: &Presence) -> bool {
        self.presences.iter().any(|it| presence.statement.is_covered_by(&it.statement))
    }

    /// Keeps a presence if it is newer than what is known of its process. Of too many, the oldest
    /// is forgotten, but never that of the last vote.
    fn keep(&mut self, presence: Presence) {
        if self.knows(&presence) {
            return;
        }
        self.presences.retain(|it| it.statement.process != presence.statement.process);
        self.presences.push(presence);
        self.presences.sort_by_key(|it| it.statement.last);
        if self.presences.len() > PROCESSES_MAX {
            let older = self.presences.iter().enumerate().rev().skip(1);
            let oldest = older.min_by_key(|(_, it)| it.statement.now_ms).map_or(0, |(at, _)| at);
            self.presences.remove(oldest);
        }
    }
}

/// The leases that this node has granted. Times are those of a clock that never goes back.
#[derive(Debug)]
pub(crate) struct Witness {
    chain: Hash,
    pace: Pace,
    /// What keys were seen to vote.
    seen: Arc<SeenVotes>,
    /// Before this, leases may be running that it granted before it was started.
    grants_from: Duration,
    voters: BTreeSet<ConsensusKey>,
    keys: BTreeMap<ConsensusKey, Known>,
}

impl Witness {
    pub(crate) fn new(chain: Hash, pace: Pace, seen: Arc<SeenVotes>, now: Duration) -> Self {
        let (voters, keys) = (BTreeSet::new(), BTreeMap::new());
        Self { chain, pace, seen, grants_from: now + pace.granted(), voters, keys }
    }

    /// The keys that have a seat now or soon: nothing is kept about others.
    pub(crate) fn expect(&mut self, voters: BTreeSet<ConsensusKey>) {
        self.keys.retain(|key, _| voters.contains(key));
        self.seen.expect(&voters);
        self.voters = voters;
    }

    /// Answers a claim of the node with this key; `None` if it has no seat.
    pub(crate) fn claim(&mut self, claim: Claim, term: u64, now: Duration) -> Option<Answer> {
        let Claim { number, presence } = claim;
        if !self.voters.contains(&presence.key) {
            return None;
        }
        let (key, process) = (presence.key, presence.statement.process);
        let vote = self.seen.after(&key, presence.statement.last);
        // Whoever passed on a vote that the key did not sign would be blocked.
        let vote = vote.filter(|vote| vote.is_signed(&key, &self.chain));
        let known = self.keys.entry(key).or_default();
        known.speaker = Some((process, now));
        known.keep(presence);
        let is_free = known.holder.is_none_or(|it| it.process == process || it.until <= now);
        let is_granted = is_free && now >= self.grants_from;
        if is_granted {
            known.holder = Some(Holder { process, until: now + self.pace.granted() });
        }
        let others = known.presences.iter().filter(|it| it.statement.process != process);
        let others = others.cloned().collect();
        Some(Answer { process, number, is_granted, term, others, vote })
    }

    /// Whether a presence that another node passes on says anything new.
    pub(crate) fn is_news(&self, presence: &Presence, now: Duration) -> bool {
        let Some(known) = self.keys.get(&presence.key) else {
            return self.voters.contains(&presence.key);
        };
        let speaks = known.speaker.is_some_and(|(process, at)| {
            process == presence.statement.process && now.saturating_sub(at) < self.pace.speaks()
        });
        !speaks && !known.knows(presence)
    }

    /// Keeps a presence that another node passed on.
    pub(crate) fn hear(&mut self, presence: Presence) {
        if self.voters.contains(&presence.key) {
            self.keys.entry(presence.key).or_default().keep(presence);
        }
    }

    /// What this node passes on: of each key that speaks here itself, what it said last.
    pub(crate) fn heard(&self, now: Duration) -> Vec<Presence> {
        let speaks = |at: &Duration| now.saturating_sub(*at) < self.pace.speaks();
        let speaking = self.keys.values().filter_map(|known| {
            let (process, _) = known.speaker.filter(|(_, at)| speaks(at))?;
            known.presences.iter().find(|it| it.statement.process == process).cloned()
        });
        speaking.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Answer, Arc, Claim, Pace, Presence, SeenVotes, Witness};
    use crate::{
        ConsensusSecret, ballots::SignedVote, keys::private_key, leases::presence::Statement,
        votes::VotePlace,
    };

    const CHAIN: soma_protocol::Hash = soma_protocol::Hash([7; 32]);

    const BOTH: [u8; 2] = [1, 2];
    const GRANTED: Duration = Duration::from_secs(5);
    const ALMOST: Duration = Duration::from_millis(4_999);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn presence(key: u8, process: u64, now_ms: u64) -> Presence {
        let last = VotePlace { term: 3, view: now_ms };
        let statement = Statement { process, started_ms: 0, now_ms, last };
        Presence::sign(&private_key(&ConsensusSecret([key; 32])), &CHAIN, statement)
    }

    /// A node that started at 0, which knows two keys.
    fn witness() -> Witness {
        let seen = Arc::<SeenVotes>::default();
        let mut witness = Witness::new(CHAIN, Pace::default(), seen, secs(0));
        witness.expect(BOTH.map(|key| presence(key, 0, 0).key).into());
        witness
    }

    fn claim(witness: &mut Witness, process: u64, at: Duration) -> Answer {
        let now_ms = u64::try_from(at.as_millis()).unwrap();
        let claim = Claim { number: now_ms, presence: presence(1, process, now_ms) };
        witness.claim(claim, 3, at).unwrap()
    }

    #[test]
    fn one_process_at_a_time_has_a_lease_of_a_key() {
        let mut witness = witness();
        assert!(claim(&mut witness, 7, secs(10)).is_granted);
        assert!(!claim(&mut witness, 8, secs(11)).is_granted);
        assert!(claim(&mut witness, 7, secs(12)).is_granted, "renewed");
        let before = secs(12) + ALMOST;
        assert!(!claim(&mut witness, 8, before).is_granted);
        assert!(claim(&mut witness, 8, secs(12) + GRANTED).is_granted, "the first is gone");
        assert!(!claim(&mut witness, 7, secs(12) + GRANTED).is_granted);
    }

    #[test]
    fn a_node_that_forgot_what_it_granted_waits_until_that_is_over() {
        let mut witness = witness();
        assert!(!claim(&mut witness, 7, ALMOST).is_granted);
        assert!(claim(&mut witness, 8, GRANTED).is_granted);
    }

    #[test]
    fn a_process_hears_what_others_with_its_key_said_and_nothing_is_kept_of_others() {
        let mut witness = witness();
        witness.hear(presence(1, 7, 50));
        witness.hear(presence(1, 7, 40));
        let answer = claim(&mut witness, 8, secs(10));
        assert_eq!(answer.others, [presence(1, 7, 50)]);
        for process in 10..20 {
            claim(&mut witness, process, secs(10 + process));
        }
        let answer = claim(&mut witness, 8, secs(40));
        let others: Vec<_> = answer.others.iter().map(|it| it.statement.process).collect();
        assert_eq!(others, [18, 19], "the newest");
        witness.hear(presence(1, 30, 90_000));
        for process in 40..50 {
            claim(&mut witness, process, secs(10 + process));
        }
        let answer = claim(&mut witness, 49, secs(80));
        let others: Vec<_> = answer.others.iter().map(|it| it.statement.process).collect();
        assert_eq!(others, [48, 30], "and whoever voted last");
        let unseated = Claim { number: 1, presence: presence(9, 1, 1) };
        assert_eq!(witness.claim(unseated, 3, secs(41)), None);
        witness.hear(presence(9, 1, 1));
        assert!(!witness.is_news(&presence(9, 1, 1), secs(41)));
        assert_eq!(witness.keys.len(), 1);
    }

    #[test]
    fn a_process_that_takes_over_is_told_of_the_last_vote_that_was_received_of_its_key() {
        let mut witness = witness();
        let (key, other) = (ConsensusSecret([1; 32]), ConsensusSecret([2; 32]));
        let vote = |view| SignedVote::nullify(&key, &CHAIN, VotePlace { term: 3, view });
        for view in [4, 9_000, 8_000] {
            witness.seen.note(&key.public(), vote(view));
        }
        witness.seen.note(&ConsensusSecret([9; 32]).public(), vote(1));
        // Its record has views up to the time in ms.
        assert_eq!(claim(&mut witness, 8, secs(8)).vote, Some(vote(9_000)));
        assert_eq!(claim(&mut witness, 8, secs(9)).vote, None, "it knows");
        let forged = SignedVote::nullify(&other, &CHAIN, VotePlace { term: 4, view: 1 });
        witness.seen.note(&key.public(), forged);
        assert_eq!(claim(&mut witness, 8, secs(9)).vote, None, "nobody signed it");
        witness.expect([other.public()].into());
        assert_eq!(witness.seen.after(&key.public(), VotePlace { term: 0, view: 0 }), None);
    }

    #[test]
    fn what_a_key_says_itself_is_passed_on_and_is_no_news_from_others() {
        let mut witness = witness();
        claim(&mut witness, 7, secs(10));
        witness.hear(presence(2, 3, 10_000));
        assert_eq!(witness.heard(secs(11)), [presence(1, 7, 10_000)]);
        assert!(!witness.is_news(&presence(1, 7, 10_500), secs(11)), "it speaks here");
        assert!(witness.is_news(&presence(1, 8, 9_000), secs(11)), "another process");
        assert!(!witness.is_news(&presence(2, 3, 10_000), secs(11)), "known");
        assert!(witness.is_news(&presence(2, 3, 10_001), secs(11)));
        assert_eq!(witness.heard(secs(30)), []);
    }
}

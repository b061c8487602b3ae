//! Which audit runs next, and for how long at once.
//!
//! Submitters take turns: of each the smallest claim comes first, then the second of each, so that
//! whoever publishes much keeps nobody's claim from being audited. Small claims come first among
//! them. All validators have the same order, so that they decide the same claims if the time is too
//! short for all. While others wait, no audit may run far beyond its share of the
//! time that is left. A model that is slow to compute, or a file that is missing, must never delay
//! any verdict but those on its own targets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use soma_protocol::{Address, Verdict};

use super::{Outcome, Subject};

/// How long to wait before an audit that failed on this node is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// The shortest time that an audit gets at once.
const LIMIT_MIN: Duration = Duration::from_secs(10);
/// How long audits may take if the operator ends phases: nobody knows when that will be.
const TIME_BY_COMMAND: Duration = Duration::from_hours(1);
/// How many times the time that its work suggests an audit may take.
const TOLERANCE: u32 = 4;

/// What an audit has computed so far, by the place of the routed model. It survives interruptions.
pub(super) type Progress = BTreeMap<usize, Outcome>;

#[derive(Default)]
struct Audit {
    /// How many smaller claims its submitter has.
    turn: u32,
    verdict: Option<Verdict>,
    is_running: bool,
    /// How often it was interrupted.
    interruptions: u32,
    /// Not tried again before then.
    rests_until: Option<Instant>,
    progress: Progress,
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Next {
    /// Audit this.
    Run {
        /// What the audit is about.
        subject: Subject,
        /// What was computed before.
        progress: Progress,
        /// How long it may run before it is interrupted.
        limit: Duration,
    },
    /// Nothing can be done for so long; `None`: until something changes.
    Rest(Option<Duration>),
}

/// The audits that are due.
pub(super) struct Schedule {
    audits: BTreeMap<Subject, Audit>,
    /// When their verdicts must be there; `None` if the operator ends phases.
    ends: Option<Instant>,
    workers: u32,
    /// Work of the audits that were completed, and the time that they took.
    completed: (u64, Duration),
}

impl Schedule {
    /// For this many audits at once.
    pub(super) fn new(workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        Self { audits: BTreeMap::new(), ends: None, workers, completed: (0, Duration::ZERO) }
    }

    /// Replaces the list of what is due. Returns whether something waits.
    pub(super) fn follow(&mut self, due: Vec<Subject>, ends: Option<Instant>) -> bool {
        let mut previous = std::mem::take(&mut self.audits);
        let keep = |subject| (subject, previous.remove(&subject).unwrap_or_default());
        self.audits = due.into_iter().map(keep).collect();
        self.take_turns();
        self.ends = ends;
        self.waiting() > 0
    }

    fn take_turns(&mut self) {
        let mut turns: BTreeMap<Address, u32> = BTreeMap::new();
        let mut audits: Vec<_> = self.audits.iter_mut().collect();
        audits.sort_by_key(|(subject, _)| (subject.work, **subject));
        for (subject, audit) in audits {
            let turn = turns.entry(subject.submitter).or_default();
            audit.turn = *turn;
            *turn = turn.saturating_add(1);
        }
    }

    /// How many audits are not done.
    pub(super) fn waiting(&self) -> usize {
        self.audits.values().filter(|audit| audit.verdict.is_none()).count()
    }

    pub(super) fn verdict(&self, subject: &Subject) -> Option<Verdict> {
        self.audits.get(subject)?.verdict.clone()
    }

    /// The audit to run now, which then counts as running.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        let idle =
            self.audits.iter().filter(|(_, audit)| audit.verdict.is_none() && !audit.is_running);
        let rests = |audit: &Audit| audit.rests_until.filter(|until| *until > now);
        let ready = idle.clone().filter(|(_, audit)| rests(audit).is_none());
        let first = ready.min_by_key(|(subject, audit)| {
            (audit.interruptions, audit.turn, subject.work, **subject)
        });
        let Some((&subject, audit)) = first else {
            let soonest = idle.filter_map(|(_, audit)| rests(audit)).min();
            return Next::Rest(soonest.map(|until| until.saturating_duration_since(now)));
        };
        let limit = self.limit(&subject, audit.interruptions, now);
        let progress = self.audits.get_mut(&subject).map(|audit| {
            audit.is_running = true;
            std::mem::take(&mut audit.progress)
        });
        Next::Run { subject, progress: progress.unwrap_or_default(), limit }
    }

    /// The share of the time left that this audit's work is of all work, but not less than such
    /// work took before; more after each interruption.
    fn limit(&self, subject: &Subject, interruptions: u32, now: Instant) -> Duration {
        let undone = self.audits.iter().filter(|(_, audit)| audit.verdict.is_none());
        let all: u64 = undone.map(|(subject, _)| subject.work).sum();
        let left = match self.ends {
            Some(ends) => ends.saturating_duration_since(now),
            None => TIME_BY_COMMAND,
        };
        let share = part(left.saturating_mul(self.workers), subject.work, all);
        let (work, took) = self.completed;
        let expected = part(took, subject.work, work).saturating_mul(TOLERANCE);
        share.max(expected).max(LIMIT_MIN).saturating_mul(1 << interruptions.min(16))
    }

    /// The audit is done.
    pub(super) fn found(&mut self, subject: &Subject, verdict: Verdict, took: Duration) {
        let (work, time) = &mut self.completed;
        *work = work.saturating_add(subject.work);
        *time = time.saturating_add(took);
        if let Some(audit) = self.audits.get_mut(subject) {
            audit.verdict = Some(verdict);
            audit.is_running = false;
        }
    }

    /// The audit was interrupted: others come first now.
    pub(super) fn interrupted(&mut self, subject: &Subject, progress: Progress) {
        if let Some(audit) = self.audits.get_mut(subject) {
            audit.is_running = false;
            audit.interruptions = audit.interruptions.saturating_add(1);
            audit.progress = progress;
        }
    }

    /// The audit failed on this node, and can be tried again in a while.
    pub(super) fn failed(&mut self, subject: &Subject, progress: Progress, now: Instant) {
        if let Some(audit) = self.audits.get_mut(subject) {
            audit.is_running = false;
            audit.rests_until = now.checked_add(RETRY);
            audit.progress = progress;
        }
    }
}

/// `work / all` of a time; nothing of a time of no work.
fn part(time: Duration, work: u64, all: u64) -> Duration {
    let micros = time.as_micros().saturating_mul(work.into()).checked_div(all.into());
    Duration::from_micros(u64::try_from(micros.unwrap_or(0)).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use soma_protocol::record::Broken;
    use soma_protocol::{Address, Hash, TargetId, Validity, Verdict};

    use super::{LIMIT_MIN, Next, Progress, RETRY, Schedule, TIME_BY_COMMAND};
    use crate::duties::audit::{Outcome, Subject};

    /// A claim of a submitter of its own.
    fn subject(target: u32, work: u64) -> Subject {
        let submitter = Address(Hash::of_bytes(&target.to_le_bytes()).0);
        Subject { target: TargetId(target), data_hash: Hash([1; 32]), work, submitter }
    }

    fn verdict() -> Verdict {
        Verdict { validity: Validity::Valid, trace: Hash::default(), broken: Broken::default() }
    }

    fn run(schedule: &mut Schedule, now: Instant) -> (Subject, Duration) {
        match schedule.next(now) {
            Next::Run { subject, limit, .. } => (subject, limit),
            rest @ Next::Rest(_) => panic!("{rest:?}"),
        }
    }

    #[test]
    fn small_claims_are_audited_first_and_several_at_once() {
        let now = Instant::now();
        let mut schedule = Schedule::new(2);
        assert!(schedule.follow(vec![subject(1, 900), subject(2, 10), subject(3, 50)], None));
        let order: Vec<u32> = (0..3).map(|_| run(&mut schedule, now).0.target.0).collect();
        assert_eq!(order, [2, 3, 1]);
        assert!(matches!(schedule.next(now), Next::Rest(None)), "all run");
    }

    #[test]
    fn whoever_publishes_much_keeps_no_claim_of_others_from_being_audited() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        let one = Address([7; 32]);
        let much = (1..90).map(|target| Subject { submitter: one, ..subject(target, 10) });
        let due = much.chain([subject(100, 900), subject(101, 800)]).collect();
        schedule.follow(due, Some(now + Duration::from_secs(1_000)));
        let order: Vec<u32> = (0..4)
            .map(|_| {
                let (next, _) = run(&mut schedule, now);
                schedule.found(&next, verdict(), Duration::from_secs(1));
                next.target.0
            })
            .collect();
        assert_eq!(order, [1, 101, 100, 2]);
    }

    #[test]
    fn an_audit_that_runs_beyond_its_share_waits_until_the_others_are_done() {
        let now = Instant::now();
        let ends = now + Duration::from_secs(1_000);
        let mut schedule = Schedule::new(1);
        schedule.follow(vec![subject(1, 1), subject(2, 2), subject(3, 7)], Some(ends));
        let (slow, limit) = run(&mut schedule, now);
        assert_eq!((slow.target.0, limit), (1, Duration::from_secs(100)), "its share");
        let progress = Progress::from([(0, Outcome::NoScore)]);
        schedule.interrupted(&slow, progress.clone());
        for expected in [2, 3] {
            let (next, _) = run(&mut schedule, now);
            assert_eq!(next.target.0, expected);
            schedule.found(&next, verdict(), Duration::from_secs(1));
        }
        let Next::Run { subject: again, progress: kept, limit } = schedule.next(now) else {
            panic!("the slow one is left");
        };
        assert_eq!((again, kept), (slow, progress), "what was computed is kept");
        assert_eq!(limit, Duration::from_secs(2_000), "all of the time that is left, and more");
    }

    #[test]
    fn on_a_machine_that_is_too_slow_for_all_audits_are_not_interrupted_for_being_slow() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        let all: Vec<Subject> = (0..100).map(|target| subject(target, 10)).collect();
        schedule.follow(all, Some(now + Duration::from_secs(100)));
        let (first, _) = run(&mut schedule, now);
        schedule.found(&first, verdict(), Duration::from_mins(1));
        let (_, limit) = run(&mut schedule, now);
        assert_eq!(limit, Duration::from_mins(4));
    }

    #[test]
    fn a_claim_whose_files_are_missing_rests_and_the_others_do_not() {
        let now = Instant::now();
        let mut schedule = Schedule::new(1);
        schedule.follow(vec![subject(1, 1), subject(2, 2)], None);
        let (missing, limit) = run(&mut schedule, now);
        assert!(limit > TIME_BY_COMMAND / 4);
        schedule.failed(&missing, Progress::new(), now);
        assert_eq!(run(&mut schedule, now).0.target.0, 2);
        let Next::Rest(Some(pause)) = schedule.next(now) else { panic!("it rests") };
        assert_eq!(pause, RETRY);
        assert_eq!(run(&mut schedule, now + RETRY).0, missing);
    }

    #[test]
    fn what_is_settled_is_forgotten_and_what_is_new_is_added() {
        let now = Instant::now();
        let mut schedule = Schedule::new(4);
        schedule.follow(vec![subject(1, 1), subject(2, 1)], Some(now));
        let (first, limit) = run(&mut schedule, now);
        assert_eq!(limit, LIMIT_MIN, "late, but tried");
        schedule.found(&first, verdict(), Duration::ZERO);
        assert_eq!(schedule.verdict(&first), Some(verdict()));
        assert!(schedule.follow(vec![first, subject(3, 1)], Some(now)));
        assert_eq!((schedule.waiting(), schedule.verdict(&first)), (1, Some(verdict())));
        let (running, _) = run(&mut schedule, now);
        assert!(!schedule.follow(Vec::new(), None));
        schedule.found(&running, verdict(), Duration::ZERO);
        assert_eq!(schedule.verdict(&running), None);
    }
}

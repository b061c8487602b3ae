//! Audits: published data is scored again with every model routed to its target, and the claim is
//! compared bit for bit.
//!
//! A file that is missing or unreadable on this node says nothing about the submitter, so the audit
//! is postponed, not decided. Scoring runs on its own threads and must never delay a block. Several
//! audits run at once; `schedule` decides which, and when one has to wait for the others.

mod models;
mod schedule;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use soma_architecture::Architecture;
use soma_architecture::embedding::document_distance;
use soma_codes::Coded as _;
use soma_model::{DeviceChoice, Directions, Engine, KernelChoice, Score, Weights};
use soma_protocol::record::{Candidate, TargetStatus, WeightsAge};
use soma_protocol::winner::is_gain_enough;
use soma_protocol::{
    Address, Hash, ModelId, StateRead, TargetId, Validity, Verdict, commitment, query, read,
};
use tokio::sync::Notify;

use self::models::{ModelFile, OpenModels, Opened};
use self::schedule::{Next, Progress, Schedule};
use crate::chain::Chain;
use crate::error::NodeError;
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::weights::{Revealed, WeightsStore};

/// Audits that run at once, if there are as many threads. More would open more models.
const WORKERS_MAX: usize = 4;

/// What an audit is about: the data published for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) target: TargetId,
    pub(crate) data_hash: Hash,
    /// Bytes of the data, once for each routed model: what an audit costs.
    pub(crate) work: u64,
    /// Who has published it.
    pub(crate) submitter: Address,
}

/// Audits that are due and the verdicts of those that are done.
pub(crate) struct Audits {
    schedule: Mutex<Schedule>,
    /// Notified when an audit is due.
    due: Notify,
    /// Notified when an audit is done.
    done: Arc<Notify>,
}

impl Audits {
    /// For this many audits at once; `done` is notified when one is done.
    pub(crate) fn new(done: Arc<Notify>, workers: usize) -> Self {
        Self { schedule: Mutex::new(Schedule::new(workers)), due: Notify::new(), done }
    }

    /// Replaces the list of what is due: new subjects wait for an auditor, settled ones are
    /// dropped. `ends` is when the verdicts must be on the chain.
    pub(crate) fn follow(&self, due: Vec<Subject>, ends: Option<Instant>) {
        if self.schedule.lock().follow(due, ends) {
            self.due.notify_waiters();
        }
    }

    /// How many audits are not done.
    pub(crate) fn waiting(&self) -> usize {
        self.schedule.lock().waiting()
    }

    pub(crate) fn verdict(&self, subject: &Subject) -> Option<Verdict> {
        self.schedule.lock().verdict(subject)
    }
}

/// Everything an audit compares, from one state.
struct Case {
    /// The architecture of the epoch that drew the target.
    architecture: Architecture,
    seed: Hash,
    direction: Vec<i16>,
    data: Vec<u8>,
    claim: Candidate,
    routed: Vec<Contender>,
    margin_q32: u64,
    gain_min_q32: u64,
}

/// A routed model with the file that is fixed for the target. Each is judged by its own file, even
/// if others have revealed the same weights.
struct Contender {
    model: ModelId,
    revealed: Revealed,
    age: WeightsAge,
    /// The mean from which its documents are seen, as it was when the target was drawn.
    specialization: Vec<i16>,
}

impl Case {
    /// The case of a published target; `None` once it is settled.
    fn read(state: &dyn StateRead, subject: &Subject) -> Option<Self> {
        let target = read::target(state, subject.target)?;
        let TargetStatus::Published { rank } = target.status else {
            return None;
        };
        let claim = read::candidates(state, target.id).get(usize::try_from(rank).ok()?).copied()?;
        let publication = read::publication(state, target.id)?;
        let epoch = read::epoch(state, target.epoch)?;
        let contender = |routed| {
            let file = read::routed_file(state, &target, routed)?;
            let revealed = Revealed { weights_hash: routed.weights_hash, file };
            let (model, age) = (routed.model, routed.age);
            let specialization = read::drawn_specialization(state, target.epoch, model)?;
            Some(Contender { model, revealed, age, specialization })
        };
        let routed = target.routed.iter().map(contender).collect::<Option<_>>()?;
        Some(Self {
            architecture: read::architecture(state, epoch.architecture)?,
            seed: epoch.beacon,
            direction: query::direction(state, &target)?,
            data: publication.data,
            claim,
            routed,
            margin_q32: epoch.loss_margin_q32,
            gain_min_q32: epoch.gain_min_q32,
        })
    }
}

/// What running a routed model on the data gave.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Scored(Score),
    /// The weights have no finite score on this data, which is not their owner's fault.
    NoScore,
    /// The published file is malformed, or is not what was revealed.
    Broken,
}

impl Outcome {
    fn score(&self) -> Option<&Score> {
        match self {
            Self::Scored(score) => Some(score),
            Self::NoScore | Self::Broken => None,
        }
    }
}

impl Case {
    /// The file of a routed model, and the most memory that it can need.
    fn file(&self, routed: &Contender) -> ModelFile {
        ModelFile {
            id: routed.revealed.id(),
            architecture: Hash::of_bytes(self.architecture.to_json().as_bytes()),
            bytes: self.architecture.parameters().saturating_mul(size_of::<f32>() as u64),
        }
    }

    /// How far the data is from the target, seen from a model. Data in the middle of what the model
    /// is for has no direction, and cannot win.
    fn distance(&self, routed: &Contender, score: &Score) -> Option<u64> {
        document_distance(&score.embedding, &routed.specialization, &self.direction)
    }

    /// What a validator attests to, given what running each routed model gave.
    fn judge(&self, outcomes: &[&Outcome]) -> Verdict {
        let scores: Vec<_> = outcomes.iter().map(|outcome| outcome.score()).collect();
        let losses = scores.iter().map(|score| Some(score.as_ref()?.cross_entropy_q32()));
        let losses: Vec<_> = losses.collect();
        let ages: Vec<_> = self.routed.iter().map(|routed| routed.age).collect();
        let winner = soma_protocol::winner(&losses, &ages, self.margin_q32);
        let valid = winner
            .and_then(|winner| Some((self.routed.get(winner)?, scores.get(winner)?.as_ref()?)));
        let valid = valid.is_some_and(|(routed, score)| {
            routed.model == self.claim.model
                && score.loss_q32 == self.claim.loss_q32
                && score.gain_q32 == self.claim.gain_q32
                && is_gain_enough(score.gain_q32, self.gain_min_q32)
                && self.distance(routed, score) == Some(self.claim.distance)
                && self.data.len() as u64 == u64::from(self.claim.size_bytes)
        });
        let validity = if valid { Validity::Valid } else { Validity::Invalid };
        let traces: Vec<_> = scores.iter().map(|score| Some(score.as_ref()?.trace)).collect();
        let broken = outcomes.iter().enumerate();
        let broken = broken.filter(|(_, outcome)| matches!(outcome, Outcome::Broken));
        Verdict {
            validity,
            trace: commitment::trace(&traces),
            broken: broken.map(|(place, _)| place).collect(),
        }
    }
}

/// Scores published data again with its own model engine.
pub(crate) struct Auditor {
    engine: Engine,
}

impl Auditor {
    /// Auditors that share `threads` threads (0: one for each CPU), and the device.
    ///
    /// # Errors
    /// When this machine cannot run the kernel, or has no such device.
    pub(crate) fn crew(
        kernel: KernelChoice,
        device: DeviceChoice,
        threads: usize,
    ) -> Result<Vec<Self>, NodeError> {
        let cpus = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if threads == 0 { cpus() } else { threads };
        let workers = threads.min(WORKERS_MAX);
        let share = |worker| threads / workers + usize::from(worker < threads % workers);
        let warn = |error: &soma_model::Error| {
            tracing::warn!(%error, hint = error.hint(), "audits compute on the processor instead");
        };
        let auditor =
            |worker| Ok(Self { engine: Engine::new(kernel, share(worker))?.on(device, warn)? });
        (0..workers).map(auditor).collect()
    }
}

/// How an attempt at an audit ended.
enum Attempt {
    Done(Verdict),
    /// Its time is up, or the node stops.
    Interrupted,
    /// A file is missing or unreadable on this node.
    Failed(NodeError),
}

/// What the auditors work on.
pub(crate) struct AuditQueue {
    pub(crate) chain: Arc<Chain>,
    pub(crate) weights: Arc<WeightsStore>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) shutdown: Shutdown,
    models: OpenModels,
}

/// Audits what is due, again and again.
pub(crate) async fn run(queue: Arc<AuditQueue>, auditor: Auditor) {
    loop {
        // From here on it misses no change.
        let changed = queue.audits.due.notified();
        let next = queue.audits.schedule.lock().next(Instant::now());
        match next {
            Next::Run { subject, progress, limit } => {
                queue.audit(&auditor, &subject, progress, limit);
                // Lets the node shut down between two audits.
                tokio::task::yield_now().await;
            }
            Next::Rest(pause) => {
                queue.rest();
                let _elapsed = tokio::time::timeout(pause.unwrap_or(Duration::MAX), changed).await;
            }
        }
    }
}

impl AuditQueue {
    /// A queue whose open models take at most about `memory_bytes`.
    pub(crate) fn new(
        chain: Arc<Chain>,
        weights: Arc<WeightsStore>,
        audits: Arc<Audits>,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
        memory_bytes: u64,
    ) -> Self {
        let models = OpenModels::new(memory_bytes);
        Self { chain, weights, audits, metrics, shutdown, models }
    }

    /// Frees what is of no use until something is due again.
    fn rest(&self) {
        if self.audits.waiting() == 0 {
            self.models.close();
        }
    }

    fn audit(&self, auditor: &Auditor, subject: &Subject, mut progress: Progress, limit: Duration) {
        let begun = Instant::now();
        let Some(case) = self.chain.read(|state, _| Case::read(state, subject)) else {
            // It is settled, which the duties find out soon.
            self.audits.schedule.lock().failed(subject, progress, begun);
            return;
        };
        let proceed = || begun.elapsed() < limit && !self.shutdown.has_begun();
        let attempt = self.attempt(auditor, &case, &mut progress, &proceed);
        self.metrics.audited(begun.elapsed());
        let (target, mut schedule) = (subject.target.0, self.audits.schedule.lock());
        match attempt {
            Attempt::Interrupted => {
                if !self.shutdown.has_begun() {
                    tracing::warn!(target, ?limit, "this audit takes long; others come first");
                }
                schedule.interrupted(subject, progress);
            }
            Attempt::Failed(error) => {
                self.metrics.audits_failed.inc();
                tracing::warn!(target, %error, "audit postponed");
                schedule.failed(subject, progress, Instant::now());
            }
            Attempt::Done(verdict) => {
                match verdict.validity {
                    Validity::Valid => self.metrics.audits_valid.inc(),
                    Validity::Invalid => self.metrics.audits_invalid.inc(),
                };
                tracing::info!(target, validity = ?verdict.validity, "audited");
                schedule.found(subject, verdict, begun.elapsed());
                self.audits.done.notify_one();
            }
        }
    }

    /// Compares a claim with the scores of the routed models. What is computed is in `progress`,
    /// even if this is interrupted or a file is missing.
    fn attempt(
        &self,
        auditor: &Auditor,
        case: &Case,
        progress: &mut Progress,
        proceed: &impl Fn() -> bool,
    ) -> Attempt {
        let directions = Directions::new(&case.architecture, case.seed.0);
        let mut failure = None;
        let mut missing: Vec<(usize, &Contender)> = case.routed.iter().enumerate().collect();
        missing.retain(|(place, _)| !progress.contains_key(place));
        // Those that are open come first: opening the others may close them.
        missing.sort_by_key(|(_, routed)| !self.models.is_open(&case.file(routed)));
        for (place, routed) in missing {
            let outcome = match self.open(case, routed, proceed) {
                Ok(None) => return Attempt::Interrupted,
                Ok(Some(None)) => Outcome::Broken,
                Ok(Some(Some(weights))) => {
                    let (engine, data) = (&auditor.engine, &case.data);
                    match soma_model::score_while(engine, &weights, data, &directions, proceed) {
                        Ok(None) => return Attempt::Interrupted,
                        Ok(Some(report)) => Outcome::Scored(report.score),
                        Err(_) => Outcome::NoScore,
                    }
                }
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            self.metrics.audit_scores.inc();
            self.metrics.audit_bytes.inc_by(case.data.len() as u64);
            progress.insert(place, outcome);
        }
        match failure {
            Some(error) => Attempt::Failed(error),
            None => Attempt::Done(case.judge(&progress.values().collect::<Vec<_>>())),
        }
    }

    /// Opens the weights of a routed model, unless its owner published a malformed file, or one
    /// that is not what was revealed. `None` when `proceed` no longer agrees to wait.
    fn open(
        &self,
        case: &Case,
        routed: &Contender,
        proceed: &impl Fn() -> bool,
    ) -> Result<Option<Opened>, NodeError> {
        let open = || open_weights(&self.weights, &routed.revealed, &case.architecture);
        self.models.get(case.file(routed), proceed, open)
    }
}

/// The weights in a revealed file; `None` if it has none. A damaged copy on this disk is an error.
pub(crate) fn open_weights(
    files: &WeightsStore,
    revealed: &Revealed,
    architecture: &Architecture,
) -> Result<Option<Weights>, NodeError> {
    let weights_hash = revealed.weights_hash;
    let Some(path) = files.plain_file(revealed)? else {
        tracing::warn!(%weights_hash, "a published file is not what was revealed");
        return Ok(None);
    };
    match Weights::open(&path, Some(architecture)) {
        Ok(weights) if weights.hash() != weights_hash.0 => {
            Err(files.remove_plain(revealed, Hash(weights.hash())))
        }
        Ok(weights) => Ok(Some(weights)),
        Err(soma_model::Error::Io { path, source }) => Err(NodeError::io(&path, source)),
        // Neither says anything about what was published.
        Err(error @ (soma_model::Error::Changed { .. } | soma_model::Error::NotAFile { .. })) => {
            Err(NodeError::io(&path, std::io::Error::other(error)))
        }
        Err(error) => {
            files.check_plain(revealed)?;
            tracing::warn!(%weights_hash, %error, "published weights are malformed");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use soma_protocol::record::{Candidate, RevealedFile, WeightsAge};
    use soma_protocol::{Address, Amount, Architecture, Epoch, Hash, ModelId, Validity};

    use super::{Case, Contender, Outcome, Revealed, Score};

    /// A claim that is true of [`scored`] data, with a gain just large enough.
    fn case() -> Case {
        let weights_hash = Hash([1; 32]);
        let file = RevealedFile { ciphertext_hash: Hash([2; 32]), size_bytes: 1, key: [3; 32] };
        let age = WeightsAge { epoch: Epoch(1), height: 1, index: 1 };
        let contender = Contender {
            model: ModelId(7),
            revealed: Revealed { weights_hash, file },
            age,
            specialization: vec![1_000, -5, 0],
        };
        Case {
            architecture: Architecture::nano(),
            seed: Hash([4; 32]),
            direction: vec![32_767, 0, 0],
            data: vec![9; 5],
            claim: Candidate {
                submitter: Address([5; 32]),
                model: ModelId(7),
                loss_q32: 11,
                gain_q32: 12,
                distance: 2 * 32_767 * 32_767 - 2 * (3 * 32_767 * 32_767 / 5),
                size_bytes: 5,
                commitment: Hash([6; 32]),
                corpus_root: Hash([7; 32]),
                corpus_leaves: 1,
                bond: Amount(1),
            },
            routed: vec![contender],
            margin_q32: 0,
            gain_min_q32: 12,
        }
    }

    /// Seen from the specialization, it lies at (3, 4, 0).
    fn scored() -> Score {
        let embedding = vec![1_003, -1, 0];
        Score { loss_q32: 11, counting_q32: 30, gain_q32: 12, embedding, trace: [8; 32] }
    }

    fn verdict(case: &Case, score: Score) -> Validity {
        case.judge(&[&Outcome::Scored(score)]).validity
    }

    #[test]
    fn a_claim_is_valid_only_if_all_of_it_is_true() {
        assert_eq!(verdict(&case(), scored()), Validity::Valid);
        let changes: [fn(&mut Candidate); 6] = [
            |claim| claim.model = ModelId(8),
            |claim| claim.loss_q32 -= 1,
            |claim| claim.gain_q32 += 1,
            |claim| claim.gain_q32 -= 1,
            |claim| claim.distance -= 1,
            |claim| claim.size_bytes += 1,
        ];
        for (at, change) in changes.iter().enumerate() {
            let mut case = case();
            change(&mut case.claim);
            assert_eq!(verdict(&case, scored()), Validity::Invalid, "{at}");
        }
    }

    #[test]
    fn data_that_is_not_understood_or_has_no_direction_wins_nothing() {
        let more = Case { gain_min_q32: 13, ..case() };
        assert_eq!(verdict(&more, scored()), Validity::Invalid);
        let mut middle = case();
        middle.claim.distance = 0;
        let embedding = middle.routed[0].specialization.clone();
        assert_eq!(verdict(&middle, Score { embedding, ..scored() }), Validity::Invalid);
    }
}

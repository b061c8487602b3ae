//! Audits: published data is scored again with every model routed to its target, and the claim is
//! compared bit for bit.
//!
//! A file that is missing or unreadable on this node says nothing about the submitter, so the audit
//! is postponed, not decided. Scoring runs on its own thread and must never delay a block.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use soma_architecture::Architecture;
use soma_architecture::embedding::distance_squared;
use soma_model::{Directions, Engine, KernelChoice, Weights};
use soma_protocol::record::{Candidate, TargetStatus, WeightsAge};
use soma_protocol::{
    Hash, ModelId, StateRead, TargetId, Validity, Verdict, commitment, query, read,
};
use tokio::sync::Notify;

use crate::chain::Chain;
use crate::error::NodeError;
use crate::metrics::Metrics;
use crate::weights::{Revealed, WeightsStore};

/// How long to wait before a failed audit is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Models kept open between audits.
const OPEN_MAX: usize = 16;

/// What an audit is about: the data published for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) target: TargetId,
    pub(crate) data_hash: Hash,
}

/// Audits that are due and the verdicts of those that are done.
#[derive(Default)]
pub(crate) struct Audits {
    /// `None` until the verdict is computed.
    subjects: Mutex<BTreeMap<Subject, Option<Verdict>>>,
    /// Notified when an audit is due.
    due: Notify,
    /// Notified when an audit is done.
    done: Arc<Notify>,
}

impl Audits {
    pub(crate) fn new(done: Arc<Notify>) -> Self {
        Self { done, ..Self::default() }
    }

    /// Replaces the list of what is due: new subjects wait for the auditor, settled ones are
    /// dropped.
    pub(crate) fn follow(&self, due: Vec<Subject>) {
        let mut subjects = self.subjects.lock();
        let previous = std::mem::take(&mut *subjects);
        subjects.extend(
            due.into_iter().map(|subject| (subject, previous.get(&subject).cloned().flatten())),
        );
        let waiting = subjects.values().any(Option::is_none);
        drop(subjects);
        if waiting {
            self.due.notify_one();
        }
    }

    /// How many audits are not done.
    pub(crate) fn waiting(&self) -> usize {
        self.subjects.lock().values().filter(|verdict| verdict.is_none()).count()
    }

    pub(crate) fn verdict(&self, subject: &Subject) -> Option<Verdict> {
        self.subjects.lock().get(subject).cloned().flatten()
    }

    fn list_due(&self) -> Vec<Subject> {
        let subjects = self.subjects.lock();
        subjects
            .iter()
            .filter(|(_, verdict)| verdict.is_none())
            .map(|(subject, _)| *subject)
            .collect()
    }

    fn found(&self, subject: Subject, verdict: Verdict) {
        if let Some(place) = self.subjects.lock().get_mut(&subject) {
            *place = Some(verdict);
        }
        self.done.notify_one();
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
}

/// A routed model with the file that is fixed for the target. Each is judged by its own file, even
/// if others have revealed the same weights.
struct Contender {
    model: ModelId,
    revealed: Revealed,
    age: WeightsAge,
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
            Some(Contender { model: routed.model, revealed, age: routed.age })
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
        })
    }
}

/// Scores published data again with its own model engine.
pub(crate) struct Auditor {
    engine: Engine,
    /// By [`Revealed::id`].
    open: BTreeMap<Hash, Weights>,
}

impl Auditor {
    /// An auditor on `threads` threads (0: one for each CPU).
    ///
    /// # Errors
    /// When this machine cannot run the kernel.
    pub(crate) fn new(kernel: KernelChoice, threads: usize) -> Result<Self, NodeError> {
        Ok(Self { engine: Engine::new(kernel, threads)?, open: BTreeMap::new() })
    }

    /// Compares a claim with the scores of the routed models.
    ///
    /// # Errors
    /// When a file is missing or unreadable on this node; the audit is tried again.
    fn audit(
        &mut self,
        files: &WeightsStore,
        case: &Case,
        metrics: &Metrics,
    ) -> Result<Verdict, NodeError> {
        let directions = Directions::new(&case.architecture, case.seed.0);
        let mut scores = Vec::with_capacity(case.routed.len());
        let mut broken = Vec::new();
        for (place, routed) in case.routed.iter().enumerate() {
            self.open(files, &routed.revealed, &case.architecture)?;
            let weights = self.open.get(&routed.revealed.id());
            // Weights that have no finite score on this data are not the owner's fault.
            broken.extend(weights.is_none().then_some(place));
            let report = weights.and_then(|weights| {
                soma_model::score(&self.engine, weights, &case.data, &directions).ok()
            });
            metrics.audit_scores.inc();
            metrics.audit_bytes.inc_by(case.data.len() as u64);
            scores.push(report.map(|report| report.score));
        }
        let losses: Vec<_> =
            scores.iter().map(|score| score.as_ref().map(|score| score.loss_q32)).collect();
        let ages: Vec<_> = case.routed.iter().map(|routed| routed.age).collect();
        let winner = soma_protocol::winner(&losses, &ages, case.margin_q32);
        let valid = winner
            .and_then(|winner| Some((case.routed.get(winner)?, scores.get(winner)?.as_ref()?)));
        let valid = valid.is_some_and(|(routed, score)| {
            routed.model == case.claim.model
                && score.loss_q32 == case.claim.loss_q32
                && distance_squared(&score.embedding, &case.direction) == case.claim.distance
                && case.data.len() as u64 == u64::from(case.claim.size_bytes)
        });
        let validity = if valid { Validity::Valid } else { Validity::Invalid };
        let traces: Vec<_> =
            scores.iter().map(|score| score.as_ref().map(|score| score.trace)).collect();
        let trace = commitment::trace(&traces);
        Ok(Verdict { validity, trace, broken: broken.into_iter().collect() })
    }

    /// Opens the weights of a routed model, unless its owner published a malformed file, or one that
    /// is not what was revealed. A damaged copy on this disk is neither.
    fn open(
        &mut self,
        files: &WeightsStore,
        revealed: &Revealed,
        architecture: &Architecture,
    ) -> Result<(), NodeError> {
        let (id, weights_hash) = (revealed.id(), revealed.weights_hash);
        if self.open.contains_key(&id) {
            return Ok(());
        }
        let Some(path) = files.plain_file(revealed)? else {
            tracing::warn!(%weights_hash, "a published file is not what was revealed");
            return Ok(());
        };
        match Weights::open(&path, Some(architecture)) {
            Ok(weights) if weights.hash() != weights_hash.0 => {
                return Err(files.remove_plain(revealed, Hash(weights.hash())));
            }
            Ok(weights) => {
                if self.open.len() >= OPEN_MAX {
                    self.open.clear();
                }
                self.open.insert(id, weights);
            }
            Err(soma_model::Error::Io { path, source }) => {
                return Err(NodeError::io(&path, source));
            }
            Err(error) => {
                files.check_plain(revealed)?;
                tracing::warn!(%weights_hash, %error, "published weights are malformed");
            }
        }
        Ok(())
    }
}

/// What the auditor's thread works on.
pub(crate) struct AuditQueue {
    pub(crate) chain: Arc<Chain>,
    pub(crate) weights: Arc<WeightsStore>,
    pub(crate) audits: Arc<Audits>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Audits what is due, again and again.
pub(crate) async fn run(queue: AuditQueue, mut auditor: Auditor) {
    loop {
        let mut failed = false;
        for subject in queue.audits.list_due() {
            failed |= queue.audit(&mut auditor, subject).is_err();
            // Lets the node shut down between two audits.
            tokio::task::yield_now().await;
        }
        if failed {
            tokio::time::sleep(RETRY).await;
        } else {
            queue.audits.due.notified().await;
        }
    }
}

impl AuditQueue {
    fn audit(&self, auditor: &mut Auditor, subject: Subject) -> Result<(), NodeError> {
        let Some(case) = self.chain.read(|state, _| Case::read(state, &subject)) else {
            return Ok(());
        };
        let target = subject.target.0;
        let begun = Instant::now();
        let audited = auditor.audit(&self.weights, &case, &self.metrics);
        self.metrics.audited(begun.elapsed());
        let verdict = audited.inspect_err(|error| {
            self.metrics.audits_failed.inc();
            tracing::warn!(target, %error, "audit postponed");
        })?;
        match verdict.validity {
            Validity::Valid => self.metrics.audits_valid.inc(),
            Validity::Invalid => self.metrics.audits_invalid.inc(),
        };
        tracing::info!(target, validity = ?verdict.validity, "audited");
        self.audits.found(subject, verdict);
        Ok(())
    }
}

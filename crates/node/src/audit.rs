//! Audits: a published win is scored again with all models routed to it, and every claim is compared to the last bit.
//!
//! A file that is missing or cannot be read says nothing about the submitter: the audit is put off, never decided against
//! anyone. Scoring runs on its own thread, with its own engine, and must never hold up a block.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use soma_model::{Architecture, Directions, Engine, KernelChoice, Weights, distance_squared};
use soma_protocol::record::{Candidate, Routed, TargetStatus};
use soma_protocol::{
    ArchitectureSpec, Hash, StateRead, TargetId, Validity, Verdict, commitment, query, read,
};

use crate::bell::Bell;
use crate::error::NodeError;
use crate::metrics::Metrics;
use crate::node::Shared;
use crate::weights::WeightsStore;

/// Time before an audit that failed here is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Models kept open between audits.
const OPEN_MAX: usize = 16;

/// What there is to audit: the data published for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) target: TargetId,
    pub(crate) data_hash: Hash,
}

/// Audits that are due, and those that are done; none at all is `None`.
#[derive(Default)]
pub(crate) struct Audits {
    subjects: Mutex<BTreeMap<Subject, Option<Verdict>>>,
    /// Heard by the auditor.
    pub(crate) bell: Bell,
}

impl Audits {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Subject, Option<Verdict>>> {
        self.subjects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the list of what is due now: new subjects wait for the auditor, settled ones are forgotten.
    pub(crate) fn follow(&self, due: Vec<Subject>) {
        let mut subjects = self.lock();
        let known = std::mem::take(&mut *subjects);
        subjects.extend(
            due.into_iter()
                .map(|subject| (subject, known.get(&subject).cloned().flatten())),
        );
        let waiting = subjects.values().any(Option::is_none);
        drop(subjects);
        if waiting {
            self.bell.ring();
        }
    }

    /// Audits not done yet.
    pub(crate) fn waiting(&self) -> usize {
        self.lock()
            .values()
            .filter(|verdict| verdict.is_none())
            .count()
    }

    pub(crate) fn verdict(&self, subject: &Subject) -> Option<Verdict> {
        self.lock().get(subject).cloned().flatten()
    }

    fn due(&self) -> Vec<Subject> {
        let subjects = self.lock();
        subjects
            .iter()
            .filter(|(_, verdict)| verdict.is_none())
            .map(|(subject, _)| *subject)
            .collect()
    }

    fn found(&self, subject: Subject, verdict: Verdict) {
        if let Some(place) = self.lock().get_mut(&subject) {
            *place = Some(verdict);
        }
    }
}

/// Everything an audit compares, from one state.
struct Case {
    /// Of the epoch that drew the target.
    architecture: ArchitectureSpec,
    seed: Hash,
    direction: Vec<i16>,
    data: Vec<u8>,
    claim: Candidate,
    routed: Vec<Routed>,
    margin_q32: u64,
}

impl Case {
    /// The case of a published target; `None` once it is settled.
    fn read(state: &dyn StateRead, subject: &Subject) -> Option<Self> {
        let target = read::target(state, subject.target)?;
        let TargetStatus::Published { rank } = target.status else {
            return None;
        };
        let claim = read::candidates(state, target.id)
            .get(usize::try_from(rank).ok()?)
            .copied()?;
        let publication = read::publication(state, target.id)?;
        let epoch = read::epoch(state, target.epoch)?;
        Some(Self {
            architecture: read::architecture(state, epoch.architecture)?,
            seed: epoch.beacon,
            direction: query::direction(state, &target)?,
            data: publication.data,
            claim,
            routed: target.routed,
            margin_q32: read::params(state).loss_margin_q32,
        })
    }
}

/// Re-scores published wins with its own model engine.
pub(crate) struct Auditor {
    engine: Engine,
    open: BTreeMap<Hash, Weights>,
}

impl Auditor {
    /// An auditor on `threads` threads (0: one for each CPU).
    ///
    /// # Errors
    /// When this machine cannot run the kernel.
    pub(crate) fn new(kernel: KernelChoice, threads: usize) -> Result<Self, NodeError> {
        Ok(Self {
            engine: Engine::new(kernel, threads)?,
            open: BTreeMap::new(),
        })
    }

    /// Compares a claim with what the routed models say about the data.
    ///
    /// # Errors
    /// When a file is missing or unreadable here; that is nobody's fault, and the audit is tried again.
    fn audit(
        &mut self,
        files: &WeightsStore,
        case: &Case,
        metrics: &Metrics,
    ) -> Result<Verdict, NodeError> {
        let architecture = crate::architecture(&case.architecture)?;
        let directions = Directions::new(&architecture, case.seed.0);
        let mut scores = Vec::with_capacity(case.routed.len());
        for routed in &case.routed {
            self.open(files, &routed.weights_hash, &architecture)?;
            let weights = self.open.get(&routed.weights_hash);
            let report = weights.and_then(|weights| {
                soma_model::score(&self.engine, weights, &case.data, &directions).ok()
            });
            metrics.audit_scores.add(1);
            metrics.audit_bytes.add(case.data.len() as u64);
            scores.push(report.map(|report| report.score));
        }
        let losses: Vec<_> = scores
            .iter()
            .map(|score| score.as_ref().map(|score| score.loss_q32))
            .collect();
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
        let validity = if valid {
            Validity::Valid
        } else {
            Validity::Invalid
        };
        let traces: Vec<_> = scores
            .iter()
            .map(|score| score.as_ref().map(|score| score.trace))
            .collect();
        let broken = case.routed.iter().zip(&scores);
        let broken = broken.filter(|(_, score)| score.is_none());
        Ok(Verdict {
            validity,
            trace: commitment::trace(&traces),
            broken: broken.map(|(routed, _)| routed.model).collect(),
        })
    }

    /// Opens the weights of a routed model; they stay closed when what its owner published is not a model.
    fn open(
        &mut self,
        files: &WeightsStore,
        weights_hash: &Hash,
        architecture: &Architecture,
    ) -> Result<(), NodeError> {
        if self.open.contains_key(weights_hash) {
            return Ok(());
        }
        let path = match files.plain_file(weights_hash) {
            // What its owner published does not decrypt to what was revealed: it has no score. But if
            // the fault lies in the copy on this disk, the audit waits for a good one.
            Err(NodeError::WeightsMismatch { .. }) => return files.check_ciphertext(weights_hash),
            path => path?,
        };
        match Weights::open(&path, Some(architecture)) {
            Ok(weights) if weights.hash() != weights_hash.0 => {
                return Err(files.drop_plain(weights_hash, Hash(weights.hash())));
            }
            Ok(weights) => {
                if self.open.len() >= OPEN_MAX {
                    self.open.clear();
                }
                self.open.insert(*weights_hash, weights);
            }
            Err(soma_model::Error::Io { path, source }) => {
                return Err(NodeError::io(&path, source));
            }
            Err(error) => {
                tracing::warn!(%weights_hash, %error, "published weights are not a model");
            }
        }
        Ok(())
    }
}

/// Audits what is due until the node closes.
pub(crate) fn run(node: &Arc<Shared>, mut auditor: Auditor) {
    while !node.is_closed() {
        let mut failed = false;
        for subject in node.audits.due() {
            if node.is_closed() {
                return;
            }
            let Some(case) = node.read(|state, _| Case::read(state, &subject)) else {
                continue;
            };
            let begun = Instant::now();
            let audited = auditor.audit(&node.weights, &case, &node.metrics);
            node.metrics.audit_ms.add_duration(begun.elapsed());
            match audited {
                Ok(verdict) => {
                    match verdict.validity {
                        Validity::Valid => node.metrics.audits_valid.add(1),
                        Validity::Invalid => node.metrics.audits_invalid.add(1),
                    }
                    tracing::info!(target = subject.target.0, validity = ?verdict.validity, "audited");
                    node.audits.found(subject, verdict);
                    node.follow.bell.ring();
                }
                Err(error) => {
                    node.metrics.audits_failed.add(1);
                    tracing::warn!(target = subject.target.0, %error, "audit put off");
                    failed = true;
                }
            }
        }
        if failed {
            std::thread::sleep(RETRY);
        } else {
            node.audits.bell.wait(Duration::from_mins(1));
        }
    }
}

//! A run of submissions over one epoch or many: commit what may be submitted later, submit what
//! counts, publish what must be published, and report what became of each submission.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use soma_protocol::{Epoch, Params, Phase, TargetId};
use soma_sdk::api::text::{I64, U64};
use soma_sdk::api::{Payment, Status, Target, TargetStatus};
use soma_sdk::corpus::Corpus;
use soma_sdk::obligation::Obligation;

use crate::competitor::Competitor;
use crate::corpus::Standing;
use crate::documents::Document;
use crate::error::{CompeteError, Result};
use crate::library::Library;
use crate::observer::Level;
use crate::submitting::{Ground, Rules, Submission, Submitter};
use crate::watch::Watch;

/// What to submit.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Files, or folders of files.
    pub paths: Vec<PathBuf>,
    /// The only target to submit for; `None` for all.
    pub target: Option<u32>,
    /// Whether to submit in every epoch, without end.
    pub every_epoch: bool,
    /// Whether to replace a corpus that was committed elsewhere.
    pub replace_corpus: bool,
}

/// What became of a submission; `soma submit --json` prints it.
#[derive(Debug, Serialize)]
pub struct Submitted {
    /// The target.
    pub target: u32,
    /// Its epoch.
    pub epoch: u32,
    /// The document's path.
    pub file: String,
    /// The model that it was submitted with.
    pub model: u32,
    /// Its loss with that model.
    pub loss_q32: I64,
    /// By how much that model predicts it better than counting does, in 2^-32 nat per byte.
    pub gain_q32: I64,
    /// Squared distance of its direction to the target.
    pub distance: U64,
    /// `won`, `lost`, or why nobody won the target.
    pub outcome: String,
    /// In base units; `None` unless it won.
    pub paid: Option<U64>,
}

/// A run of submissions. Nothing is lost if it is interrupted: obligations are in the spool.
#[derive(Debug)]
pub struct Session<'a> {
    submitter: Submitter<'a>,
    plan: Plan,
    library: Library,
    /// What was found and committed in the running epoch.
    found: Option<Found>,
    /// Why nothing more is submitted; what is due is still published.
    stopped: Option<CompeteError>,
    last_epoch: u32,
    /// How many documents earlier epochs had time for: the next epoch starts after them.
    scored: usize,
    pending: Vec<Submission>,
    decided: Vec<Submitted>,
}

/// The documents of a plan, and which of them count.
#[derive(Debug)]
struct Found {
    rules: Rules,
    documents: Vec<Document>,
    standing: Standing,
}

impl Found {
    /// The documents that count in this epoch.
    fn counting<'a>(&'a self, corpus: &'a Corpus) -> impl Iterator<Item = &'a Document> {
        let counts = |document: &&Document| self.standing.counts(corpus, &document.hash());
        self.documents.iter().filter(counts)
    }
}

impl<'a> Session<'a> {
    /// A run that has not begun, for documents that `library` finds.
    pub fn new(submitter: Submitter<'a>, plan: Plan, library: Library) -> Self {
        Self {
            submitter,
            plan,
            library,
            found: None,
            stopped: None,
            last_epoch: 0,
            scored: 0,
            pending: Vec::new(),
            decided: Vec::new(),
        }
    }

    /// Runs until every submission is decided, or forever if the plan is for every epoch. `decided`
    /// is called with each submission's result. Failures of the network are retried: giving up on
    /// what must be published would cost its bond.
    ///
    /// # Errors
    /// Those of [`Submitter`]'s methods other than failures of the network, and of `decided`.
    pub async fn run<E: From<CompeteError>>(
        mut self,
        mut decided: impl FnMut(Submitted) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let observer = self.submitter.competitor.observer;
        let _task = observer.start("waiting for targets", None);
        let mut watch = Watch::start(self.submitter.competitor.client()).await;
        let mut unreachable = false;
        loop {
            match self.step().await {
                Ok(()) => {
                    unreachable = false;
                    self.decided.drain(..).try_for_each(&mut decided)?;
                    if let Some(error) = self.stopped.take() {
                        if self.is_idle()? {
                            return Err(error.into());
                        }
                        self.stopped = Some(error);
                    }
                    let done = self.last_epoch > 0 && self.pending.is_empty();
                    if done && !self.plan.every_epoch {
                        return Ok(());
                    }
                }
                Err(error) if error.is_transient() => {
                    if !std::mem::replace(&mut unreachable, true) {
                        observer.notice(Level::Warning, &format_args!("{error}; retrying"));
                    }
                }
                Err(error) => return Err(error.into()),
            }
            watch.changed().await;
        }
    }

    /// Does what can be done now.
    async fn step(&mut self) -> Result {
        let competitor = self.submitter.competitor;
        competitor.deliver_once().await?;
        let status = competitor.client().status().await?;
        if self.stopped.is_none()
            && let Err(error) = self.compete(&status).await
        {
            if error.is_transient() {
                return Err(error);
            }
            if !self.is_idle()? {
                let text = format!("{error}; what was submitted before is still published");
                competitor.observer.notice(Level::Warning, &text);
            }
            self.stopped = Some(error);
        }
        self.decide().await
    }

    /// Whether no submission is undecided, nor its publication due, of this run or an earlier one.
    fn is_idle(&self) -> Result<bool> {
        let Submitter { competitor: Competitor { sender, spool, .. }, .. } = self.submitter;
        let account = (sender.chain(), sender.address());
        let is_due = |due: &Obligation| {
            matches!(due, Obligation::Publication(_)) && (due.chain(), due.sender()) == account
        };
        Ok(self.pending.is_empty() && !spool.list()?.obligations.iter().any(is_due))
    }

    /// Commits and submits what can be now.
    async fn compete(&mut self, status: &Status) -> Result {
        let (epoch, phase) = (status.clock.epoch, status.clock.phase.0);
        if !self.plan.every_epoch && self.last_epoch > 0 {
            return Ok(());
        }
        let looked = self.found.as_ref().map(|found| found.standing.epoch);
        // At once, since an epoch may end; later ones when they compete, to find more at a time.
        if looked.is_none() || (phase.submits() && looked != Some(epoch)) {
            self.found = Some(self.look().await?);
        }
        if phase != Phase::Compete || epoch <= self.last_epoch {
            return Ok(());
        }
        match self.enter(status).await {
            Err(error @ CompeteError::NoTarget { .. }) if self.plan.every_epoch => {
                self.last_epoch = epoch;
                self.submitter.competitor.observer.notice(Level::Info, &error);
                Ok(())
            }
            entered => entered,
        }
    }

    /// Finds the documents of the plan, and commits those that are new.
    async fn look(&mut self) -> Result<Found> {
        let Submitter { competitor, corpus, .. } = self.submitter;
        let rules = self.submitter.rules().await?;
        let bytes_max = rules.params.data_bytes_max as usize;
        let paths = &self.plan.paths;
        let find = || self.library.find(paths, bytes_max, competitor.observer);
        let documents = self.submitter.qualifying(tokio::task::block_in_place(find)?, &rules)?;
        let replace = self.plan.replace_corpus;
        let standing = competitor.commit_corpus(corpus, &documents, replace).await?;
        let found = Found { rules, documents, standing };
        if found.counting(corpus).next().is_none() && self.plan.target.is_none() {
            let from = found.standing.epoch.saturating_add(1);
            let text = format!("none of the documents counts before epoch {from}; waiting for it");
            competitor.observer.notice(Level::Info, &text);
        }
        Ok(found)
    }

    /// Submits the closest document for every open target of the plan. If none counts yet, waits
    /// for the next epoch.
    async fn enter(&mut self, status: &Status) -> Result {
        let submitter = self.submitter;
        let epoch = status.clock.epoch;
        let Some(found) = self.found.as_ref().filter(|found| found.standing.epoch == epoch) else {
            // The epoch has ended while its documents were committed.
            self.found = None;
            return Ok(());
        };
        let Found { rules, standing, .. } = found;
        let mut documents: Vec<_> = found.counting(submitter.corpus).cloned().collect();
        if documents.is_empty() {
            let (documents, from) = (found.documents.len(), epoch.saturating_add(1));
            return match self.plan.target {
                Some(_) => Err(CompeteError::DocumentsTooNew { documents, from }),
                None => Ok(()),
            };
        }
        let target = self.plan.target;
        let mut targets = submitter.competitor.client().targets(Some(Epoch(epoch))).await?;
        targets.retain(|open| target.is_none_or(|id| open.id == id));
        if targets.is_empty() {
            return Err(CompeteError::NoTarget { target, epoch });
        }
        self.last_epoch = epoch;
        let skipped = self.scored.checked_rem(documents.len()).unwrap_or(0);
        documents.rotate_left(skipped);
        let until = scoring_ends(status, &rules.params);
        let ground = Ground { targets: &targets, documents: &documents, standing, rules };
        let scored = submitter.enter(&ground, until, &mut self.pending).await?.scored;
        if scored < documents.len() {
            self.scored = skipped + scored;
            let text = format!(
                "epoch {epoch} leaves time for {scored} of {} documents; \
                 the next epoch starts with the others",
                documents.len()
            );
            submitter.competitor.observer.notice(Level::Info, &text);
        }
        Ok(())
    }

    /// Moves submissions that have been decided out of what is pending.
    async fn decide(&mut self) -> Result {
        let mut index = 0;
        while let Some(submission) = self.pending.get(index) {
            let client = self.submitter.competitor.client();
            let target = client.target(TargetId(submission.target)).await?;
            if matches!(target.status, TargetStatus::Settled | TargetStatus::Returned)
                && self.submitter.confirms(&target).await?
            {
                let submission = self.pending.remove(index);
                self.decided.push(self.result(submission, &target));
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    fn result(&self, submission: Submission, target: &Target) -> Submitted {
        let address = self.submitter.competitor.sender.address();
        let own = |payment: &&Payment| payment.submitter.0 == address;
        let payment = target.payment.as_ref().filter(own);
        let outcome = match (payment, target.returned) {
            (Some(_), _) => "won".to_owned(),
            (None, Some(reason)) => format!("{reason:?}").to_lowercase(),
            (None, None) => "lost".to_owned(),
        };
        Submitted {
            target: submission.target,
            epoch: submission.epoch,
            file: submission.file,
            model: submission.choice.model,
            loss_q32: submission.choice.loss_q32.into(),
            gain_q32: submission.choice.gain_q32.into(),
            distance: submission.choice.distance.into(),
            outcome,
            paid: payment.map(|payment| payment.paid_submitter),
        }
    }
}

/// When to stop scoring: at half of the time that is left for submissions. The other half is for
/// sending them, and what was won must be published when the next epoch begins. `None` if phases
/// end by command.
fn scoring_ends(status: &Status, params: &Params) -> Option<Instant> {
    let ends_ms = status.clock.ends_ms?.0.saturating_add(params.attest_ms());
    let left_ms = ends_ms.saturating_sub(status.timestamp_ms.0);
    Instant::now().checked_add(Duration::from_millis(left_ms / 2))
}

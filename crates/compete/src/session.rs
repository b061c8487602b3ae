//! A run of submissions over one epoch or many: submit, publish what must be published, and report
//! what became of each submission.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use soma_protocol::{Epoch, Params, Phase, TargetId};
use soma_sdk::api::text::{I64, U64};
use soma_sdk::api::{Payment, Status, Target, TargetStatus};

use crate::documents;
use crate::error::{CompeteError, Result};
use crate::observer::Level;
use crate::submitting::{Submission, Submitter};
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
    /// Squared distance of its embedding to the target.
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
    last_epoch: u32,
    /// How many documents earlier epochs had time for: the next epoch starts after them.
    scored: usize,
    pending: Vec<Submission>,
    decided: Vec<Submitted>,
}

impl<'a> Session<'a> {
    /// A run that has not begun.
    pub fn new(submitter: Submitter<'a>, plan: Plan) -> Self {
        Self { submitter, plan, last_epoch: 0, scored: 0, pending: Vec::new(), decided: Vec::new() }
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
        let clock = &status.clock;
        let begins = clock.phase.0 == Phase::Compete && clock.epoch > self.last_epoch;
        if begins && (self.plan.every_epoch || self.last_epoch == 0) {
            self.last_epoch = clock.epoch;
            match self.enter(&status).await {
                Err(error @ CompeteError::NoTarget { .. }) if self.plan.every_epoch => {
                    let observer = self.submitter.competitor.observer;
                    observer.notice(Level::Info, &error);
                }
                entered => entered?,
            }
        }
        self.decide().await
    }

    /// Submits the closest document for every open target of the plan.
    async fn enter(&mut self, status: &Status) -> Result {
        let submitter = &self.submitter;
        let epoch = status.clock.epoch;
        let target = self.plan.target;
        let mut targets = submitter.competitor.client().targets(Some(Epoch(epoch))).await?;
        targets.retain(|open| target.is_none_or(|id| open.id == id));
        if targets.is_empty() {
            return Err(CompeteError::NoTarget { target, epoch });
        }
        let rules = submitter.rules().await?;
        let bytes_max = rules.params.data_bytes_max as usize;
        let documents = documents::read_all(&self.plan.paths, bytes_max)?;
        let mut documents = submitter.qualifying(documents, &rules).await?;
        let skipped = self.scored.checked_rem(documents.len()).unwrap_or(0);
        documents.rotate_left(skipped);
        let until = scoring_ends(status, &rules.params);
        let pending = &mut self.pending;
        let scored = submitter.enter(&targets, &documents, &rules, until, pending).await?;
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

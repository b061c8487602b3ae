//! A run of submissions over one epoch or many: commit what may be submitted later, submit what
//! counts, publish what must be published, and report what became of each submission.
//!
//! Bonds are at stake: only the user or a final answer ends a run. What fails and may pass, of the
//! network, of a node, of a file or of this machine's disk, is told once, and tried again.

use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::Serialize;
use soma_codes::{Code, Coded};
use soma_protocol::{Epoch, Hash, Params, Phase, TargetId};
use soma_sdk::api::text::{I64, U64};
use soma_sdk::api::{Payment, Status, Target, TargetStatus};
use soma_sdk::corpus::Corpus;
use soma_sdk::obligation::{Obligation, phase_ends_ms};
use soma_sdk::patience::pause;

use crate::competitor::Competitor;
use crate::corpus::Standing;
use crate::documents::{Document, Unusable};
use crate::error::{CompeteError, Result};
use crate::library::Library;
use crate::observer::Level;
use crate::submitting::{Entering, Ground, Rules, Submission, Submitter};
use crate::troubles::Troubles;
use crate::watch::Watch;

/// What the troubles of competing in an epoch are told as.
const COMPETING: &str = "submitting";
/// What the troubles of telling results are told as.
const RESULTS: &str = "results";
/// Pauses before documents are scored again because a model could not be had: the first one, and
/// the longest one.
const AGAIN_FIRST: Duration = Duration::from_secs(2);
const AGAIN_LAST: Duration = Duration::from_mins(1);

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
#[derive(Clone, Debug, Serialize)]
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
    /// The epoch that is being entered.
    entering: Option<Entering>,
    /// When documents are scored again for models that could not be had, and how often they were.
    again_at: Option<Instant>,
    tries: u32,
    /// Why nothing more is submitted; what is due is still published.
    stopped: Option<CompeteError>,
    /// The last epoch that was entered.
    last_epoch: u32,
    /// Whose turn it is if an epoch has no time for all documents.
    turns: Turns,
    pending: Vec<Submission>,
    decided: VecDeque<Submitted>,
    /// Whether submissions of an earlier run were looked for, and the stake was told.
    resumed: bool,
    /// How many submissions this run has made or continued.
    count: usize,
    /// What could not be used since documents were last looked for.
    unusable: Vec<Unusable>,
    troubles: Troubles,
}

/// The documents of a plan, and which of them count.
#[derive(Debug)]
struct Found {
    rules: Rules,
    documents: Vec<Document>,
    standing: Standing,
}

impl Found {
    /// The documents that count in this epoch, in their turn.
    fn counting(&self, corpus: &Corpus, turns: &Turns) -> Vec<Document> {
        let counts = |document: &&Document| self.standing.counts(corpus, &document.hash());
        let mut documents: Vec<_> = self.documents.iter().filter(counts).cloned().collect();
        turns.order(&mut documents);
        documents
    }
}

/// The documents that earlier epochs had time for, until all were scored. They are known by their
/// hashes, because documents leave the list when they have won.
#[derive(Debug, Default)]
struct Turns(BTreeSet<Hash>);

impl Turns {
    /// Moves those to the front that were not scored yet.
    fn order(&self, documents: &mut [Document]) {
        documents.sort_by_key(|document| self.0.contains(&document.hash()));
    }

    /// Notes the documents that an epoch had time for, of `all`.
    fn scored(&mut self, scored: &[Document], all: usize) {
        if scored.len() == all {
            self.0.clear();
            return;
        }
        // Once all had their turn, a round begins with those of the last one.
        let hashes = scored.iter().map(Document::hash);
        if hashes.clone().any(|hash| self.0.contains(&hash)) {
            self.0.clear();
        }
        self.0.extend(hashes);
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
            entering: None,
            again_at: None,
            tries: 0,
            stopped: None,
            last_epoch: 0,
            turns: Turns::default(),
            pending: Vec::new(),
            decided: VecDeque::new(),
            resumed: false,
            count: 0,
            unusable: Vec::new(),
            troubles: Troubles::default(),
        }
    }

    /// Runs until every submission is decided, or forever if the plan is for every epoch. `decided`
    /// is called with each submission's result, again later if it fails while something is due.
    /// Returns what of the plan could not be used.
    ///
    /// # Errors
    /// Those of [`Submitter`]'s methods that do not pass, once nothing is due anymore; those of
    /// `decided`.
    pub async fn run<E: From<CompeteError>>(
        mut self,
        mut decided: impl FnMut(&Submitted) -> std::result::Result<(), E>,
    ) -> std::result::Result<Vec<Unusable>, E> {
        let observer = self.submitter.competitor.observer;
        let _task = observer.start("waiting for targets", None);
        let mut watch = Watch::start(self.submitter.competitor.client()).await;
        loop {
            match self.step().await {
                Ok(()) => self.troubles.over_all(observer),
                Err(error) if error.is_passing() => {
                    self.troubles.tell_of_all(observer, &error);
                }
                Err(error) => return Err(error.into()),
            }
            self.report(&mut decided)?;
            if let Some(error) = self.stopped.take() {
                if self.is_idle() {
                    return Err(error.into());
                }
                self.stopped = Some(error);
            }
            if !self.plan.every_epoch && self.last_epoch > 0 && self.is_idle() {
                if self.count == 0 {
                    let text = format!(
                        "nothing was submitted in epoch {}: no document is new, understood and \
                         closer than others",
                        self.last_epoch
                    );
                    observer.notice(Level::Warning, &text);
                }
                return Ok(self.unusable);
            }
            watch.changed().await;
        }
    }

    /// Tells the results. Results that cannot be told are kept while there is something to wait
    /// for.
    fn report<E>(
        &mut self,
        decided: &mut impl FnMut(&Submitted) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let observer = self.submitter.competitor.observer;
        while let Some(submitted) = self.decided.front() {
            match decided(submitted) {
                Ok(()) => {
                    self.troubles.over(observer, RESULTS);
                    self.decided.pop_front();
                }
                Err(_) if self.plan.every_epoch || !self.is_idle() => {
                    let what = &"they cannot be written";
                    self.troubles.tell_as(observer, RESULTS, Code::Stdout, what);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Does what can be done now.
    async fn step(&mut self) -> Result {
        let competitor = self.submitter.competitor;
        if !self.resumed {
            self.pending = self.submitter.earlier().await?;
            self.count = self.pending.len();
            self.resumed = true;
            let text = Submitter::stake(competitor.sender.params());
            competitor.observer.notice(Level::Info, &text);
        }
        competitor.deliver_now(&mut self.troubles).await?;
        let status = competitor.client().status().await?;
        if self.stopped.is_none() {
            match self.compete(&status).await {
                Ok(()) => self.troubles.over(competitor.observer, COMPETING),
                Err(error) if self.goes_on_after(&error) => {
                    self.troubles.tell(competitor.observer, COMPETING, &error);
                }
                Err(error) if error.is_passing() && !error.is_local() => return Err(error),
                Err(error) => {
                    if !self.is_idle() {
                        let text = format!("{error}; what was submitted before is still published");
                        competitor.observer.notice(Level::Warning, &text);
                    }
                    self.stopped = Some(error);
                }
            }
        }
        self.decide().await
    }

    /// Whether a failure to submit is told and passes. When a run begins, files that cannot be used
    /// are the user's mistake, unless something is due.
    fn goes_on_after(&self, error: &CompeteError) -> bool {
        let begun = self.last_epoch > 0 || self.found.is_some() || !self.is_idle();
        let is_of_data = matches!(error, CompeteError::TooLittleData { .. });
        // Another node, or this one later, has the models of the targets.
        let is_of_node = error.code() == Code::WeightsNotHeld;
        let waits = is_of_node || (begun && is_of_data);
        (begun && error.is_local()) || (waits && self.plan.every_epoch)
    }

    /// Whether no submission is undecided, nor its publication due, of this run or an earlier one.
    /// A spool that cannot be read may hold one.
    fn is_idle(&self) -> bool {
        let Submitter { competitor: Competitor { sender, spool, .. }, .. } = self.submitter;
        let account = (sender.chain(), sender.address());
        let is_due = |due: &Obligation| {
            matches!(due, Obligation::Publication(_)) && (due.chain(), due.sender()) == account
        };
        self.pending.is_empty()
            && spool.list().is_ok_and(|listing| !listing.obligations.iter().any(is_due))
    }

    /// Commits and submits what can be now.
    async fn compete(&mut self, status: &Status) -> Result {
        let (epoch, phase) = (status.clock.epoch, status.clock.phase.0);
        self.leave_behind(epoch);
        if !self.plan.every_epoch && self.last_epoch > 0 {
            return Ok(());
        }
        let looked = self.found.as_ref().map(|found| found.standing.epoch);
        // At once, since an epoch may end; later ones when they compete, to find more at a time.
        if looked.is_none() || (phase.submits() && looked != Some(epoch)) {
            self.found = Some(self.look().await?);
        }
        if !phase.submits() || epoch <= self.last_epoch {
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

    /// An epoch that ended before all of its targets were done is over.
    fn leave_behind(&mut self, epoch: u32) {
        let Some(entering) = self.entering.take_if(|entering| entering.epoch() < epoch) else {
            return;
        };
        let ended = entering.epoch();
        self.unusable.extend(entering.unusable().cloned());
        (self.again_at, self.tries) = (None, 0);
        let text = format!("epoch {ended} ended before all of its targets could be submitted for");
        self.submitter.competitor.observer.notice(Level::Warning, &text);
        if self.pending.iter().any(|submission| submission.epoch == ended) {
            self.last_epoch = ended;
        }
    }

    /// Finds the documents of the plan, and commits those that are new.
    async fn look(&mut self) -> Result<Found> {
        let Submitter { competitor, corpus, .. } = self.submitter;
        let rules = self.submitter.rules().await?;
        let bytes_max = rules.params.data_bytes_max as usize;
        let paths = &self.plan.paths;
        let find = || self.library.find(paths, bytes_max, competitor.observer);
        let documents = tokio::task::block_in_place(find)?;
        self.unusable = self.library.unusable().to_vec();
        let documents = self.submitter.qualifying(documents, &rules)?;
        let replace = self.plan.replace_corpus;
        let standing = competitor.commit_corpus(corpus, &documents, replace).await?;
        let found = Found { rules, documents, standing };
        if found.counting(corpus, &self.turns).is_empty() && self.plan.target.is_none() {
            let from = found.standing.epoch.saturating_add(1);
            let text = format!("none of the documents counts before epoch {from}; waiting for it");
            competitor.observer.notice(Level::Info, &text);
        }
        Ok(found)
    }

    /// Submits the closest document for every open target of the plan that is not done. If none
    /// counts yet, waits for the next epoch. The epoch is done when all of its targets are.
    async fn enter(&mut self, status: &Status) -> Result {
        let submitter = self.submitter;
        let epoch = status.clock.epoch;
        let Some(found) = self.found.as_ref().filter(|found| found.standing.epoch == epoch) else {
            // The epoch has ended while its documents were committed.
            self.found = None;
            return Ok(());
        };
        let Found { rules, standing, .. } = found;
        let documents = found.counting(submitter.corpus, &self.turns);
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
        let ground = Ground { targets: &targets, documents: &documents, standing, rules };
        let again = self.again_at.is_some_and(|at| Instant::now() >= at);
        if self.entering.is_none() || again {
            let until = scoring_ends(status, &rules.params);
            let scored = submitter.score(&ground, until).await?;
            let before = self.entering.take();
            let entering = scored.map(|scored| scored.continuing(before));
            if let Some(entering) = &entering {
                self.tell_unscored(entering, documents.len());
            }
            self.entering = entering;
            (self.again_at, self.tries) = (None, self.tries.saturating_add(1));
        }
        let Some(entering) = &mut self.entering else {
            return Ok(());
        };
        let before = self.pending.len();
        let (pending, troubles) = (&mut self.pending, &mut self.troubles);
        let left = submitter.enter_targets(entering, &ground, pending, troubles).await;
        self.count += self.pending.len() - before;
        if left? == 0 {
            self.entered(epoch, documents.len());
        } else if entering.is_incomplete() && self.again_at.is_none() {
            self.again_at = Instant::now().checked_add(pause(AGAIN_FIRST, AGAIN_LAST, self.tries));
        }
        Ok(())
    }

    /// Says how many documents there was no time for.
    fn tell_unscored(&self, entering: &Entering, documents: usize) {
        let (epoch, scored) = (entering.epoch(), entering.scored().len());
        // What is missing for another reason is tried again, and told as that.
        if scored < documents && !entering.is_incomplete() {
            let text = format!(
                "epoch {epoch} leaves time for {scored} of {documents} documents; the next epoch \
                 starts with the others"
            );
            self.submitter.competitor.observer.notice(Level::Info, &text);
        }
    }

    /// All targets of the epoch are done.
    fn entered(&mut self, epoch: u32, documents: usize) {
        let Some(entering) = self.entering.take() else {
            return;
        };
        (self.again_at, self.tries) = (None, 0);
        self.last_epoch = epoch;
        self.unusable.extend(entering.unusable().cloned());
        let observer = self.submitter.competitor.observer;
        let left_out = entering.left_out();
        if !left_out.is_empty() {
            observer.notice(Level::Info, &left_out);
        }
        self.turns.scored(entering.scored(), documents);
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
                let submitted = self.result(submission, &target);
                if submitted.paid.is_some() {
                    let Competitor { sender, spool, .. } = self.submitter.competitor;
                    let account = (sender.chain(), sender.address());
                    spool.remember_win(account, TargetId(target.id), submission.data_hash)?;
                }
                self.pending.remove(index);
                self.decided.push_back(submitted);
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    /// The path of a submission's document, or its hash if an earlier run has made it and the
    /// document is not here anymore.
    fn file_of(&self, submission: &Submission) -> String {
        if !submission.file.is_empty() {
            return submission.file.clone();
        }
        let mut documents = self.found.iter().flat_map(|found| &found.documents);
        let same = documents.find(|document| document.hash() == submission.data_hash);
        same.map_or_else(|| submission.data_hash.to_string(), |it| it.path().to_owned())
    }

    fn result(&self, submission: &Submission, target: &Target) -> Submitted {
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
            file: self.file_of(submission),
            model: submission.model,
            loss_q32: submission.loss_q32.into(),
            gain_q32: submission.gain_q32.into(),
            distance: submission.distance.into(),
            outcome,
            paid: payment.map(|payment| payment.paid_submitter),
        }
    }
}

/// When to stop scoring: at half of the time that is left for submissions. The other half is for
/// sending them, and what was won must be published when the next epoch begins. `None` if phases
/// end by command.
fn scoring_ends(status: &Status, params: &Params) -> Option<Instant> {
    let epoch = Epoch(status.clock.epoch);
    let ends_ms = phase_ends_ms(&status.clock, params, epoch, Phase::Attest)?;
    let left_ms = ends_ms.saturating_sub(status.timestamp_ms.0);
    Instant::now().checked_add(Duration::from_millis(left_ms / 2))
}

#[cfg(test)]
mod tests {
    use super::{Document, Turns};

    #[test]
    fn every_document_has_its_turn_though_winners_leave_the_list() {
        const PER_EPOCH: usize = 3;
        let document = |number: u8| Document::new(number.to_string(), vec![number]);
        let mut list: Vec<Document> = (0..20).map(document).collect();
        let (mut turns, mut had_turns) = (Turns::default(), Vec::new());
        while had_turns.len() + PER_EPOCH <= 20 {
            turns.order(&mut list);
            let scored = list[..PER_EPOCH].to_vec();
            turns.scored(&scored, list.len());
            had_turns.extend(scored.iter().map(|document| document.path().to_owned()));
            // The first one wins.
            list.remove(0);
        }
        let expected: Vec<String> = (0..18).map(|number| number.to_string()).collect();
        assert_eq!(had_turns, expected);
        // The next round begins when the last have had their turn.
        turns.order(&mut list);
        assert_eq!(list[..2].iter().map(Document::path).collect::<Vec<_>>(), ["18", "19"]);
        turns.scored(&list[..PER_EPOCH], list.len());
        turns.order(&mut list);
        assert!(!list[..PER_EPOCH].iter().any(|document| document.path() == "18"));
    }
}

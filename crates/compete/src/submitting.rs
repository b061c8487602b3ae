//! Submitting the documents that `scoring` has chosen. The data stays on this machine unless it
//! wins.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Instant;

use soma_codes::{Coded, Exit};
use soma_model::Architecture;
use soma_protocol::{Amount, Epoch, Hash, ModelId, Params, TargetId, query};
use soma_sdk::SdkError;
use soma_sdk::api::Target;
use soma_sdk::client::Client;
use soma_sdk::corpus::Corpus;
use soma_sdk::figures::{nats, relative_distance};
use soma_sdk::obligation::{Claim, Obligation, Publication};
use soma_sdk::secret::Secret;

use crate::competitor::Competitor;
use crate::corpus::{Standing, Told};
use crate::documents::{Document, Unusable};
use crate::error::{CompeteError, Result};
use crate::observer::Level;
use crate::scoring::{Aim, Choice, Fit, ModelSet, Scores, Scoring};
use crate::seen::Seen;
use crate::troubles::Troubles;
use crate::witness;

/// What the network asks for now; votes can change it between epochs.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The architecture of all models.
    pub architecture: Architecture,
    /// The parameters.
    pub params: Params,
}

/// A submission that the chain has accepted.
#[derive(Clone, Debug)]
pub struct Submission {
    /// The target.
    pub target: u32,
    /// Its epoch.
    pub epoch: u32,
    /// The document's path; empty if an earlier run has made the submission.
    pub file: String,
    /// BLAKE3 of the document.
    pub data_hash: Hash,
    /// The model that predicts it best.
    pub model: u32,
    /// Its loss with that model.
    pub loss_q32: i64,
    /// By how much that model predicts it better than counting does.
    pub gain_q32: i64,
    /// Distance of its direction to the target.
    pub distance: u64,
}

/// Documents that were not submitted for any target of an epoch, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// No model predicts them enough better than counting does.
    pub not_understood: Vec<String>,
    /// They have no direction, because they are the middle of what a model is for.
    pub without_direction: Vec<String>,
    /// They win nothing, because earlier winners have most of their data.
    pub seen_before: Vec<String>,
}

impl LeftOut {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for LeftOut {
    /// How many for which reason, with the first of each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reasons = [
            (&self.not_understood, "no model understands"),
            (&self.without_direction, "are the very middle of what a model is for"),
            (&self.seen_before, "have won before, for the most part"),
        ];
        let mut separator = "left out: ";
        for (paths, reason) in reasons {
            let Some(first) = paths.first() else {
                continue;
            };
            let such = if paths.len() == 1 { String::new() } else { " and others".to_owned() };
            write!(f, "{separator}{} that {reason} ({first}{such})", paths.len())?;
            separator = ", ";
        }
        Ok(())
    }
}

/// A competitor, with what it needs for scoring.
#[derive(Clone, Copy, Debug)]
pub struct Submitter<'a> {
    /// The account.
    pub competitor: &'a Competitor<'a>,
    /// The documents that it may submit.
    pub corpus: &'a Corpus,
    /// The means of scoring.
    pub scoring: Scoring<'a>,
    /// Other nodes, which must say the same about the targets and the rules.
    pub witnesses: &'a [Client],
}

/// What an epoch's submissions rest on.
#[derive(Debug)]
pub struct Ground<'a> {
    /// The epoch's targets, or some of them.
    pub targets: &'a [Target],
    /// The documents to submit; those that do not count are ignored.
    pub documents: &'a [Document],
    /// What counts in the epoch.
    pub standing: &'a Standing,
    /// What the network asks for.
    pub rules: &'a Rules,
}

/// An epoch that is being entered: the scores of its documents, and the targets that are done.
pub(crate) struct Entering {
    epoch: u32,
    choosing: Choosing,
    done: BTreeSet<u32>,
}

impl fmt::Debug for Entering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entering(epoch {}, done {:?})", self.epoch, self.done)
    }
}

impl Entering {
    /// The epoch.
    pub(crate) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The documents that there was time to score.
    pub(crate) fn scored(&self) -> &[Document] {
        &self.choosing.documents[..self.choosing.scores.documents()]
    }

    /// Whether a model could not be had, so that scoring again may help.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.choosing.scores.is_incomplete()
    }

    /// What was scored and not submitted for a reason of its own.
    pub(crate) fn left_out(&self) -> LeftOut {
        self.choosing.left_out()
    }

    /// Documents that could not be read when they were needed.
    pub(crate) fn unusable(&self) -> impl Iterator<Item = &Unusable> {
        self.choosing.scores.unreadable()
    }

    /// Keeps what is done when the documents were scored again.
    pub(crate) fn continuing(mut self, before: Option<Self>) -> Self {
        if let Some(before) = before.filter(|before| before.epoch == self.epoch) {
            self.done = before.done;
        }
        self
    }
}

impl Submitter<'_> {
    /// The architecture and the parameters now.
    ///
    /// # Errors
    /// Network errors; an architecture that this software cannot compute.
    pub async fn rules(&self) -> Result<Rules> {
        let client = self.competitor.client();
        let architecture = client.architecture().await?;
        architecture.check()?;
        Ok(Rules { architecture, params: client.params().await? })
    }

    /// Asks the witnesses about everything that decides a claim.
    async fn confirm(&self, ground: &Ground<'_>) -> Result {
        let Ground { targets, rules, standing, .. } = ground;
        let (witnesses, sender) = (self.witnesses, &self.competitor.sender);
        let ask = async |client: &Client| Ok(client.status().await?.chain_id.0);
        witness::agree(witnesses, "the chain", &sender.chain(), ask).await?;
        let ask = async |client: &Client| Ok(client.architecture().await?);
        witness::agree(witnesses, "the architecture", &rules.architecture, ask).await?;
        let ask = async |client: &Client| Ok(client.params().await?);
        witness::agree(witnesses, "the parameters", &rules.params, ask).await?;
        let ask = async |client: &Client| Ok(Told::from(&client.account(sender.address()).await?));
        witness::agree(witnesses, "the account's corpus", &standing.told, ask).await?;
        for target in *targets {
            let (id, expected) = (TargetId(target.id), witness::fixed(target.clone()));
            let ask = async |client: &Client| Ok(witness::fixed(client.target(id).await?));
            witness::agree(witnesses, "a target", &expected, ask).await?;
        }
        Ok(())
    }

    /// Whether all witnesses say the same about how a target was decided. One that is behind, or a
    /// node that lies, must not end the work while data is still to be published.
    pub(crate) async fn confirms(&self, target: &Target) -> Result<bool> {
        for witness in self.witnesses {
            if witness.target(TargetId(target.id)).await?.status != target.status {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The documents that are not too small for the rules.
    ///
    /// # Errors
    /// [`CompeteError::TooLittleData`] if all are.
    pub fn qualifying(&self, mut documents: Vec<Document>, rules: &Rules) -> Result<Vec<Document>> {
        let (all, bytes_min) = (documents.len(), rules.architecture.positions as usize);
        documents.retain(|document| document.size_bytes() >= bytes_min);
        if documents.is_empty() {
            return Err(CompeteError::TooLittleData { documents: all, bytes_min });
        }
        Ok(documents)
    }

    /// The specializations that the targets' models had when the targets were drawn.
    async fn specializations(&self, targets: &[Target]) -> Result<BTreeMap<u32, Vec<i16>>> {
        let mut specializations = BTreeMap::new();
        let routed = targets.iter().flat_map(|target| &target.routed);
        let models: BTreeSet<u32> = routed.map(|routed| routed.model).collect();
        let epoch = targets.first().map_or(0, |target| target.epoch);
        for model in models {
            let (id, epoch) = (ModelId(model), Some(Epoch(epoch)));
            let ask = async |client: &Client| Ok(client.specialization(id, epoch).await?);
            let vector = ask(self.competitor.client()).await?;
            witness::agree(self.witnesses, "a specialization", &vector, ask).await?;
            specializations.insert(model, vector.components);
        }
        Ok(specializations)
    }

    /// Scores the documents that count, stopping at `until` at the latest. All targets are of one
    /// epoch: one seed and one score serve them all. `None` without targets.
    ///
    /// # Errors
    /// Same as [`Scoring::score`]; network errors.
    pub(crate) async fn score(
        &self,
        ground: &Ground<'_>,
        until: Option<Instant>,
    ) -> Result<Option<Entering>> {
        let Ground { targets, documents, standing, rules } = ground;
        let observer = self.competitor.observer;
        let Some(models) = ModelSet::routed(targets, rules.architecture.clone()) else {
            return Ok(None);
        };
        self.confirm(ground).await?;
        let client = self.competitor.client();
        let specializations = self.specializations(targets).await?;
        let scores = self.scoring.score(client, &models, documents, until, observer).await?;
        let mut seen = Seen::in_epoch(client, standing.epoch).await?;
        // What this machine has won with, it knows, whatever a node says.
        let wins = self.competitor.spool.wins(self.competitor.sender.chain())?;
        for (target, pieces) in wins {
            seen.remember(target.0, pieces);
        }
        let choosing = Choosing::new(scores, documents.to_vec(), seen, specializations);
        Ok(Some(Entering { epoch: standing.epoch, choosing, done: BTreeSet::new() }))
    }

    /// Scores the documents that count, and submits the closest for every target where it would be
    /// a candidate. What the chain has accepted is in `submissions` even when an error ends the
    /// work early.
    ///
    /// # Errors
    /// Same as [`Scoring::score`]; network errors. A submission that the rules reject is a notice.
    pub async fn enter(
        &self,
        ground: &Ground<'_>,
        submissions: &mut Vec<Submission>,
    ) -> Result<LeftOut> {
        let Some(mut entering) = self.score(ground, None).await? else {
            return Ok(LeftOut::default());
        };
        let mut troubles = Troubles::default();
        self.enter_targets(&mut entering, ground, submissions, &mut troubles).await?;
        Ok(entering.left_out())
    }

    /// Submits the closest document for every target that is not done and where it would be a
    /// candidate. Returns how many targets are not done afterwards, because of something that
    /// passes. What the chain has accepted is in `submissions` even when an error ends the work
    /// early.
    ///
    /// # Errors
    /// Network errors. A submission that the rules reject is a notice, and so is whatever concerns
    /// a single target.
    pub(crate) async fn enter_targets(
        &self,
        entering: &mut Entering,
        ground: &Ground<'_>,
        submissions: &mut Vec<Submission>,
        troubles: &mut Troubles,
    ) -> Result<usize> {
        let observer = self.competitor.observer;
        let mut left = 0;
        for target in ground.targets {
            if entering.done.contains(&target.id) {
                continue;
            }
            let place = format!("target {}", target.id);
            if let Some(error) = entering.choosing.scores.missing(target) {
                troubles.tell(observer, &place, error);
                left += 1;
                continue;
            }
            match self.enter_target(&mut entering.choosing, target, ground).await {
                Ok(None) if let Some(unread) = entering.choosing.scores.unread() => {
                    troubles.tell_as(observer, &place, unread.code, &unread.message);
                    left += 1;
                    continue;
                }
                Ok(entered) => {
                    submissions.extend(entered);
                    troubles.over(observer, &place);
                }
                // It was not executed, and never will be: another attempt may be.
                Err(CompeteError::Sdk(error @ SdkError::Expired { .. })) => {
                    troubles.tell(observer, &place, &error);
                    left += 1;
                    continue;
                }
                Err(error) if error.exit() == Exit::Rejected => {
                    observer.notice(Level::Warning, &format_args!("{place}: {error}"));
                }
                Err(error) if error.is_local() => {
                    troubles.tell(observer, &place, &error);
                    left += 1;
                    continue;
                }
                Err(error) => return Err(error),
            }
            entering.done.insert(target.id);
        }
        Ok(left)
    }

    /// Submits the closest document for a target where it would be a candidate, unless this account
    /// has one there that is as close.
    async fn enter_target(
        &self,
        choosing: &mut Choosing,
        target: &Target,
        ground: &Ground<'_>,
    ) -> Result<Option<Submission>> {
        // It follows from the seed: nobody is asked for what can be computed.
        let dim = ground.rules.architecture.dim;
        let direction = query::target_direction(&target.seed.0, TargetId(target.id), dim);
        let Some((choice, data)) = self.choose(choosing, target, &direction, ground.rules).await?
        else {
            return Ok(None);
        };
        let own = |distance| choice.distance >= distance;
        let address = self.competitor.sender.address();
        let mut ours = target.candidates.iter().filter(|its| its.submitter.0 == address);
        if ours.any(|candidate| own(candidate.distance.0)) {
            return Ok(None);
        }
        let document = &choosing.documents[choice.document];
        self.submit(target, document, data, &choice, ground.standing).await?;
        self.competitor.observer.notice(Level::Info, &entry(target, document, &choice));
        Ok(Some(Submission {
            target: target.id,
            epoch: target.epoch,
            file: document.path().to_owned(),
            data_hash: document.hash(),
            model: choice.model,
            loss_q32: choice.loss_q32,
            gain_q32: choice.gain_q32,
            distance: choice.distance,
        }))
    }

    /// What submissions hold, in words, before the first one.
    pub(crate) fn stake(params: &Params) -> String {
        let (bps, reward) = (params.bond_bps, Amount::soma(100));
        format!(
            "a submission holds a bond, {} SOMA for each 100 SOMA of reward; it is lost unless the \
             data of a candidate is published in the epoch after its target's: keep this command \
             running, or run it again by then",
            reward.bps(bps)
        )
    }

    /// The submissions of this account that an earlier run has made and that are not decided.
    ///
    /// # Errors
    /// Network errors; those of [`soma_sdk::Spool::list`].
    pub(crate) async fn earlier(&self) -> Result<Vec<Submission>> {
        let Competitor { sender, spool, .. } = self.competitor;
        let mut submissions = Vec::new();
        for due in spool.list()?.obligations {
            let Obligation::Publication(publication) = due else {
                continue;
            };
            if (publication.chain, publication.submitter) != (sender.chain(), sender.address()) {
                continue;
            }
            let target = sender.client().target(publication.target).await?;
            if let Some(candidate) = publication.candidate_in(&target) {
                submissions.push(Submission {
                    target: target.id,
                    epoch: target.epoch,
                    file: String::new(),
                    data_hash: publication.data_hash(),
                    model: candidate.model,
                    loss_q32: candidate.loss_q32.0,
                    gain_q32: candidate.gain_q32.0,
                    distance: candidate.distance.0,
                });
            }
        }
        Ok(submissions)
    }

    /// The closest document that can be read, with its data, if it would be a candidate. One that
    /// has won before, for the most part, would lose its bond.
    async fn choose(
        &self,
        choosing: &mut Choosing,
        target: &Target,
        direction: &[i16],
        rules: &Rules,
    ) -> Result<Option<(Choice, Vec<u8>)>> {
        for best in choosing.closest(target, direction) {
            if !is_candidate(target, &best, rules) {
                break;
            }
            let place = best.document;
            let document = &choosing.documents[place];
            let data = match document.bytes() {
                Ok(data) => data.into_owned(),
                Err(error) => {
                    let observer = self.competitor.observer;
                    choosing.scores.leave_out(place, document, &error, observer);
                    continue;
                }
            };
            if choosing.new.contains(&place) {
                return Ok(Some((best, data)));
            }
            if choosing.seen.has(self.competitor.client(), &data).await? {
                choosing.seen_before.insert(place);
            } else {
                choosing.new.insert(place);
                return Ok(Some((best, data)));
            }
        }
        Ok(None)
    }

    /// Submits a document; its publication becomes an obligation, with all that proves that the
    /// document counts. If an earlier attempt has left the obligation, it is that one's.
    async fn submit(
        &self,
        target: &Target,
        document: &Document,
        data: Vec<u8>,
        choice: &Choice,
        standing: &Standing,
    ) -> Result {
        let Competitor { sender, spool, .. } = self.competitor;
        let account = (sender.chain(), sender.address());
        let id = TargetId(target.id);
        let earlier = spool.publication(account, id, document.hash())?;
        let is_new = earlier.is_none();
        let publication = if let Some(earlier) = earlier {
            earlier
        } else {
            let proof = standing.proof(self.corpus, &document.hash());
            let proof = proof.ok_or(CompeteError::DocumentsTooNew {
                documents: 1,
                from: standing.epoch.saturating_add(1),
            })?;
            Publication {
                chain: sender.chain(),
                submitter: sender.address(),
                target: id,
                epoch: Epoch(target.epoch),
                salt: Secret::generate()?,
                index: proof.index,
                leaf_salt: proof.leaf_salt,
                path: proof.path,
                data,
            }
        };
        let action = publication.submit(Claim {
            model: ModelId(choice.model),
            loss_q32: choice.loss_q32,
            gain_q32: choice.gain_q32,
            distance: choice.distance,
        });
        let obligation = Obligation::Publication(publication);
        if is_new {
            spool.put(obligation.clone())?;
        }
        self.competitor.send(&obligation, is_new, action).await
    }
}

/// Whether a document would be among the candidates of the target.
fn is_candidate(target: &Target, choice: &Choice, rules: &Rules) -> bool {
    let full = target.candidates.len() >= rules.params.candidates_per_target as usize;
    let worst = target.candidates.last().map(|candidate| candidate.distance.0);
    !full || worst.is_none_or(|worst| choice.distance < worst)
}

/// A line about a submission.
fn entry(target: &Target, document: &Document, choice: &Choice) -> String {
    format!(
        "target {:<4} {} with model {}: distance {:.4}, gain {:.3}",
        target.id,
        document.path(),
        choice.model,
        relative_distance(choice.distance),
        nats(choice.gain_q32)
    )
}

/// Chooses the closest document for one target after another.
struct Choosing {
    scores: Scores,
    documents: Vec<Document>,
    /// What has won before.
    seen: Seen,
    /// The specializations that the models had when the targets were drawn.
    specializations: BTreeMap<u32, Vec<i16>>,
    /// Documents that would be submitted, had they not won before.
    seen_before: BTreeSet<usize>,
    /// Documents of which that is known not to be so.
    new: BTreeSet<usize>,
    /// Documents that the model that predicts them best for some target understands.
    understood: BTreeSet<usize>,
    /// Documents with a direction for some target.
    directed: BTreeSet<usize>,
    /// Documents with a score for some target.
    scored: BTreeSet<usize>,
}

impl Choosing {
    fn new(
        scores: Scores,
        documents: Vec<Document>,
        seen: Seen,
        specializations: BTreeMap<u32, Vec<i16>>,
    ) -> Self {
        let [seen_before, new, understood, directed, scored] = [(); 5].map(|()| BTreeSet::new());
        Self {
            scores,
            documents,
            seen,
            specializations,
            seen_before,
            new,
            understood,
            directed,
            scored,
        }
    }

    /// The documents that can be submitted for a target, the closest first.
    fn closest(&mut self, target: &Target, direction: &[i16]) -> Vec<Choice> {
        let aim = Aim { target, direction, specializations: &self.specializations };
        let mut choices = Vec::new();
        for document in 0..self.scores.documents() {
            let fit = self.scores.fit(document, aim);
            if fit == Fit::NoScore {
                continue;
            }
            self.scored.insert(document);
            if fit == Fit::NotUnderstood {
                continue;
            }
            self.understood.insert(document);
            let Fit::Possible(choice) = fit else {
                continue;
            };
            self.directed.insert(document);
            if !self.seen_before.contains(&document) && !self.scores.is_unreadable(document) {
                choices.push(choice);
            }
        }
        choices.sort_by_key(|choice| choice.distance);
        choices
    }

    fn left_out(&self) -> LeftOut {
        let paths = |places: &mut dyn Iterator<Item = &usize>| -> Vec<String> {
            places.map(|place| self.documents[*place].path().to_owned()).collect()
        };
        LeftOut {
            not_understood: paths(&mut self.scored.difference(&self.understood)),
            without_direction: paths(&mut self.understood.difference(&self.directed)),
            seen_before: paths(&mut self.seen_before.iter()),
        }
    }
}

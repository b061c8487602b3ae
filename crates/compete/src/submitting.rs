//! Submitting the documents that `scoring` has chosen. The data stays on this machine unless it
//! wins.

use std::collections::BTreeSet;
use std::time::Instant;

use soma_architecture::embedding::UNIT;
use soma_codes::{Coded, Exit};
use soma_model::Architecture;
use soma_protocol::{Epoch, Hash, ModelId, Params, TargetId};
use soma_sdk::api::Target;
use soma_sdk::client::Client;
use soma_sdk::obligation::{Claim, Obligation, Publication};
use soma_sdk::secret::Secret;

use crate::competitor::Competitor;
use crate::documents::Document;
use crate::error::{CompeteError, Result};
use crate::observer::Level;
use crate::scoring::{Choice, ModelSet, Scores, Scoring};
use crate::witness;

/// A squared distance as a fraction of the one at right angles: 0 is a hit.
pub fn relative_distance(distance: u64) -> f64 {
    distance as f64 / (2 * UNIT * UNIT) as f64
}

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
    /// The document's path.
    pub file: String,
    /// What was submitted.
    pub choice: Choice,
}

/// A competitor, with what it needs for scoring.
#[derive(Clone, Copy, Debug)]
pub struct Submitter<'a> {
    /// The account.
    pub competitor: &'a Competitor<'a>,
    /// The means of scoring.
    pub scoring: Scoring<'a>,
    /// Other nodes, which must say the same about the targets and the rules.
    pub witnesses: &'a [Client],
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

    /// Asks the witnesses about everything that decides a claim for these targets.
    async fn confirm(&self, targets: &[Target], rules: &Rules) -> Result {
        let (witnesses, chain) = (self.witnesses, self.competitor.sender.chain());
        let ask = async |client: &Client| Ok(client.status().await?.chain_id.0);
        witness::agree(witnesses, "the chain", &chain, ask).await?;
        let ask = async |client: &Client| Ok(client.architecture().await?);
        witness::agree(witnesses, "the architecture", &rules.architecture, ask).await?;
        let ask = async |client: &Client| Ok(client.params().await?);
        witness::agree(witnesses, "the parameters", &rules.params, ask).await?;
        for target in targets {
            let (id, expected) = (TargetId(target.id), witness::fixed(target.clone()));
            let ask = async |client: &Client| Ok(witness::fixed(client.target(id).await?));
            witness::agree(witnesses, "a target", &expected, ask).await?;
            if !witnesses.is_empty() {
                let direction = self.competitor.client().direction(id).await?;
                let ask = async |client: &Client| Ok(client.direction(id).await?);
                witness::agree(witnesses, "a target's direction", &direction, ask).await?;
            }
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

    /// The documents that the rules accept: not too small, and not published before.
    ///
    /// # Errors
    /// [`CompeteError::TooLittleData`] if all are too small; network errors.
    pub async fn qualifying(
        &self,
        mut documents: Vec<Document>,
        rules: &Rules,
    ) -> Result<Vec<Document>> {
        let (all, bytes_min) = (documents.len(), rules.architecture.positions as usize);
        documents.retain(|document| document.bytes.len() >= bytes_min);
        if documents.is_empty() {
            return Err(CompeteError::TooLittleData { documents: all, bytes_min });
        }
        let taken = self.taken().await?;
        documents.retain(|document| !taken.contains(&document.hash()));
        Ok(documents)
    }

    /// Hashes of data that has won, or is published and may win: the rules accept no data twice.
    async fn taken(&self) -> Result<BTreeSet<Hash>> {
        let targets = self.competitor.client().targets(None).await?;
        let hashes = targets.iter().filter_map(|target| {
            let paid = target.payment.as_ref().map(|payment| payment.data_hash.0);
            paid.or_else(|| Some(target.publication.as_ref()?.data_hash.0))
        });
        Ok(hashes.collect())
    }

    /// Scores documents, stopping at `until` at the latest, and submits the closest for every
    /// target where it would be a candidate. All targets are of one epoch: one seed and one score
    /// serve them all. Returns how many documents there was time for, the first ones. What the
    /// chain has accepted is in `submissions` even when an error ends the work early.
    ///
    /// # Errors
    /// Same as [`Scoring::score`]; network errors. A submission that the rules reject is a notice.
    pub async fn enter(
        &self,
        targets: &[Target],
        documents: &[Document],
        rules: &Rules,
        until: Option<Instant>,
        submissions: &mut Vec<Submission>,
    ) -> Result<usize> {
        let observer = self.competitor.observer;
        let Some(models) = ModelSet::routed(targets, rules.architecture.clone()) else {
            return Ok(0);
        };
        self.confirm(targets, rules).await?;
        let client = self.competitor.client();
        let scores = self.scoring.score(client, &models, documents, until, observer).await?;
        for target in targets {
            // Whether a file is malformed follows from answers of a single node.
            if self.witnesses.is_empty() && scores.lacks_model(target) {
                let text = format!(
                    "target {}: skipped, because a model of it cannot be used; to submit for it, \
                     name another node that confirms this",
                    target.id
                );
                observer.notice(Level::Warning, &text);
                continue;
            }
            let Some(choice) = self.closest(&scores, target, &rules.params).await? else {
                continue;
            };
            let document = &documents[choice.document];
            match self.submit(target, document, &choice).await {
                Ok(()) => {
                    let text = format!(
                        "target {:<4} {} with model {}: distance {:.4}",
                        target.id,
                        document.path,
                        choice.model,
                        relative_distance(choice.distance)
                    );
                    observer.notice(Level::Info, &text);
                    submissions.push(Submission {
                        target: target.id,
                        epoch: target.epoch,
                        file: document.path.clone(),
                        choice,
                    });
                }
                Err(error) if error.exit() == Exit::Rejected => {
                    let text = format!("target {}: {error}", target.id);
                    observer.notice(Level::Warning, &text);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(scores.documents())
    }

    /// The closest document, if it would be a candidate of the target.
    async fn closest(
        &self,
        scores: &Scores,
        target: &Target,
        params: &Params,
    ) -> Result<Option<Choice>> {
        let direction = self.competitor.client().direction(TargetId(target.id)).await?;
        let best = scores.closest(target, &direction.components);
        let full = target.candidates.len() >= params.candidates_per_target as usize;
        let worst = target.candidates.last().map(|candidate| candidate.distance.0);
        let worst = worst.unwrap_or(u64::MAX);
        Ok(best.filter(|choice| !full || choice.distance < worst))
    }

    /// Submits a document; its publication becomes an obligation.
    async fn submit(&self, target: &Target, document: &Document, choice: &Choice) -> Result {
        let sender = &self.competitor.sender;
        let publication = Publication {
            chain: sender.chain(),
            submitter: sender.address(),
            target: TargetId(target.id),
            epoch: Epoch(target.epoch),
            salt: Secret::generate()?,
            index: 0,
            leaf_salt: Secret::generate()?,
            path: Vec::new(),
            data: document.bytes.clone(),
        };
        let action = publication.submit(Claim {
            model: ModelId(choice.model),
            loss_q32: choice.loss_q32,
            gain_q32: 0,
            distance: choice.distance,
        });
        self.competitor.send(Obligation::Publication(publication), action).await
    }
}

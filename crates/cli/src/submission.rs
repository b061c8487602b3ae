//! Which of my documents for which target: score with the routed models, keep the closest.

use std::collections::{BTreeMap, BTreeSet};

use soma_model::{Architecture, Directions, Engine, Report, distance_squared};
use soma_protocol::{Epoch, Hash, ModelId, TargetId, winner};
use soma_sdk::client::Client;
use soma_sdk::due::{Due, Publication};
use soma_sdk::secret::Secret;
use soma_sdk::sender::Sender;
use soma_sdk::spool::Spool;
use soma_sdk::types::Target;

use crate::documents::Document;
use crate::error::Result;
use crate::exit::Exit;
use crate::output::{Output, Unit};
use crate::publishing::was_refused;
use crate::score_cache::{ScoreCache, Scorer};
use crate::weights_cache::WeightsCache;

/// Scores of every document with every model that a target asks for; none where a model fails.
#[derive(Debug, Default)]
pub(crate) struct Scores(BTreeMap<(usize, Hash), Option<Report>>);

/// A document that could be submitted for a target.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    /// Place of the document in the list.
    pub(crate) document: usize,
    /// The model that predicts it best.
    pub(crate) model: u32,
    pub(crate) loss_q32: i64,
    /// Squared distance of its embedding to the target.
    pub(crate) distance: u64,
}

impl Scores {
    /// Fetches the weights `files` (hash and size) and scores all documents with each of them.
    pub(crate) async fn compute(
        (client, files_here, scores_here): (&Client, &WeightsCache, &ScoreCache),
        (engine, architecture): (&Engine, &Architecture),
        (seed, files): (Hash, BTreeMap<Hash, u64>),
        documents: &[Document],
        output: &Output,
    ) -> Result<Self> {
        let (mut scores, mut known) = (Self::default(), 0);
        let directions = Directions::new(architecture, seed.0);
        let data: Vec<&[u8]> = documents
            .iter()
            .map(|document| &document.bytes[..])
            .collect();
        let bytes: usize = data.iter().map(|data| data.len()).sum();
        let bar = output.bar((files.len() * bytes) as u64, "scoring", Unit::Bytes);
        for file in files {
            let weights = match files_here.open(client, file, architecture, output).await {
                Ok(weights) => weights,
                // Not a model: it has no score and ranks last, for auditors as well.
                Err(error) if error.exit == Exit::Verification => {
                    output.warn(format_args!("weights {}: {}", file.0, error.message));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let reports = tokio::task::block_in_place(|| {
                let scorer = Scorer {
                    engine,
                    weights: &weights,
                    seed: seed.0,
                    directions: &directions,
                };
                scores_here.score_all(scorer, &data, |bytes| bar.inc(bytes as u64))
            })?;
            for (index, scored) in reports.into_iter().enumerate() {
                known += usize::from(scored.cached);
                scores.0.insert((index, file.0), scored.report.ok());
            }
        }
        bar.finish_and_clear();
        if known > 0 {
            let asked = scores.0.len();
            output.say(format_args!(
                "{known} of {asked} scores were computed before"
            ));
        }
        Ok(scores)
    }

    /// A document's score with these weights.
    pub(crate) fn get(&self, document: usize, weights_hash: Hash) -> Option<&Report> {
        self.0.get(&(document, weights_hash))?.as_ref()
    }

    /// What a document would be submitted as: the routed model with the lowest loss decides.
    pub(crate) fn choice(
        &self,
        document: usize,
        (target, direction): (&Target, &[i16]),
        margin_q32: u64,
    ) -> Option<Choice> {
        let reports: Vec<_> = target
            .routed
            .iter()
            .map(|routed| self.get(document, routed.weights_hash.0))
            .collect();
        let losses: Vec<_> = reports
            .iter()
            .map(|report| Some(report.as_ref()?.score.loss_q32))
            .collect();
        let ages: Vec<_> = target
            .routed
            .iter()
            .map(|routed| routed.age.into())
            .collect();
        let winner = winner(&losses, &ages, margin_q32)?;
        let score = &reports.get(winner)?.as_ref()?.score;
        Some(Choice {
            document,
            model: target.routed.get(winner)?.model,
            loss_q32: score.loss_q32,
            distance: distance_squared(&score.embedding, direction),
        })
    }
}

/// The weights that targets are scored with: hash and size.
pub(crate) fn routed_files(targets: &[Target]) -> BTreeMap<Hash, u64> {
    let routed = targets.iter().flat_map(|target| &target.routed);
    routed
        .map(|routed| (routed.weights_hash.0, routed.size_bytes.0))
        .collect()
}

/// Hashes of data that has won, or that is published and may win: the rules take no data twice.
pub(crate) async fn taken(client: &Client) -> Result<BTreeSet<Hash>> {
    let targets = client.targets(None).await?;
    let hashes = targets.iter().filter_map(|target| {
        let paid = target.payment.as_ref().map(|payment| payment.data_hash.0);
        paid.or_else(|| Some(target.publication.as_ref()?.data_hash.0))
    });
    Ok(hashes.collect())
}

/// The document closest to the target; none if no routed model can score any.
pub(crate) fn closest(choices: impl Iterator<Item = Choice>) -> Option<Choice> {
    choices.min_by_key(|choice| choice.distance)
}

/// Submits a document for a target. What its publication needs is in the spool before it is sent.
pub(crate) async fn submit(
    sender: &Sender,
    spool: &Spool,
    target: &Target,
    (document, choice): (&Document, &Choice),
) -> Result {
    let publication = Publication {
        chain: sender.chain(),
        submitter: sender.address(),
        target: TargetId(target.id),
        epoch: Epoch(target.epoch),
        salt: Secret::generate()?,
        data: document.bytes.clone(),
    };
    let model = ModelId(choice.model);
    let action = publication.submit(model, choice.loss_q32, choice.distance);
    let due = Due::Publication(publication);
    spool.put(due.clone())?;
    if let Err(error) = sender.run(action).await {
        if was_refused(&error) {
            spool.remove(&due)?;
        }
        return Err(error.into());
    }
    Ok(())
}

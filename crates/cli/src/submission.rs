//! Which of my documents for which target: score with the routed models, keep the closest.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

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
use crate::output::{Output, Unit};
use crate::publishing::was_refused;
use crate::score_cache::{ScoreCache, Scorer};
use crate::weights_cache::WeightsCache;
use soma_codes::Exit;

/// Bytes of documents that are scored to learn how long it takes.
const FIRST_BYTES: usize = 8 << 10;

/// Scores of documents with every model that a target asks for; none where a model fails.
#[derive(Debug, Default)]
pub(crate) struct Scores {
    reports: BTreeMap<(usize, Hash), Option<Report>>,
    documents: usize,
}

/// How many documents are scored at once. Without a limit all of them; with one as many as there is time for, more and more.
struct Pace {
    until: Option<Instant>,
    begun: Instant,
    bytes: usize,
}

impl Pace {
    fn new(until: Option<Instant>) -> Self {
        Self {
            until,
            begun: Instant::now(),
            bytes: 0,
        }
    }

    /// The number of documents to score next, of those that are left; 0 if there is no time for one.
    fn next(&mut self, left: &[Document]) -> usize {
        let Some(until) = self.until else {
            return left.len();
        };
        let now = Instant::now();
        let spent = now.saturating_duration_since(self.begun).as_secs_f64();
        let time = until.saturating_duration_since(now).as_secs_f64();
        let room = if self.bytes == 0 {
            FIRST_BYTES as f64
        } else {
            (self.bytes as f64 * time / spent).min(2.0 * self.bytes as f64)
        };
        let mut bytes = 0;
        let mut fits = |document: &&Document| {
            bytes += document.bytes.len();
            bytes as f64 <= room
        };
        let count = left.iter().take_while(|one| fits(one)).count();
        // Without one there is nothing to learn from.
        let count = count.max(usize::from(self.bytes == 0)).min(left.len());
        self.bytes += left[..count]
            .iter()
            .map(|one| one.bytes.len())
            .sum::<usize>();
        count
    }
}

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
    /// Fetches the weights `files` (hash and size) and scores documents with each of them: all, or as many as there is time
    /// for, each with every model.
    pub(crate) async fn compute(
        (client, files_here, scores_here): (&Client, &WeightsCache, &ScoreCache),
        (engine, architecture): (&Engine, &Architecture),
        (seed, files): (Hash, BTreeMap<Hash, u64>),
        (documents, until): (&[Document], Option<Instant>),
        output: &Output,
    ) -> Result<Self> {
        let mut models = Vec::new();
        for file in files {
            match files_here.open(client, file, architecture, output).await {
                Ok(weights) => models.push((file.0, weights)),
                // Not a model: it has no score and ranks last, for auditors as well.
                Err(error) if error.exit == Exit::Verification => {
                    output.warn(format_args!("weights {}: {}", file.0, error.message));
                }
                Err(error) => return Err(error),
            }
        }
        let (mut scores, mut known) = (Self::default(), 0);
        let directions = Directions::new(architecture, seed.0);
        let bytes: usize = documents.iter().map(|one| one.bytes.len()).sum();
        let bar = output.bar((models.len() * bytes) as u64, "scoring", Unit::Bytes);
        let mut pace = Pace::new(until);
        loop {
            let left = &documents[scores.documents..];
            let count = pace.next(left);
            if count == 0 {
                break;
            }
            let data: Vec<&[u8]> = left[..count].iter().map(|one| &one.bytes[..]).collect();
            for (hash, weights) in &models {
                let reports = tokio::task::block_in_place(|| {
                    let scorer = Scorer {
                        engine,
                        weights,
                        seed: seed.0,
                        directions: &directions,
                    };
                    scores_here.score_all(scorer, &data, |bytes| bar.inc(bytes as u64))
                })?;
                for (index, scored) in (scores.documents..).zip(reports) {
                    known += usize::from(scored.cached);
                    scores.reports.insert((index, *hash), scored.report.ok());
                }
            }
            scores.documents += count;
        }
        bar.finish_and_clear();
        if known > 0 {
            let asked = scores.reports.len();
            output.say(format_args!(
                "{known} of {asked} scores were computed before"
            ));
        }
        Ok(scores)
    }

    /// How many documents were scored: the first ones.
    pub(crate) fn documents(&self) -> usize {
        self.documents
    }

    /// A document's score with these weights.
    pub(crate) fn get(&self, document: usize, weights_hash: Hash) -> Option<&Report> {
        self.reports.get(&(document, weights_hash))?.as_ref()
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{FIRST_BYTES, Pace};
    use crate::documents::Document;

    fn documents(sizes: &[usize]) -> Vec<Document> {
        let document = |size: &usize| Document {
            path: String::new(),
            bytes: vec![0; *size],
        };
        sizes.iter().map(document).collect()
    }

    #[test]
    fn without_a_limit_everything_is_scored_at_once() {
        assert_eq!(Pace::new(None).next(&documents(&[1, 1 << 20, 7])), 3);
        assert_eq!(Pace::new(None).next(&[]), 0);
    }

    #[test]
    fn with_a_limit_a_little_is_scored_first_then_more_and_nothing_when_time_is_up() {
        let all = documents(&[FIRST_BYTES / 2; 20]);
        let begun = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let mut pace = Pace {
            until: Some(Instant::now() + Duration::from_mins(10)),
            begun,
            bytes: 0,
        };
        assert_eq!(pace.next(&all), 2);
        assert_eq!(pace.next(&all[2..]), 4);
        assert_eq!(pace.next(&all[6..]), 12);
        pace.until = Some(Instant::now());
        assert_eq!(pace.next(&all[18..]), 0);
        let large = documents(&[FIRST_BYTES * 3]);
        assert_eq!(
            Pace::new(Some(Instant::now())).next(&large),
            1,
            "one is always tried"
        );
        assert_eq!(Pace::new(Some(Instant::now())).next(&[]), 0);
    }
}

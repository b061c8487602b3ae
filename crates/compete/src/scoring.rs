//! Scores of documents with the models that targets ask for, and the best choice for a target.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use soma_architecture::embedding::distance_squared;
use soma_model::{Architecture, Directions, Engine, Report};
use soma_protocol::{Hash, winner};
use soma_sdk::api::Target;
use soma_sdk::client::Client;

use crate::documents::Document;
use crate::error::Result;
use crate::observer::{Level, Observer};
use crate::scores::{ScoreCache, Scorer};
use crate::weights::{ModelFile, WeightsCache};

/// Bytes of documents in the first batch, which shows how long scoring takes.
const FIRST_BYTES: usize = 8 << 10;

/// The means of scoring: an engine, and caches of weights and scores.
#[derive(Clone, Copy, Debug)]
pub struct Scoring<'a> {
    /// The engine that computes scores.
    pub engine: &'a Engine,
    /// Where weights are kept.
    pub weights: &'a WeightsCache,
    /// Where scores are kept.
    pub scores: &'a ScoreCache,
}

/// The models that score: weights files of one architecture under one seed.
#[derive(Clone, Debug)]
pub struct ModelSet {
    /// Architecture of all of them.
    pub architecture: Architecture,
    /// Seed of the regularizer's directions: the beacon of the targets' epoch.
    pub seed: Hash,
    /// The models' files.
    pub files: BTreeSet<ModelFile>,
}

impl ModelSet {
    /// The models that are routed to `targets`, which are all of one epoch; `None` without targets.
    pub fn routed(targets: &[Target], architecture: Architecture) -> Option<Self> {
        let routed = targets.iter().flat_map(|target| &target.routed);
        let files = routed.map(ModelFile::from).collect();
        Some(Self { architecture, seed: targets.first()?.seed.0, files })
    }
}

/// Scores of documents with every model of a set; there is no score where a model fails.
#[derive(Debug, Default)]
pub struct Scores {
    reports: BTreeMap<(usize, ModelFile), Option<Report>>,
    /// Files that are malformed or not what was revealed.
    broken: BTreeSet<ModelFile>,
    documents: usize,
}

/// A document that could be submitted for a target.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Index of the document.
    pub document: usize,
    /// The model that predicts it best.
    pub model: u32,
    /// Its loss with that model.
    pub loss_q32: i64,
    /// Squared distance of its embedding to the target.
    pub distance: u64,
}

impl Scoring<'_> {
    /// Downloads the weights and scores documents with each model: all documents, or as many as
    /// there is time for before `until`, each with every model.
    ///
    /// # Errors
    /// Same as [`WeightsCache::open`], except for unusable weights, and [`ScoreCache::score_all`].
    pub async fn score(
        self,
        client: &Client,
        models: &ModelSet,
        documents: &[Document],
        until: Option<Instant>,
        observer: &dyn Observer,
    ) -> Result<Scores> {
        let architecture = &models.architecture;
        let (mut opened, mut broken) = (Vec::new(), BTreeSet::new());
        for file in &models.files {
            match self.weights.open(client, file, architecture, observer).await {
                Ok(weights) => opened.push((*file, weights)),
                // It has no score and ranks last, for auditors as well, if the node told the truth
                // about what the model has revealed and about the architecture.
                Err(error) if error.is_broken_file() => {
                    let hash = file.weights_hash;
                    observer.notice(Level::Warning, &format_args!("weights {hash}: {error}"));
                    broken.insert(*file);
                }
                Err(error) => return Err(error),
            }
        }
        let (mut scores, mut cached, mut done) = (Scores { broken, ..Scores::default() }, 0, 0);
        let directions = Directions::new(architecture, models.seed.0);
        let bytes: usize = documents.iter().map(|document| document.bytes.len()).sum();
        let mut advance = observer.start("scoring", Some((opened.len() * bytes) as u64));
        let mut pace = Pace::new(until);
        loop {
            let rest = &documents[scores.documents..];
            let count = pace.next(rest);
            if count == 0 {
                break;
            }
            let data: Vec<&[u8]> =
                rest[..count].iter().map(|document| &document.bytes[..]).collect();
            for (file, weights) in &opened {
                let scorer = Scorer {
                    engine: self.engine,
                    weights,
                    seed: models.seed.0,
                    directions: &directions,
                };
                let scored = tokio::task::block_in_place(|| {
                    self.scores.score_all(scorer, &data, |bytes| {
                        done += bytes as u64;
                        advance(done);
                    })
                })?;
                for (document, scored) in (scores.documents..).zip(scored) {
                    cached += usize::from(scored.cached);
                    scores.reports.insert((document, *file), scored.report.ok());
                }
            }
            scores.documents += count;
        }
        if cached > 0 {
            let text = format!("{cached} of {} scores came from the cache", scores.reports.len());
            observer.notice(Level::Info, &text);
        }
        Ok(scores)
    }
}

impl Scores {
    /// How many documents were scored; they are the first ones.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Whether a model of this target has no score at all, because its file is broken.
    pub fn lacks_model(&self, target: &Target) -> bool {
        target.routed.iter().any(|routed| self.broken.contains(&routed.into()))
    }

    /// A document's score with this model's file.
    pub fn get(&self, document: usize, file: ModelFile) -> Option<&Report> {
        self.reports.get(&(document, file))?.as_ref()
    }

    /// What a document would be submitted as: the routed model with the lowest loss decides or,
    /// within a difference of `margin_q32`, the one with the older weights.
    pub fn choice(
        &self,
        document: usize,
        target: &Target,
        direction: &[i16],
        margin_q32: u64,
    ) -> Option<Choice> {
        let routed = target.routed.iter();
        let reports: Vec<_> = routed.map(|routed| self.get(document, routed.into())).collect();
        let losses: Vec<_> =
            reports.iter().map(|report| Some(report.as_ref()?.score.loss_q32)).collect();
        let ages: Vec<_> = target.routed.iter().map(|routed| routed.age.into()).collect();
        let winner = winner(&losses, &ages, margin_q32)?;
        let score = &reports.get(winner)?.as_ref()?.score;
        Some(Choice {
            document,
            model: target.routed.get(winner)?.model,
            loss_q32: score.loss_q32,
            distance: distance_squared(&score.embedding, direction),
        })
    }

    /// The document closest to the target; `None` if no routed model can score any.
    pub fn closest(&self, target: &Target, direction: &[i16]) -> Option<Choice> {
        let margin_q32 = target.loss_margin_q32.0;
        (0..self.documents)
            .filter_map(|document| self.choice(document, target, direction, margin_q32))
            .min_by_key(|choice| choice.distance)
    }
}

/// How many documents are scored at once: all of them without a time limit; with one, as many as
/// there is time for, in growing batches.
struct Pace {
    until: Option<Instant>,
    begun: Instant,
    bytes: usize,
}

impl Pace {
    fn new(until: Option<Instant>) -> Self {
        Self { until, begun: Instant::now(), bytes: 0 }
    }

    /// How many of the remaining documents to score next; 0 if there is no time for one.
    fn next(&mut self, rest: &[Document]) -> usize {
        let Some(until) = self.until else {
            return rest.len();
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
        let count = rest.iter().take_while(|document| fits(document)).count();
        // The first is always scored: without it there is nothing to estimate from.
        let count = count.max(usize::from(self.bytes == 0)).min(rest.len());
        let batch = rest[..count].iter();
        self.bytes += batch.map(|document| document.bytes.len()).sum::<usize>();
        count
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{FIRST_BYTES, Pace};
    use crate::documents::Document;

    fn documents(sizes: &[usize]) -> Vec<Document> {
        let document = |size: &usize| Document { path: String::new(), bytes: vec![0; *size] };
        sizes.iter().map(document).collect()
    }

    #[test]
    fn without_a_limit_everything_is_scored_at_once() {
        assert_eq!(Pace::new(None).next(&documents(&[1, 1 << 20, 7])), 3);
        assert_eq!(Pace::new(None).next(&[]), 0);
    }

    #[test]
    fn with_a_limit_batches_grow_and_nothing_is_scored_when_time_is_up() {
        let all = documents(&[FIRST_BYTES / 2; 20]);
        let begun = Instant::now().checked_sub(Duration::from_secs(1)).unwrap();
        let mut pace =
            Pace { until: Some(Instant::now() + Duration::from_mins(10)), begun, bytes: 0 };
        assert_eq!(pace.next(&all), 2);
        assert_eq!(pace.next(&all[2..]), 4);
        assert_eq!(pace.next(&all[6..]), 12);
        pace.until = Some(Instant::now());
        assert_eq!(pace.next(&all[18..]), 0);
        let large = documents(&[FIRST_BYTES * 3]);
        assert_eq!(Pace::new(Some(Instant::now())).next(&large), 1, "one is always tried");
        assert_eq!(Pace::new(Some(Instant::now())).next(&[]), 0);
    }
}

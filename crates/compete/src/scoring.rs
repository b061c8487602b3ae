//! Scores of documents with the models that targets ask for, and the best choice for a target.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use soma_architecture::embedding::document_distance;
use soma_model::{Architecture, Directions, Engine, Report, Weights};
use soma_protocol::winner::is_gain_enough;
use soma_protocol::{Hash, winner};
use soma_sdk::api::Target;
use soma_sdk::client::Client;

use crate::documents::{Document, Unusable};
use crate::error::{CompeteError, Result};
use crate::observer::{Level, Observer};
use crate::open_models::OpenModels;
use crate::scores::{ScoreCache, Scorer};
use crate::weights::{ModelFile, WeightsCache};

/// Bytes of documents in the first batch, which shows how long scoring takes.
const FIRST_BYTES: usize = 8 << 10;
/// Bytes of documents that are in memory at once.
const BATCH_BYTES: usize = 32 << 20;

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

/// Models of one architecture that are opened once, however many batches they score: opening one
/// reads and hashes all of its file.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    models: OpenModels,
    /// Indices in `models`.
    files: BTreeMap<ModelFile, usize>,
    broken: BTreeSet<ModelFile>,
    /// Files that could not be had, and why.
    missing: BTreeMap<ModelFile, CompeteError>,
}

/// Scores of documents with every model of a set; there is no score where a model fails.
#[derive(Debug, Default)]
pub struct Scores {
    reports: BTreeMap<(usize, ModelFile), Option<Report>>,
    /// Files that could not be had, and why.
    missing: BTreeMap<ModelFile, CompeteError>,
    /// Documents that could not be read when they were needed.
    unreadable: BTreeMap<usize, Unusable>,
    documents: usize,
}

/// A target, with what decides which document is closest to it.
#[derive(Clone, Copy, Debug)]
pub struct Aim<'a> {
    /// The target.
    pub target: &'a Target,
    /// Its direction.
    pub direction: &'a [i16],
    /// The specializations that its models had when it was drawn: documents are seen from them.
    pub specializations: &'a BTreeMap<u32, Vec<i16>>,
}

/// A document that could be submitted for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index of the document.
    pub document: usize,
    /// The model that predicts it best.
    pub model: u32,
    /// Its loss with that model.
    pub loss_q32: i64,
    /// By how much that model predicts it better than counting does.
    pub gain_q32: i64,
    /// Distance of its direction, seen from that model's specialization, to the target.
    pub distance: u64,
}

/// Whether a document can be submitted for a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It can.
    Possible(Choice),
    /// The model that predicts it best does not predict it enough better than counting does.
    NotUnderstood,
    /// It lies at the middle of what that model is for, so it has no direction.
    NoDirection,
    /// No model has a score for it.
    NoScore,
}

impl Scoring<'_> {
    /// Downloads the weights and scores documents with each model: all documents, or as many as
    /// there is time for before `until`, each with every model that can be had.
    ///
    /// # Errors
    /// Same as [`WeightsCache::open`], if no model can be had, and [`ScoreCache::score_all`].
    pub async fn score(
        self,
        client: &Client,
        set: &ModelSet,
        documents: &[Document],
        until: Option<Instant>,
        observer: &dyn Observer,
    ) -> Result<Scores> {
        let mut opened = Opened::default();
        self.open(client, set, &mut opened, observer).await?;
        let scores = self.score_with(set, &mut opened, documents, until, observer)?;
        Ok(Scores { missing: opened.missing, ..scores })
    }

    /// Downloads and opens the models of a set that were not opened before.
    ///
    /// # Errors
    /// Same as [`WeightsCache::open`], if no model of the set can be had.
    pub(crate) async fn open(
        self,
        client: &Client,
        set: &ModelSet,
        opened: &mut Opened,
        observer: &dyn Observer,
    ) -> Result {
        let new = set.files.iter().filter(|file| !opened.knows(file));
        for file in new.copied().collect::<Vec<_>>() {
            opened.models.make_room(file.size_bytes);
            match self.weights.open(client, &file, &set.architecture, observer).await {
                Ok(weights) => {
                    let index = opened.models.push(&self.weights.path(&file), weights);
                    opened.files.insert(file, index);
                }
                // It has no score and ranks last, for auditors as well: bytes with the hash that
                // the chain names are no model. Who left out its targets would leave them to its
                // owner.
                Err(error) if error.is_broken_file() => {
                    let hash = file.weights_hash;
                    observer.notice(Level::Warning, &format_args!("weights {hash}: {error}"));
                    opened.broken.insert(file);
                }
                Err(error) => drop(opened.missing.insert(file, error)),
            }
        }
        let all_missing = set.files.iter().all(|file| opened.missing.contains_key(file));
        let first = set.files.first().filter(|_| all_missing);
        first.and_then(|file| opened.missing.remove(file)).map_or(Ok(()), Err)
    }

    /// Scores documents with the models of a set that are open, as [`Self::score`] does.
    ///
    /// # Errors
    /// Those of [`ScoreCache::score_all`]; same as [`OpenModels::get`].
    pub(crate) fn score_with(
        self,
        set: &ModelSet,
        opened: &mut Opened,
        documents: &[Document],
        until: Option<Instant>,
        observer: &dyn Observer,
    ) -> Result<Scores> {
        let files = set.files.iter().filter_map(|file| Some((*file, *opened.files.get(file)?)));
        let files: Vec<(ModelFile, usize)> = files.collect();
        let mut scores = Scores::default();
        let (mut cached, mut done) = (0, 0);
        let directions = Directions::new(&set.architecture, set.seed.0);
        let bytes: usize = documents.iter().map(Document::size_bytes).sum();
        let mut advance = observer.start("scoring", Some((files.len() * bytes) as u64));
        let mut pace = Pace::new(until);
        loop {
            let rest = &documents[scores.documents..];
            let count = pace.next(rest);
            if count == 0 {
                break;
            }
            let (places, data) = scores.read(&rest[..count], observer);
            let data: Vec<&[u8]> = data.iter().map(AsRef::as_ref).collect();
            for (file, index) in &files {
                let scored = tokio::task::block_in_place(|| {
                    let scorer = Scorer {
                        engine: self.engine,
                        weights: opened.models.get(*index)?,
                        seed: set.seed.0,
                        directions: &directions,
                    };
                    self.scores.score_all(scorer, &data, |bytes| {
                        done += bytes as u64;
                        advance(done);
                    })
                })?;
                for (document, scored) in places.iter().zip(scored) {
                    cached += usize::from(scored.cached);
                    scores.reports.insert((*document, *file), scored.report.ok());
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

impl Opened {
    /// Why a model's file could not be had, so that it has no score.
    pub(crate) fn failure(&self, file: ModelFile) -> Option<&CompeteError> {
        self.missing.get(&file)
    }

    /// Takes a model out, if it is open or was.
    pub(crate) fn take(&mut self, file: ModelFile) -> Option<Result<Weights>> {
        Some(self.models.take(self.files.remove(&file)?))
    }

    fn knows(&self, file: &ModelFile) -> bool {
        self.files.contains_key(file)
            || self.broken.contains(file)
            || self.missing.contains_key(file)
    }
}

impl Scores {
    /// How many documents were scored; they are the first ones.
    pub fn documents(&self) -> usize {
        self.documents
    }

    /// Why a model of this target could not be had, so that nobody here can tell which one predicts
    /// a document best.
    pub fn missing(&self, target: &Target) -> Option<&CompeteError> {
        target.routed.iter().find_map(|routed| self.missing.get(&routed.into()))
    }

    /// Whether a model of some target could not be had, or no document could be read.
    pub fn is_incomplete(&self) -> bool {
        !self.missing.is_empty() || self.unread().is_some()
    }

    /// Documents that could not be read when they were needed.
    pub fn unreadable(&self) -> impl Iterator<Item = &Unusable> {
        self.unreadable.values()
    }

    /// Why none of the documents could be read, if none could: their folder or disk is away, and
    /// may come back.
    pub(crate) fn unread(&self) -> Option<&Unusable> {
        let all = self.documents > 0 && self.unreadable.len() == self.documents;
        self.unreadable.values().next().filter(|_| all)
    }

    /// Whether this document could not be read.
    pub(crate) fn is_unreadable(&self, place: usize) -> bool {
        self.unreadable.contains_key(&place)
    }

    /// Notes and tells, once, that a document cannot be read.
    pub(crate) fn leave_out(
        &mut self,
        place: usize,
        document: &Document,
        error: &CompeteError,
        observer: &dyn Observer,
    ) {
        let unusable = Unusable::new(document.path(), error);
        if self.unreadable.insert(place, unusable).is_none() {
            observer.notice(Level::Warning, &format_args!("left out: {error}"));
        }
    }

    /// Those of the next documents that can still be read, by their places.
    fn read<'a>(
        &mut self,
        documents: &'a [Document],
        observer: &dyn Observer,
    ) -> (Vec<usize>, Vec<Cow<'a, [u8]>>) {
        let (mut places, mut data) = (Vec::new(), Vec::new());
        for (place, document) in (self.documents..).zip(documents) {
            match document.bytes() {
                Ok(bytes) => {
                    places.push(place);
                    data.push(bytes);
                }
                Err(error) => self.leave_out(place, document, &error, observer),
            }
        }
        (places, data)
    }

    /// A document's score with this model's file.
    pub fn get(&self, document: usize, file: ModelFile) -> Option<&Report> {
        self.reports.get(&(document, file))?.as_ref()
    }

    /// What a document would be submitted as, if it can be: the routed model that predicts it best
    /// decides or, within the target's margin, the one with the older weights.
    pub fn fit(&self, document: usize, aim: Aim<'_>) -> Fit {
        let Aim { target, direction, specializations } = aim;
        let routed = target.routed.iter();
        let reports: Vec<_> = routed.map(|routed| self.get(document, routed.into())).collect();
        let losses: Vec<_> =
            reports.iter().map(|report| Some(report.as_ref()?.score.cross_entropy_q32())).collect();
        let ages: Vec<_> = target.routed.iter().map(|routed| routed.age.into()).collect();
        let winner = winner(&losses, &ages, target.loss_margin_q32.0);
        let best = winner.and_then(|at| Some((target.routed.get(at)?.model, (*reports.get(at)?)?)));
        let Some((model, report)) = best else {
            return Fit::NoScore;
        };
        let score = &report.score;
        if !is_gain_enough(score.gain_q32, target.gain_min_q32.0) {
            return Fit::NotUnderstood;
        }
        let mean = specializations.get(&model).map_or(&[][..], Vec::as_slice);
        let Some(distance) = document_distance(&score.embedding, mean, direction) else {
            return Fit::NoDirection;
        };
        let (loss_q32, gain_q32) = (score.loss_q32, score.gain_q32);
        Fit::Possible(Choice { document, model, loss_q32, gain_q32, distance })
    }
}

/// How many documents are scored at once: without a time limit, as many as fit into memory; with
/// one, as many as there is time for, in growing batches.
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
            return count_within(rest, BATCH_BYTES as f64).max(1).min(rest.len());
        };
        let now = Instant::now();
        let spent = now.saturating_duration_since(self.begun).as_secs_f64();
        let time = until.saturating_duration_since(now).as_secs_f64();
        let room = if self.bytes == 0 {
            FIRST_BYTES as f64
        } else {
            (self.bytes as f64 * time / spent).min(2.0 * self.bytes as f64).min(BATCH_BYTES as f64)
        };
        let count = count_within(rest, room);
        // The first is always scored: without it there is nothing to estimate from.
        let count = count.max(usize::from(self.bytes == 0)).min(rest.len());
        let batch = rest[..count].iter();
        self.bytes += batch.map(Document::size_bytes).sum::<usize>();
        count
    }
}

/// How many of the documents have no more bytes than this together.
fn count_within(documents: &[Document], room: f64) -> usize {
    let mut bytes = 0;
    let fits = |document: &&Document| {
        bytes += document.size_bytes();
        bytes as f64 <= room
    };
    documents.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, Instant};

    use soma_model::{Architecture, Engine, KernelChoice, Weights};
    use soma_protocol::Hash;
    use soma_sdk::client::Client;

    use super::{BATCH_BYTES, FIRST_BYTES, ModelSet, Opened, Pace, Scoring};
    use crate::documents::Document;
    use crate::observer::Silent;
    use crate::scores::ScoreCache;
    use crate::weights::{ModelFile, WeightsCache};

    #[tokio::test(flavor = "multi_thread")]
    async fn targets_with_a_broken_model_are_entered_and_those_with_a_missing_one_are_not() {
        let home = tempfile::tempdir().unwrap();
        let architecture = Architecture { layers: 1, ..Architecture::nano() };
        let weights = Weights::init(&architecture, [1; 32]).unwrap();
        let whole = ModelFile::of_weights(Hash(weights.hash()));
        let [broken, missing] = [7, 8].map(|byte| ModelFile::of_weights(Hash([byte; 32])));
        weights.save(&home.path().join(format!("{}.safetensors", whole.id()))).unwrap();
        fs::write(home.path().join(format!("{}.broken", broken.id())), []).unwrap();
        let scoring = Scoring {
            engine: &Engine::new(KernelChoice::Auto, 1).unwrap(),
            weights: &WeightsCache::new(home.path().to_owned()),
            scores: &ScoreCache::new(home.path().join("scores")),
        };
        let nowhere = Client::new("http://127.0.0.1:1").unwrap().without_retries();
        let models =
            ModelSet { architecture, seed: Hash([3; 32]), files: [whole, broken, missing].into() };
        let documents = [Document::new("text".to_owned(), b"some text".to_vec())];
        let scores = scoring.score(&nowhere, &models, &documents, None, &Silent).await.unwrap();
        let lacks = |file| scores.missing.contains_key(&file);
        assert_eq!([whole, broken, missing].map(lacks), [false, false, true]);
        assert!(
            scores.reports.iter().any(|((_, file), report)| *file == whole && report.is_some())
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_model_is_opened_once_however_many_batches_it_scores() {
        let folder = tempfile::tempdir().unwrap();
        let weights = WeightsCache::new(folder.path().to_owned());
        let architecture = Architecture { layers: 1, ..Architecture::nano() };
        let model = Weights::init(&architecture, [1; 32]).unwrap();
        let file = ModelFile::of_weights(Hash(model.hash()));
        model.save(&weights.path(&file)).unwrap();
        let nowhere = Client::new("http://127.0.0.1:1").unwrap().without_retries();
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        let scores = ScoreCache::off();
        let scoring = Scoring { engine: &engine, weights: &weights, scores: &scores };
        let set = ModelSet { architecture, seed: Hash([0; 32]), files: [file].into() };
        let mut opened = Opened::default();
        for batch in 0_u8..3 {
            scoring.open(&nowhere, &set, &mut opened, &Silent).await.unwrap();
            let document = [Document::new(String::new(), vec![batch; 100])];
            let scores = scoring.score_with(&set, &mut opened, &document, None, &Silent).unwrap();
            assert!(scores.get(0, file).is_some(), "batch {batch}");
            // There is nothing to open it from again.
            let _gone = fs::remove_dir_all(folder.path());
        }
        assert_eq!(opened.take(file).unwrap().unwrap().hash(), model.hash());
    }

    fn documents(sizes: &[usize]) -> Vec<Document> {
        let document = |size: &usize| Document::new(String::new(), vec![0; *size]);
        sizes.iter().map(document).collect()
    }

    #[test]
    fn without_a_limit_whatever_fits_into_memory_is_scored_at_once() {
        assert_eq!(Pace::new(None).next(&documents(&[1, 1 << 20, 7])), 3);
        assert_eq!(Pace::new(None).next(&documents(&[1 << 20, BATCH_BYTES, 7])), 1);
        assert_eq!(Pace::new(None).next(&documents(&[BATCH_BYTES + 1, 7])), 1);
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

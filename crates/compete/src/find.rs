//! Which public models predict data best: their weights are downloaded as for a submission, and a
//! sample of the data is scored with each. Models compete in cross-entropy here as everywhere.
//!
//! It needs no account, and the data never leaves this machine.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::path::Path;

use soma_architecture::embedding::{Length, distance, length_squared, mean};
use soma_model::{Architecture, Report, Weights};
use soma_os::data::{self, DataFile};
use soma_protocol::{Hash, ModelId};
use soma_sdk::api::{Model, ModelStatus};
use soma_sdk::client::Client;

use crate::documents::Document;
use crate::error::{CompeteError, Result};
use crate::observer::{Level, Observer};
use crate::scoring::{ModelSet, Opened, Scores, Scoring};
use crate::weights::ModelFile;

/// Public models, and the means of scoring data with them.
#[derive(Debug)]
pub struct Finder<'a> {
    client: &'a Client,
    scoring: Scoring<'a>,
    architecture: Architecture,
    models: Vec<Model>,
    opened: Opened,
    /// The models of which it was told that they are left out.
    told: BTreeSet<u32>,
}

/// A model and how well it predicts a document.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its number.
    pub id: u32,
    /// The name that its owner gave it.
    pub name: String,
    /// The file with which it competes.
    pub file: ModelFile,
    /// Its score.
    pub report: Report,
}

impl<'a> Finder<'a> {
    /// All models of the network that have public weights.
    ///
    /// # Errors
    /// [`CompeteError::NoPublicModel`]; network errors; an architecture that this software cannot
    /// compute.
    pub async fn new(client: &'a Client, scoring: Scoring<'a>) -> Result<Self> {
        let architecture = client.architecture().await?;
        architecture.check()?;
        let mut models = client.models().await?;
        models.retain(|model| model.weights.is_some() && model.status != ModelStatus::Retired);
        if models.is_empty() {
            return Err(CompeteError::NoPublicModel);
        }
        let (opened, told) = (Opened::default(), BTreeSet::new());
        Ok(Self { client, scoring, architecture, models, opened, told })
    }

    /// The architecture of the models.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Keeps `count` models, if there are more: those whose specializations are nearest to the mean
    /// embedding of the documents, as the model that has won most embeds them, and that model.
    ///
    /// Embeddings of models that have nothing in common cannot be compared, so this is an estimate,
    /// for networks with too many models to download them all. If that model has no embedding of
    /// the documents, those that have won most are kept.
    ///
    /// # Errors
    /// Those of [`Scoring::score`]; network errors.
    pub async fn narrow(
        &mut self,
        documents: &[Document],
        count: usize,
        observer: &dyn Observer,
    ) -> Result {
        if self.models.len() <= count {
            return Ok(());
        }
        // Of equal models the older one, which has the lower number.
        self.models.sort_by_key(|model| (Reverse(model.wins), Reverse(model.stake.0), model.id));
        let Some(judge) = self.models.first().cloned() else {
            return Ok(());
        };
        let scores = self.score(std::slice::from_ref(&judge), documents, observer).await?;
        let file = file_of(&judge);
        let reports = (0..documents.len()).filter_map(|index| scores.get(index, file?));
        let Some(mean) = mean(reports.map(|report| &report.score.embedding[..])) else {
            self.models.truncate(count);
            return Ok(());
        };
        let mut by_distance = Vec::new();
        let mut advance = observer.start("comparing models", None);
        for (done, model) in (1..).zip(std::mem::take(&mut self.models)) {
            let vector = self.client.specialization(ModelId(model.id), None).await?.components;
            let far = Length::of(&vector)
                .map_or(u64::MAX, |length| distance(&vector, length, &mean, length_squared(&mean)));
            by_distance.push((model.id != judge.id, far, model));
            advance(done);
        }
        let all = by_distance.len();
        by_distance.sort_by_key(|(other, far, model)| (*other, *far, model.id));
        self.models = by_distance.into_iter().take(count).map(|(.., model)| model).collect();
        let text = format!(
            "{count} of {all} models are scored: those whose specializations are nearest to the \
             data"
        );
        observer.notice(Level::Info, &text);
        Ok(())
    }

    /// For each document the models that have a score for it, the best first. Models stay open for
    /// the next documents.
    ///
    /// # Errors
    /// Those of [`Scoring::score`], if no model can be had.
    pub async fn find(
        &mut self,
        documents: &[Document],
        observer: &dyn Observer,
    ) -> Result<Vec<Vec<Found>>> {
        let models = std::mem::take(&mut self.models);
        let scores = self.score(&models, documents, observer).await;
        self.models = models;
        let scores = scores?;
        let found = |index: usize| {
            let found = self.models.iter().filter_map(|model| {
                let file = file_of(model)?;
                let report = scores.get(index, file)?.clone();
                Some(Found { id: model.id, name: model.name.clone(), file, report })
            });
            let mut found: Vec<Found> = found.collect();
            found.sort_by_key(|found| (found.report.score.cross_entropy_q32(), found.id));
            found
        };
        Ok((0..documents.len()).map(found).collect())
    }

    /// The weights of a model that was found.
    ///
    /// # Errors
    /// Same as [`WeightsCache::open`](crate::WeightsCache::open).
    pub async fn open(mut self, found: &Found, observer: &dyn Observer) -> Result<Weights> {
        if let Some(weights) = self.opened.take(found.file) {
            return weights;
        }
        let Self { client, scoring, architecture, .. } = self;
        scoring.weights.open(client, &found.file, &architecture, observer).await
    }

    async fn score(
        &mut self,
        models: &[Model],
        documents: &[Document],
        observer: &dyn Observer,
    ) -> Result<Scores> {
        let set = ModelSet {
            architecture: self.architecture.clone(),
            // The seed only changes SIGReg, in which models do not compete.
            seed: Hash([0; 32]),
            files: models.iter().filter_map(file_of).collect(),
        };
        self.scoring.open(self.client, &set, &mut self.opened, observer).await?;
        for model in models {
            let failure = file_of(model).and_then(|file| self.opened.failure(file));
            if let Some(error) = failure
                && self.told.insert(model.id)
            {
                let text = format!("model {} is left out: {error}", model.id);
                observer.notice(Level::Warning, &text);
            }
        }
        self.scoring.score_with(&set, &mut self.opened, documents, None, observer)
    }
}

fn file_of(model: &Model) -> Option<ModelFile> {
    model.weights.as_ref().map(ModelFile::from)
}

/// A file's content, or if it is longer than `bytes_max` and than a chunk, whole chunks of it that
/// are spread evenly over it, at least one, so that their scores are those that they have in the
/// file.
///
/// # Errors
/// [`CompeteError::File`].
pub fn sample(file: &DataFile, bytes_max: usize, architecture: &Architecture) -> Result<Document> {
    let DataFile { path, size_bytes } = file;
    let read = |offset, length| read_part(path, offset, length);
    let positions = architecture.positions as usize;
    let bytes_max = sample_bytes(bytes_max, architecture);
    let name = path.to_string_lossy().into_owned();
    if *size_bytes <= bytes_max as u64 {
        return Ok(Document::new(name, read(0, bytes_max)?));
    }
    let chunks = size_bytes / positions as u64;
    let count = (bytes_max / positions) as u64;
    let mut bytes = Vec::new();
    for piece in 0..count {
        let chunk = piece * chunks / count;
        bytes.extend(read(chunk * positions as u64, positions)?);
    }
    Ok(Document::new(name, bytes))
}

/// The most bytes of a sample of which `bytes_max` are asked for: less than a chunk says nothing.
pub fn sample_bytes(bytes_max: usize, architecture: &Architecture) -> usize {
    bytes_max.max(architecture.positions as usize)
}

fn read_part(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>> {
    data::read_part(path, offset, length).map_err(CompeteError::file(path, "read"))
}

#[cfg(test)]
mod tests {
    use soma_model::Architecture;
    use soma_os::data::DataFile;

    use super::sample;

    #[test]
    fn a_sample_is_the_whole_file_or_whole_chunks_from_its_beginning_to_near_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let architecture = Architecture { positions: 8, ..Architecture::nano() };
        for size in [1_usize, 7, 8, 31, 32, 33, 80, 1003] {
            let content: Vec<u8> = (0..=250).cycle().take(size).collect();
            std::fs::write(&path, &content).unwrap();
            let file = DataFile { path: path.clone(), size_bytes: size as u64 };
            let sampled = sample(&file, 32, &architecture).unwrap();
            let bytes = sampled.bytes().unwrap();
            if size <= 32 {
                assert_eq!(*bytes, content);
                continue;
            }
            assert_eq!(bytes.len(), 32);
            assert_eq!(bytes[..8], content[..8]);
            let at = |chunk: &[u8]| content.chunks(8).position(|piece| piece == chunk).unwrap();
            let places: Vec<usize> = bytes.chunks(8).map(at).collect();
            assert!(places.is_sorted() && places[3] >= size / 8 * 3 / 4, "{size}: {places:?}");
        }
    }

    #[test]
    fn a_sample_is_at_least_a_chunk_or_the_whole_of_a_shorter_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let architecture = Architecture { positions: 8, ..Architecture::nano() };
        for size in [1_usize, 5, 7, 8, 9, 80] {
            let content: Vec<u8> = (0..=250).cycle().take(size).collect();
            std::fs::write(&path, &content).unwrap();
            let file = DataFile { path: path.clone(), size_bytes: size as u64 };
            for bytes_max in 1..8 {
                let sampled = sample(&file, bytes_max, &architecture).unwrap();
                let bytes = sampled.bytes().unwrap();
                assert_eq!(*bytes, content[..size.min(8)], "{bytes_max} of {size}");
            }
        }
    }
}

//! Models that documents are scored with in turn: as many stay open as there is memory for.
//!
//! Open weights lie in memory. A model that was closed for another is opened again when its turn
//! comes, and its file must still have the same hash: its scores must never become those of other
//! weights.

use std::path::{Path, PathBuf};

use soma_model::{Architecture, Weights};
use soma_os::memory::available_bytes;

use crate::error::{CompeteError, Result};
use crate::weights::open;

/// A list of models, of which some are open.
#[derive(Debug)]
pub struct OpenModels {
    bytes_max: u64,
    models: Vec<Model>,
    /// The model that was used last.
    latest: usize,
}

#[derive(Debug)]
struct Model {
    path: PathBuf,
    architecture: Architecture,
    hash: [u8; 32],
    bytes: u64,
    /// `None` while it is closed.
    weights: Option<Weights>,
}

impl OpenModels {
    /// A list that uses at most three quarters of the memory that is free now.
    pub fn new() -> Self {
        Self::within(available_bytes().map_or(u64::MAX, |bytes| bytes / 4 * 3))
    }

    /// A list whose open models take at most `bytes_max`, unless one alone takes more.
    pub fn within(bytes_max: u64) -> Self {
        Self { bytes_max, models: Vec::new(), latest: 0 }
    }

    /// Opens and checks a weights file and adds it to the list; returns its index.
    ///
    /// # Errors
    /// Same as [`open`].
    pub fn add(&mut self, path: &Path, architecture: Option<&Architecture>) -> Result<usize> {
        let size = path.metadata().map_or(0, |metadata| metadata.len());
        self.make_room(size);
        Ok(self.push(path, open(path, architecture)?))
    }

    /// Adds weights that were opened from `path`; returns their index.
    pub fn push(&mut self, path: &Path, weights: Weights) -> usize {
        let bytes = weights.bytes() as u64;
        self.make_room(bytes);
        let (architecture, hash) = (weights.architecture().clone(), weights.hash());
        let path = path.to_owned();
        self.models.push(Model { path, architecture, hash, bytes, weights: Some(weights) });
        self.latest = self.models.len() - 1;
        self.latest
    }

    /// The hash of a model's weights.
    pub fn hash(&self, index: usize) -> [u8; 32] {
        self.models[index].hash
    }

    /// The architecture of a model.
    pub fn architecture(&self, index: usize) -> &Architecture {
        &self.models[index].architecture
    }

    /// The weights of a model, opened again if need be.
    ///
    /// # Errors
    /// Same as [`open`]; [`soma_model::Error::Changed`] if the file is no longer the same.
    pub fn get(&mut self, index: usize) -> Result<&Weights> {
        let weights = self.take(index)?;
        self.latest = index;
        Ok(self.models[index].weights.insert(weights))
    }

    /// Takes the weights of a model out, opened again if need be.
    ///
    /// # Errors
    /// Same as [`Self::get`].
    pub fn take(&mut self, index: usize) -> Result<Weights> {
        match self.models[index].weights.take() {
            Some(weights) => Ok(weights),
            None => self.reopen(index),
        }
    }

    fn reopen(&mut self, index: usize) -> Result<Weights> {
        self.make_room(self.models[index].bytes);
        let Model { path, architecture, hash, .. } = &self.models[index];
        let weights = open(path, Some(architecture))?;
        if weights.hash() == *hash {
            return Ok(weights);
        }
        let path = path.clone();
        Err(CompeteError::Model(soma_model::Error::Changed { path }))
    }

    /// Closes models until `bytes` more fit, the latest ones first: they are asked in turn, so the
    /// one that was just used is needed last. Whoever opens weights to [push](Self::push) them asks
    /// for room first.
    pub fn make_room(&mut self, bytes: u64) {
        let count = self.models.len();
        for back in 0..count {
            let used: u64 = self.open().map(|model| model.bytes).sum();
            if used.saturating_add(bytes) <= self.bytes_max {
                return;
            }
            self.models[(self.latest + count - back) % count].weights = None;
        }
    }

    fn open(&self) -> impl Iterator<Item = &Model> {
        self.models.iter().filter(|model| model.weights.is_some())
    }
}

impl Default for OpenModels {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use soma_model::{Architecture, Weights};

    use super::OpenModels;

    fn files(folder: &std::path::Path, count: u8) -> Vec<(std::path::PathBuf, [u8; 32])> {
        let architecture = Architecture { layers: 1, ..Architecture::nano() };
        let file = |seed: u8| {
            let path = folder.join(seed.to_string());
            let weights = Weights::init(&architecture, [seed; 32]).unwrap();
            weights.save(&path).unwrap();
            (path, weights.hash())
        };
        (0..count).map(file).collect()
    }

    #[test]
    fn models_are_right_in_every_turn_however_few_fit() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 4);
        let size = files[0].0.metadata().unwrap().len();
        for fits in 0..=4 {
            let mut models = OpenModels::within(fits * size);
            for (path, _) in &files {
                models.add(path, None).unwrap();
            }
            let mut opened = 0;
            for turn in 0..3 {
                for (index, (_, hash)) in files.iter().enumerate() {
                    opened += u64::from(models.models[index].weights.is_none() && turn > 0);
                    assert_eq!(models.get(index).unwrap().hash(), *hash);
                    assert!(models.open().count() as u64 <= fits.max(1));
                }
            }
            // With room for most, most are not opened again.
            assert!(opened <= 2 * (4 - fits.max(1)) + 2, "{opened} with {fits}");
        }
    }

    #[test]
    fn a_file_that_was_replaced_while_it_was_closed_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(folder.path(), 3);
        let mut models = OpenModels::within(0);
        models.add(&files[0].0, None).unwrap();
        models.add(&files[1].0, None).unwrap();
        std::fs::copy(&files[2].0, &files[0].0).unwrap();
        let error = models.get(0).unwrap_err().to_string();
        assert!(error.contains("changed"), "{error}");
        models.get(1).unwrap();
    }
}

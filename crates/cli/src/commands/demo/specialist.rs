//! Training of the demo's specialists: all start from the same weights, each learns its domain.

use std::path::{Path, PathBuf};

use soma_compete::specialization;
use soma_model::train::{Corpus, Recipe, Trainer};
use soma_model::{Architecture, Engine, Weights};
use soma_protocol::Hash;

use super::domains::Domain;
use crate::error::Result;
use crate::output::{Output, Unit};
use crate::seed::Seed;

/// Default number of training steps. It is not a time limit, so that one seed gives one result.
pub(super) const STEPS: u64 = 1000;

/// A trained model on disk.
#[derive(Debug)]
pub(crate) struct Specialist {
    pub(crate) domain: String,
    pub(crate) file: PathBuf,
    pub(crate) weights_hash: Hash,
    /// Its specialization.
    pub(crate) specialization: Vec<i16>,
}

/// Trains a specialist on its domain and saves it in `folder`.
pub(crate) fn train(
    engine: &Engine,
    domain: &Domain,
    seed: Seed,
    steps: u64,
    folder: &Path,
    output: &Output,
) -> Result<Specialist> {
    let mut corpus = Corpus::new();
    for document in &domain.training {
        corpus.push(&document.bytes()?);
    }
    let bytes = corpus.len();
    let start = Weights::init(&Architecture::nano(), seed.0)?;
    let recipe = Recipe { steps, seed: seed.0, ..Recipe::default() };
    let mut trainer = Trainer::new(engine, &start, recipe, corpus)?;
    let bar = output.bar(steps, &domain.name, Unit::Items);
    while trainer.steps_done() < steps {
        let step = trainer.step()?;
        bar.set_message(format!("cross-entropy {:.3}", step.cross_entropy));
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut held_out = Corpus::new();
    for document in &domain.held_out {
        held_out.push(&document.bytes()?);
    }
    let loss = trainer.evaluate(&held_out)?;
    let weights = trainer.weights();
    let file = folder.join(format!("{}.safetensors", domain.name));
    weights.save(&file)?;
    output.done(format_args!(
        "{:10} {} documents, {bytes} bytes; {loss:.3} nats per byte on {} held out",
        domain.name,
        domain.training.len(),
        domain.held_out.len(),
    ));
    Ok(Specialist {
        domain: domain.name.clone(),
        specialization: specialization::of_documents(engine, &weights, &domain.training, |_| ())?,
        weights_hash: Hash(weights.hash()),
        file,
    })
}

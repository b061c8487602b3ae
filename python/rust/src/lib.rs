//! `soma._native`: the engine for Python. It converts types and errors and never computes.
//!
//! `soma/native.py` wraps its classes and documents them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use soma_codes::Coded as _;
use soma_model::train::{Corpus, Recipe};
use soma_model::{Architecture, Directions, Engine, Error, KernelChoice, Report, Weights};

pyo3::import_exception!(soma.score, NonFinite);
pyo3::import_exception!(soma.score, ZeroEmbedding);
pyo3::import_exception!(soma.weights, WeightsError);

fn exception(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::NonFinite => NonFinite::new_err(text),
        Error::ZeroEmbedding => ZeroEmbedding::new_err(text),
        Error::NoArchitecture => WeightsError::new_err(text),
        Error::Io { path, source } => {
            // With an error number, Python picks the class, such as FileNotFoundError.
            let path = path.display().to_string();
            match source.raw_os_error() {
                Some(number) => PyOSError::new_err((number, source.to_string(), path)),
                None => PyOSError::new_err(text),
            }
        }
        error if error.code().as_str().starts_with("weights_") => WeightsError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}

/// The engine with this many threads (0: one for each core). Engines live as long as the process.
fn engine(threads: usize) -> PyResult<&'static Engine> {
    static ENGINES: Mutex<BTreeMap<usize, &'static Engine>> = Mutex::new(BTreeMap::new());
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(engine) = engines.get(&threads) {
        return Ok(engine);
    }
    let count = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let engine = Engine::new(KernelChoice::Auto, count).map_err(exception)?;
    let engine: &'static Engine = Box::leak(Box::new(engine));
    engines.insert(threads, engine);
    Ok(engine)
}

fn seed_bytes(seed: &[u8]) -> PyResult<[u8; 32]> {
    seed.try_into().map_err(|_| PyValueError::new_err("a seed is 32 bytes"))
}

fn architecture(json: &str) -> PyResult<Architecture> {
    Architecture::from_json(json).map_err(|error| exception(error.into()))
}

/// The JSON of a preset.
#[pyfunction]
fn preset(name: &str) -> PyResult<String> {
    let preset = Architecture::preset(name);
    let preset = preset.ok_or_else(|| PyValueError::new_err(format!("no preset {name}")))?;
    Ok(preset.to_json())
}

/// Checks the JSON of an architecture.
#[pyfunction]
fn check_architecture(json: &str) -> PyResult<()> {
    architecture(json).map(|_| ())
}

/// Name and shape of every tensor, in the order of a weights file.
#[pyfunction]
fn tensors(json: &str) -> PyResult<Vec<(String, Vec<usize>)>> {
    let tensors = architecture(json)?.tensors().into_iter();
    Ok(tensors.map(|tensor| (tensor.name, tensor.shape)).collect())
}

/// Writes random weights.
#[pyfunction]
fn init(py: Python<'_>, architecture_json: &str, seed: &[u8], path: PathBuf) -> PyResult<()> {
    let (architecture, seed) = (architecture(architecture_json)?, seed_bytes(seed)?);
    py.detach(|| Weights::init(&architecture, seed)?.save(&path)).map_err(exception)
}

/// The default recipe as JSON.
#[pyfunction]
fn default_recipe() -> String {
    serde_json::json!(Recipe::default()).to_string()
}

/// Weights that are mapped into memory, and the engine that scores with them.
#[pyclass(frozen)]
struct Model {
    weights: Weights,
    engine: &'static Engine,
}

/// `([loss_q32, counting_q32, gain_q32], embedding as little-endian i16, trace, [loss,
/// cross_entropy, sigreg, counting, gain])`
type ScoreParts<'py> = ([i64; 3], Bound<'py, PyBytes>, Bound<'py, PyBytes>, [f64; 5]);

#[pymethods]
impl Model {
    #[new]
    fn new(
        py: Python<'_>,
        path: PathBuf,
        architecture_json: Option<&str>,
        threads: usize,
    ) -> PyResult<Self> {
        let architecture = architecture_json.map(architecture).transpose()?;
        let weights =
            py.detach(|| Weights::open(&path, architecture.as_ref())).map_err(exception)?;
        Ok(Self { weights, engine: engine(threads)? })
    }

    fn score<'py>(&self, py: Python<'py>, data: &[u8], seed: &[u8]) -> PyResult<ScoreParts<'py>> {
        let seed = seed_bytes(seed)?;
        let report = py
            .detach(|| {
                let directions = Directions::new(self.weights.architecture(), seed);
                soma_model::score(self.engine, &self.weights, data, &directions)
            })
            .map_err(exception)?;
        let Report { score, loss, cross_entropy, sigreg, counting, gain, .. } = report;
        let embedding: Vec<u8> =
            score.embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
        Ok((
            [score.loss_q32, score.counting_q32, score.gain_q32],
            PyBytes::new(py, &embedding),
            PyBytes::new(py, &score.trace),
            [loss, cross_entropy, sigreg, counting, gain],
        ))
    }

    #[getter]
    fn architecture_json(&self) -> String {
        self.weights.architecture().to_json()
    }

    fn weights_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.weights.hash())
    }
}

/// A training run of the engine.
#[pyclass]
struct Trainer {
    trainer: soma_model::train::Trainer<'static>,
}

/// `(step, loss, cross_entropy, sigreg, gradient_norm, learning_rate, tokens)`
type StepParts = (u64, f64, f64, f64, f64, f32, usize);

#[pymethods]
impl Trainer {
    #[new]
    fn new(
        py: Python<'_>,
        weights: PathBuf,
        architecture_json: &str,
        recipe_json: &str,
        documents: Vec<Vec<u8>>,
        threads: usize,
    ) -> PyResult<Self> {
        let (architecture, engine) = (architecture(architecture_json)?, engine(threads)?);
        let recipe: Recipe = serde_json::from_str(recipe_json)
            .map_err(|error| PyValueError::new_err(format!("not a recipe: {error}")))?;
        let mut corpus = Corpus::new();
        for document in &documents {
            corpus.push(document);
        }
        let trainer = py.detach(|| {
            let weights = Weights::open(&weights, Some(&architecture))?;
            soma_model::train::Trainer::new(engine, &weights, recipe, corpus)
        });
        Ok(Self { trainer: trainer.map_err(exception)? })
    }

    fn step(&mut self, py: Python<'_>) -> PyResult<StepParts> {
        let report = py.detach(|| self.trainer.step()).map_err(exception)?;
        Ok((
            report.step,
            report.loss,
            report.cross_entropy,
            report.sigreg,
            report.gradient_norm,
            report.learning_rate,
            report.tokens,
        ))
    }

    fn save(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.trainer.weights().save(&path)).map_err(exception)
    }

    fn save_checkpoint(&self, py: Python<'_>, path: PathBuf) -> PyResult<()> {
        py.detach(|| self.trainer.save_checkpoint(&path)).map_err(exception)
    }
}

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(preset, module)?)?;
    module.add_function(wrap_pyfunction!(check_architecture, module)?)?;
    module.add_function(wrap_pyfunction!(tensors, module)?)?;
    module.add_function(wrap_pyfunction!(init, module)?)?;
    module.add_function(wrap_pyfunction!(default_recipe, module)?)?;
    module.add_class::<Model>()?;
    module.add_class::<Trainer>()
}

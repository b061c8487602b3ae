//! `soma._native`: the engine, and what verifies the answers of nodes, for Python. It converts
//! types and errors and never computes.
//!
//! Long work never holds up Python: signals are handled while it runs, and Ctrl-C ends it. Threads
//! do not survive a fork, so every process has engines of its own.
//!
//! `soma/native.py` and `soma/verifier.py` wrap its classes and document them.

mod verify;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use pyo3::exceptions::{
    PyKeyboardInterrupt, PyMemoryError, PyOSError, PyRuntimeError, PyValueError,
};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use soma_codes::Coded as _;
use soma_model::train::{Changes, Corpus, Recipe};
use soma_model::{Architecture, Directions, Engine, Error, KernelChoice, Report, Weights};

pyo3::import_exception!(soma.score, NonFinite);
pyo3::import_exception!(soma.score, ZeroEmbedding);
pyo3::import_exception!(soma.weights, WeightsError);

fn exception(error: Error) -> PyErr {
    let text = error.to_string();
    match error {
        Error::NonFinite | Error::Diverged { .. } => NonFinite::new_err(text),
        Error::ZeroEmbedding => ZeroEmbedding::new_err(text),
        Error::NoArchitecture => WeightsError::new_err(text),
        Error::Io { path, source } => file_exception(&path, &source),
        Error::NotAFile { path, kind: "a folder" } => {
            PyOSError::new_err((IS_A_DIRECTORY, "Is a directory", path.display().to_string()))
        }
        Error::NotAFile { .. } | Error::Changed { .. } => PyOSError::new_err(text),
        Error::OtherKind { .. } | Error::WrappedName { .. } => {
            WeightsError::new_err(format!("{text}; {}", error.hint()))
        }
        error if error.code().as_str().starts_with("weights_") => WeightsError::new_err(text),
        _ => PyValueError::new_err(text),
    }
}

/// The error number for which Python has `IsADirectoryError`, and that of other files that are of
/// the wrong kind.
const IS_A_DIRECTORY: i32 = 21;
const INVALID: i32 = 22;

/// How often Python gets to handle signals while work runs.
const SIGNALS_EVERY: Duration = Duration::from_millis(100);

/// Runs work on a thread of its own while Python handles signals. Once a handler raises, the work
/// is asked to stop, and the exception is the result.
fn interruptible<T: Send>(
    py: Python<'_>,
    work: impl FnOnce(&(dyn Fn() -> bool + Sync)) -> T + Send,
) -> PyResult<T> {
    let (stop, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let waiting = std::thread::current();
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let result = work(&|| !stop.load(Ordering::Relaxed));
            done.store(true, Ordering::Release);
            waiting.unpark();
            result
        });
        let mut raised = None;
        // Work that panics ends without being done.
        while !(done.load(Ordering::Acquire) || worker.is_finished()) {
            py.detach(|| std::thread::park_timeout(SIGNALS_EVERY));
            if raised.is_none() {
                raised = py.check_signals().err();
                stop.store(raised.is_some(), Ordering::Relaxed);
            }
        }
        let result = py.detach(|| worker.join());
        match (raised, result) {
            (Some(error), _) => Err(error),
            (None, Ok(result)) => Ok(result),
            (None, Err(panic)) => std::panic::resume_unwind(panic),
        }
    })
}

/// Work that gave up without a signal: nothing else asks it to.
fn given_up<T>(result: Option<T>) -> PyResult<T> {
    result.ok_or_else(|| PyKeyboardInterrupt::new_err("the work was given up"))
}

/// The engines of a process; they live as long as it does.
struct Engines {
    process: u32,
    by_threads: BTreeMap<usize, &'static Engine>,
}

static ENGINES: Mutex<Engines> = Mutex::new(Engines { process: 0, by_threads: BTreeMap::new() });

/// How long a fork can have caught another thread while it started an engine.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// The engines, unless the process was forked just while another thread had them.
fn engines() -> PyResult<MutexGuard<'static, Engines>> {
    let begun = Instant::now();
    loop {
        match ENGINES.try_lock() {
            Ok(engines) => return Ok(engines),
            Err(TryLockError::Poisoned(engines)) => return Ok(engines.into_inner()),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_WAIT => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                return Err(PyRuntimeError::new_err(
                    "the process was forked while an engine was starting; use multiprocessing's \
                     \"spawn\" or \"forkserver\"",
                ));
            }
        }
    }
}

/// This process's engine with this many threads (0: one for each core).
fn engine(threads: usize) -> PyResult<&'static Engine> {
    let mut engines = engines()?;
    let process = std::process::id();
    if engines.process != process {
        // The threads of a parent's engines are not here. Its memory stays: others may use it.
        *engines = Engines { process, by_threads: BTreeMap::new() };
    }
    if let Some(engine) = engines.by_threads.get(&threads) {
        return Ok(engine);
    }
    let count = match threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let engine = Engine::new(KernelChoice::Auto, count).map_err(exception)?;
    let engine: &'static Engine = Box::leak(Box::new(engine));
    engines.by_threads.insert(threads, engine);
    Ok(engine)
}

fn corpus(documents: &[(Vec<u8>, bool)]) -> Corpus {
    let mut corpus = Corpus::new();
    for (document, ends) in documents {
        if *ends {
            corpus.push(document);
        } else {
            corpus.push_beginning(document);
        }
    }
    corpus
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

/// A file error as Python has it: with an error number, it picks the class, such as
/// `FileNotFoundError`.
fn file_exception(path: &Path, error: &io::Error) -> PyErr {
    let number = match (error.raw_os_error(), error.kind()) {
        (Some(number), _) => number,
        (None, io::ErrorKind::OutOfMemory) => {
            return PyMemoryError::new_err(format!("{}: {error}", path.display()));
        }
        (None, io::ErrorKind::IsADirectory) => IS_A_DIRECTORY,
        (None, _) => INVALID,
    };
    PyOSError::new_err((number, error.to_string(), path.to_owned()))
}

/// The files that paths stand for, by the one rule of all commands, and what cannot be used.
#[pyfunction]
fn find_data(py: Python<'_>, paths: Vec<PathBuf>) -> (Vec<PathBuf>, Vec<(PathBuf, Py<PyAny>)>) {
    let found = py.detach(|| soma_os::data::find(&paths));
    let exception = |(path, error): (&Path, &io::Error)| {
        (path.to_owned(), file_exception(path, error).into_value(py).into_any())
    };
    let failures = found.failures().map(exception).collect();
    (found.files.into_iter().map(|file| file.path).collect(), failures)
}

/// The content of a regular file that fits into memory.
#[pyfunction]
fn read_data<'py>(py: Python<'py>, path: PathBuf) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = py.detach(|| soma_os::data::read(&path));
    let bytes = bytes.map_err(|error| file_exception(&path, &error))?;
    Ok(PyBytes::new(py, &bytes))
}

/// Writes random weights.
#[pyfunction]
fn init(py: Python<'_>, architecture_json: &str, seed: &[u8], path: PathBuf) -> PyResult<()> {
    let (architecture, seed) = (architecture(architecture_json)?, seed_bytes(seed)?);
    let engine = engine(0)?;
    let work = || Weights::init(&architecture, seed)?.save(&path);
    interruptible(py, |_| engine.install(work))?.map_err(exception)
}

/// The default recipe as JSON.
#[pyfunction]
fn default_recipe() -> String {
    serde_json::json!(Recipe::default()).to_string()
}

/// Weights in memory, and the threads of the engine that scores with them.
#[pyclass(frozen)]
struct Model {
    weights: Weights,
    threads: usize,
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
        let engine = engine(threads)?;
        let weights = interruptible(py, |proceed| {
            engine.install(|| Weights::open_while(&path, architecture.as_ref(), proceed))
        })?;
        Ok(Self { weights: given_up(weights.map_err(exception)?)?, threads })
    }

    fn score<'py>(&self, py: Python<'py>, data: &[u8], seed: &[u8]) -> PyResult<ScoreParts<'py>> {
        let seed = seed_bytes(seed)?;
        let engine = engine(self.threads)?;
        let report = interruptible(py, |proceed| {
            let directions = Directions::new(self.weights.architecture(), seed);
            soma_model::score_while(engine, &self.weights, data, &directions, proceed)
        })?;
        let report = given_up(report.map_err(exception)?)?;
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

/// A training run of the engine, and the process that it belongs to.
#[pyclass]
struct Trainer {
    trainer: soma_model::train::Trainer<'static>,
    process: u32,
}

impl Trainer {
    fn of(trainer: Result<soma_model::train::Trainer<'static>, Error>) -> PyResult<Self> {
        Ok(Self { trainer: trainer.map_err(exception)?, process: std::process::id() })
    }

    /// Fails in a forked process: the threads of the run are in the other one.
    fn check_process(&self) -> PyResult<()> {
        if self.process == std::process::id() {
            return Ok(());
        }
        Err(PyRuntimeError::new_err(
            "this process was forked after the Trainer was made; make it here, or save a \
             checkpoint there and resume it here",
        ))
    }
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
        documents: Vec<(Vec<u8>, bool)>,
        threads: usize,
    ) -> PyResult<Self> {
        let (architecture, engine) = (architecture(architecture_json)?, engine(threads)?);
        let recipe: Recipe = serde_json::from_str(recipe_json)
            .map_err(|error| PyValueError::new_err(format!("not a recipe: {error}")))?;
        Self::of(interruptible(py, |_| {
            engine.install(|| {
                let weights = Weights::open(&weights, Some(&architecture))?;
                soma_model::train::Trainer::new(engine, &weights, recipe, corpus(&documents))
            })
        })?)
    }

    #[staticmethod]
    fn resume(
        py: Python<'_>,
        checkpoint: PathBuf,
        documents: Vec<(Vec<u8>, bool)>,
        steps: Option<u64>,
        learning_rate: Option<f64>,
        threads: usize,
    ) -> PyResult<Self> {
        let engine = engine(threads)?;
        Self::of(interruptible(py, |_| {
            let corpus = corpus(&documents);
            let mut trainer = soma_model::train::Trainer::resume(engine, &checkpoint, corpus)?;
            trainer.change(Changes { steps, learning_rate })?;
            Ok(trainer)
        })?)
    }

    #[getter]
    fn steps_done(&self) -> u64 {
        self.trainer.steps_done()
    }

    #[getter]
    fn recipe_json(&self) -> String {
        serde_json::json!(self.trainer.recipe()).to_string()
    }

    #[getter]
    fn architecture_json(&self) -> String {
        self.trainer.architecture().to_json()
    }

    fn step(&mut self, py: Python<'_>) -> PyResult<StepParts> {
        self.check_process()?;
        let trainer = &mut self.trainer;
        let report = interruptible(py, |proceed| trainer.step_while(proceed))?;
        let report = given_up(report.map_err(exception)?)?;
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
        py.detach(|| self.trainer.save(&path)).map(drop).map_err(exception)
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
    module.add_function(wrap_pyfunction!(find_data, module)?)?;
    module.add_function(wrap_pyfunction!(read_data, module)?)?;
    module.add_function(wrap_pyfunction!(init, module)?)?;
    module.add_function(wrap_pyfunction!(default_recipe, module)?)?;
    module.add_class::<Model>()?;
    module.add_class::<Trainer>()?;
    module.add_class::<verify::Verifier>()?;
    module.add_class::<verify::Conversation>()
}

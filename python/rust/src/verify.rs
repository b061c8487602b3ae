//! Answers of nodes that nobody needs to believe. `soma/client.py` carries questions and answers;
//! what is asked, and what is believed, is decided by `soma-api`.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use soma_api::conversation::{self, ConversationError, Question, Turn};
use soma_api::unproved::VerifyError as Failure;
use soma_api::verifier::{self, Checkpoint, kept_in, read_genesis};
use soma_codes::Coded as _;
use soma_protocol::{Address, Epoch, Hash, ModelId, TargetId};

use crate::file_exception;

pyo3::import_exception!(soma.errors, ApiError);
pyo3::import_exception!(soma.errors, VerifyError);

fn exception(error: Failure) -> PyErr {
    let (code, text) = (error.code(), error.to_string());
    match error {
        Failure::Io { path, source } => file_exception(&path, &source),
        Failure::Missing { .. } => {
            let status = code.http_status().unwrap_or(404);
            ApiError::new_err((status, code.as_str(), text, None::<String>))
        }
        Failure::Unproved { url, .. } | Failure::OtherChain { url, .. } => {
            VerifyError::new_err((code.as_str(), text, Some(url)))
        }
        Failure::Genesis(_)
        | Failure::NotACheckpoint { .. }
        | Failure::CheckpointOfOtherChain { .. } => {
            VerifyError::new_err((code.as_str(), text, None::<String>))
        }
    }
}

/// What is known of a chain for sure.
#[pyclass(frozen)]
pub(crate) struct Verifier(Arc<verifier::Verifier>);

impl Verifier {
    fn ask(&self, url: &str, question: Question) -> PyResult<Conversation> {
        Conversation::after(conversation::Conversation::begin(url, Arc::clone(&self.0), question))
    }
}

#[pymethods]
impl Verifier {
    /// Of the chain with this id, of this genesis, or of this checkpoint; all that are named must
    /// be of one chain. It keeps what it verifies in the file `kept`, or in the folder `home`.
    #[new]
    fn new(
        chain: Option<&str>,
        genesis: Option<PathBuf>,
        checkpoint: Option<PathBuf>,
        kept: Option<PathBuf>,
        home: Option<PathBuf>,
        age_max_s: f64,
    ) -> PyResult<Self> {
        let age_max = Duration::try_from_secs_f64(age_max_s)
            .map_err(|error| PyValueError::new_err(format!("age_max_s: {error}")))?;
        let chain = chain.map(str::parse::<Hash>).transpose();
        let chain =
            chain.map_err(|_| PyValueError::new_err("the id of a chain is 64 digits of hex"))?;
        let genesis = genesis.map(|path| read_genesis(&path)).transpose().map_err(exception)?;
        let checkpoint = checkpoint.map(|path| Checkpoint::read(&path)).transpose();
        let checkpoint = checkpoint.map_err(exception)?;
        let named = chain
            .or_else(|| genesis.as_ref().map(soma_protocol::Genesis::chain_id))
            .or_else(|| checkpoint.as_ref().map(Checkpoint::chain));
        let Some(chain) = named else {
            return Err(PyValueError::new_err(
                "name the id of a chain, the file of its genesis, or a checkpoint",
            ));
        };
        let file = kept.or_else(|| home.map(|home| kept_in(&home, &chain)));
        let verifier = match file {
            Some(file) => verifier::Verifier::kept(chain, file).map_err(exception)?,
            None => verifier::Verifier::new(chain),
        };
        let verifier = verifier.with_age_max(age_max);
        if let Some(checkpoint) = checkpoint {
            verifier.begin_at(checkpoint).map_err(exception)?;
        }
        if let Some(genesis) = genesis {
            verifier.begin(&genesis).map_err(exception)?;
        }
        Ok(Self(Arc::new(verifier)))
    }

    #[getter]
    fn chain(&self) -> String {
        self.0.chain().to_string()
    }

    /// Writes a checkpoint; false if there is none yet.
    fn save(&self, path: PathBuf) -> PyResult<bool> {
        self.0.save(&path).map_err(exception)
    }

    fn status(&self, url: &str) -> PyResult<Conversation> {
        self.ask(url, Question::Status)
    }

    fn params(&self, url: &str) -> PyResult<Conversation> {
        self.ask(url, Question::Params)
    }

    fn architecture(&self, url: &str) -> PyResult<Conversation> {
        self.ask(url, Question::Architecture)
    }

    fn governance(&self, url: &str) -> PyResult<Conversation> {
        self.ask(url, Question::Governance)
    }

    fn account(&self, url: &str, address: &str) -> PyResult<Conversation> {
        let address: Address = address
            .parse()
            .map_err(|error| PyValueError::new_err(format!("{address:?}: {error}")))?;
        self.ask(url, Question::Account(address))
    }

    fn epoch(&self, url: &str, epoch: u32) -> PyResult<Conversation> {
        self.ask(url, Question::Epoch(Epoch(epoch)))
    }

    fn model(&self, url: &str, id: u32) -> PyResult<Conversation> {
        self.ask(url, Question::Model(ModelId(id)))
    }

    fn specialization(&self, url: &str, id: u32, epoch: Option<u32>) -> PyResult<Conversation> {
        self.ask(url, Question::Specialization(ModelId(id), epoch.map(Epoch)))
    }

    fn targets(&self, url: &str, epoch: u32) -> PyResult<Conversation> {
        self.ask(url, Question::Targets(Epoch(epoch)))
    }

    fn target(&self, url: &str, id: u32) -> PyResult<Conversation> {
        self.ask(url, Question::Target(TargetId(id)))
    }

    fn direction(&self, url: &str, id: u32) -> PyResult<Conversation> {
        self.ask(url, Question::Direction(TargetId(id)))
    }
}

/// A question, what the node is to be asked next for it, and at last its answer.
#[pyclass]
pub(crate) struct Conversation {
    #[pyo3(get)]
    path: Option<String>,
    #[pyo3(get)]
    answer: Option<String>,
    waiting: Mutex<Option<conversation::Conversation>>,
}

impl Conversation {
    fn after(turn: Result<Turn, ConversationError>) -> PyResult<Self> {
        let (path, answer, waiting) = match turn {
            Ok(Turn::Ask(path, waiting)) => (Some(path), None, Some(waiting)),
            Ok(Turn::Answer(answer)) => (None, Some(answer), None),
            Err(ConversationError::Verify(error)) => return Err(exception(error)),
            Err(error @ ConversationError::Malformed { .. }) => {
                return Err(PyValueError::new_err(error.to_string()));
            }
        };
        Ok(Self { path, answer, waiting: Mutex::new(waiting) })
    }
}

#[pymethods]
impl Conversation {
    /// Hands on the body of what the node said at `path`; nothing if it said that there is nothing.
    fn hear(&mut self, py: Python<'_>, said: Option<Vec<u8>>) -> PyResult<()> {
        let waiting = self.waiting.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let waiting = waiting.ok_or_else(|| PyRuntimeError::new_err("nothing was asked"))?;
        *self = Self::after(py.detach(|| waiting.hear(said)))?;
        Ok(())
    }
}

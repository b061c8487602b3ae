//! A question whose answer is proved, for programs that ask a node by means of their own: they are
//! told what to ask next until the answer is there. Nothing is checked here that
//! [`Proved`] does not check.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use serde::Serialize;
use serde::de::DeserializeOwned;
use soma_protocol::{Address, Epoch, ModelId, TargetId};

use crate::proved::{Node, Proved};
use crate::routes;
use crate::unproved::VerifyError;
use crate::verifier::Verifier;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// For [`Status`](crate::Status).
    Status,
    /// For the parameters in force.
    Params,
    /// For the architecture in force.
    Architecture,
    /// For [`Governance`](crate::Governance), with the last proposals.
    Governance,
    /// For an [`Account`](crate::Account).
    Account(Address),
    /// For an [`Epoch`](crate::Epoch).
    Epoch(Epoch),
    /// For a [`Model`](crate::Model).
    Model(ModelId),
    /// For a model's specialization, now or as the targets of an epoch were drawn.
    Specialization(ModelId, Option<Epoch>),
    /// For all [`Target`](crate::Target)s of an epoch.
    Targets(Epoch),
    /// For a [`Target`](crate::Target).
    Target(TargetId),
    /// For the direction of a target.
    Direction(TargetId),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ConversationError {
    /// It is not proved, or proved to be missing.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// What the node answered is not what the API specifies.
    #[error("{url} does not answer like a soma node")]
    Malformed {
        /// The node.
        url: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// What comes next.
#[derive(Debug)]
pub enum Turn {
    /// The node is asked for this path of its API, and what it says is handed on.
    Ask(String, Conversation),
    /// The answer, as the API writes it.
    Answer(String),
}

type Answer = Pin<Box<dyn Future<Output = Result<String, ConversationError>> + Send>>;

/// A question that waits for what a node says.
pub struct Conversation {
    mail: Mail,
    answer: Answer,
}

impl fmt::Debug for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conversation").field("node", &self.mail.url).finish_non_exhaustive()
    }
}

impl Conversation {
    /// Begins to ask the node at `url`.
    ///
    /// # Errors
    /// None so early, but those of [`hear`](Self::hear).
    pub fn begin(
        url: &str,
        verifier: Arc<Verifier>,
        question: Question,
    ) -> Result<Turn, ConversationError> {
        let mail = Mail { url: url.to_owned(), letters: Arc::default() };
        let node = mail.clone();
        let answer = Box::pin(async move { answer(&node, &verifier, question).await });
        Self { mail, answer }.proceed()
    }

    /// Hands on what the node said: the JSON of its answer, or `None` if it answered that there is
    /// nothing (404).
    ///
    /// # Errors
    /// [`ConversationError`].
    pub fn hear(self, said: Option<Vec<u8>>) -> Result<Turn, ConversationError> {
        self.mail.letters().said = Some(Said(said));
        self.proceed()
    }

    #[expect(clippy::expect_used, reason = "a question waits for nothing but what a node says")]
    fn proceed(mut self) -> Result<Turn, ConversationError> {
        match self.answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answer) => answer.map(Turn::Answer),
            Poll::Pending => {
                let path = self.mail.letters().asked.take();
                Ok(Turn::Ask(path.expect("it waits for an answer to this"), self))
            }
        }
    }
}

async fn answer(
    node: &Mail,
    verifier: &Verifier,
    question: Question,
) -> Result<String, ConversationError> {
    let proved = Proved::by(node, verifier);
    Ok(match question {
        Question::Status => json(&proved.status().await?),
        Question::Params => json(&proved.params().await?),
        Question::Architecture => json(&proved.architecture().await?),
        Question::Governance => {
            let said = proved.ask(routes::GOVERNANCE).await?;
            json(&proved.governance(said).await?)
        }
        Question::Account(address) => json(&proved.account(address).await?),
        Question::Epoch(epoch) => json(&proved.epoch(epoch).await?),
        Question::Model(id) => json(&proved.model(id).await?),
        Question::Specialization(id, epoch) => json(&proved.specialization(id, epoch).await?),
        Question::Targets(epoch) => json(&proved.targets(epoch).await?),
        Question::Target(id) => json(&proved.target(id).await?),
        Question::Direction(id) => json(&proved.direction(id).await?),
    })
}

#[expect(clippy::expect_used, reason = "the API's types have string keys and no other failures")]
fn json(answer: &impl Serialize) -> String {
    serde_json::to_string(answer).expect("the API's types are JSON")
}

/// A node to which somebody else carries what is asked, and from which they bring what it says.
#[derive(Clone)]
struct Mail {
    url: String,
    letters: Arc<Mutex<Letters>>,
}

#[derive(Default)]
struct Letters {
    asked: Option<String>,
    said: Option<Said>,
}

/// What the node said; `None` if it answered that there is nothing.
struct Said(Option<Vec<u8>>);

impl Mail {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node for Mail {
    type Error = ConversationError;

    fn url(&self) -> &str {
        &self.url
    }

    async fn ask<T: DeserializeOwned + Send>(
        &self,
        path: &str,
    ) -> Result<Option<T>, ConversationError> {
        self.letters().asked = Some(path.to_owned());
        let Said(said) =
            poll_fn(|_| self.letters().said.take().map_or(Poll::Pending, Poll::Ready)).await;
        let read = |bytes: Vec<u8>| serde_json::from_slice(&bytes);
        let malformed = |source| ConversationError::Malformed { url: self.url.clone(), source };
        said.map(read).transpose().map_err(malformed)
    }
}

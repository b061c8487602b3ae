//! Why: what became of an account's submissions and of a model, in sentences.
//!
//! It is what `soma_sdk::why` finds with questions to a node, and this node asks itself: so pages
//! and commands say the same, and every part of the work is a question with its own limits and its
//! turn among those of all clients. It must never hold a turn while it asks.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use soma_protocol::{Address, ModelId};
use soma_sdk::api::text::Text;
use soma_sdk::api::{self as types, ApiError};
use soma_sdk::{Client, SdkError, why};

use super::problem::Problem;
use crate::certificates::own_api;

/// Answers that are kept until the next block.
const KEPT: usize = 64;

/// What an answer is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum About {
    Account(Address),
    Model(ModelId),
}

/// The last answers, and how the node asks itself. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Whys {
    node: Client,
    kept: Arc<Mutex<VecDeque<(About, types::Why)>>>,
}

impl Whys {
    /// For the node that answers at this URL.
    pub(super) fn new(url: &str) -> Result<Self, SdkError> {
        Ok(Self { node: own_api(url)?, kept: Arc::default() })
    }

    /// The answer, from the state after at least the block at `height`.
    pub(super) async fn get(
        &self,
        about: About,
        epochs: u32,
        height: u64,
    ) -> Result<types::Why, Problem> {
        let is_it = |(subject, why): &&(About, types::Why)| {
            *subject == about && why.epochs == epochs && *why.height >= height
        };
        if let Some((_, why)) = self.kept.lock().iter().find(is_it) {
            return Ok(why.clone());
        }
        let fates = match about {
            About::Account(address) => why::of_account(&self.node, address, epochs).await,
            About::Model(id) => why::of_model(&self.node, id, epochs).await,
        };
        let fates = fates.map_err(problem)?.iter().map(told).collect::<Result<_, _>>()?;
        let why = types::Why { height: Text(height), epochs, fates };
        let mut kept = self.kept.lock();
        kept.retain(|(subject, why)| *subject != about && *why.height >= height);
        kept.push_back((about, why.clone()));
        if kept.len() > KEPT {
            kept.pop_front();
        }
        Ok(why)
    }
}

/// A fate in the JSON of the API.
fn told(fate: &why::Fate) -> Result<types::Told, Problem> {
    let told = serde_json::to_value(fate).and_then(serde_json::from_value);
    // Both are forms of the same thing, so this does not happen.
    told.map_err(|_| Problem::new(soma_codes::Code::InternalError, "a reason has no form"))
}

/// What the node told itself, for the client.
fn problem(error: SdkError) -> Problem {
    match error {
        SdkError::Api { error: ApiError { code, message, hint }, .. } => {
            Problem::new(*code, message).hint(hint.as_deref().unwrap_or(code.hint()))
        }
        error => {
            tracing::warn!(%error, "the node cannot ask itself");
            Problem::busy("the node has no time to find out why")
        }
    }
}

//! How a caller follows long work: progress of tasks, and notices worth a line.
//!
//! Nothing here may decide what a terminal shows; that is the caller's.

use std::fmt;

use soma_protocol::{Amount, Hash};
use soma_sdk::SdkError;
use soma_sdk::obligation::Obligation;

use crate::error::CompeteError;

/// Takes how many bytes of a task are done in all; dropped when the task ends.
pub type Advance = Box<dyn FnMut(u64) + Send>;

/// Follows long work.
pub trait Observer: Send + Sync {
    /// A task begins: `scoring`, `waiting for targets`. `bytes` is its length; `None` if unknown.
    fn start(&self, task: &str, bytes: Option<u64>) -> Advance;

    /// Something worth a line happened.
    fn notice(&self, notice: &Notice<'_>);
}

/// How much a notice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Info,
    /// Something was completed.
    Success,
    /// Something that the person should act on, or at least know.
    Warning,
}

/// Something worth a line; its `Display` is the line.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// Weights cannot be scored with: they rank last, for auditors as well.
    WeightsUnusable {
        /// BLAKE3 of the weights file.
        weights: Hash,
        /// What is wrong with them.
        error: &'a CompeteError,
    },
    /// Scores came from the cache.
    Cached {
        /// How many.
        cached: usize,
        /// Of how many.
        scores: usize,
    },
    /// The epoch leaves time for a part of the documents only.
    NotEnoughTime {
        /// The epoch.
        epoch: u32,
        /// Documents that were scored.
        scored: usize,
        /// Of how many.
        documents: usize,
    },
    /// Nothing can be submitted in this epoch.
    NothingToSubmit(&'a CompeteError),
    /// A document was submitted.
    Submitted {
        /// The target.
        target: u32,
        /// The document's path.
        document: &'a str,
        /// The model that predicts it best.
        model: u32,
        /// Squared distance of its embedding to the target.
        distance: u64,
    },
    /// The rules rejected a submission.
    SubmissionRejected {
        /// The target.
        target: u32,
        /// Why.
        error: &'a CompeteError,
    },
    /// A reveal or publication was sent and accepted.
    Sent(&'a Obligation),
    /// A reveal or publication was not sent in time.
    TooLate(&'a Obligation),
    /// A reveal or publication was rejected.
    Refused(&'a Obligation, &'a SdkError),
    /// What is lost if a reveal or publication is never sent.
    AtRisk(&'a Obligation, Amount),
    /// The node does not answer; the work continues when it does.
    Unreachable(&'a CompeteError),
}

impl Notice<'_> {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Self::Sent(_) => Level::Success,
            Self::Cached { .. }
            | Self::NotEnoughTime { .. }
            | Self::NothingToSubmit(_)
            | Self::Submitted { .. }
            | Self::AtRisk(..) => Level::Info,
            Self::WeightsUnusable { .. }
            | Self::SubmissionRejected { .. }
            | Self::TooLate(_)
            | Self::Refused(..)
            | Self::Unreachable(_) => Level::Warning,
        }
    }
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WeightsUnusable { weights, error } => write!(f, "weights {weights}: {error}"),
            Self::Cached { cached, scores } => {
                write!(f, "{cached} of {scores} scores came from the cache")
            }
            Self::NotEnoughTime {
                epoch,
                scored,
                documents,
            } => write!(
                f,
                "epoch {epoch} leaves time for {scored} of {documents} documents; \
                 the next epoch starts with the others"
            ),
            Self::NothingToSubmit(error) => error.fmt(f),
            Self::Submitted {
                target,
                document,
                model,
                distance,
            } => {
                let distance = relative_distance(*distance);
                write!(
                    f,
                    "target {target:<4} {document} with model {model}: distance {distance:.4}"
                )
            }
            Self::SubmissionRejected { target, error } => write!(f, "target {target}: {error}"),
            Self::Sent(due) => write!(f, "sent the {due}"),
            Self::TooLate(due) => write!(f, "too late for the {due}"),
            Self::Refused(due, error) => write!(f, "the {due} was rejected: {error}"),
            Self::AtRisk(due, amount) => write!(
                f,
                "{amount} SOMA is lost if the {due} is never sent; you may stop this command, \
                 but run it again before the phase ends"
            ),
            Self::Unreachable(error) => write!(f, "{error}; retrying"),
        }
    }
}

/// A squared distance as a share of that at right angles, 2 * 32767^2: 0 is a hit.
pub fn relative_distance(distance: u64) -> f64 {
    distance as f64 / (2.0 * 32767.0 * 32767.0)
}

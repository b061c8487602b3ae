//! Taking part in the competition: score data, submit it, publish weights and winning data.
//!
//! Covers what a competitor does between the model's arithmetic and the network: which documents
//! qualify, which of them to submit for which target, the caches of weights and scores, and the
//! order of commit, upload and reveal. It never prints, never asks a person anything (an
//! [`Observer`] receives the progress), and never needs a validator.
//!
//! Reading order is the order of the modules: each uses only those above it.

#![forbid(unsafe_code)]
#![expect(clippy::cast_precision_loss, reason = "floats here are estimates of time and figures")]

mod error;
mod observer;
mod troubles;
mod watch;
mod witness;
pub mod documents;
mod library;
mod weights;
mod open_models;
mod scores;
pub mod specialization;
mod scoring;
pub mod find;
mod embeddings;
mod competitor;
mod publishing;
mod corpus;
mod seen;
mod submitting;
mod session;

pub use competitor::Competitor;
pub use corpus::Standing;
pub use documents::{Document, Unusable};
pub use embeddings::Embeddings;
pub use error::{CompeteError, Result};
pub use find::{Finder, Found};
pub use library::Library;
pub use observer::{Advance, Level, Observer};
pub use open_models::OpenModels;
pub use publishing::Offer;
pub use scores::{ScoreCache, Scored, Scorer};
pub use scoring::{Aim, Choice, Fit, ModelSet, Scores, Scoring};
pub use session::{Plan, Session, Submitted};
pub use submitting::{Ground, LeftOut, Rules, Submission, Submitter};
pub use watch::Watch;
pub use weights::{ModelFile, WeightsCache, download, hash_of, open};

//! Why: what became of an account's submissions and of a model in the last epochs, and what would
//! have changed it. It is read from the chain alone, in bounded work, and never guesses: where the
//! chain no longer says why, neither does this.

mod reason;
mod chronicle;
mod submissions;
mod models;

pub use models::of_model;
pub use reason::{Fate, Reason};
pub use submissions::of_account;

//! The economy of a network over a thousand epochs: the real rules, driven by people who train,
//! copy, submit, audit, cheat and stake. One seed gives one history. How well models predict is a
//! modelled number ([`quality`]); everything else is what the rules make of real transactions.
//!
//! It chooses the default parameters; `docs/economics.md` says how.

pub mod error;
pub mod rng;
pub mod chain;
pub mod quality;
pub mod actors;
pub mod weights;
pub mod settings;
pub mod owners;
pub mod genesis;
pub mod submitters;
pub mod validators;
pub mod ledger;
pub mod delegators;
pub mod economy;
pub mod report;
pub mod sweep;
pub mod plot;
pub mod charts;

pub use error::Error;
pub use report::{Report, run};
pub use settings::Settings;

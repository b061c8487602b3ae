//! The economy of a network over a thousand epochs: the real rules, driven by actors who train,
//! copy, submit, audit, cheat and stake. One seed gives one history. How well weights predict is a
//! modeled number ([`quality`]); everything else follows from real transactions.
//!
//! The default parameters were chosen with this simulation; `docs/economics.md` explains how. It
//! never needs consensus, and never changes a rule to get a result.
//!
//! Reading order: the chain and the model of weights, the actors by role, the books, one epoch
//! after another ([`economy`]), results, and how they are drawn.

pub mod error;
pub mod rng;
pub mod chain;
pub mod quality;
pub mod weights;
pub mod settings;
pub mod actors;
pub mod owners;
pub mod genesis;
pub mod submitters;
pub mod validators;
pub mod ledger;
pub mod delegators;
pub mod flooders;
pub mod economy;
pub mod report;
pub mod sweep;
pub mod plot;
pub mod charts;

pub use error::Error;
pub use report::{Report, run};
pub use settings::Settings;

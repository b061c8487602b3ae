//! Agreement on blocks: who decides them, what they do, when they are proposed, and where finalized
//! ones go.

pub(crate) mod committees;
pub(crate) mod rules;
pub(crate) mod boundary;
pub(crate) mod application;
pub(crate) mod pacer;
pub(crate) mod faults;
pub(crate) mod components;
pub(crate) mod stance;
pub(crate) mod vote_channel;
pub(crate) mod terms;

//! What validators change by vote: parameters, the architecture to which models migrate, and the
//! version of the rules.

pub(crate) mod migration;
pub(crate) mod rules;
pub(crate) mod vote;

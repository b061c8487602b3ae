//! What validators change by vote: parameters, and the architecture to which models migrate.

pub(crate) mod migration;
pub(crate) mod vote;

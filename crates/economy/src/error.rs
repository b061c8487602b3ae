//! Why a simulation stops: a bug in the rules or in the simulation.

/// Why a simulation stops.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rules reject a genesis or a signature that they should accept.
    #[error(transparent)]
    Rules(#[from] soma_protocol::Error),
    /// The rules have reached a state that violates their invariants.
    #[error(transparent)]
    Invariant(#[from] soma_protocol::invariants::Violation),
}

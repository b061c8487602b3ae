//! What can go wrong in a simulated economy: nothing, unless the rules or the simulation are wrong.

/// Why an economy cannot be simulated further.
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

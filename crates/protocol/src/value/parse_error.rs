//! Why text is malformed.

/// Why text could not be parsed. Each variant names what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Not a decimal amount of SOMA with at most nine decimals.
    #[error("not an amount of SOMA (digits, at most nine decimals)")]
    Amount,
    /// Not a bech32m address with the prefix `soma`.
    #[error("not an address (soma1..., lower case)")]
    Address,
    /// Not 64 lower-case hexadecimal digits.
    #[error("not a hash (64 lower-case hexadecimal digits)")]
    Hash,
    /// Not a phase.
    #[error("not a phase (reveal, publish:N, compete or attest)")]
    Phase,
    /// Not a staking pool.
    #[error("not a pool (model:NUMBER or validator:ADDRESS)")]
    Pool,
}

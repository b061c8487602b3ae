//! What can be wrong with bytes and genesis documents from outside. A transaction that the rules
//! reject is not an error here: that is a [`Rejection`](crate::Rejection).

use crate::{Amount, Hash};

/// Why bytes or a genesis document are invalid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A transaction has more bytes than allowed.
    #[error("a transaction of {found} bytes, at most {limit} are allowed")]
    TransactionTooLarge {
        /// Bytes found.
        found: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The bytes are not a transaction.
    #[error("the bytes are not a transaction")]
    TransactionBytes,
    /// The transaction is for another chain.
    #[error("the transaction is for chain {found}, this is {expected}")]
    WrongChain {
        /// This chain.
        expected: Hash,
        /// The transaction's chain.
        found: Hash,
    },
    /// The signature is not the sender's.
    #[error("the signature is not the sender's")]
    Signature,
    /// A parameter is outside its bounds.
    #[error("parameter {name} is {found}, but must be from {min} to {max}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// Value found.
        found: u64,
        /// Least value allowed.
        min: u64,
        /// Greatest value allowed.
        max: u64,
    },
    /// A number of the architecture is outside its bounds.
    #[error("architecture: {0}")]
    Architecture(#[source] soma_architecture::Error),
    /// The chain's name is not allowed.
    #[error("the chain's name must have 1 to 64 printable ASCII characters")]
    ChainName,
    /// Genesis names an account or validator twice.
    #[error("genesis names {address} twice")]
    GenesisDuplicate {
        /// The address.
        address: crate::Address,
    },
    /// Genesis names no validator, or too many.
    #[error("genesis must name 1 to {limit} validators, it names {found}")]
    GenesisValidators {
        /// Validators found.
        found: usize,
        /// Validators allowed.
        limit: usize,
    },
    /// A validator has less stake than a seat requires.
    #[error("validator {address} has less stake than validator_stake_min")]
    GenesisStake {
        /// The validator.
        address: crate::Address,
    },
    /// A validator's endpoints are malformed.
    #[error(
        "validator {address}: an endpoint has 1 to 260 printable ASCII characters and no space"
    )]
    GenesisEndpoints {
        /// The validator.
        address: crate::Address,
    },
    /// A genesis model breaks a rule.
    #[error("genesis model {name:?}: {reason}")]
    GenesisModel {
        /// Name of the model.
        name: String,
        /// The rule.
        #[source]
        reason: crate::Rejection,
    },
    /// Genesis allocates more than the cap.
    #[error("genesis allocates {found} SOMA; the cap is {limit}")]
    GenesisSupply {
        /// The total that genesis allocates.
        found: Amount,
        /// The whole supply.
        limit: Amount,
    },
}

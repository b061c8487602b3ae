//! Why the pool refuses a transaction, each with its code.

use soma_codes::{Code, Coded};
use soma_protocol::Error;

/// Why the pool refuses a transaction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The pool is full of transactions that pay at least as much.
    #[error("the pool is full")]
    MempoolFull,
    /// The account has as many waiting transactions as it may have.
    #[error("the account has {0} waiting transactions, the maximum")]
    AccountFull(usize),
    /// The nonce was used by a finalized transaction.
    #[error("nonce {nonce} was used; the next one is {next}")]
    NonceTooLow {
        /// The transaction's nonce.
        nonce: u64,
        /// The account's next nonce on chain.
        next: u64,
    },
    /// The nonce is too far ahead of the chain.
    #[error("nonce {nonce} is too far ahead; the next one is {next}")]
    NonceTooHigh {
        /// The transaction's nonce.
        nonce: u64,
        /// The account's next nonce on chain.
        next: u64,
    },
    /// Another transaction with this nonce is waiting, and this one does not pay a tenth more.
    #[error(
        "another transaction with nonce {nonce} is waiting; to replace it, the fee limit must be \
         at least {fee_limit}"
    )]
    ReplacementUnderpriced {
        /// The nonce of both.
        nonce: u64,
        /// The least fee limit of a replacement, in base units.
        fee_limit: u64,
    },
    /// The transaction has expired.
    #[error("the transaction expired at {valid_until_ms}; it is {now_ms} now")]
    Expired {
        /// When it expired, in milliseconds since 1970.
        valid_until_ms: u64,
        /// The time now, in milliseconds since 1970.
        now_ms: u64,
    },
    /// The fee limit is below what any transaction costs.
    #[error("the fee limit is {fee_limit} base units; the minimum is {fee_min}")]
    FeeTooLow {
        /// The transaction's fee limit.
        fee_limit: u64,
        /// The minimum.
        fee_min: u64,
    },
    /// The account cannot pay the fee limit.
    #[error("the balance is {balance} base units; the fee limit is {fee_limit}")]
    InsufficientBalance {
        /// The account's balance.
        balance: u64,
        /// The transaction's fee limit.
        fee_limit: u64,
    },
    /// Free actions are reserved for validators and the operator of a local network.
    #[error(
        "this action is free and reserved for validators and the operator; the sender is neither"
    )]
    NotEntitled,
    /// The bytes, the chain or the signature are invalid.
    #[error(transparent)]
    Invalid(#[from] Error),
}

impl Coded for Refusal {
    fn code(&self) -> Code {
        match self {
            Self::MempoolFull => Code::MempoolFull,
            Self::AccountFull(_) => Code::AccountFull,
            Self::NonceTooLow { .. } => Code::NonceTooLow,
            Self::NonceTooHigh { .. } => Code::NonceTooHigh,
            Self::ReplacementUnderpriced { .. } => Code::ReplacementUnderpriced,
            Self::Expired { .. } => Code::Expired,
            Self::FeeTooLow { .. } => Code::FeeTooLow,
            Self::InsufficientBalance { .. } => Code::InsufficientBalance,
            Self::NotEntitled => Code::NotEntitled,
            Self::Invalid(Error::Signature) => Code::BadSignature,
            Self::Invalid(Error::WrongChain { .. }) => Code::WrongChain,
            Self::Invalid(Error::TransactionTooLarge { .. }) => Code::TransactionTooLarge,
            Self::Invalid(_) => Code::MalformedTransaction,
        }
    }
}

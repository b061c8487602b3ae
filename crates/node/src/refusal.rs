//! Why the pool refuses a transaction, each with its code.

use soma_codes::{Code, Coded};
use soma_protocol::{Error, Rejection};

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
    /// Transactions of the account are missing before this one.
    #[error("nonce {nonce} is too far ahead; the next one is {next}")]
    NonceTooHigh {
        /// The transaction's nonce.
        nonce: u64,
        /// The account's next nonce, after those that wait.
        next: u64,
    },
    /// Another transaction with this nonce is waiting, and this one does not pay a tenth more.
    #[error(
        "another transaction with nonce {nonce} is waiting; to replace it, the fee with the tip \
         must be at least {fee_min}"
    )]
    ReplacementUnderpriced {
        /// The nonce of both.
        nonce: u64,
        /// The least fee of a replacement, tip included, in base units.
        fee_min: u64,
    },
    /// The transaction has expired.
    #[error("the transaction expired at {valid_until_ms}; it is {now_ms} now")]
    Expired {
        /// When it expired, in milliseconds since 1970.
        valid_until_ms: u64,
        /// The time now, in milliseconds since 1970.
        now_ms: u64,
    },
    /// The fee limit is below what the transaction costs, whatever comes of it.
    #[error("the fee limit is {fee_limit} base units; the minimum is {fee_min}")]
    FeeTooLow {
        /// The transaction's fee limit.
        fee_limit: u64,
        /// The minimum.
        fee_min: u64,
    },
    /// The account cannot pay for its waiting transactions and this one.
    #[error(
        "the balance is {balance} base units; this transaction and those that wait cost {needed}"
    )]
    InsufficientBalance {
        /// The account's balance.
        balance: u64,
        /// The fees of the account's waiting transactions and this one.
        needed: u64,
    },
    /// Duties are those of validators and of the operator of a local network.
    #[error("this is a duty of validators or of the operator, and the sender is neither")]
    NotEntitled,
    /// The same duty of the same validator is waiting.
    #[error("a transaction with this duty is waiting")]
    DutyWaiting,
    /// The rules would not accept the duty in the next block.
    #[error(transparent)]
    Rejected(Rejection),
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
            Self::DutyWaiting => Code::DutyWaiting,
            Self::Rejected(rejection) => rejection.code(),
            Self::Invalid(Error::Signature) => Code::BadSignature,
            Self::Invalid(Error::WrongChain { .. }) => Code::WrongChain,
            Self::Invalid(Error::TransactionTooLarge { .. }) => Code::TransactionTooLarge,
            Self::Invalid(_) => Code::MalformedTransaction,
        }
    }
}

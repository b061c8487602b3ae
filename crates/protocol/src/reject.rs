//! Why the rules reject a transaction: what is wrong, with the values. What each code means and
//! what to do about it are explained in [`soma_codes`].

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};
use soma_codes::{Code, Coded};

use crate::Phase;
use crate::ProposalId;
use crate::{Address, Amount, Epoch, Hash, ModelId, PoolId, TargetId, decimal};

/// Variants with their fields and messages. A variant has the name of its [`Code`].
macro_rules! rejections {
    ($($name:ident $({ $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? })?
        = $message:literal;)*) => {
        /// Why the rules rejected a transaction. JSON: its fields alongside `code`.
        #[derive(
            Clone,
            Debug,
            PartialEq,
            Eq,
            thiserror::Error,
            BorshSerialize,
            BorshDeserialize,
            Serialize,
            Deserialize,
        )]
        #[serde(tag = "code", rename_all = "snake_case")]
        #[non_exhaustive]
        pub enum Rejection {
            $(#[doc = concat!("`", $message, "`")] #[error($message)]
            $name $({ $(#[doc = "See the message."] $(#[$field_meta])* $field: $type),* })?,)*
        }

        impl Coded for Rejection {
            fn code(&self) -> Code {
                match self { $(Self::$name $({ $($field: _),* })? => Code::$name,)* }
            }

            fn exit(&self) -> soma_codes::Exit {
                soma_codes::Exit::Rejected
            }
        }
    };
}

// The order is that of the encoding: new variants come last.
rejections! {
    WrongChain { found: Hash } = "the transaction is for chain {found}";
    Expired {
        #[serde(with = "decimal")] valid_until_ms: u64,
        #[serde(with = "decimal")] block_ms: u64,
    } = "valid until {valid_until_ms}, but the block's time is {block_ms}";
    WrongNonce {
        #[serde(with = "decimal")] expected: u64,
        #[serde(with = "decimal")] found: u64,
    } = "nonce {found}, but the account's next is {expected}";
    FeeLimit { fee: Amount, limit: Amount } = "the fee is {fee} SOMA, but the limit {limit} SOMA";
    InsufficientBalance { needed: Amount, available: Amount }
        = "{needed} SOMA needed, but only {available} SOMA available";
    ZeroAmount = "the amount is zero";
    NotValidator = "the sender is not a validator";
    NotSeated = "the validator has no seat in the committee";
    AlreadyValidator = "the sender is already a validator";
    ValidatorNotFound { validator: Address } = "{validator} is not a validator";
    Expelled = "the validator was expelled for signing conflicting votes";
    AlreadyLeaving = "the validator is already leaving";
    StillJailed { until: Epoch } = "the validator is jailed until epoch {until}";
    ConsensusKeyTaken = "the consensus key belongs or belonged to another validator";
    DutyKeyTaken = "the duty key belongs to another validator, or is one";
    BadProof = "the proof is not the key's signature for this validator and chain";
    NoSuchKey = "no validator has or had this consensus key";
    BadEvidence = "the two votes do not prove that one key signed conflicting votes";
    NoShare { pool: PoolId } = "the amount buys no share of {pool}";
    NotOperator = "the sender is not the operator of this network";
    WrongEpoch { expected: Epoch, found: Epoch } = "for epoch {found}, but must be for {expected}";
    WrongPhase { phase: Phase } = "not possible in the {phase} phase";
    PhaseNotBegun { epoch: Epoch, phase: Phase } = "epoch {epoch} {phase} has not begun";
    BadName = "a name has 1 to 64 printable ASCII characters and no space at either end";
    BadCommission { bps: u16 } = "a commission of {bps} basis points exceeds 100 %";
    StakeTooLow { stake: Amount, minimum: Amount }
        = "a stake of {stake} SOMA is below the minimum of {minimum} SOMA";
    ModelNotFound { model: ModelId } = "there is no model {model}";
    NotModelOwner { model: ModelId } = "the sender does not own model {model}";
    ModelRetired { model: ModelId } = "model {model} is retired";
    BadWeightsSize {
        #[serde(with = "decimal")] size_bytes: u64,
        #[serde(with = "decimal")] max: u64,
    } = "an encrypted file of {size_bytes} bytes, but it must have 1 to {max}";
    CommitNotFound { model: ModelId, epoch: Epoch }
        = "model {model} has no commit for epoch {epoch}";
    OtherFileCommitted { model: ModelId } = "the commit of model {model} names another file";
    AlreadyHeld { model: ModelId } = "the validator already holds the file of model {model}";
    BadHeldList { found: u32, max: u32 } = "a list of {found} files, but it must name 1 to {max}";
    NotChallenged = "the validator has no storage challenge in this epoch";
    AlreadyAnswered { epoch: Epoch } = "the challenge of epoch {epoch} is already answered";
    WrongAnswer { model: ModelId }
        = "the proof does not match the challenged chunk of model {model}'s file";
    OutOfBounds {
        name: String,
        #[serde(with = "decimal")] value: u64,
        #[serde(with = "decimal")] min: u64,
        #[serde(with = "decimal")] max: u64,
    } = "{name} would be {value}, but must be from {min} to {max}";
    NoSuchParameter { name: String } = "there is no parameter {name:?}";
    MigrationRunning = "the network is already migrating to another architecture";
    BadArchitecture { field: String } = "the architecture's {field} is out of bounds";
    NoSuchArchitecture { architecture: u32 }
        = "weights for architecture {architecture} are not accepted";
    ProposalNotFound { proposal: ProposalId } = "there is no proposal {proposal}";
    ProposalDecided { proposal: ProposalId } = "proposal {proposal} is already decided";
    CommitmentMismatch = "the content does not match the commitment";
    BadSpecializationDimension { found: u32, expected: u32 }
        = "a specialization of {found} components, but the architecture has {expected}";
    BadSpecializationLength { #[serde(with = "decimal")] norm_squared: u64 }
        = "the specialization's squared length is {norm_squared}, not 1 to 32767^2 within rounding";
    BeaconAlreadyCommitted { epoch: Epoch } = "a beacon for epoch {epoch} is already committed";
    BeaconNotCommitted { epoch: Epoch } = "no beacon was committed for epoch {epoch}";
    BeaconAlreadyRevealed { epoch: Epoch } = "the beacon for epoch {epoch} is already revealed";
    TargetNotFound { target: TargetId } = "there is no target {target}";
    TargetClosed { target: TargetId, epoch: Epoch } = "target {target} belongs to epoch {epoch}";
    ModelNotRouted { model: ModelId, target: TargetId }
        = "model {model} does not compete for target {target}";
    BadLoss { #[serde(with = "decimal")] loss_q32: i64 } = "{loss_q32} is not a loss";
    BadDistance { #[serde(with = "decimal")] distance: u64 }
        = "{distance} is not a squared distance between directions";
    GainTooLow {
        #[serde(with = "decimal")] gain_q32: i64,
        #[serde(with = "decimal")] min_q32: u64,
    } = "a gain of {gain_q32}, but it must be at least {min_q32}, in 2^-32 nat";
    BadCorpusSize { leaves: u32, max: u32 }
        = "a corpus of {leaves} documents, but it must have 1 to {max}";
    NoCorpus { epoch: Epoch } = "the sender has fixed no documents before epoch {epoch}";
    NotInCorpus { target: TargetId }
        = "the data is not the document that the path shows, in the corpus behind the submission \
           for target {target}";
    BadDataSize { size_bytes: u32, min: u32, max: u32 }
        = "data of {size_bytes} bytes, but it must have {min} to {max}";
    NotAmongClosest { target: TargetId }
        = "target {target} has enough candidates that are at least as close";
    DuplicateSubmission { target: TargetId }
        = "this submission is already a candidate of target {target}";
    NotPublisher { target: TargetId }
        = "it is not the sender's turn to publish for target {target}";
    AlreadyPublished { target: TargetId } = "data for target {target} is already published";
    DataSeenBefore { winner: TargetId, epoch: Epoch }
        = "most of this data won before; much of it won target {winner} in epoch {epoch}";
    NotPublished { target: TargetId } = "no data is published for target {target}";
    AlreadyAttested { target: TargetId }
        = "the validator has already attested target {target}";
    VerdictNotCommitted { target: TargetId }
        = "the validator has not committed a verdict on target {target}";
    Full = "there is no room for more";
    DutyNotFree = "a duty is free: its nonce, tip and fee limit must be 0";
    NotAvailable { model: ModelId }
        = "too little stake held the file of model {model} before the epoch began";
    TasksPending = "work of the last phase is not finished";
    ProposalsOpen { open: u32, max: u32 }
        = "{open} proposals of the sender are open, and it may have {max}";
    NoFileRoom {
        #[serde(with = "decimal")] size_bytes: u64,
        #[serde(with = "decimal")] free_bytes: u64,
    } = "a file of {size_bytes} bytes, but the network has room for {free_bytes}";
    BadEndpoints = "an endpoint has 1 to 260 printable ASCII characters and no space";
    EndpointsSet { #[serde(with = "decimal")] from_ms: u64 }
        = "the validator said where its node is a short time ago; it may again from {from_ms}";
    EndpointsChanged { #[serde(with = "decimal")] since_ms: u64 }
        = "the validator has said something else since, in the block of time {since_ms}";
    EndpointsUnchanged = "the validator's node is already said to be reached there";
    BadRules { version: u16, expected: u16 }
        = "rules {version}, but the vote may only be for rules {expected} now";
}

//! Why the rules refuse a transaction: a stable code, a sentence, and help, in one place each.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::id::ProposalId;
use crate::phase::Phase;
use crate::{Address, Amount, Epoch, Hash, ModelId, PoolId, TargetId, decimal};

/// A rejection's code and help, for those who look it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Stable code.
    pub code: &'static str,
    /// What to do about it.
    pub help: &'static str,
}

macro_rules! rejections {
    ($($(#[$meta:meta])* $name:ident $({ $($(#[$field_meta:meta])* $field:ident: $type:ty),* $(,)? })?
        = $code:literal, $message:literal, $help:literal;)*) => {
        /// Why a transaction was refused. JSON: its fields beside `code`.
        #[derive(
            Clone, Debug, PartialEq, Eq, thiserror::Error, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
        )]
        #[serde(tag = "code")]
        #[non_exhaustive]
        pub enum Rejection {
            $($(#[$meta])* #[error($message)] #[serde(rename = $code)]
            $name $({ $(#[doc = "See the message."] $(#[$field_meta])* $field: $type),* })?,)*
        }

        impl Rejection {
            /// Stable code.
            pub const fn code(&self) -> &'static str {
                match self { $(Self::$name $({ $($field: _),* })? => $code,)* }
            }

            /// What to do about it.
            pub const fn help(&self) -> &'static str {
                match self { $(Self::$name $({ $($field: _),* })? => $help,)* }
            }

            /// All codes with their help.
            pub const fn all() -> &'static [Explanation] {
                &[$(Explanation { code: $code, help: $help }),*]
            }
        }
    };
}

rejections! {
    /// For another chain.
    WrongChain { found: Hash } = "wrong_chain",
        "the transaction is for chain {found}",
        "Sign it for this network: its chain id is in `soma status` and in genesis.";
    /// Too late.
    Expired { #[serde(with = "decimal")] valid_until_ms: u64, #[serde(with = "decimal")] block_ms: u64 } = "expired",
        "valid until {valid_until_ms}, the block's time is {block_ms}",
        "Sign it again with a later expiry. Nothing was changed or charged.";
    /// Not the account's next transaction.
    WrongNonce { #[serde(with = "decimal")] expected: u64, #[serde(with = "decimal")] found: u64 } = "wrong_nonce",
        "nonce {found}, the account's next is {expected}",
        "Another transaction of this account came first or is still missing. Ask for the account's nonce and sign again.";
    /// Fee above the sender's limit.
    FeeLimit { fee: Amount, limit: Amount } = "fee_limit",
        "the fee is {fee} SOMA, the limit {limit} SOMA",
        "Raise the fee limit. The fee is a base fee and a fee for every byte of state that is written.";
    /// Not enough money.
    InsufficientBalance { needed: Amount, available: Amount } = "insufficient_balance",
        "{needed} SOMA are needed, {available} SOMA are there",
        "Fees, stakes, bonds and rent are paid from the account's balance: have money sent to it, or use a smaller amount.";
    /// Nothing to send.
    ZeroAmount = "zero_amount",
        "the amount is zero",
        "Send at least one base unit.";
    /// Not a validator.
    NotValidator = "not_validator",
        "the sender is not a validator",
        "Only validators attest, hold files and open randomness. Send it from the validator's account.";
    /// A validator without a seat.
    NotSeated = "not_seated",
        "the validator has no seat in the committee",
        "Seats go to the validators with the most stake, as an epoch ends. See `soma validator list`.";
    /// Registered before.
    AlreadyValidator = "already_validator",
        "the sender is a validator already",
        "Add stake with `soma stake add`, or change the key with `soma validator rotate`.";
    /// No such validator.
    ValidatorNotFound { validator: Address } = "validator_not_found",
        "{validator} is not a validator",
        "See `soma validator list`.";
    /// Signed two histories.
    Expelled = "expelled",
        "the validator has signed two histories and was expelled",
        "It never has a seat again. What is left of its stake can be withdrawn.";
    /// Leaving already.
    AlreadyLeaving = "already_leaving",
        "the validator is leaving already",
        "Its seat is given up as an epoch ends. `soma validator return` takes it back.";
    /// Jailed for now.
    StillJailed { until: Epoch } = "still_jailed",
        "the validator is jailed until epoch {until}",
        "It was absent too long. Make sure that it runs, and return in that epoch.";
    /// Another validator's key.
    ConsensusKeyTaken = "consensus_key_taken",
        "the consensus key belongs or belonged to another validator",
        "Make a new key: `soma keys new NAME`.";
    /// The key was not shown to be held.
    BadProof = "bad_proof",
        "the proof is not the consensus key's signature for this validator and chain",
        "Sign with the secret of the consensus key; `soma validator register` does.";
    /// Nobody's key.
    NoSuchKey = "no_such_key",
        "no validator has or had this consensus key",
        "Evidence must name the key that signed both votes.";
    /// It proves nothing.
    BadEvidence = "bad_evidence",
        "the two votes do not prove that one key signed two histories",
        "Both must be of one round, contradict each other, and carry the key's signatures.";
    /// Too little for a share.
    NoShare { pool: PoolId } = "no_share",
        "the amount buys no share of {pool}",
        "Add more. A pool that was slashed to nothing is closed for ever.";
    /// Not the operator.
    NotOperator = "not_operator",
        "the sender is not the operator of this network",
        "Only a local network has an operator; its key is made with the network. Elsewhere block time ends the phases.";
    /// For another epoch.
    WrongEpoch { expected: Epoch, found: Epoch } = "wrong_epoch",
        "for epoch {found}, it must be {expected}",
        "Commits are for the next epoch; reveals and openings for the running one. Build it again for that epoch.";
    /// In another phase.
    WrongPhase { phase: Phase } = "wrong_phase",
        "not possible in the {phase} phase",
        "Reveals and openings belong to the beginning of an epoch, publication to its publish parts, submissions to its compete and attest phases; verdicts are committed to before the attest phase and opened in it.";
    /// Not ended because not begun.
    PhaseNotBegun { epoch: Epoch, phase: Phase } = "phase_not_begun",
        "epoch {epoch} {phase} has not begun",
        "End the running phase first; `soma status` names it.";
    /// A name that is not allowed.
    BadName = "bad_name",
        "a name has 1 to 64 printable ASCII characters and no space at its ends",
        "Choose a shorter or simpler name.";
    /// More than everything.
    BadCommission { bps: u16 } = "bad_commission",
        "a commission of {bps} ten-thousandths is more than everything",
        "Give the commission in ten-thousandths, from 0 to 10000.";
    /// Too little stake.
    StakeTooLow { stake: Amount, minimum: Amount } = "stake_too_low",
        "a stake of {stake} SOMA, at least {minimum} SOMA are needed",
        "Stake more. It returns when the model is retired.";
    /// No such model.
    ModelNotFound { model: ModelId } = "model_not_found",
        "there is no model {model}",
        "See `soma model list`.";
    /// Not the owner.
    NotModelOwner { model: ModelId } = "not_model_owner",
        "the sender does not own model {model}",
        "Send it from the account that registered the model.";
    /// Retired.
    ModelRetired { model: ModelId } = "model_retired",
        "model {model} is retired",
        "A retired model does not come back; register a new one.";
    /// A file of impossible size.
    BadWeightsSize { #[serde(with = "decimal")] size_bytes: u64, #[serde(with = "decimal")] max: u64 } = "bad_weights_size",
        "an encrypted file of {size_bytes} bytes, it must have 1 to {max}",
        "Check that the file is a weights file of the network's architecture: `soma model check`.";
    /// Nothing committed.
    CommitNotFound { model: ModelId, epoch: Epoch } = "commit_not_found",
        "model {model} has no commit for epoch {epoch}",
        "Commit in the epoch before. A commit lapses when no third of the stake holds its file, or when its reveal phase ends.";
    /// Another file was committed.
    OtherFileCommitted { model: ModelId } = "other_file_committed",
        "the commit of model {model} names another file",
        "The commit was replaced; fetch the new file and attest that one.";
    /// Said before.
    AlreadyHeld { model: ModelId } = "already_held",
        "the validator already holds the file of model {model}",
        "Nothing to do.";
    /// An empty or overlong list.
    BadHeldList { found: u32, max: u32 } = "bad_held_list",
        "a list of {found} files, it must name 1 to {max}",
        "Name each held file once, in several transactions if need be.";
    /// Nothing is asked.
    NotChallenged = "not_challenged",
        "this epoch asks nothing of the validator",
        "Challenges are drawn with the targets, for validators that are paid for holding a file.";
    /// Answered before.
    AlreadyAnswered { epoch: Epoch } = "already_answered",
        "the challenge of epoch {epoch} is answered already",
        "Nothing to do.";
    /// Not the chunk.
    WrongAnswer { model: ModelId } = "wrong_answer",
        "this is not the chunk of model {model}'s file that the epoch asks for",
        "Read the chunk from the encrypted file as it was committed, with its path from the top down.";
    /// A value outside its bounds.
    OutOfBounds {
        name: String,
        #[serde(with = "decimal")] value: u64,
        #[serde(with = "decimal")] min: u64,
        #[serde(with = "decimal")] max: u64,
    } = "out_of_bounds",
        "{name} would be {value}, it must be from {min} to {max}",
        "Choose a value within the bounds; docs/protocol.md lists them.";
    /// No such parameter.
    NoSuchParameter { name: String } = "no_such_parameter",
        "there is no parameter {name:?}",
        "docs/protocol.md lists the parameters.";
    /// A migration is under way.
    MigrationRunning = "migration_running",
        "the network is migrating to another architecture already",
        "Propose it again after the switch; `soma vote list` shows the migration.";
    /// An architecture that cannot be.
    BadArchitecture { field: String } = "bad_architecture",
        "the architecture's {field} is not allowed",
        "See the bounds in docs/protocol.md; a chunk must not be longer than the longest data.";
    /// Not an architecture for which weights are taken.
    NoSuchArchitecture { architecture: u32 } = "no_such_architecture",
        "no weights are taken for architecture {architecture}",
        "Commit for the architecture in force, or while a migration is under way for the one to come.";
    /// No such proposal.
    ProposalNotFound { proposal: ProposalId } = "proposal_not_found",
        "there is no proposal {proposal}",
        "See `soma vote list`.";
    /// Decided before.
    ProposalDecided { proposal: ProposalId } = "proposal_decided",
        "proposal {proposal} is decided",
        "Nothing to do: see `soma vote list`.";
    /// The reveal opens something else.
    CommitmentMismatch = "commitment_mismatch",
        "this does not open the commitment",
        "The commitment names chain, sender, epoch or target, and the exact content. Reveal or publish exactly what was committed.";
    /// An embedding of the wrong length.
    BadEmbeddingDimension { found: u32, expected: u32 } = "bad_embedding_dimension",
        "an embedding of {found} components, the architecture has {expected}",
        "Use the embedding that `soma model embed` or the scorer gives for this architecture.";
    /// An embedding that is too short or too long.
    BadEmbeddingLength { #[serde(with = "decimal")] norm_squared: u64 } = "bad_embedding_length",
        "the squares of the embedding's components sum to {norm_squared}, not to 32767^2 within rounding",
        "Scale the embedding to length 32767 and round to nearest.";
    /// Committed before.
    BeaconAlreadyCommitted { epoch: Epoch } = "beacon_already_committed",
        "randomness for epoch {epoch} is already committed",
        "Nothing to do; open it in that epoch's reveal phase.";
    /// Nothing to open.
    BeaconNotCommitted { epoch: Epoch } = "beacon_not_committed",
        "no randomness was committed for epoch {epoch}",
        "Commit in the epoch before.";
    /// Opened before.
    BeaconAlreadyOpened { epoch: Epoch } = "beacon_already_opened",
        "the randomness for epoch {epoch} is already opened",
        "Nothing to do.";
    /// No such target.
    TargetNotFound { target: TargetId } = "target_not_found",
        "there is no target {target}",
        "See `soma target list`.";
    /// Of another epoch.
    TargetClosed { target: TargetId, epoch: Epoch } = "target_closed",
        "target {target} belongs to epoch {epoch}",
        "Submit in the target's own epoch; publish and attest in the next one.";
    /// A model that does not compete for the target.
    ModelNotRouted { model: ModelId, target: TargetId } = "model_not_routed",
        "model {model} does not compete for target {target}",
        "Score the data with the models that the target names, and submit the one with the lowest loss.";
    /// An impossible loss.
    BadLoss { #[serde(with = "decimal")] loss_q32: i64 } = "bad_loss",
        "{loss_q32} is not a loss",
        "A loss is at least 0 and below 2^52 (2^20 nats in units of 2^-32).";
    /// An impossible distance.
    BadDistance { #[serde(with = "decimal")] distance: u64 } = "bad_distance",
        "{distance} is not a squared distance between embeddings",
        "Vectors of length 32767 are at most 65534 apart.";
    /// Data of the wrong length.
    BadDataSize { size_bytes: u32, min: u32, max: u32 } = "bad_data_size",
        "data of {size_bytes} bytes, it must have {min} to {max}",
        "Submit a longer or shorter file: at least one full chunk of the architecture.";
    /// Not close enough.
    NotAmongClosest { target: TargetId } = "not_among_closest",
        "target {target} has enough candidates that are at least as close",
        "Find data that is closer, or another target. No bond was taken.";
    /// The same claim again.
    DuplicateSubmission { target: TargetId } = "duplicate_submission",
        "this submission is already a candidate of target {target}",
        "Nothing to do.";
    /// Nothing to publish.
    NotPublisher { target: TargetId } = "not_publisher",
        "it is not the sender's turn to publish for target {target}",
        "Each rank has its own part of the publish phase, the closest first; only its candidate may publish.";
    /// Published before.
    AlreadyPublished { target: TargetId } = "already_published",
        "data for target {target} is already published",
        "Nothing to do.";
    /// Data that has won.
    DataAlreadyWon { epoch: Epoch } = "data_already_won",
        "this data won in epoch {epoch}",
        "Data wins once. Submit something new.";
    /// Nothing to audit.
    NotPublished { target: TargetId } = "not_published",
        "no data is published for target {target}",
        "Commit to a finding after publication and before the attest phase.";
    /// One verdict each.
    AlreadyAttested { target: TargetId } = "already_attested",
        "the validator has already attested target {target}",
        "Nothing to do: a verdict is final.";
    /// Nothing committed that could be opened.
    VerdictNotCommitted { target: TargetId } = "verdict_not_committed",
        "the validator has not committed to a finding on target {target}",
        "Findings are committed to before the attest phase and opened in it.";
    /// Ids or places are used up.
    Full = "full",
        "there is no room for more",
        "Wait until a proposal is decided, a validator leaves, or an epoch ends, and try again.";
}

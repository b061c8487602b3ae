//! The JSON of the HTTP API, written by nodes and read by every client.
//!
//! Ids, epochs, counts and ranks are numbers; every integer of 64 bits or more (amounts
//! in base units, heights, milliseconds, nonces, losses, distances) is a decimal string; hashes are
//! lower-case hex, addresses bech32m. Fields are added, never changed. No type here may hold a
//! secret.

use serde::{Deserialize, Serialize};
use soma_protocol::ConsensusKey;

use crate::text::{AddressText, CodeText, CursorText, HashText, I64, PhaseText, U64};
use crate::{NextCommission, Rent};

/// How long a refused connection counts, in milliseconds.
const REFUSED_MS: u64 = 30_000;

/// The state of the chain and of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// Name of the chain, as in its genesis.
    pub chain: String,
    /// Hash of the genesis; every transaction names it.
    pub chain_id: HashText,
    /// Version of the node's software.
    pub version: String,
    /// Height of the last finalized block; 0 is genesis.
    pub height: U64,
    /// Digest of the last finalized block.
    pub block: HashText,
    /// State root after it.
    pub state_root: HashText,
    /// Its time, in milliseconds since 1970: the rules' only clock.
    pub timestamp_ms: U64,
    /// Epoch and phase.
    pub clock: Clock,
    /// The rules that blocks follow, and those that the node executes.
    #[serde(default)]
    pub rules: Rules,
    /// Models that are routed to targets.
    pub models_active: u32,
    /// Targets that accept submissions now.
    pub targets_open: u32,
    /// Transactions pending in this node's pool.
    pub pool: u32,
    /// The tip for each 1,024 units of weight with which a payment gets into the next block, in
    /// base units; 0 while there is room for all.
    #[serde(default)]
    pub tip_per_kib: U64,
    /// Transactions that are still due from this node's validator in the current phase: beacons,
    /// files it holds, verdicts. At 0 the phase can end with nothing missing.
    pub duties: u32,
    /// Other nodes connected to this one.
    pub peers: u32,
    /// The first block that this node holds: 1, or a later one if it joined by state sync or
    /// prunes.
    pub history_from: U64,
    /// Transactions finalized since this node was started.
    pub transactions_final: U64,
    /// Audits by this node's validator.
    pub audits: Audits,
    /// Where all money is.
    pub supply: Supply,
    /// Whether this is a local network, on whose machine data can be tried.
    #[serde(default)]
    pub local: bool,
    /// Whether the node can serve, as `/readyz` says.
    #[serde(default)]
    pub ready: bool,
    /// What its operator should know, the worst first.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
}

/// The rules of a chain, and those that a node executes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rules {
    /// The version that the next block follows.
    pub version: u16,
    /// The version that is scheduled, if there is one.
    pub next: Option<NextRules>,
    /// The oldest version that the node executes.
    pub min: u16,
    /// The newest version that the node executes.
    pub max: u16,
}

/// A version of the rules that is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NextRules {
    /// The version.
    pub version: u16,
    /// The epoch from which on blocks follow it.
    pub from_epoch: u32,
}

/// Something about a node that its operator should know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Trouble {
    /// Stable code.
    #[serde(deserialize_with = "crate::text::code_or_unrecognized")]
    pub code: CodeText,
    /// What it is.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Whether the node cannot serve because of it.
    pub unready: bool,
}

/// What a node knows about its connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Contacts {
    /// Hash of the genesis.
    pub chain_id: HashText,
    /// The time of its clock, in milliseconds since 1970.
    pub now_ms: U64,
    /// Height of its last finalized block.
    pub height: U64,
    /// Other nodes: those that may connect, and some that may not but tried.
    pub nodes: Vec<Contact>,
}

/// What a node knows about its connection to another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Contact {
    /// Its consensus key.
    pub consensus_key: HashText,
    /// Whether it is connected.
    pub connected: bool,
    /// Whether it may connect: it is registered or in the settings.
    pub expected: bool,
    /// Why somebody with this key was refused last; null if nobody was. The key was not proved.
    pub refused: Option<RefusedFor>,
    /// How long ago that was, in milliseconds.
    pub refused_ago_ms: Option<U64>,
    /// How long ago it ended a connection that this node began, in milliseconds.
    pub turned_away_ago_ms: Option<U64>,
}

impl Contacts {
    /// What the node knows about the one with this key.
    pub fn of(&self, key: &ConsensusKey) -> Option<&Contact> {
        self.nodes.iter().find(|node| node.consensus_key.0.0 == key.0)
    }
}

impl Contact {
    /// Why somebody with this key was refused, if that was a moment ago.
    pub fn refused_now(&self) -> Option<RefusedFor> {
        let ago_ms = self.refused_ago_ms?.0;
        self.refused.filter(|_| ago_ms < REFUSED_MS)
    }
}

/// Why a node refused another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RefusedFor {
    /// Its key is neither registered nor in the settings.
    Unknown,
    /// Another node with this key is connected.
    Twice,
    /// Their clocks differ too much.
    Clock,
}

/// Audits: published claims that a node's validator scores again. Everything but `waiting` is
/// counted since the node was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Audits {
    /// Published claims not yet scored.
    pub waiting: u32,
    /// Claims found valid.
    pub valid: U64,
    /// Claims found invalid.
    pub invalid: U64,
    /// Times an audit was postponed because a file was missing or unreadable here.
    pub put_off: U64,
    /// Scores computed: one for each model of each claim.
    pub scores: U64,
    /// Bytes of data scored, once for each model.
    pub bytes: U64,
    /// Time spent on them, in milliseconds.
    pub spent_ms: U64,
}

/// Epoch and phase at the last finalized block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Clock {
    /// The current epoch, from 1.
    pub epoch: u32,
    /// Its current phase: `reveal`, `publish:0` and so on for each rank, `compete`, `attest`.
    pub phase: PhaseText,
    /// Block time at which the phase ends; null if the operator of a local network ends it.
    pub ends_ms: Option<U64>,
    /// Seed of this epoch's targets and of scoring; null before the compete phase.
    pub beacon: Option<HashText>,
}

/// Where all money is, in base units. `reserve + held = cap - burned`, always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Supply {
    /// The maximum that can ever exist.
    pub cap: U64,
    /// Not yet minted.
    pub reserve: U64,
    /// In balances, stakes, bonds, rewards set aside and rent.
    pub held: U64,
    /// Removed permanently.
    pub burned: U64,
    /// Whether the equation holds for the sums over all records.
    pub conserved: bool,
}

/// An account; an unknown one is empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Account {
    /// Its address: the ed25519 public key.
    pub address: AddressText,
    /// What it can spend, in base units.
    pub balance: U64,
    /// Nonce of its next transaction on chain.
    pub nonce: U64,
    /// First nonce that is neither finalized nor in this node's pool.
    pub next_nonce: U64,
    /// Models it owns.
    pub models: Vec<u32>,
    /// Its corpus that counts for the targets of the running epoch; null if none does.
    pub corpus: Option<Corpus>,
    /// The corpus that it has committed in the running epoch, which counts from the next one on.
    pub next_corpus: Option<Corpus>,
    /// Height of the block whose state this is.
    pub height: U64,
}

/// The documents that an account has fixed, as it has committed them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Corpus {
    /// Root of the Merkle tree over them.
    pub root: HashText,
    /// Number of its leaves.
    pub leaves: u32,
    /// The first epoch for whose targets they may be submitted.
    pub from_epoch: u32,
}

/// The state of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ModelStatus {
    /// Registered; no weights yet.
    Registered,
    /// Weights are public and current: it is routed to targets.
    Active,
    /// Weights were not refreshed in time; a commit and reveal reactivates it.
    Inactive,
    /// Its owner retired it; its stake is returned in a later epoch.
    Retiring,
    /// Retired permanently; its stake was returned.
    Retired,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Model {
    /// Its number, from 1.
    pub id: u32,
    /// The name its owner gave it.
    pub name: String,
    /// The account that commits, reveals and retires it, and receives its commission.
    pub owner: AddressText,
    /// Part of each win that goes to the owner's balance; the rest is added to the stakes.
    pub commission_bps: u16,
    /// Its state.
    pub status: ModelStatus,
    /// While it retires: the epoch in which its stake is returned.
    pub release_epoch: Option<u32>,
    /// Its stake, in base units.
    pub stake: U64,
    /// The weights it competes with; null before its first reveal.
    pub weights: Option<Weights>,
    /// Weights revealed for the architecture to which the network migrates.
    pub next: Option<Weights>,
    /// Rent of its file; null without weights.
    pub rent: Option<Rent>,
    /// Stake that is being withdrawn and can still be slashed, in base units.
    pub leaving: U64,
    /// Added stake that is not active yet but can be slashed, in base units.
    pub joining: U64,
    /// A commission that was announced, and the first epoch in which it applies.
    pub next_commission: Option<NextCommission>,
    /// Commits that are not revealed yet, for this epoch and the next.
    pub commits: Vec<Commit>,
    /// Targets it has won and been paid for.
    pub wins: u32,
    /// Its total pay, in base units, commission included.
    pub earned: U64,
}

/// Public weights of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Weights {
    /// BLAKE3 of the file.
    pub hash: HashText,
    /// Bytes of the file.
    pub size_bytes: U64,
    /// BLAKE3 of the encrypted file that was uploaded.
    pub ciphertext_hash: HashText,
    /// The key that decrypts it.
    pub key: HashText,
    /// Epoch of its last reveal.
    pub revealed_epoch: u32,
    /// Epoch in which these weights were first revealed; the older weights win a near tie.
    pub first_epoch: u32,
    /// Epoch by which the model must reveal again to stay active.
    pub refresh_epoch: u32,
}

/// A commitment to weights that are not public yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Commit {
    /// The epoch it is for: it is revealed in this epoch's reveal or publish phase.
    pub epoch: u32,
    /// The commitment itself.
    pub commitment: HashText,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: HashText,
    /// Bytes of the file, encrypted or not.
    pub size_bytes: U64,
    /// Validators that attest that they hold the file.
    pub holders: Vec<AddressText>,
    /// Whether enough of them, by stake, hold it: then it may be revealed.
    pub held: bool,
    /// Number of the architecture that it is for.
    pub architecture: u32,
    /// Rent paid with it, in base units; returned if the commit is not held.
    pub rent: U64,
}

/// Components of a specialization or of a target's direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Vector {
    /// `dim` components; the length of the vector is at most about 32767.
    pub components: Vec<i16>,
}

/// The state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TargetStatus {
    /// Accepts submissions while its epoch competes; then waits for the best candidate's data.
    Open,
    /// Data is public; validators audit it.
    Published,
    /// Won and paid.
    Settled,
    /// Not won: its reward was returned to the reserve.
    Returned,
}

/// Why a target's reward was returned to the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// Nobody published data for it.
    Unclaimed,
    /// Validators found the claim invalid; its bond was burned.
    Invalid,
    /// Validators reached no verdict; the bond was returned.
    NoQuorum,
}

/// A target: a direction, the models routed to it, the closest submissions, and the outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Target {
    /// Its number, from 1.
    pub id: u32,
    /// The epoch it was drawn in.
    pub epoch: u32,
    /// Its state.
    pub status: TargetStatus,
    /// Why it was not won.
    pub returned: Option<Returned>,
    /// Its reward, in base units; even, so that halves are exact.
    pub reward: U64,
    /// Seed of the scoring directions: the epoch's beacon.
    pub seed: HashText,
    /// The margin by which claims are made and judged, in 2^-32 nat.
    pub loss_margin_q32: U64,
    /// The least gain of a claim, in 2^-32 nat; 0 if there is none.
    pub gain_min_q32: U64,
    /// The models that score its data, in routed order, with the weights fixed for it.
    pub routed: Vec<Routed>,
    /// The closest submissions, closest first.
    pub candidates: Vec<Candidate>,
    /// The data published for it, until it is settled.
    pub publication: Option<Publication>,
    /// Who won it, and the payments.
    pub payment: Option<Payment>,
}

/// A model routed to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Routed {
    /// The model.
    pub model: u32,
    /// The weights that score this target, even if the model reveals others later.
    pub weights_hash: HashText,
    /// Bytes of the weights file, encrypted or not.
    pub size_bytes: U64,
    /// BLAKE3 of the model's encrypted file. If it does not decrypt to the weights, the model has
    /// no score, even if other models have revealed the same weights.
    pub ciphertext_hash: HashText,
    /// The key that decrypts that file.
    pub key: HashText,
    /// Age of the weights: of two nearly equal cross-entropies, the older weights win.
    pub age: Age,
}

/// Age of weights: an earlier epoch, then height, then index is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Age {
    /// Epoch in which the model first revealed them.
    pub epoch: u32,
    /// Height of the block with their commit.
    pub height: U64,
    /// Index of the commit in its block.
    pub index: u32,
}

impl From<Age> for soma_protocol::record::WeightsAge {
    fn from(age: Age) -> Self {
        Self { epoch: soma_protocol::Epoch(age.epoch), height: age.height.0, index: age.index }
    }
}

/// A submission among the closest to its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidate {
    /// Rank among the target's candidates, from 0.
    pub rank: u32,
    /// Who submitted.
    pub submitter: AddressText,
    /// The model that, by its claim, predicts the data best.
    pub model: u32,
    /// Its loss in nats per byte, as a fixed-point number with 32 fractional bits.
    pub loss_q32: I64,
    /// How much better it predicts the data than counting does, in 2^-32 nat.
    pub gain_q32: I64,
    /// Squared distance between the data's direction, seen from the model's specialization, and
    /// the target's.
    pub distance: U64,
    /// Bytes of the data.
    pub size_bytes: u32,
    /// Commitment to the data.
    pub commitment: HashText,
    /// Root of the submitter's corpus that counted; the data is one of its documents.
    pub corpus_root: HashText,
    /// Number of documents of that corpus.
    pub corpus_leaves: u32,
    /// Bond, in base units: lost if the claim is invalid or the data is not published.
    pub bond: U64,
}

/// What an account submitted for a target, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Submission {
    /// The target.
    pub target: u32,
    /// Its epoch.
    pub epoch: u32,
    /// The account.
    pub submitter: AddressText,
    /// The target's status.
    pub status: TargetStatus,
    /// Which of its documents are among the closest now, closest first.
    pub candidates: Vec<Candidate>,
    /// What it published, until the target is settled.
    pub publication: Option<Publication>,
    /// What it was paid, if it won.
    pub payment: Option<Payment>,
    /// What happened to its submissions and to the target since the first of them, newest first,
    /// without what others submitted: at most 500.
    pub events: Vec<Event>,
}

/// Data published for a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Publication {
    /// Rank of the candidate that published.
    pub rank: u32,
    /// BLAKE3 of the data.
    pub data_hash: HashText,
    /// Bytes of the data.
    pub size_bytes: u32,
}

/// Who won a target, and the payments. `paid_submitter` = `paid_model` = half of the reward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Payment {
    /// Who submitted the data.
    pub submitter: AddressText,
    /// The submitter's half, in base units; the bond is returned beside it.
    pub paid_submitter: U64,
    /// The model that predicted the data best.
    pub model: u32,
    /// The model's half, in base units: commission and added stake.
    pub paid_model: U64,
    /// Squared distance between the data's direction and the target's.
    pub distance: U64,
    /// BLAKE3 of the data.
    pub data_hash: HashText,
}

/// The first target that was won with data that has a certain piece. Data with half of its pieces
/// from one winner of an earlier epoch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Winner {
    /// The target.
    pub target: u32,
    /// Its epoch.
    pub epoch: u32,
}

/// An epoch and its targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Epoch {
    /// Its number.
    pub epoch: u32,
    /// Its beacon; null before its compete phase.
    pub beacon: Option<HashText>,
    /// Its targets; empty before its compete phase.
    pub targets: Vec<u32>,
    /// The reward of each, in base units.
    pub target_reward: U64,
    /// The margin by which claims for its targets are made and judged, in 2^-32 nat; null before
    /// its compete phase.
    pub loss_margin_q32: Option<U64>,
    /// The least gain of a claim for its targets, in 2^-32 nat; null before its compete phase.
    pub gain_min_q32: Option<U64>,
}

/// The models and targets of an epoch in a plane, computed in integers from the specializations and
/// directions, so equal on all nodes. Its axes are the two along which the models' directions
/// differ most; its origin is their mean. The point farthest from the origin is 1,000 away, among
/// the models and among the targets: what counts is the side to which a target lies.
///
/// It is empty before the epoch's targets are drawn, if no model was routed to them, and once the
/// specializations of then are no longer kept, which is after the following epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EpochMap {
    /// The epoch.
    pub epoch: u32,
    /// The first of its targets, at most 500.
    pub targets: Vec<MapPoint>,
    /// The models that were routed to them, at most 500.
    pub models: Vec<MapPoint>,
}

/// A model or a target in the plane of an [`EpochMap`], or data as a model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MapPoint {
    /// Its number.
    pub id: u32,
    /// From -1,000 to 1,000.
    pub x: i32,
    /// From -1,000 to 1,000.
    pub y: i32,
}

/// A finalized block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Block {
    /// Its height, from 1.
    pub height: U64,
    /// Its digest.
    pub hash: HashText,
    /// Digest of the block before it.
    pub parent: HashText,
    /// Its time, in milliseconds since 1970.
    pub timestamp_ms: U64,
    /// Who proposed it.
    pub proposer: AddressText,
    /// State root after it.
    pub state_root: HashText,
    /// Its transactions, in order.
    pub transactions: Vec<HashText>,
}

/// The state of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// In this node's pool.
    Pending,
    /// In a finalized block, with a receipt.
    #[serde(rename = "final")]
    Finalized,
}

/// A transaction and its outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Transaction {
    /// Its hash.
    pub hash: HashText,
    /// Pending or finalized.
    pub state: TransactionState,
    /// Who signed it.
    pub sender: AddressText,
    /// Its number among the sender's payments, from 0; 0 if it is a duty.
    pub nonce: U64,
    /// What its sender adds to the fee to come earlier, in base units.
    pub tip: U64,
    /// Name of its action: `transfer`, `submit`, ...
    pub action: String,
    /// Block time after which it can no longer be included.
    pub valid_until_ms: U64,
    /// Height of its block; null while pending.
    pub height: Option<U64>,
    /// Fee and rejection; null while pending.
    pub receipt: Option<Receipt>,
}

/// The outcome of a finalized transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// The fee charged, in base units, even if it was rejected.
    pub fee: U64,
    /// Why the rules rejected it; null if it took effect.
    pub rejection: Option<Rejection>,
}

/// Why the rules rejected a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rejection {
    /// A stable code, as in `soma explain CODE`.
    #[serde(deserialize_with = "crate::text::code_or_unrecognized")]
    pub code: CodeText,
    /// What is wrong, with the values.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// The answer to a transaction that the pool accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Submitted {
    /// Its hash.
    pub hash: HashText,
}

/// The answer to one transaction of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchAnswer {
    /// Its hash; null if its bytes are not a transaction.
    pub hash: Option<HashText>,
    /// Why it was refused; null if it was accepted.
    pub error: Option<ApiError>,
}

/// The answers to a batch of transactions, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Batch {
    /// One for each transaction.
    pub answers: Vec<BatchAnswer>,
}

/// An event of a finalized block. Its data is beside these fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// `HEIGHT-INDEX`, the same on every node; also the event stream's `id`.
    pub cursor: CursorText,
    /// Time of the block, in milliseconds since 1970.
    pub timestamp_ms: U64,
    /// Its kind, a stable word; also the event stream's `event`.
    pub event: String,
    /// Its data, in the conventions of this API.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub fields: serde_json::Map<String, serde_json::Value>,
}

impl Event {
    /// The event as the protocol knows it; `None` if this version of the protocol does not.
    pub fn typed(&self) -> Option<soma_protocol::Event> {
        let mut parts = self.fields.clone();
        parts.insert("event".to_owned(), self.event.clone().into());
        serde_json::from_value(parts.into()).ok()
    }
}

/// The progress of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Upload {
    /// Bytes the node has: the offset at which to continue.
    pub received: U64,
    /// Size of the file, as committed.
    pub size_bytes: U64,
    /// Whether the file is complete and has the committed hash.
    pub complete: bool,
}

/// A page of a list. Request the next with `?after=<next>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// In ascending order of id, or as the route says: newest first for blocks and histories.
    pub items: Vec<T>,
    /// The `after` of the next page; null on the last page.
    pub next: Option<String>,
}

/// Why a request failed: the body of every error answer
/// (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiError {
    /// A stable code, as in `soma explain CODE`.
    #[serde(deserialize_with = "crate::text::code_or_unrecognized")]
    pub code: CodeText,
    /// What is wrong, with the values.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

#[cfg(test)]
mod tests {
    use soma_protocol::{ConsensusKey, Hash};

    use super::{Contact, Contacts, REFUSED_MS, RefusedFor};
    use crate::text::Text;

    #[test]
    fn a_refusal_counts_for_a_moment_and_for_its_key_alone() {
        let contact = |ago_ms| Contact {
            consensus_key: Text(Hash([7; 32])),
            connected: false,
            expected: true,
            refused: Some(RefusedFor::Twice),
            refused_ago_ms: Some(Text(ago_ms)),
            turned_away_ago_ms: None,
        };
        assert_eq!(contact(1_000).refused_now(), Some(RefusedFor::Twice));
        assert_eq!(contact(REFUSED_MS).refused_now(), None);
        let contacts = Contacts {
            chain_id: Text(Hash([0; 32])),
            now_ms: Text(0),
            height: Text(0),
            nodes: vec![contact(1_000)],
        };
        assert_eq!(contacts.of(&ConsensusKey([7; 32])), Some(&contact(1_000)));
        assert_eq!(contacts.of(&ConsensusKey([8; 32])), None);
    }
}

/// What records of the state are, and everything that shows it: `docs/protocol.md` defines the
/// bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Proof {
    /// Height of the block whose state it is: the last finalized one.
    pub height: U64,
    /// Its header, in hex.
    pub header: String,
    /// Its certificate, in hex.
    pub certificate: String,
    /// For each key of the question, what shows its record, in hex.
    pub records: Vec<String>,
}

/// What leads from a committee to later ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Handovers {
    /// Each in hex, in order; none if the committee has not changed.
    pub handovers: Vec<String>,
}

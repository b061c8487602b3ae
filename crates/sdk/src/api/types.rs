//! The JSON of the HTTP API, written by nodes and read by every client.
//!
//! Ids, epochs, counts and ranks are numbers; every integer of 64 bits or more (amounts
//! in base units, heights, milliseconds, nonces, losses, distances) is a decimal string; hashes are
//! lower-case hex, addresses bech32m. Fields are added, never changed. No type here may hold a
//! secret.

use serde::{Deserialize, Serialize};

use crate::api::text::{AddressText, CodeText, CursorText, HashText, I64, PhaseText, U64};
use crate::api::{NextCommission, Rent};

/// What a node knows about the chain and about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Status {
    /// Name of the chain, as in its genesis.
    pub chain: String,
    /// Hash of the genesis; every transaction names it.
    pub chain_id: HashText,
    /// Version of the node's software.
    pub version: String,
    /// Height of the last final block; 0 is genesis.
    pub height: U64,
    /// Digest of the last final block.
    pub block: HashText,
    /// Root of the state after it.
    pub state_root: HashText,
    /// Its time, in milliseconds since 1970; the only clock of the rules.
    pub timestamp_ms: U64,
    /// Where the competition stands.
    pub clock: Clock,
    /// Models that are routed to targets.
    pub models_active: u32,
    /// Targets that take submissions now.
    pub targets_open: u32,
    /// Transactions waiting in this node's pool.
    pub pool: u32,
    /// Transactions that this node's validator still owes in the running phase: randomness, files it
    /// holds, verdicts. At 0 a phase may end without anything undone.
    pub duties: u32,
    /// Other nodes connected to this one.
    pub peers: u32,
    /// The first block that this node holds: 1, or later where it joined or has forgotten older ones.
    pub history_from: U64,
    /// Transactions that became final since this node was started.
    pub transactions_final: U64,
    /// What this node's validator does to check the claims of others.
    pub audits: Audits,
    /// Where the money is.
    pub supply: Supply,
}

/// Audits of a node: published claims that its validator scores again. All but `waiting` is counted since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Audits {
    /// Published claims that are not scored yet.
    pub waiting: u32,
    /// Claims found true.
    pub valid: U64,
    /// Claims found false.
    pub invalid: U64,
    /// Times that an audit was put off because a file was missing or unreadable here.
    pub put_off: U64,
    /// Scores computed: one for each model of each claim.
    pub scores: U64,
    /// Bytes of data scored, once for each model.
    pub bytes: U64,
    /// Time spent on them, in milliseconds.
    pub spent_ms: U64,
}

/// Where the competition stands at the last final block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Clock {
    /// The running epoch, from 1.
    pub epoch: u32,
    /// Its running phase: `reveal`, `publish:0` and so on for each rank, `compete`, `attest`.
    pub phase: PhaseText,
    /// Block time at which the phase ends; none if the operator of a local network ends it.
    pub ends_ms: Option<U64>,
    /// Randomness of this epoch's targets and of scoring; none before the compete phase.
    pub beacon: Option<HashText>,
}

/// Where all money is, in base units. `reserve + held = cap - burned`, always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Supply {
    /// All there can ever be.
    pub cap: U64,
    /// Not yet minted.
    pub reserve: U64,
    /// In balances, stakes, bonds, rewards set aside and rent.
    pub held: U64,
    /// Gone for good.
    pub burned: U64,
    /// Whether the equation holds, recomputed from the records.
    pub conserved: bool,
}

/// An account that has ever held money or sent a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Account {
    /// Its address: the ed25519 public key.
    pub address: AddressText,
    /// What it can spend, in base units.
    pub balance: U64,
    /// Nonce of its next transaction on chain.
    pub nonce: U64,
    /// First nonce that is neither on chain nor in this node's pool.
    pub next_nonce: U64,
    /// Models it owns.
    pub models: Vec<u32>,
    /// Height of the block after which all this is so.
    pub height: U64,
}

/// Where a model is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ModelStatus {
    /// Owner, name and stake; no weights yet.
    Registered,
    /// Weights are public and current: it is routed to targets.
    Active,
    /// Weights were not refreshed in time; a commit and reveal brings it back.
    Inactive,
    /// Its owner has retired it; its stake returns in a later epoch.
    Retiring,
    /// Gone for good; its stake was returned.
    Retired,
}

/// A model and its standing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Model {
    /// Its number, from 1.
    pub id: u32,
    /// The name its owner gave it.
    pub name: String,
    /// Who commits, reveals and retires it, and is paid its commission.
    pub owner: AddressText,
    /// Part of each win that goes to the owner's balance; the rest joins the stake of all who stake.
    pub commission_bps: u16,
    /// Where it is in its life.
    pub status: ModelStatus,
    /// While it retires: the epoch in which its stake returns.
    pub release_epoch: Option<u32>,
    /// What it has at stake, in base units.
    pub stake: U64,
    /// The weights it competes with; none before its first reveal.
    pub weights: Option<Weights>,
    /// Weights that it has revealed for the architecture to which the network migrates.
    pub next: Option<Weights>,
    /// What keeps its file; none without weights.
    pub rent: Option<Rent>,
    /// What is being withdrawn from behind it and can still be slashed, in base units.
    pub leaving: U64,
    /// A commission that was announced, and the epoch that begins with it.
    pub next_commission: Option<NextCommission>,
    /// Commits that wait for their reveal: for this epoch, for the next.
    pub commits: Vec<Commit>,
    /// Targets it has won and been paid for.
    pub wins: u32,
    /// All it was paid for them, in base units, commission included.
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
    /// Epoch in which these very weights were first revealed; the older wins a near tie.
    pub first_epoch: u32,
    /// Epoch by which the model must reveal again, or it becomes inactive.
    pub refresh_epoch: u32,
}

/// A commitment to weights that are not public yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Commit {
    /// The epoch it is for; it reveals in this epoch's reveal or publish phase.
    pub epoch: u32,
    /// The commitment itself.
    pub commitment: HashText,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: HashText,
    /// Bytes of the file, encrypted or not.
    pub size_bytes: U64,
    /// Validators that say they hold the file.
    pub holders: Vec<AddressText>,
    /// Enough of them, by stake: it may be revealed.
    pub held: bool,
    /// Number of the architecture that it is for.
    pub architecture: u32,
    /// Rent paid with it, in base units; it returns if the commit is not held.
    pub rent: U64,
}

/// Components of an embedding or of a target's direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Vector {
    /// `dim` components; the length of the vector is about 32767.
    pub components: Vec<i16>,
}

/// Where a target is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TargetStatus {
    /// Takes submissions while its epoch competes; then the data of the best candidate is awaited.
    Open,
    /// Data is public; validators audit it.
    Published,
    /// Won and paid.
    Settled,
    /// Not won: its reward went back to the reserve.
    Returned,
}

/// Why a target's reward went back to the reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// Nobody published data for it.
    Unclaimed,
    /// Validators found the claim wrong; its bond is burned.
    Invalid,
    /// Validators did not decide; the bond was returned.
    NoQuorum,
}

/// A target: a direction, the models routed to it, who came close, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Target {
    /// Its number, from 1.
    pub id: u32,
    /// The epoch it was drawn in.
    pub epoch: u32,
    /// Where it is in its life.
    pub status: TargetStatus,
    /// Why it was not won.
    pub returned: Option<Returned>,
    /// What it pays, in base units; even, so that halves are exact.
    pub reward: U64,
    /// Seed of the scoring directions: the epoch's beacon.
    pub seed: HashText,
    /// The models that score its data, in routed order, with the weights fixed for it.
    pub routed: Vec<Routed>,
    /// The closest submissions, closest first.
    pub candidates: Vec<Candidate>,
    /// The data that was published for it, until it is settled.
    pub publication: Option<Publication>,
    /// Who won it and what was paid.
    pub payment: Option<Payment>,
}

/// A model routed to a target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Routed {
    /// The model.
    pub model: u32,
    /// The weights it scores this target with, whatever it reveals later.
    pub weights_hash: HashText,
    /// Bytes of the weights file.
    pub size_bytes: U64,
    /// Age of the weights: of two losses that are nearly equal, the earlier age wins.
    pub age: Age,
}

/// When weights came to be: earlier epoch, then height, then index is older.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Age {
    /// Epoch in which the model first revealed them.
    pub epoch: u32,
    /// Height of the block with their commit.
    pub height: U64,
    /// Place of the commit in its block.
    pub index: u32,
}

impl From<Age> for soma_protocol::record::WeightsAge {
    fn from(age: Age) -> Self {
        Self {
            epoch: soma_protocol::Epoch(age.epoch),
            height: age.height.0,
            index: age.index,
        }
    }
}

/// A submission that is among the closest of its target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Candidate {
    /// Place among the target's candidates, from 0.
    pub rank: u32,
    /// Who submitted.
    pub submitter: AddressText,
    /// The model claimed to predict the data best.
    pub model: u32,
    /// Its loss in nats per byte, as a fixed-point number with 32 fractional bits.
    pub loss_q32: I64,
    /// Squared distance between the data's embedding and the target.
    pub distance: U64,
    /// Bytes of the data.
    pub size_bytes: u32,
    /// Commitment to the data.
    pub commitment: HashText,
    /// What the submitter loses if the claim is false or the data is not published, in base units.
    pub bond: U64,
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

/// Who won a target and what was paid. `paid_submitter` = `paid_model` = half of the reward.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Payment {
    /// Who submitted the data.
    pub submitter: AddressText,
    /// The submitter's half, in base units, without the bond.
    pub paid_submitter: U64,
    /// The model that predicted the data best.
    pub model: u32,
    /// The model's half, in base units: commission and stake together.
    pub paid_model: U64,
    /// Squared distance between the data's embedding and the target.
    pub distance: U64,
    /// BLAKE3 of the data.
    pub data_hash: HashText,
}

/// An epoch and what it fixed when its targets were drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Epoch {
    /// Its number.
    pub epoch: u32,
    /// Its randomness; none before its compete phase.
    pub beacon: Option<HashText>,
    /// Its targets; none before its compete phase.
    pub targets: Vec<u32>,
    /// What each of them pays, in base units.
    pub target_reward: U64,
}

/// A final block.
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
    /// Root of the state after it.
    pub state_root: HashText,
    /// Its transactions, in order.
    pub transactions: Vec<HashText>,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// In this node's pool.
    Pending,
    /// In a final block, with a receipt.
    Final,
}

/// A transaction and what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Transaction {
    /// Its hash.
    pub hash: HashText,
    /// Where it is.
    pub state: TransactionState,
    /// Who signed it.
    pub sender: AddressText,
    /// Its place among the sender's transactions.
    pub nonce: U64,
    /// What it does, by the action's name: `transfer`, `submit`, ...
    pub action: String,
    /// Block time after which it can no longer be included.
    pub valid_until_ms: U64,
    /// Height of its block; none while pending.
    pub height: Option<U64>,
    /// What it did; none while pending.
    pub receipt: Option<Receipt>,
}

/// What a final transaction did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Receipt {
    /// What was charged, in base units; also when it was rejected.
    pub fee: U64,
    /// Why the rules refused it; none if it took effect.
    pub rejection: Option<Rejection>,
}

/// Why the rules refused a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Rejection {
    /// A stable code, as in `soma explain CODE`.
    #[serde(deserialize_with = "crate::api::text::code_or_unrecognized")]
    pub code: CodeText,
    /// What was wrong, with the particulars.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// The answer to a transaction that was taken into the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Submitted {
    /// Its hash; ask for it or wait for its event.
    pub hash: HashText,
}

/// The answer to one transaction of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchAnswer {
    /// Its hash; none if its bytes are no transaction.
    pub hash: Option<HashText>,
    /// Why it was not taken; none if it was.
    pub error: Option<ApiError>,
}

/// The answers to a batch of transactions, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Batch {
    /// One for each transaction.
    pub answers: Vec<BatchAnswer>,
}

/// Something that happened in a final block: its particulars stand beside these fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// `HEIGHT-INDEX`, the same on every node; also the event stream's `id`.
    pub cursor: CursorText,
    /// Time of the block, in milliseconds since 1970.
    pub timestamp_ms: U64,
    /// What happened, a stable word; also the event stream's `event`.
    pub event: String,
    /// Its particulars, in the conventions of this API.
    #[serde(flatten)]
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub particulars: serde_json::Map<String, serde_json::Value>,
}

impl Event {
    /// The event as the protocol knows it; `None` if this version of the protocol does not.
    pub fn typed(&self) -> Option<soma_protocol::Event> {
        let mut parts = self.particulars.clone();
        parts.insert("event".to_owned(), self.event.clone().into());
        serde_json::from_value(parts.into()).ok()
    }
}

/// How far an upload has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Upload {
    /// Bytes the node has: the offset at which to go on.
    pub received: U64,
    /// Bytes it expects in all, as committed.
    pub size_bytes: U64,
    /// All is there and hashes to what was committed.
    pub complete: bool,
}

/// A piece of a list. Ask for the next with `?after=<next>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Page<T> {
    /// In ascending order of id; blocks in descending order of height.
    pub items: Vec<T>,
    /// The `after` of the next page; none at the end of the list.
    pub next: Option<String>,
}

/// Why a request failed: the body of every answer that is not a success
/// (`application/problem+json`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiError {
    /// A stable code, as in `soma explain CODE`.
    #[serde(deserialize_with = "crate::api::text::code_or_unrecognized")]
    pub code: CodeText,
    /// What went wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

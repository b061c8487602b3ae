//! The records of the state: what each key holds. Every record that money or votes hang on is
//! separate, so that no record is rewritten by every transaction.
//! A value is a tag byte and the record in borsh, so that a whole state can be read without its keys.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::action::Finding;
use crate::genesis::Network;
use crate::id::ProposalId;
use crate::params::Params;
use crate::phase::Phase;
use crate::pool::{NextCommission, Pool, PoolId, Release, ReleaseCount, Share};
use crate::proposal::{Migration, OpenProposals, PastArchitecture, Proposal, ProposalCount};
use crate::state::{Key, Read};
use crate::validator::{Committee, KeyHolder, LastCommittee, Validator, Validators};
use crate::{Address, Amount, ConsensusKey, Epoch, Hash, ModelId, TargetId, decimal, hex};

/// A typed value of the state.
pub trait Record: BorshSerialize + BorshDeserialize {
    /// First byte of the value, one for each type.
    const TAG: u8;

    /// The value's bytes.
    #[expect(clippy::expect_used, reason = "writing to a vector cannot fail")]
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![Self::TAG];
        self.serialize(&mut bytes)
            .expect("writing to a vector cannot fail");
        bytes
    }

    /// The record in `bytes`, if they hold one of this type.
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, record) = bytes.split_first()?;
        if *tag == Self::TAG {
            Self::try_from_slice(record).ok()
        } else {
            None
        }
    }
}

/// The record at `key`.
#[expect(
    clippy::expect_used,
    reason = "a state that these rules did not write must not go on"
)]
pub(crate) fn load<R: Record>(state: &dyn Read, key: &Key) -> Option<R> {
    let bytes = state.get(key)?;
    Some(R::from_bytes(&bytes).expect("the state was written by these rules"))
}

macro_rules! records {
    ($($name:ident = $tag:literal),* $(,)?) => {
        $(impl Record for $name { const TAG: u8 = $tag; })*
    };
}

records! {
    Network = 1, Params = 2, Clock = 3, Supply = 4, ModelCount = 5, Account = 6, Model = 7, Embedding = 8,
    Weights = 9, Commit = 10, Rent = 11, Validators = 12, Validator = 13, BeaconCommit = 14, EpochRecord = 15,
    Target = 16, Candidates = 17, Publication = 18, Verdicts = 19, Won = 20, Share = 21, ReleaseCount = 22,
    Release = 23, KeyHolder = 24, Committee = 25, LastCommittee = 26, Answers = 27, RentPrice = 28,
    Proposal = 29, ProposalCount = 30, OpenProposals = 31, Migration = 32, PastArchitecture = 33,
}

/// Where the competition stands.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Clock {
    /// The epoch that runs.
    pub epoch: Epoch,
    /// Its phase.
    pub phase: Phase,
    /// Block time at which the phase began, ms since 1970.
    #[serde(with = "decimal")]
    pub phase_started_ms: u64,
    /// Time of the last block that counted, ms since 1970; it stands still where phases end by command.
    #[serde(with = "decimal")]
    pub block_ms: u64,
    /// Id of the next target to be drawn.
    pub next_target: TargetId,
}

/// What nobody holds.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Supply {
    /// Not yet minted, or returned.
    pub reserve: Amount,
    /// Gone for ever.
    pub burned: Amount,
}

/// How many models have been registered; their ids are 1 to this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ModelCount(pub u32);

/// An account.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Account {
    /// Money that can be spent now.
    pub balance: Amount,
    /// Nonce of the account's next transaction.
    #[serde(with = "decimal")]
    pub nonce: u64,
}

/// Where a model is in its life. (A commit that waits for its reveal is a record of its own.)
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum ModelStatus {
    /// It has no weights yet.
    Registered,
    /// It may be routed.
    Active,
    /// Its weights were not refreshed in time; a reveal brings it back.
    Inactive,
    /// Its owner has retired it; its stake is released at the beginning of `release`.
    Retiring {
        /// The epoch at whose beginning the stake returns.
        release: Epoch,
    },
    /// Gone; its stake has been returned.
    Retired,
}

/// A model.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Model {
    /// Its id.
    pub id: ModelId,
    /// Who registered it.
    pub owner: Address,
    /// Its name; names need not be unique.
    pub name: String,
    /// The owner's share of what its stake earns, in ten-thousandths.
    pub commission_bps: u16,
    /// Takes the place of the commission in a later epoch.
    pub next_commission: Option<NextCommission>,
    /// The stake behind it.
    pub pool: Pool,
    /// Where it is in its life.
    pub status: ModelStatus,
    /// Hash of its current weights.
    pub weights: Option<Hash>,
    /// Weights that it has revealed for the architecture to come.
    pub next: Option<NextWeights>,
    /// Epoch in which the current weights were last revealed.
    pub revealed: Epoch,
    /// Epoch since which it has been active without a break.
    pub activated: Epoch,
    /// Targets it has won.
    pub wins: u32,
    /// All that it has earned, commission included.
    pub earned: Amount,
}

/// Weights for the architecture to which the network migrates.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct NextWeights {
    /// Number of the architecture.
    pub architecture: u32,
    /// BLAKE3 of the weights file.
    pub weights: Hash,
    /// Epoch in which they were last revealed.
    pub revealed: Epoch,
}

impl Model {
    /// Whether it has revealed weights for an architecture to come.
    pub fn is_ready_for(&self, architecture: u32) -> bool {
        self.next
            .is_some_and(|next| next.architecture == architecture)
    }
}

/// A model's specialization: components of a vector of length 32767.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Embedding(pub Vec<i16>);

/// How old a model's weights are: the earlier age wins a tie between losses.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    BorshSerialize,
    BorshDeserialize,
    Serialize,
    Deserialize,
)]
pub struct Age {
    /// Epoch in which this model first revealed these weights.
    pub epoch: Epoch,
    /// Height of the block with the commit.
    #[serde(with = "decimal")]
    pub height: u64,
    /// Place of the commit in its block.
    pub index: u32,
}

/// Weights that a model has revealed. Kept as long as the chain, for their age.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Weights {
    /// BLAKE3 of the weights file.
    pub weights_hash: Hash,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: Hash,
    /// Length of the encrypted file in bytes.
    #[serde(with = "decimal")]
    pub size_bytes: u64,
    /// Key that decrypts it.
    #[serde(with = "hex::array")]
    pub key: [u8; 32],
    /// How old they are.
    pub age: Age,
}

/// A commit that waits for its reveal.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Commit {
    /// Epoch in which it must be revealed.
    pub epoch: Epoch,
    /// Number of the architecture that it is for.
    pub architecture: u32,
    /// What the reveal must open; see [`crate::commitment::weights`].
    pub commitment: Hash,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: Hash,
    /// Length of the encrypted file in bytes.
    #[serde(with = "decimal")]
    pub size_bytes: u64,
    /// Rent due for `refresh_epochs`.
    pub rent: Amount,
    /// What the owner paid of it; the rest is rent left over from the file it replaces.
    pub paid: Amount,
    /// Height of the block with the commit.
    #[serde(with = "decimal")]
    pub height: u64,
    /// Place of the commit in its block.
    pub index: u32,
    /// Validators that hold the encrypted file.
    pub holders: Vec<Address>,
}

/// Rent paid ahead for a model's file.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Rent {
    /// What is left of it.
    pub prepaid: Amount,
    /// Epochs that it is for.
    pub epochs_left: u32,
    /// Validators that hold the file.
    pub holders: Vec<Address>,
}

/// Validators that have answered an epoch's storage challenge.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Answers(pub Vec<Address>);

/// Price of keeping one MiB for one epoch, in force in the running epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RentPrice(pub Amount);

/// A validator's randomness for one epoch.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct BeaconCommit {
    /// What the value must open; see [`crate::commitment::beacon`].
    pub commitment: Hash,
    /// The value, once opened.
    pub value: Option<Hash>,
}

/// What an epoch fixed when its targets were drawn.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The epoch.
    pub epoch: Epoch,
    /// Number of the architecture of its models.
    pub architecture: u32,
    /// Its randomness: seed of targets and of the scores' directions.
    pub beacon: Hash,
    /// Id of its first target.
    pub first_target: TargetId,
    /// Number of its targets.
    pub targets: u32,
    /// Reward of each target.
    pub target_reward: Amount,
    /// What its validators can earn together; zero once paid.
    pub validator_pot: Amount,
    /// Validators that opened their randomness.
    pub opened: Vec<Address>,
}

impl EpochRecord {
    /// Ids of its targets.
    pub fn target_ids(&self) -> impl Iterator<Item = TargetId> + use<> {
        let first = self.first_target.0;
        (first..first.saturating_add(self.targets)).map(TargetId)
    }
}

/// A model that competes for a target, with the weights it competes with.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Routed {
    /// The model.
    pub model: ModelId,
    /// BLAKE3 of its weights file.
    pub weights_hash: Hash,
    /// How old the weights are.
    pub age: Age,
}

/// What became of a target.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum TargetStatus {
    /// Open for submissions, then for publication.
    Open,
    /// A candidate has published its data; validators audit it.
    Published {
        /// Rank of the candidate, from 0.
        rank: u32,
    },
    /// Won and paid.
    Settled {
        /// The model that predicted the data best.
        model: ModelId,
        /// Who submitted it.
        submitter: Address,
        /// Squared distance of its embedding to the target.
        #[serde(with = "decimal")]
        distance: u64,
        /// BLAKE3 of the data.
        data_hash: Hash,
        /// Paid to the submitter, without the bond.
        paid_submitter: Amount,
        /// Paid to the model, commission included.
        paid_model: Amount,
    },
    /// Not won: the reward went back to the reserve.
    Returned {
        /// Why.
        reason: Returned,
    },
}

/// Why a target's reward went back to the reserve.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Returned {
    /// Nobody published data for it.
    Unclaimed,
    /// Validators found the claim wrong; its bond is burned.
    Invalid,
    /// Validators did not decide; the bond was returned.
    NoQuorum,
}

/// A target. Its direction follows from its epoch's beacon: [`crate::targets::direction`].
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Target {
    /// Its id.
    pub id: TargetId,
    /// Its epoch.
    pub epoch: Epoch,
    /// What winning it pays: half to the submitter, half to the model.
    pub reward: Amount,
    /// The models that compete for it, nearest first.
    pub routed: Vec<Routed>,
    /// What became of it.
    pub status: TargetStatus,
}

/// A submission among the closest of its target.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Candidate {
    /// Who submitted it.
    pub submitter: Address,
    /// The model with the lowest loss on the data.
    pub model: ModelId,
    /// Its loss, in 2^-32 nat.
    #[serde(with = "decimal")]
    pub loss_q32: i64,
    /// Squared distance of its embedding to the target.
    #[serde(with = "decimal")]
    pub distance: u64,
    /// Length of the data.
    pub size_bytes: u32,
    /// What publication must open; see [`crate::commitment::data`].
    pub commitment: Hash,
    /// Bond; zero once returned or burned.
    pub bond: Amount,
}

/// The closest submissions of a target, closest first.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Candidates(pub Vec<Candidate>);

/// Data published for a target. Deleted when the target is settled.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Publication {
    /// Rank of the candidate that published, from 0.
    pub rank: u32,
    /// BLAKE3 of the data.
    pub data_hash: Hash,
    /// The data.
    #[serde(with = "hex")]
    pub data: Vec<u8>,
}

impl std::fmt::Debug for Publication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publication")
            .field("rank", &self.rank)
            .field("data_hash", &self.data_hash)
            .field("data", &format_args!("{} bytes", self.data.len()))
            .finish()
    }
}

/// A validator's finding on a published claim: committed to, then shown.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Attestation {
    /// The validator.
    pub validator: Address,
    /// What the finding must open; see [`crate::commitment::verdict`].
    pub commitment: Hash,
    /// The finding, once opened.
    pub finding: Option<Finding>,
}

/// The verdicts on a target's published claim, in the order they came.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct Verdicts(pub Vec<Attestation>);

/// Data that won: the earliest epoch whose target it won.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Won(pub Epoch);

impl Key {
    /// [`Network`].
    pub fn network() -> Self {
        Self::of("network", &[])
    }

    /// [`Params`].
    pub fn params() -> Self {
        Self::of("params", &[])
    }

    /// [`Clock`].
    pub fn clock() -> Self {
        Self::of("clock", &[])
    }

    /// [`Supply`].
    pub fn supply() -> Self {
        Self::of("supply", &[])
    }

    /// [`ModelCount`].
    pub fn model_count() -> Self {
        Self::of("model count", &[])
    }

    /// [`Account`].
    pub fn account(address: &Address) -> Self {
        Self::of("account", &[&address.0])
    }

    /// [`Model`].
    pub fn model(id: ModelId) -> Self {
        Self::of("model", &[&id.0.to_le_bytes()])
    }

    /// [`Embedding`] of a model for an architecture.
    pub fn embedding(id: ModelId, architecture: u32) -> Self {
        Self::of(
            "embedding",
            &[&id.0.to_le_bytes(), &architecture.to_le_bytes()],
        )
    }

    /// [`Weights`] that a model has revealed.
    pub fn weights(id: ModelId, weights_hash: &Hash) -> Self {
        Self::of("weights", &[&id.0.to_le_bytes(), &weights_hash.0])
    }

    /// [`Commit`] of a model for an epoch and an architecture.
    pub fn commit(id: ModelId, epoch: Epoch, architecture: u32) -> Self {
        let parts = [id.0, epoch.0, architecture].map(u32::to_le_bytes);
        Self::of("commit", &[&parts[0], &parts[1], &parts[2]])
    }

    /// [`Rent`] of a model's file for an architecture.
    pub fn rent(id: ModelId, architecture: u32) -> Self {
        Self::of("rent", &[&id.0.to_le_bytes(), &architecture.to_le_bytes()])
    }

    /// [`Validators`].
    pub fn validators() -> Self {
        Self::of("validators", &[])
    }

    /// [`Validator`].
    pub fn validator(address: &Address) -> Self {
        Self::of("validator", &[&address.0])
    }

    /// [`KeyHolder`] of a consensus key.
    pub fn key_holder(key: &ConsensusKey) -> Self {
        Self::of("key holder", &[&key.0])
    }

    /// [`Committee`] by its number.
    pub fn committee(number: u32) -> Self {
        Self::of("committee", &[&number.to_le_bytes()])
    }

    /// [`LastCommittee`].
    pub fn last_committee() -> Self {
        Self::of("last committee", &[])
    }

    /// [`Share`] of somebody in a pool.
    pub fn share(pool: PoolId, staker: &Address) -> Self {
        match pool {
            PoolId::Model(id) => Self::of("model share", &[&id.0.to_le_bytes(), &staker.0]),
            PoolId::Validator(address) => Self::of("validator share", &[&address.0, &staker.0]),
        }
    }

    /// [`ReleaseCount`] of an epoch.
    pub fn release_count(epoch: Epoch) -> Self {
        Self::of("release count", &[&epoch.0.to_le_bytes()])
    }

    /// [`Release`] of an epoch by its number, from 0.
    pub fn release(epoch: Epoch, number: u32) -> Self {
        Self::of("release", &[&epoch.0.to_le_bytes(), &number.to_le_bytes()])
    }

    /// [`Proposal`].
    pub fn proposal(id: ProposalId) -> Self {
        Self::of("proposal", &[&id.0.to_le_bytes()])
    }

    /// [`ProposalCount`].
    pub fn proposal_count() -> Self {
        Self::of("proposal count", &[])
    }

    /// [`OpenProposals`].
    pub fn open_proposals() -> Self {
        Self::of("open proposals", &[])
    }

    /// [`Migration`].
    pub fn migration() -> Self {
        Self::of("migration", &[])
    }

    /// [`PastArchitecture`] by its number.
    pub fn architecture(number: u32) -> Self {
        Self::of("architecture", &[&number.to_le_bytes()])
    }

    /// [`Answers`] of an epoch.
    pub fn answers(epoch: Epoch) -> Self {
        Self::of("answers", &[&epoch.0.to_le_bytes()])
    }

    /// [`RentPrice`].
    pub fn rent_price() -> Self {
        Self::of("rent price", &[])
    }

    /// [`BeaconCommit`] of a validator for an epoch.
    pub fn beacon(epoch: Epoch, validator: &Address) -> Self {
        Self::of("beacon", &[&epoch.0.to_le_bytes(), &validator.0])
    }

    /// [`EpochRecord`].
    pub fn epoch(epoch: Epoch) -> Self {
        Self::of("epoch", &[&epoch.0.to_le_bytes()])
    }

    /// [`Target`].
    pub fn target(id: TargetId) -> Self {
        Self::of("target", &[&id.0.to_le_bytes()])
    }

    /// [`Candidates`] of a target.
    pub fn candidates(id: TargetId) -> Self {
        Self::of("candidates", &[&id.0.to_le_bytes()])
    }

    /// [`Publication`] of a target.
    pub fn publication(id: TargetId) -> Self {
        Self::of("publication", &[&id.0.to_le_bytes()])
    }

    /// [`Verdicts`] on a target.
    pub fn verdicts(id: TargetId) -> Self {
        Self::of("verdicts", &[&id.0.to_le_bytes()])
    }

    /// [`Won`] of data.
    pub fn won(data_hash: &Hash) -> Self {
        Self::of("won", &[&data_hash.0])
    }
}

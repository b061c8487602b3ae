//! Weights of models, committed and revealed, and the rent of their files.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use super::Committee;
use crate::{Address, Amount, Epoch, Hash, decimal, hex};

/// How old a model's weights are: the older weights win a tie between losses.
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
pub struct WeightsAge {
    /// Epoch in which this model first revealed these weights.
    pub epoch: Epoch,
    /// Height of the block with the commit.
    #[serde(with = "decimal")]
    pub height: u64,
    /// Position of the commit in its block.
    pub index: u32,
}

/// Weights that a model has revealed. Kept permanently, to preserve their age.
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
    pub age: WeightsAge,
    /// The file that these weights had before, if the model has revealed them in another file.
    pub replaced: Option<ReplacedFile>,
}

/// The encrypted file of revealed weights. A file is known by its hash and size together, so nobody
/// can name it with another size; the key belongs to the model that revealed it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct RevealedFile {
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: Hash,
    /// Length of the encrypted file in bytes.
    #[serde(with = "decimal")]
    pub size_bytes: u64,
    /// Key that decrypts it.
    #[serde(with = "hex::array")]
    pub key: [u8; 32],
}

/// A file whose place another one has taken.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
pub struct ReplacedFile {
    /// The epoch in which the other file was revealed.
    pub epoch: Epoch,
    /// The file that was in use until then.
    pub file: RevealedFile,
}

impl Weights {
    /// The file that is in use now.
    pub const fn file(&self) -> RevealedFile {
        let Self { ciphertext_hash, size_bytes, key, .. } = *self;
        RevealedFile { ciphertext_hash, size_bytes, key }
    }

    /// What becomes of the file in use when `file` is revealed in `epoch`. Of two reveals in one
    /// epoch, for two architectures, both come after the targets of the epoch before.
    pub(crate) fn replaced_by(&self, file: &RevealedFile, epoch: Epoch) -> Option<ReplacedFile> {
        let earlier = self.replaced.filter(|replaced| replaced.epoch == epoch);
        let changes = self.file() != *file;
        earlier.or_else(|| changes.then(|| ReplacedFile { epoch, file: self.file() }))
    }

    /// The file with which the model competes for the targets of an epoch, the running one or the
    /// one before: whatever it reveals later, its scores for them stay the same.
    pub fn file_for(&self, drawn: Epoch) -> RevealedFile {
        let replaced = self.replaced.filter(|replaced| replaced.epoch > drawn);
        replaced.map_or_else(|| self.file(), |replaced| replaced.file)
    }
}

/// A commit that is not revealed yet.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct WeightsCommit {
    /// Epoch in which it must be revealed.
    pub epoch: Epoch,
    /// Number of the architecture that it is for.
    pub architecture: u32,
    /// The commitment to the weights; see [`crate::commitment::weights`].
    pub commitment: Hash,
    /// BLAKE3 of the encrypted file.
    pub ciphertext_hash: Hash,
    /// Length of the encrypted file in bytes.
    #[serde(with = "decimal")]
    pub size_bytes: u64,
    /// Rent due for `refresh_epochs`.
    pub rent: Amount,
    /// The part that the owner paid; the rest is left over from the rent of the replaced file.
    pub paid: Amount,
    /// Height of the block with the commit.
    #[serde(with = "decimal")]
    pub height: u64,
    /// Position of the commit in its block.
    pub index: u32,
    /// Validators that hold the encrypted file.
    pub holders: Vec<Address>,
    /// Whether more than a third of the stake held the file before the epoch began, so that the
    /// commit may be revealed.
    pub available: bool,
}

impl WeightsCommit {
    /// Whether its file is held by more than a third of this committee's stake.
    pub fn is_held(&self, committee: &Committee) -> bool {
        let held = committee.stake_where(|validator| self.holders.contains(validator));
        held.exceeds_thirds(1, committee.stake())
    }
}

impl WeightsAge {
    /// The age of weights that were committed to for the first time.
    pub(crate) const fn of(commit: &WeightsCommit) -> Self {
        Self { epoch: commit.epoch, height: commit.height, index: commit.index }
    }
}

/// Prepaid rent for a model's file.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
pub struct Rent {
    /// The amount that is left.
    pub prepaid: Amount,
    /// Number of epochs that it still covers.
    pub epochs_left: u32,
    /// Length of the file in bytes.
    #[serde(with = "decimal")]
    pub size_bytes: u64,
    /// Validators that hold the file.
    pub holders: Vec<Address>,
}

/// Bytes of the files that validators are asked to keep: of each model the longest, in use or
/// committed, for each architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct FileRoom(pub u64);

/// The running epoch's price of keeping one MiB for one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RentPrice(pub Amount);

/// Validators that have answered an epoch's storage challenge.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct ChallengeAnswers(pub Vec<Address>);

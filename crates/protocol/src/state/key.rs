//! Keys of the state: each is a hash of a record's kind and id.
//! Every kind appears here exactly once, so that no two records can share a key.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{Address, ConsensusKey, Epoch, Hash, ModelId, PoolId, ProposalId, TargetId};

/// Key of a record: a hash of its kind and parts. Made by `Key::account(..)` and so on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Key(pub [u8; 32]);

impl Key {
    pub(crate) fn of(kind: &str, parts: &[&[u8]]) -> Self {
        Self(Hash::of_parts(kind, parts).0)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

impl Key {
    /// [`Network`](crate::record::Network).
    pub fn network() -> Self {
        Self::of("network", &[])
    }

    /// [`Params`](crate::record::Params).
    pub fn params() -> Self {
        Self::of("params", &[])
    }

    /// [`Clock`](crate::record::Clock).
    pub fn clock() -> Self {
        Self::of("clock", &[])
    }

    /// [`Supply`](crate::record::Supply).
    pub fn supply() -> Self {
        Self::of("supply", &[])
    }

    /// [`ModelCount`](crate::record::ModelCount).
    pub fn model_count() -> Self {
        Self::of("model count", &[])
    }

    /// [`Account`](crate::record::Account).
    pub fn account(address: &Address) -> Self {
        Self::of("account", &[&address.0])
    }

    /// [`Model`](crate::record::Model).
    pub fn model(id: ModelId) -> Self {
        Self::of("model", &[&id.0.to_le_bytes()])
    }

    /// [`Embedding`](crate::record::Embedding) of a model for an architecture.
    pub fn embedding(id: ModelId, architecture: u32) -> Self {
        Self::of("embedding", &[&id.0.to_le_bytes(), &architecture.to_le_bytes()])
    }

    /// [`Weights`](crate::record::Weights) that a model has revealed.
    pub fn weights(id: ModelId, weights_hash: &Hash) -> Self {
        Self::of("weights", &[&id.0.to_le_bytes(), &weights_hash.0])
    }

    /// [`WeightsCommit`](crate::record::WeightsCommit) of a model for an epoch and an architecture.
    pub fn commit(id: ModelId, epoch: Epoch, architecture: u32) -> Self {
        let parts = [id.0, epoch.0, architecture].map(u32::to_le_bytes);
        Self::of("commit", &[&parts[0], &parts[1], &parts[2]])
    }

    /// [`Rent`](crate::record::Rent) of a model's file for an architecture.
    pub fn rent(id: ModelId, architecture: u32) -> Self {
        Self::of("rent", &[&id.0.to_le_bytes(), &architecture.to_le_bytes()])
    }

    /// [`Validators`](crate::record::Validators).
    pub fn validators() -> Self {
        Self::of("validators", &[])
    }

    /// [`Validator`](crate::record::Validator).
    pub fn validator(address: &Address) -> Self {
        Self::of("validator", &[&address.0])
    }

    /// [`KeyHolder`](crate::record::KeyHolder) of a consensus key.
    pub fn key_holder(key: &ConsensusKey) -> Self {
        Self::of("key holder", &[&key.0])
    }

    /// [`Committee`](crate::record::Committee) by its number.
    pub fn committee(number: u32) -> Self {
        Self::of("committee", &[&number.to_le_bytes()])
    }

    /// [`LastCommittee`](crate::record::LastCommittee).
    pub fn last_committee() -> Self {
        Self::of("last committee", &[])
    }

    /// [`Share`](crate::record::Share) of a staker in a pool.
    pub fn share(pool: PoolId, staker: &Address) -> Self {
        match pool {
            PoolId::Model(id) => Self::of("model share", &[&id.0.to_le_bytes(), &staker.0]),
            PoolId::Validator(address) => Self::of("validator share", &[&address.0, &staker.0]),
        }
    }

    /// [`WithdrawalCount`](crate::record::WithdrawalCount) of an epoch.
    pub fn release_count(epoch: Epoch) -> Self {
        Self::of("release count", &[&epoch.0.to_le_bytes()])
    }

    /// [`Withdrawal`](crate::record::Withdrawal) of an epoch by its number, from 0.
    pub fn release(epoch: Epoch, number: u32) -> Self {
        Self::of("release", &[&epoch.0.to_le_bytes(), &number.to_le_bytes()])
    }

    /// [`Proposal`](crate::record::Proposal).
    pub fn proposal(id: ProposalId) -> Self {
        Self::of("proposal", &[&id.0.to_le_bytes()])
    }

    /// [`ProposalCount`](crate::record::ProposalCount).
    pub fn proposal_count() -> Self {
        Self::of("proposal count", &[])
    }

    /// [`OpenProposals`](crate::record::OpenProposals).
    pub fn open_proposals() -> Self {
        Self::of("open proposals", &[])
    }

    /// [`Migration`](crate::record::Migration).
    pub fn migration() -> Self {
        Self::of("migration", &[])
    }

    /// [`PastArchitecture`](crate::record::PastArchitecture) by its number.
    pub fn architecture(number: u32) -> Self {
        Self::of("architecture", &[&number.to_le_bytes()])
    }

    /// [`ChallengeAnswers`](crate::record::ChallengeAnswers) of an epoch.
    pub fn answers(epoch: Epoch) -> Self {
        Self::of("answers", &[&epoch.0.to_le_bytes()])
    }

    /// [`RentPrice`](crate::record::RentPrice).
    pub fn rent_price() -> Self {
        Self::of("rent price", &[])
    }

    /// [`BeaconCommit`](crate::record::BeaconCommit) of a validator for an epoch.
    pub fn beacon(epoch: Epoch, validator: &Address) -> Self {
        Self::of("beacon", &[&epoch.0.to_le_bytes(), &validator.0])
    }

    /// [`EpochRecord`](crate::record::EpochRecord).
    pub fn epoch(epoch: Epoch) -> Self {
        Self::of("epoch", &[&epoch.0.to_le_bytes()])
    }

    /// [`Target`](crate::record::Target).
    pub fn target(id: TargetId) -> Self {
        Self::of("target", &[&id.0.to_le_bytes()])
    }

    /// [`Candidates`](crate::record::Candidates) of a target.
    pub fn candidates(id: TargetId) -> Self {
        Self::of("candidates", &[&id.0.to_le_bytes()])
    }

    /// [`Publication`](crate::record::Publication) of a target.
    pub fn publication(id: TargetId) -> Self {
        Self::of("publication", &[&id.0.to_le_bytes()])
    }

    /// [`Verdicts`](crate::record::Verdicts) on a target.
    pub fn verdicts(id: TargetId) -> Self {
        Self::of("verdicts", &[&id.0.to_le_bytes()])
    }

    /// [`WinningData`](crate::record::WinningData) of data.
    pub fn won(data_hash: &Hash) -> Self {
        Self::of("won", &[&data_hash.0])
    }
}

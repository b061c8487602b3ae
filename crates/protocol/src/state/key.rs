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

    /// [`Share`](crate::record::Share) of a staker in a pool.
    pub fn share(pool: PoolId, staker: &Address) -> Self {
        match pool {
            PoolId::Model(id) => Self::of("model share", &[&id.0.to_le_bytes(), &staker.0]),
            PoolId::Validator(address) => Self::of("validator share", &[&address.0, &staker.0]),
        }
    }

    /// [`StakeChange`](crate::record::StakeChange) of a staker of a pool as an epoch begins.
    pub fn stake_change(epoch: Epoch, pool: PoolId, staker: &Address) -> Self {
        let epoch = epoch.0.to_le_bytes();
        match pool {
            PoolId::Model(id) => {
                Self::of("model stake change", &[&epoch, &id.0.to_le_bytes(), &staker.0])
            }
            PoolId::Validator(address) => {
                Self::of("validator stake change", &[&epoch, &address.0, &staker.0])
            }
        }
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&crate::hex::encode(&self.0))
    }
}

/// Kinds of records: the function that makes a key, the kind, and the bytes of each part of the id.
macro_rules! kinds {
    ($(
        $(#[$meta:meta])*
        $name:ident($($id:ident: $type:ty),*) = $kind:literal, [$($part:expr),*];
    )*) => {
        impl Key {$(
            $(#[$meta])*
            pub fn $name($($id: $type),*) -> Self {
                Self::of($kind, &[$(&$part),*])
            }
        )*}
    };
}

kinds! {
    /// [`Network`](crate::record::Network).
    network() = "network", [];
    /// [`Params`](crate::record::Params).
    params() = "params", [];
    /// [`RulesInForce`](crate::record::RulesInForce).
    rules() = "rules", [];
    /// [`Clock`](crate::record::Clock).
    clock() = "clock", [];
    /// [`Supply`](crate::record::Supply).
    supply() = "supply", [];
    /// [`ModelCount`](crate::record::ModelCount).
    model_count() = "model count", [];
    /// [`LivingCount`](crate::record::LivingCount).
    living_count() = "living count", [];
    /// [`LivingModel`](crate::record::LivingModel) by its place, from 0.
    living_model(place: u32) = "living model", [place.to_le_bytes()];
    /// [`Tasks`](crate::record::Tasks).
    tasks() = "tasks", [];
    /// [`Account`](crate::record::Account).
    account(address: &Address) = "account", [address.0];
    /// [`Model`](crate::record::Model).
    model(id: ModelId) = "model", [id.0.to_le_bytes()];
    /// [`Specialization`](crate::record::Specialization) of a model for an architecture.
    specialization(id: ModelId, architecture: u32)
        = "specialization", [id.0.to_le_bytes(), architecture.to_le_bytes()];
    /// [`Specialization`](crate::record::Specialization) that a routed model had when the targets
    /// of an epoch were drawn.
    drawn_specialization(epoch: Epoch, id: ModelId)
        = "drawn specialization", [epoch.0.to_le_bytes(), id.0.to_le_bytes()];
    /// [`Weights`](crate::record::Weights) that a model has revealed.
    weights(id: ModelId, weights_hash: &Hash) = "weights", [id.0.to_le_bytes(), weights_hash.0];
    /// [`WeightsCommit`](crate::record::WeightsCommit) of a model for an epoch and an architecture.
    commit(id: ModelId, epoch: Epoch, architecture: u32)
        = "commit", [id.0.to_le_bytes(), epoch.0.to_le_bytes(), architecture.to_le_bytes()];
    /// [`Rent`](crate::record::Rent) of a model's file for an architecture.
    rent(id: ModelId, architecture: u32) = "rent", [id.0.to_le_bytes(), architecture.to_le_bytes()];
    /// [`Validators`](crate::record::Validators).
    validators() = "validators", [];
    /// [`Validator`](crate::record::Validator).
    validator(address: &Address) = "validator", [address.0];
    /// [`KeyHolder`](crate::record::KeyHolder) of a consensus key.
    key_holder(key: &ConsensusKey) = "key holder", [key.0];
    /// [`DutyKeyHolder`](crate::record::DutyKeyHolder) of a duty key.
    duty_key_holder(key: &Address) = "duty key holder", [key.0];
    /// [`EndpointsRecord`](crate::record::EndpointsRecord) of a validator.
    endpoints(validator: &Address) = "endpoints", [validator.0];
    /// [`Committee`](crate::record::Committee) by its number.
    committee(number: u32) = "committee", [number.to_le_bytes()];
    /// [`LastCommittee`](crate::record::LastCommittee).
    last_committee() = "last committee", [];
    /// [`StakeChangeCount`](crate::record::StakeChangeCount) of an epoch.
    stake_change_count(epoch: Epoch) = "stake change count", [epoch.0.to_le_bytes()];
    /// [`QueuedStaker`](crate::record::QueuedStaker) of an epoch by its number, from 0.
    queued_staker(epoch: Epoch, number: u32)
        = "queued staker", [epoch.0.to_le_bytes(), number.to_le_bytes()];
    /// [`StakeCount`](crate::record::StakeCount) of a staker.
    stake_count(staker: &Address) = "stake count", [staker.0];
    /// [`StakedPool`](crate::record::StakedPool) of a staker by its place, from 0.
    staked_pool(staker: &Address, place: u32) = "staked pool", [staker.0, place.to_le_bytes()];
    /// [`Proposal`](crate::record::Proposal).
    proposal(id: ProposalId) = "proposal", [id.0.to_le_bytes()];
    /// [`ProposalCount`](crate::record::ProposalCount).
    proposal_count() = "proposal count", [];
    /// [`OpenProposals`](crate::record::OpenProposals).
    open_proposals() = "open proposals", [];
    /// [`Migration`](crate::record::Migration).
    migration() = "migration", [];
    /// [`PastArchitecture`](crate::record::PastArchitecture) by its number.
    architecture(number: u32) = "architecture", [number.to_le_bytes()];
    /// [`ChallengeAnswers`](crate::record::ChallengeAnswers) of an epoch.
    answers(epoch: Epoch) = "answers", [epoch.0.to_le_bytes()];
    /// [`RentPrice`](crate::record::RentPrice).
    rent_price() = "rent price", [];
    /// [`BeaconCommit`](crate::record::BeaconCommit) of a validator for an epoch.
    beacon(epoch: Epoch, validator: &Address) = "beacon", [epoch.0.to_le_bytes(), validator.0];
    /// [`EpochRecord`](crate::record::EpochRecord).
    epoch(epoch: Epoch) = "epoch", [epoch.0.to_le_bytes()];
    /// [`Target`](crate::record::Target).
    target(id: TargetId) = "target", [id.0.to_le_bytes()];
    /// [`Routes`](crate::record::Routes) of a model in an epoch.
    routes(epoch: Epoch, id: ModelId) = "routes", [epoch.0.to_le_bytes(), id.0.to_le_bytes()];
    /// [`FileRoom`](crate::record::FileRoom).
    file_room() = "file room", [];
    /// [`Candidates`](crate::record::Candidates) of a target.
    candidates(id: TargetId) = "candidates", [id.0.to_le_bytes()];
    /// [`Publication`](crate::record::Publication) of a target.
    publication(id: TargetId) = "publication", [id.0.to_le_bytes()];
    /// [`VerdictCommit`](crate::record::VerdictCommit) of a validator on a target.
    verdict(id: TargetId, validator: &Address) = "verdict", [id.0.to_le_bytes(), validator.0];
    /// [`Piece`](crate::record::Piece) of data that won, by its hash.
    piece(hash: u64) = "piece", [hash.to_le_bytes()];
    /// [`Corpus`](crate::record::Corpus) of an account.
    corpus(account: &Address) = "corpus", [account.0];
}

//! Events: what a block did, for people and programs that watch. They come in the order in which
//! the rules act; the `event` tags and field names are stable.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::record::{ReturnReason, Validity};
use crate::{
    Address, Amount, ConsensusKey, Epoch, Hash, ModelId, Phase, PoolId, ProposalId, TargetId,
    decimal,
};

/// Why a commit lapsed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum LapseReason {
    /// Its file was held by at most a third of the stake; what was paid is returned.
    NotHeld,
    /// It was not revealed in time; what was paid is burned.
    NotRevealed,
    /// The network switched to another architecture; what was paid is returned.
    OldArchitecture,
}

/// An effect of a block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
#[expect(missing_docs, reason = "fields are named after what they are; amounts are in base units")]
pub enum Event {
    /// An epoch began.
    EpochBegan { epoch: Epoch },
    /// A phase of an epoch began.
    PhaseBegan { epoch: Epoch, phase: Phase },
    /// Money was sent.
    Transferred { from: Address, to: Address, amount: Amount },
    /// A model was registered.
    ModelRegistered { model: ModelId, owner: Address, name: String, stake: Amount },
    /// A model was committed to weights.
    WeightsCommitted {
        model: ModelId,
        epoch: Epoch,
        ciphertext_hash: Hash,
        #[serde(with = "decimal")]
        size_bytes: u64,
        /// The rent due until the next refresh.
        rent: Amount,
        /// The part of the rent that the owner paid.
        paid: Amount,
        /// What the owner paid for new room besides, which is burned.
        premium: Amount,
    },
    /// A validator holds a committed file.
    WeightsHeld { model: ModelId, epoch: Epoch, validator: Address },
    /// A committed file is held by enough stake, so it may be revealed.
    WeightsAvailable { model: ModelId, epoch: Epoch },
    /// A commit lapsed.
    CommitLapsed {
        model: ModelId,
        epoch: Epoch,
        reason: LapseReason,
        returned: Amount,
        burned: Amount,
    },
    /// A model's weights are now public.
    WeightsRevealed {
        model: ModelId,
        epoch: Epoch,
        weights_hash: Hash,
        /// Number of the architecture that they are for.
        architecture: u32,
    },
    /// A validator answered its storage challenge.
    ChallengeAnswered { epoch: Epoch, validator: Address, model: ModelId },
    /// A validator voted on the price of keeping files.
    RentPriceVoted { validator: Address, price: Amount },
    /// The price of keeping files has changed, per MiB and epoch.
    RentPriceChanged { price: Amount },
    /// A model missed its refresh.
    ModelInactive { model: ModelId, epoch: Epoch },
    /// A model was retired; its stake is released later.
    ModelRetired { model: ModelId, release: Epoch },
    /// A retired model's stake and leftover rent were returned to its owner.
    StakeReleased { model: ModelId, owner: Address, stake: Amount, rent: Amount },
    /// A model was slashed for a missed reveal or a broken file.
    ModelSlashed { model: ModelId, amount: Amount },
    /// Stake was added to a model or validator; it becomes active as `joins` begins.
    StakeAdded { pool: PoolId, staker: Address, amount: Amount, joins: Epoch },
    /// Stake was withdrawn from a model or validator; it is paid out as `release` begins.
    StakeWithdrawn { pool: PoolId, staker: Address, amount: Amount, release: Epoch },
    /// A withdrawal was paid out.
    WithdrawalPaid { pool: PoolId, staker: Address, amount: Amount },
    /// A commission will change as `epoch` begins.
    CommissionAnnounced { pool: PoolId, commission_bps: u16, epoch: Epoch },
    /// A commission has changed.
    CommissionChanged { pool: PoolId, commission_bps: u16 },
    /// A change was proposed.
    ProposalMade { proposal: ProposalId, proposer: Address, ends: Epoch },
    /// A validator voted on a proposal.
    VoteCast { proposal: ProposalId, validator: Address, approve: bool },
    /// A proposal passed; its deposit was returned.
    ProposalPassed { proposal: ProposalId, deposit: Amount },
    /// A proposal did not pass; its deposit was burned.
    ProposalLapsed { proposal: ProposalId, deposit: Amount },
    /// A parameter has a new value; amounts are in base units.
    ParameterChanged {
        name: String,
        #[serde(with = "decimal")]
        value: u64,
    },
    /// Models may now commit for another architecture, until the network switches to it.
    MigrationBegan { architecture: u32, name: String, ends: Epoch },
    /// Too few models were ready for the next architecture.
    MigrationExtended { architecture: u32, ends: Epoch },
    /// The network has switched all models to another architecture.
    ArchitectureSwitched { architecture: u32, name: String },
    /// A validator was registered.
    ValidatorRegistered { validator: Address, consensus_key: ConsensusKey, stake: Amount },
    /// A validator will change its consensus key.
    KeyAnnounced { validator: Address, consensus_key: ConsensusKey },
    /// A validator has changed its consensus key.
    KeyRotated { validator: Address, consensus_key: ConsensusKey },
    /// A validator has named the key that may send its duties; its own address if none may.
    DutyKeySet { validator: Address, duty_key: Address },
    /// A validator's node is reached elsewhere from now on.
    EndpointsSet { validator: Address, p2p: Option<String>, url: Option<String> },
    /// A validator is giving up its seat.
    ValidatorLeaving { validator: Address },
    /// A validator wants a seat again.
    ValidatorReturned { validator: Address },
    /// A validator was absent too long.
    ValidatorJailed { validator: Address, until: Epoch },
    /// A validator signed conflicting votes; what it lost was burned.
    ValidatorExpelled { validator: Address, amount: Amount },
    /// A validator has a seat in the committee of an epoch.
    SeatTaken { validator: Address, epoch: Epoch },
    /// A validator lost its seat.
    SeatLost { validator: Address, epoch: Epoch },
    /// A validator is no longer registered: it has left, was expelled or replaced, or has too
    /// little stake and no seat.
    ValidatorUnregistered { validator: Address },
    /// A validator was slashed for a beacon that it did not reveal or for a wrong verdict.
    ValidatorSlashed { validator: Address, amount: Amount },
    /// A validator committed to its part of the beacon.
    BeaconCommitted { epoch: Epoch, validator: Address },
    /// A validator revealed its part of the beacon.
    BeaconRevealed { epoch: Epoch, validator: Address },
    /// The beacon of an epoch was drawn.
    BeaconDrawn { epoch: Epoch, beacon: Hash },
    /// An epoch's emission left the reserve.
    EmissionTaken { epoch: Epoch, targets: Amount, validators: Amount },
    /// A target was drawn, and models routed to it, nearest first.
    TargetDrawn { target: TargetId, epoch: Epoch, reward: Amount, models: Vec<ModelId> },
    /// An account fixed the documents that it may submit for targets of `counts` and later.
    CorpusCommitted { account: Address, root: Hash, leaves: u32, counts: Epoch },
    /// A submission is among the closest to its target.
    SubmissionAccepted {
        target: TargetId,
        rank: u32,
        submitter: Address,
        model: ModelId,
        #[serde(with = "decimal")]
        loss_q32: i64,
        #[serde(with = "decimal")]
        gain_q32: i64,
        #[serde(with = "decimal")]
        distance: u64,
        bond: Amount,
    },
    /// A closer submission displaced this one; its bond was returned.
    SubmissionDisplaced { target: TargetId, submitter: Address, bond: Amount },
    /// A closer candidate published; this one's bond was returned.
    SubmissionReleased { target: TargetId, rank: u32, submitter: Address, bond: Amount },
    /// A candidate did not publish in its part of the phase; its bond was burned.
    SubmissionForfeited { target: TargetId, rank: u32, submitter: Address, bond: Amount },
    /// A candidate published its data.
    DataPublished {
        target: TargetId,
        rank: u32,
        submitter: Address,
        data_hash: Hash,
        size_bytes: u32,
    },
    /// A validator committed to its verdict on a published claim.
    VerdictCommitted { target: TargetId, validator: Address },
    /// A validator revealed its verdict on a published claim.
    VerdictRevealed { target: TargetId, validator: Address, validity: Validity, trace: Hash },
    /// More than two thirds of the stake has the same verdict.
    TargetDecided {
        target: TargetId,
        validity: Validity,
        trace: Hash,
        /// Validators with this verdict.
        agreed: u32,
        /// Validators with another verdict, which are slashed.
        disagreed: u32,
        /// Validators that committed to a verdict and did not reveal it.
        silent: u32,
    },
    /// A model's published file is malformed or not what was revealed; the model is now inactive.
    ModelBroken { model: ModelId, target: TargetId },
    /// A model has lost all its stake and is retired; what was left of its rent was returned.
    ModelClosed { model: ModelId, rent: Amount },
    /// A target was won and paid.
    TargetSettled {
        target: TargetId,
        epoch: Epoch,
        model: ModelId,
        submitter: Address,
        #[serde(with = "decimal")]
        loss_q32: i64,
        #[serde(with = "decimal")]
        gain_q32: i64,
        #[serde(with = "decimal")]
        distance: u64,
        /// Paid to the submitter: half of the reward.
        paid_submitter: Amount,
        /// Paid to the model: the other half, commission included.
        paid_model: Amount,
        /// The part of the model's half that its owner took as commission.
        commission: Amount,
        /// The submitter's bond, returned.
        bond: Amount,
    },
    /// A target was not won; its reward went back to the reserve.
    TargetReturned {
        target: TargetId,
        epoch: Epoch,
        reason: ReturnReason,
        reward: Amount,
        bond_returned: Amount,
        bond_burned: Amount,
    },
    /// A validator was paid for an epoch.
    ValidatorRewarded { epoch: Epoch, validator: Address, amount: Amount },
    /// A validator was paid for the files that it holds.
    RentPaid { epoch: Epoch, validator: Address, amount: Amount },
    /// Added stake became active.
    StakeJoined { pool: PoolId, staker: Address, amount: Amount },
    /// Added stake went back to the staker: the model was retired, or it would buy too few shares.
    StakeReturned { pool: PoolId, staker: Address, amount: Amount },
    /// Blocks will follow other rules after the one with which `epoch` begins.
    RulesScheduled { rules: u16, epoch: Epoch },
    /// The rules that were scheduled will not come into force.
    RulesCancelled { rules: u16 },
    /// The blocks after this one follow other rules.
    RulesChanged { rules: u16 },
}

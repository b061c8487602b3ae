//! The records of the state: what each key holds, one file per subject. Records that money or votes
//! depend on are separate, so that no record is rewritten by every transaction.

mod params;
mod chain;
mod pool;
mod model;
mod validator;
mod weights;
mod epoch;
mod target;
mod verdict;
mod proposal;

pub use chain::{Account, Clock, Network, Supply};
pub use epoch::{BeaconCommit, EpochRecord};
pub use model::{Embedding, Model, ModelCount, ModelStatus, NextWeights};
pub use params::{Bounds, Params, SEATS_MAX};
pub use pool::{NextCommission, Pool, SHARES_MAX, Share, Withdrawal, WithdrawalCount};
pub use proposal::{
    CastVote, Change, Migration, OPEN_MAX, OpenProposals, PastArchitecture, Proposal,
    ProposalCount, ProposalStatus,
};
pub use target::{
    Candidate, Candidates, Publication, ReturnReason, Routed, Target, TargetStatus, WinningData,
};
pub use validator::{
    Committee, KeyHolder, LastCommittee, Seat, VALIDATORS_MAX, Validator, ValidatorStatus,
    Validators,
};
pub use verdict::{Validity, Verdict, VerdictCommit, Verdicts};
pub use weights::{ChallengeAnswers, Rent, RentPrice, Weights, WeightsAge, WeightsCommit};

use crate::state::Record;

macro_rules! records {
    (@permanent) => { false };
    (@permanent permanent) => { true };
    ($($name:ident = $tag:literal $($permanent:ident)?),* $(,)?) => {
        $(impl Record for $name {
            const TAG: u8 = $tag;
            const PERMANENT: bool = records!(@permanent $($permanent)?);
        })*

        /// Whether a value holds a record that [stays](Record::PERMANENT).
        pub(crate) fn is_permanent(value: &[u8]) -> bool {
            match value.first().copied() {
                $(Some($name::TAG) => $name::PERMANENT,)*
                _ => false,
            }
        }
    };
}

// Each type has its own tag. `permanent` ones are paid for by whoever creates them.
records! {
    Network = 1, Params = 2, Clock = 3, Supply = 4, ModelCount = 5, Account = 6 permanent,
    Model = 7 permanent, Embedding = 8, Weights = 9 permanent, WeightsCommit = 10, Rent = 11,
    Validators = 12, Validator = 13 permanent,
    BeaconCommit = 14, EpochRecord = 15, Target = 16, Candidates = 17, Publication = 18,
    Verdicts = 19, WinningData = 20, Share = 21 permanent, WithdrawalCount = 22, Withdrawal = 23,
    KeyHolder = 24 permanent, Committee = 25, LastCommittee = 26, ChallengeAnswers = 27,
    RentPrice = 28, Proposal = 29 permanent, ProposalCount = 30, OpenProposals = 31, Migration = 32,
    PastArchitecture = 33,
}

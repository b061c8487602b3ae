//! The records of the state: what each key holds, one file per subject. Records that money or votes
//! depend on are separate, so that no record is rewritten by every transaction.

mod params;
mod chain;
mod pool;
mod model;
mod validator;
mod weights;
mod epoch;
mod corpus;
mod target;
mod verdict;
mod proposal;
mod task;

pub use chain::{Account, Clock, Network, NextRules, RulesInForce, Supply};
pub use corpus::{Corpus, CorpusRoot};
pub use epoch::{BeaconCommit, EpochRecord};
pub use model::{
    LivingCount, LivingModel, Model, ModelCount, ModelStatus, NextWeights, Specialization,
};
pub use params::{Bounds, CANDIDATES_MAX, DATA_BYTES_MAX, Params, ROUTED_MAX, SEATS_MAX};
pub use pool::{
    NextCommission, Pool, QueuedStaker, SHARES_MAX, SHARES_MIN, Share, StakeChange,
    StakeChangeCount, StakeCount, StakedPool,
};
pub use proposal::{
    CastVote, Change, Migration, OPEN_MAX, OpenProposal, OpenProposals, PastArchitecture, Proposal,
    ProposalCount, ProposalStatus,
};
pub(crate) use target::PIECE_RECORD_BYTES;
pub use target::{
    Candidate, Candidates, Piece, Publication, ReturnReason, Routed, Routes, Target, TargetStatus,
};
pub use task::{
    Audits, ModelTask, Rank, RouteTask, SettleTask, StakeTask, TARGETS_PER_PASS_MAX, Task, Tasks,
};
pub use validator::{
    Committee, DutyKeyHolder, Endpoints, EndpointsRecord, KeyHolder, LastCommittee, Seat,
    VALIDATORS_MAX, Validator, ValidatorStatus, Validators,
};
pub use verdict::{Broken, Validity, Verdict, VerdictCommit};
pub use weights::{
    ChallengeAnswers, FileRoom, Rent, RentPrice, ReplacedFile, RevealedFile, Weights, WeightsAge,
    WeightsCommit,
};

use soma_architecture::DIM_MAX;

use crate::Address;
use crate::state::{FIXED_BYTES_MAX, Record, VALUE_BYTES_MAX};

macro_rules! records {
    (@permanent) => { false };
    (@permanent permanent) => { true };
    ($($name:ident = $tag:literal $($permanent:ident)? $([$lists:expr])?),* $(,)?) => {
        $(
            impl Record for $name {
                const TAG: u8 = $tag;
                const PERMANENT: bool = records!(@permanent $($permanent)?);
                const BYTES_MAX: usize = FIXED_BYTES_MAX $(+ $lists)?;
            }

            const _: () = assert!($name::BYTES_MAX <= VALUE_BYTES_MAX);
        )*

        /// The most bytes of a value with this tag, if there are such values; see
        /// [`Record::BYTES_MAX`].
        pub fn bytes_max(tag: u8) -> Option<usize> {
            match tag {
                $($name::TAG => Some($name::BYTES_MAX),)*
                _ => None,
            }
        }

        /// Whether a value holds a record as these rules write it. One of a state that other rules
        /// wrote must not be read.
        pub fn is_readable(value: &[u8]) -> bool {
            match value.first().copied() {
                $(Some($name::TAG) => $name::from_bytes(value).is_some(),)*
                _ => false,
            }
        }

        /// Whether a value holds a record that [stays](Record::PERMANENT).
        pub(crate) fn is_permanent(value: &[u8]) -> bool {
            match value.first().copied() {
                $(Some($name::TAG) => $name::PERMANENT,)*
                _ => false,
            }
        }
    };
}

/// The most bytes of a list: a value of fixed size is at most as long in borsh as in memory.
const fn list<T>(length_max: usize) -> usize {
    length_max.saturating_mul(size_of::<T>())
}

/// The most holders of a file, seats, answers and votes: one for each registered validator.
const ADDRESSES: usize = list::<Address>(VALIDATORS_MAX);

/// The nearest models of a pass over all models, 24 bytes each; no task has longer lists.
const NEAREST: usize = list::<[u8; 24]>((TARGETS_PER_PASS_MAX * ROUTED_MAX) as usize);

// Each type has its own tag. `permanent` ones are paid for by whoever creates them. In brackets is
// the most bytes of the lists or data in a record.
records! {
    Network = 1, Params = 2, Clock = 3, Supply = 4, ModelCount = 5, Account = 6 permanent,
    Model = 7 permanent, Specialization = 8 [list::<i16>(DIM_MAX as usize)],
    Weights = 9 permanent, WeightsCommit = 10 [ADDRESSES], Rent = 11 [ADDRESSES],
    Validators = 12 [ADDRESSES], Validator = 13 permanent, BeaconCommit = 14,
    EpochRecord = 15 [ADDRESSES],
    Target = 16 [list::<Routed>(ROUTED_MAX as usize)],
    Candidates = 17 [list::<Candidate>(CANDIDATES_MAX as usize)],
    Publication = 18 [DATA_BYTES_MAX as usize], VerdictCommit = 19, Piece = 20,
    Share = 21 permanent, StakeChangeCount = 22, StakeChange = 23, KeyHolder = 24 permanent,
    Committee = 25 [list::<Seat>(VALIDATORS_MAX)], LastCommittee = 26,
    ChallengeAnswers = 27 [ADDRESSES], RentPrice = 28,
    Proposal = 29 permanent [list::<CastVote>(VALIDATORS_MAX)], ProposalCount = 30,
    OpenProposals = 31 [list::<OpenProposal>(OPEN_MAX)], Migration = 32, PastArchitecture = 33,
    QueuedStaker = 34, LivingCount = 35, LivingModel = 36, Tasks = 37 [NEAREST],
    Corpus = 38 permanent, StakeCount = 39 permanent, StakedPool = 40 permanent,
    Routes = 41, FileRoom = 42, DutyKeyHolder = 43 permanent, EndpointsRecord = 44,
    RulesInForce = 45,
}

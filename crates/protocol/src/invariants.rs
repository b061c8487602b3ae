//! Invariants of every state between two blocks. Tests and simulations check them after every
//! block; no rule uses them.

use crate::money::rent;
use crate::proof::corpus::LEAVES_MAX;
use crate::record::{
    Account, BeaconCommit, Candidates, ChallengeAnswers, Clock, Committee, Corpus, CorpusRoot,
    DutyKeyHolder, EndpointsRecord, EpochRecord, FileRoom, KeyHolder, LastCommittee, LivingCount,
    LivingModel, Migration, Model, ModelCount, ModelStatus, Network, OpenProposals, Params,
    PastArchitecture, Piece, Pool, Proposal, ProposalCount, ProposalStatus, Publication,
    QueuedStaker, Rent, RentPrice, Routed, Routes, RulesInForce, SHARES_MAX, SHARES_MIN, Share,
    Specialization, StakeChange, StakeChangeCount, StakeCount, StakedPool, Supply, Target,
    TargetStatus, Task, Tasks, Validator, Validators, VerdictCommit, Weights, WeightsCommit,
};
use crate::state::{Key, MemoryState, Record, StateRead};
use crate::{Amount, Epoch, ModelId, SUPPLY, TargetId, read};

/// A violated invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Money appeared or vanished.
    #[error("{found} SOMA are held, in reserve or burned; there are {expected}")]
    Supply {
        /// The money that was counted.
        found: Amount,
        /// The money that there should be.
        expected: Amount,
    },
    /// The room of all files is not what they have together.
    #[error("files are said to have {found} bytes; they have {expected}")]
    FileRoom {
        /// What is said.
        found: u64,
        /// What they have.
        expected: u64,
    },
    /// A value is malformed.
    #[error("the value at {key:?} is malformed (tag {tag:?})")]
    Undecodable {
        /// Where.
        key: Key,
        /// Its first byte.
        tag: Option<u8>,
    },
    /// A value is longer than a record of its type can become.
    #[error("the value at {key:?} has {bytes} bytes; its type has at most {max}")]
    TooLong {
        /// Where.
        key: Key,
        /// Its length in bytes.
        bytes: usize,
        /// The bound of its type.
        max: usize,
    },
    /// A record has the wrong key.
    #[error("the record at {key:?} has the wrong key")]
    Misplaced {
        /// Where.
        key: Key,
    },
    /// A model has an unreachable status.
    #[error("model {model} has an invalid status")]
    Model {
        /// The model.
        model: ModelId,
    },
    /// A pool has money but no shares, or too many shares.
    #[error("the pool at {key:?} is invalid")]
    Pool {
        /// Where.
        key: Key,
    },
    /// A target has an unreachable status.
    #[error("target {target} has an invalid status")]
    Target {
        /// The target.
        target: TargetId,
    },
}

/// Who holds the money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Balances of accounts.
    pub balances: Amount,
    /// Stakes of models.
    pub model_stakes: Amount,
    /// Stakes of validators.
    pub validator_stakes: Amount,
    /// Bonds of candidates.
    pub bonds: Amount,
    /// Rent, prepaid or paid with a commit.
    pub rent: Amount,
    /// Rewards of targets that are not settled.
    pub rewards: Amount,
    /// Deposits of open proposals.
    pub deposits: Amount,
    /// Rewards that validators may yet earn.
    pub validator_pots: Amount,
    /// Money not minted.
    pub reserve: Amount,
    /// Money burned.
    pub burned: Amount,
}

impl Holdings {
    /// The sum of all holdings.
    pub fn total(&self) -> Amount {
        [
            self.balances,
            self.model_stakes,
            self.validator_stakes,
            self.bonds,
            self.rent,
            self.rewards,
            self.deposits,
            self.validator_pots,
            self.reserve,
            self.burned,
        ]
        .into_iter()
        .sum()
    }
}

/// Checks a whole state. Returns the holdings.
///
/// # Errors
/// The first [`Violation`].
pub fn check(state: &MemoryState) -> Result<Holdings, Violation> {
    let mut holdings = Holdings::default();
    for (key, value) in state.iter() {
        count(state, *key, value, &mut holdings)?;
    }
    let (found, expected) = (read::file_room(state), files_bytes(state));
    if found != expected {
        return Err(Violation::FileRoom { found, expected });
    }
    let found = holdings.total();
    if found == SUPPLY { Ok(holdings) } else { Err(Violation::Supply { found, expected: SUPPLY }) }
}

/// The room that the files of all living models take, for each architecture that they may be for.
fn files_bytes(state: &MemoryState) -> u64 {
    let open: Vec<u32> = read::open_architectures(state).collect();
    let room = |model: &Model| -> u64 {
        let old = Some(model.architecture).filter(|old| !open.contains(old));
        old.iter().chain(&open).map(|&number| rent::room_of(state, model.id, number)).sum()
    };
    read::living_models(state).map(|model| room(&model)).sum()
}

fn decode<R: Record>(key: Key, value: &[u8]) -> Result<R, Violation> {
    if value.len() > R::BYTES_MAX {
        return Err(Violation::TooLong { key, bytes: value.len(), max: R::BYTES_MAX });
    }
    R::from_bytes(value).ok_or(Violation::Undecodable { key, tag: value.first().copied() })
}

/// Reads one value, adds its money to `sum`, and checks what can be checked on its own.
fn count(state: &MemoryState, key: Key, value: &[u8], sum: &mut Holdings) -> Result<(), Violation> {
    let belongs = match value.first().copied().unwrap_or(0) {
        Account::TAG => {
            sum.balances = sum.balances.plus(decode::<Account>(key, value)?.balance);
            true
        }
        Supply::TAG => {
            let Supply { reserve, burned } = decode(key, value)?;
            (sum.reserve, sum.burned) = (reserve, burned);
            key == Key::supply()
        }
        Model::TAG => {
            let model: Model = decode(key, value)?;
            sum.model_stakes = sum.model_stakes.plus(held(&model.pool, key)?);
            check_model(state, &model)?;
            key == Key::model(model.id)
        }
        Validator::TAG => {
            let validator: Validator = decode(key, value)?;
            sum.validator_stakes = sum.validator_stakes.plus(held(&validator.pool, key)?);
            key == Key::validator(&validator.address)
        }
        WeightsCommit::TAG => {
            let commit: WeightsCommit = decode(key, value)?;
            sum.rent = sum.rent.plus(commit.paid);
            let epoch = read::clock(state).epoch;
            let tasks = read::tasks(state).0;
            let ended = tasks.iter().any(|task| matches!(task, Task::Models(_)))
                && commit.epoch.next() == epoch;
            let legal = ended || commit.epoch == epoch || commit.epoch == epoch.next();
            commit.paid <= commit.rent && legal
        }
        Rent::TAG => {
            let rent: Rent = decode(key, value)?;
            sum.rent = sum.rent.plus(rent.prepaid);
            rent.epochs_left > 0 || rent.prepaid == Amount::ZERO
        }
        Candidates::TAG => {
            let Candidates(candidates) = decode(key, value)?;
            sum.bonds = sum.bonds.plus(candidates.iter().map(|candidate| candidate.bond).sum());
            candidates.is_sorted_by_key(|candidate| candidate.distance)
        }
        Target::TAG => {
            let target: Target = decode(key, value)?;
            sum.rewards = sum.rewards.plus(check_target(state, &target)?);
            key == Key::target(target.id)
        }
        EpochRecord::TAG => {
            let record: EpochRecord = decode(key, value)?;
            sum.validator_pots = sum.validator_pots.plus(record.validator_pot);
            sum.rewards = sum.rewards.plus(undrawn(state, &record));
            key == Key::epoch(record.epoch)
        }
        VerdictCommit::TAG => {
            let commit: VerdictCommit = decode(key, value)?;
            check_verdict(state, &commit)?;
            key == Key::verdict(commit.target, &commit.validator)
        }
        Proposal::TAG => {
            let proposal: Proposal = decode(key, value)?;
            sum.deposits = sum.deposits.plus(proposal.deposit);
            key == Key::proposal(proposal.id)
                && (proposal.status == ProposalStatus::Open || proposal.deposit == Amount::ZERO)
        }
        tag => moneyless(state, tag, key, value)?,
    };
    if belongs { Ok(()) } else { Err(Violation::Misplaced { key }) }
}

/// What a pool holds. Its money must always have shares, and the shares must be within their bound.
fn held(pool: &Pool, key: Key) -> Result<Amount, Violation> {
    let owned = |amount: Amount, shares: u128| amount == Amount::ZERO || shares > 0;
    let legal = owned(pool.stake, pool.shares)
        && owned(pool.leaving, pool.leaving_shares)
        && owned(pool.joining, pool.joining_shares)
        && (pool.shares == 0 || pool.shares >= SHARES_MIN)
        && pool.shares <= SHARES_MAX
        && pool.leaving_shares <= SHARES_MAX
        && pool.joining_shares <= SHARES_MAX;
    if legal { Ok(pool.total()) } else { Err(Violation::Pool { key }) }
}

/// The rewards of targets whose drawing still waits.
pub(crate) fn undrawn(state: &dyn StateRead, record: &EpochRecord) -> Amount {
    let clock = read::clock(state);
    if record.epoch != clock.epoch {
        return Amount::ZERO;
    }
    let end = record.first_target.0.saturating_add(record.targets);
    record.target_reward.times(end.saturating_sub(clock.next_target.0).into())
}

/// Whether a record without money has the right key, where its content determines the key.
fn moneyless(state: &MemoryState, tag: u8, key: Key, value: &[u8]) -> Result<bool, Violation> {
    Ok(match tag {
        Network::TAG => decode::<Network>(key, value).map(|_| key == Key::network())?,
        Params::TAG => decode::<Params>(key, value)?.check().is_ok() && key == Key::params(),
        Clock::TAG => decode::<Clock>(key, value).map(|_| key == Key::clock())?,
        ModelCount::TAG => decode::<ModelCount>(key, value).map(|_| key == Key::model_count())?,
        Validators::TAG => decode::<Validators>(key, value).map(|_| key == Key::validators())?,
        Specialization::TAG => decode::<Specialization>(key, value).map(|_| true)?,
        Weights::TAG => decode::<Weights>(key, value).map(|_| true)?,
        BeaconCommit::TAG => decode::<BeaconCommit>(key, value).map(|_| true)?,
        Publication::TAG => decode::<Publication>(key, value).map(|_| true)?,
        Piece::TAG => is_piece_of_winner(state, decode(key, value)?),
        Corpus::TAG => {
            let Corpus { latest, before } = decode(key, value)?;
            let ordered = before.is_none_or(|before| before.epoch < latest.epoch);
            let sized = |committed: &CorpusRoot| (1..=LEAVES_MAX).contains(&committed.leaves);
            let legal = sized(&latest) && before.as_ref().is_none_or(sized);
            ordered && legal && latest.epoch <= read::clock(state).epoch
        }
        Share::TAG => decode::<Share>(key, value)
            .map(|share| !share.is_empty() && (share.shares == 0 || share.shares >= SHARES_MIN))?,
        StakeCount::TAG => decode::<StakeCount>(key, value).map(|count| count.0 > 0)?,
        StakedPool::TAG => decode::<StakedPool>(key, value).map(|_| true)?,
        StakeChangeCount::TAG => decode::<StakeChangeCount>(key, value).map(|count| count.0 > 0)?,
        StakeChange::TAG => {
            decode::<StakeChange>(key, value).map(|change| change != StakeChange::default())?
        }
        QueuedStaker::TAG => decode::<QueuedStaker>(key, value).map(|_| true)?,
        LivingCount::TAG => {
            let LivingCount(count) = decode(key, value)?;
            let listed = (0..count).all(|place| read::living_model(state, place).is_some());
            listed && key == Key::living_count()
        }
        LivingModel::TAG => {
            let LivingModel(id) = decode(key, value)?;
            let model = read::model(state, id);
            model.is_some_and(|model| key == Key::living_model(model.place) && is_living(&model))
        }
        Tasks::TAG => {
            decode::<Tasks>(key, value).map(|tasks| !tasks.0.is_empty() && key == Key::tasks())?
        }
        ProposalCount::TAG => {
            decode::<ProposalCount>(key, value).map(|_| key == Key::proposal_count())?
        }
        OpenProposals::TAG => {
            decode::<OpenProposals>(key, value).map(|_| key == Key::open_proposals())?
        }
        Migration::TAG => decode::<Migration>(key, value).map(|_| key == Key::migration())?,
        PastArchitecture::TAG => decode::<PastArchitecture>(key, value).map(|_| true)?,
        ChallengeAnswers::TAG => decode::<ChallengeAnswers>(key, value).map(|_| true)?,
        FileRoom::TAG => decode::<FileRoom>(key, value).map(|_| key == Key::file_room())?,
        Routes::TAG => decode::<Routes>(key, value)
            .map(|routes| routes.left > 0 && routes.left <= routes.targets)?,
        RulesInForce::TAG => decode::<RulesInForce>(key, value).map(|_| key == Key::rules())?,
        RentPrice::TAG => decode::<RentPrice>(key, value).map(|_| key == Key::rent_price())?,
        KeyHolder::TAG => decode::<KeyHolder>(key, value).map(|_| true)?,
        DutyKeyHolder::TAG => is_duty_key_of(state, &key, &decode(key, value)?),
        EndpointsRecord::TAG => decode::<EndpointsRecord>(key, value)
            .map(|record| record.endpoints.are_well_formed() && is_endpoint(state, &key))?,
        Committee::TAG => decode::<Committee>(key, value)
            .map(|committee| (committee.number, committee.seats))
            .map(|(number, seats)| !seats.is_empty() && key == Key::committee(number))?,
        LastCommittee::TAG => {
            decode::<LastCommittee>(key, value).map(|_| key == Key::last_committee())?
        }
        tag => {
            return Err(Violation::Undecodable { key, tag: Some(tag) });
        }
    })
}

/// Whether the target has settled that a piece of data has won in its epoch.
fn is_piece_of_winner(state: &MemoryState, piece: Piece) -> bool {
    let target = read::target(state, piece.winner);
    target.is_some_and(|target| {
        target.epoch == piece.epoch && matches!(target.status, TargetStatus::Settled { .. })
    })
}

/// Whether the validator has named the key that is recorded as its duty key.
fn is_duty_key_of(state: &MemoryState, key: &Key, holder: &DutyKeyHolder) -> bool {
    let validator = read::validator(state, &holder.0);
    let named = validator.and_then(|validator| validator.duty_key);
    named.is_some_and(|named| *key == Key::duty_key_holder(&named))
}

/// Whether it is the key of the endpoints of a registered validator.
fn is_endpoint(state: &MemoryState, key: &Key) -> bool {
    read::validators(state).iter().any(|validator| *key == Key::endpoints(&validator.address))
}

fn is_living(model: &Model) -> bool {
    model.status != ModelStatus::Retired
}

/// Whether a model is at its place in the list of living models exactly if it is not retired.
fn has_place(state: &MemoryState, model: &Model) -> bool {
    let listed = model.place < read::living_count(state)
        && read::living_model(state, model.place) == Some(model.id);
    listed == is_living(model)
}

/// A model must have weights, and all that a target needs of them, exactly if it was ever active.
fn check_model(state: &MemoryState, model: &Model) -> Result<(), Violation> {
    let specialization = read::specialization(state, model.id);
    let dim = read::network(state).architecture.dim;
    let is_complete =
        specialization.is_some_and(|components| u32::try_from(components.len()) == Ok(dim));
    let has_weights =
        model.weights.is_some_and(|hash| read::weights(state, model.id, &hash).is_some());
    // What the end of an epoch does to a model waits until the pass over all models visits it.
    let visited = !read::tasks(state).will_visit(model);
    let moved = model.architecture == read::architecture_number(state);
    let legal = match model.status {
        ModelStatus::Active | ModelStatus::Inactive if !moved => !visited,
        ModelStatus::Registered => model.weights.is_none() && model.revealed == Epoch(0),
        // A model that did not migrate has no weights for the architecture in force.
        ModelStatus::Inactive if model.weights.is_none() => true,
        ModelStatus::Active => is_complete && has_weights && read::rent(state, model.id).is_some(),
        // Nobody keeps the file of an inactive model.
        ModelStatus::Inactive => {
            is_complete && has_weights && !(visited && keeps_file_for_nothing(state, model))
        }
        ModelStatus::Retiring { release } => !visited || release > read::clock(state).epoch,
        ModelStatus::Retired => read::rent(state, model.id).is_none(),
    };
    if legal && has_place(state, model) {
        Ok(())
    } else {
        Err(Violation::Model { model: model.id })
    }
}

/// Whether an inactive model has rent for a file, though no commit waits that has counted on it.
fn keeps_file_for_nothing(state: &MemoryState, model: &Model) -> bool {
    let now = read::clock(state).epoch;
    read::rent(state, model.id).is_some() && read::commit(state, model.id, now).is_none()
}

/// A verdict is on a published claim and is gone once the target is settled. It is found through
/// the committee that audits the target.
fn check_verdict(state: &MemoryState, commit: &VerdictCommit) -> Result<(), Violation> {
    let target = read::target(state, commit.target);
    let target = target.filter(|target| matches!(target.status, TargetStatus::Published { .. }));
    let is_found = |target: &Target| {
        read::verdicts(state, target).iter().any(|found| found.validator == commit.validator)
    };
    if target.as_ref().is_some_and(is_found) {
        Ok(())
    } else {
        Err(Violation::Target { target: commit.target })
    }
}

/// The reward that a target still holds. Targets from before the last epoch are already settled.
fn check_target(state: &MemoryState, target: &Target) -> Result<Amount, Violation> {
    let running = read::clock(state).epoch;
    let published = read::publication(state, target.id).map(|publication| publication.rank);
    let kept = read::candidates(state, target.id).len();
    let waits = read::tasks(state).0.iter().any(|task| match task {
        Task::Settle(task) => task.awaits(target.id),
        _ => false,
    });
    let unsettled = waits || target.epoch == running || target.epoch.next() == running;
    let legal = match target.status {
        TargetStatus::Open => unsettled && published.is_none(),
        TargetStatus::Published { rank } => {
            (waits || target.epoch.next() == running)
                && published == Some(rank)
                && usize::try_from(rank).is_ok_and(|rank| rank < kept)
        }
        TargetStatus::Settled { .. } | TargetStatus::Returned { .. } => {
            !unsettled && published.is_none() && state.get(&Key::candidates(target.id)).is_none()
        }
    };
    // What auditors see the data from stays until nobody audits it any longer.
    let kept = |routed: &Routed| {
        let key = Key::drawn_specialization(target.epoch, routed.model);
        state.get(&key).is_some() || waits
    };
    let seen = !unsettled || target.routed.iter().all(kept);
    let even = target.reward.0.is_multiple_of(2);
    if !legal || !even || !seen || target.routed.is_empty() {
        return Err(Violation::Target { target: target.id });
    }
    Ok(if unsettled { target.reward } else { Amount::ZERO })
}

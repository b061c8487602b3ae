//! The state that the ends of phases dislike most, of any size: all places of the lists taken, all
//! things due at once. The records are written directly, because acting takes too long.

use std::sync::Arc;

use soma_protocol::record::{
    Account, Broken, Candidate, Candidates, ChallengeAnswers, Clock, EpochRecord, FileRoom,
    LivingCount, LivingModel, Model, ModelCount, ModelStatus, NextCommission, Pool, Publication,
    QueuedStaker, Rent, Routed, Share, Specialization, StakeChange, StakeChangeCount, StakeCount,
    StakedPool, Supply, Target, TargetStatus, VerdictCommit, Weights, WeightsAge, WeightsCommit,
};
use soma_protocol::state::Record;
use soma_protocol::{
    Address, Amount, Architecture, BlockInfo, ConsensusKey, Draft, Endpoints, Epoch, Genesis,
    GenesisValidator, Hash, Key, MemoryState, ModelId, Outcome, Params, Phase, PoolId, SUPPLY,
    TargetId, Validity, Verdict, invariants, query, read, sketch,
};

/// How large the state is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Models ever registered; one in ten of them lives.
    pub(crate) models: u32,
    /// Stakers whose stake joins or leaves as the next epoch begins.
    pub(crate) stakers: u32,
    /// Accounts besides those of stakers.
    pub(crate) accounts: u32,
    /// Registered validators, at most 1,024.
    pub(crate) validators: u32,
    /// Targets of an epoch, at most 1,024.
    pub(crate) targets: u32,
    /// Candidates of each target, at most 64.
    pub(crate) candidates: u32,
    /// Length of the published data.
    pub(crate) data_bytes: usize,
    /// Components of a specialization.
    pub(crate) dim: u32,
}

const START_MS: u64 = 1_700_000_000_000;

/// The running epoch: far enough from the first that everything can be due.
const NOW: Epoch = Epoch(10);

/// Somebody, by kind and number.
fn somebody(kind: &str, number: u32) -> Address {
    Address(Hash::of_bytes(format!("{kind} {number}").as_bytes()).0)
}

fn hash(kind: &str, number: u32) -> Hash {
    Hash(somebody(kind, number).0)
}

/// Who makes the state, and what they have.
struct Maker<'a> {
    size: Size,
    draft: Draft<'a>,
    params: Params,
    /// The validators with a seat.
    seated: Vec<Address>,
}

impl Maker<'_> {
    fn save<R: Record>(&mut self, key: Key, record: &R) {
        self.draft.put(key, Arc::from(record.to_bytes()));
    }

    fn living(&self) -> u32 {
        (self.size.models / 10).max(1)
    }

    /// Models: the first ones live, the others are retired.
    fn models(&mut self) {
        let living = self.living();
        for number in 0..self.size.models {
            let id = ModelId(number + 1);
            let mut model = Self::model(id);
            if number < living {
                self.save(Key::living_model(number), &LivingModel(id));
                self.files(&model);
            } else {
                model.status = ModelStatus::Retired;
                model.pool = Pool::default();
                model.next_commission = None;
            }
            self.save(Key::model(id), &model);
        }
        self.save(Key::model_count(), &ModelCount(self.size.models));
        self.save(Key::living_count(), &LivingCount(living));
    }

    /// A model for which everything is due: a slash, a refresh, a commission; some retire.
    fn model(id: ModelId) -> Model {
        let status = match id.0 % 10 {
            0 => ModelStatus::Retiring { release: NOW.next() },
            _ => ModelStatus::Active,
        };
        let revealed = if id.0.is_multiple_of(2) { NOW } else { Epoch(NOW.0 - 7) };
        let stake = Amount::soma(100);
        Model {
            id,
            owner: somebody("owner", id.0),
            name: "x".repeat(64),
            commission_bps: 0,
            next_commission: Some(NextCommission { bps: 9_000, epoch: NOW.next() }),
            pool: Pool { stake, shares: stake.0.into(), ..Pool::default() },
            status,
            weights: Some(hash("weights", id.0)),
            next: None,
            revealed,
            activated: Epoch(1),
            broken: Epoch(0),
            wins: 0,
            earned: Amount::ZERO,
            architecture: 1,
            place: id.0 - 1,
        }
    }

    /// The files of a living model: one in use, one that was not revealed, one that nobody holds.
    fn files(&mut self, model: &Model) {
        let (id, holders) = (model.id, self.seated.clone());
        let share = Share { shares: model.pool.shares, ..Share::default() };
        self.save(Key::share(PoolId::Model(id), &model.owner), &share);
        let weights_hash = hash("weights", id.0);
        let weights = Weights {
            weights_hash,
            ciphertext_hash: hash("file", id.0),
            size_bytes: 1 << 30,
            key: [1; 32],
            age: WeightsAge { epoch: Epoch(1), height: 1, index: id.0 },
            replaced: None,
        };
        self.save(Key::weights(id, &weights_hash), &weights);
        let component = |at: u32| {
            let positive = (at.wrapping_mul(2_654_435_761) ^ id.0.wrapping_mul(40_503)) & 64 == 0;
            if positive { 700_i16 } else { -700 }
        };
        let specialization = Specialization((0..self.size.dim).map(component).collect());
        self.save(Key::specialization(id, 1), &specialization);
        let rent = Rent {
            prepaid: Amount(7_000),
            epochs_left: 7,
            size_bytes: 1 << 30,
            holders: holders.clone(),
        };
        self.save(Key::rent(id, 1), &rent);
        for (epoch, available) in [(NOW, true), (NOW.next(), false)] {
            let commit = WeightsCommit {
                epoch,
                architecture: 1,
                commitment: Hash([1; 32]),
                ciphertext_hash: hash("next file", id.0),
                size_bytes: 1 << 30,
                rent: Amount(7_000),
                paid: Amount(7_000),
                height: 1,
                index: 0,
                holders: holders.clone(),
                available,
            };
            self.save(Key::commit(id, epoch, 1), &commit);
        }
        let room = FileRoom(read::file_room(&self.draft) + (1 << 30));
        self.save(Key::file_room(), &room);
    }

    /// Stakers, each with stake that joins and stake that leaves, and accounts.
    fn stakers(&mut self) {
        let living = self.living();
        let each = Amount(2_000_000);
        let mut pools = vec![Pool::default(); living as usize];
        for number in 0..self.size.stakers {
            let (staker, at) = (somebody("staker", number), number % living);
            let id = PoolId::Model(ModelId(at + 1));
            let pool = &mut pools[at as usize];
            let shares = u128::from(each.0);
            (pool.joining, pool.leaving) = (pool.joining.plus(each), pool.leaving.plus(each));
            (pool.joining_shares, pool.leaving_shares) =
                (pool.joining_shares + shares, pool.leaving_shares + shares);
            let share =
                Share { shares: 0, leaving_shares: shares, joining_shares: shares, place: 0 };
            self.save(Key::share(id, &staker), &share);
            self.save(Key::stake_count(&staker), &StakeCount(1));
            self.save(Key::staked_pool(&staker, 0), &StakedPool(id));
            let change = StakeChange { joining_shares: shares, leaving_shares: shares };
            self.save(Key::stake_change(NOW.next(), id, &staker), &change);
            let queued = QueuedStaker { pool: id, staker };
            self.save(Key::queued_staker(NOW.next(), number), &queued);
            self.save(Key::account(&staker), &Account { balance: each, nonce: 1 });
        }
        if self.size.stakers > 0 {
            let count = StakeChangeCount(self.size.stakers);
            self.save(Key::stake_change_count(NOW.next()), &count);
        }
        for (id, more) in (1..).map(ModelId).zip(pools) {
            let mut model = read::model(&self.draft, id).unwrap();
            model.pool.joining = more.joining;
            model.pool.joining_shares = more.joining_shares;
            model.pool.leaving = more.leaving;
            model.pool.leaving_shares = more.leaving_shares;
            self.save(Key::model(id), &model);
        }
        for number in 0..self.size.accounts {
            let account = Account { balance: Amount(1), nonce: 1 };
            self.save(Key::account(&somebody("account", number)), &account);
        }
    }

    /// Targets of the last epoch, all published and judged by all, and those of the running one,
    /// for which all candidates will stay silent; and the epochs' records.
    fn targets(&mut self) {
        let count = self.size.targets;
        for (epoch, first) in [(NOW.previous(), 1), (NOW, count + 1)] {
            let record = EpochRecord {
                epoch,
                architecture: 1,
                beacon: hash("beacon", epoch.0),
                first_target: TargetId(first),
                targets: count,
                target_reward: Amount::soma(2),
                validator_pot: Amount::soma(100),
                revealed: self.seated.clone(),
                living: self.living(),
                loss_margin_q32: 0,
                gain_min_q32: 0,
            };
            self.save(Key::epoch(epoch), &record);
            for id in (first..first + count).map(TargetId) {
                let target = self.target(id, epoch);
                if epoch < NOW {
                    self.verdicts(id);
                }
                self.save(Key::target(id), &target);
            }
        }
        let answered = self.seated.clone();
        self.save(Key::answers(NOW), &ChallengeAnswers(answered));
    }

    /// A target with as many candidates as there may be.
    fn target(&mut self, id: TargetId, epoch: Epoch) -> Target {
        let living = self.living();
        let routed = (0..self.params.models_per_target).map(|at| {
            let model = ModelId((id.0 + at) % living + 1);
            Routed {
                model,
                weights_hash: hash("weights", model.0),
                age: WeightsAge { epoch: Epoch(1), height: 1, index: model.0 },
            }
        });
        let routed: Vec<Routed> = routed.collect();
        for model in routed.iter().map(|routed| routed.model) {
            let seen = Specialization(read::specialization(&self.draft, model).unwrap());
            self.save(Key::drawn_specialization(epoch, model), &seen);
            let mut routes = read::routes(&self.draft, epoch, model).unwrap_or_default();
            (routes.targets, routes.left) = (routes.targets + 1, routes.left + 1);
            self.save(Key::routes(epoch, model), &routes);
        }
        let candidate = |rank: u32| Candidate {
            submitter: somebody("submitter", id.0 * 64 + rank),
            model: routed[0].model,
            loss_q32: 1,
            gain_q32: 1,
            distance: u64::from(rank),
            size_bytes: 1_024,
            commitment: Hash([2; 32]),
            corpus_root: Hash([4; 32]),
            corpus_leaves: 1,
            bond: Amount(1_000),
        };
        let candidates = (0..self.params.candidates_per_target).map(candidate).collect();
        self.save(Key::candidates(id), &Candidates(candidates));
        let status =
            if epoch < NOW { TargetStatus::Published { rank: 0 } } else { TargetStatus::Open };
        Target { id, epoch, reward: Amount::soma(2), routed, status }
    }

    /// What was published for a target, and the verdicts on it.
    fn verdicts(&mut self, id: TargetId) {
        let data = vec![7; self.size.data_bytes];
        let data_hash = hash("data", id.0);
        // All its pieces are new, and have to be kept.
        let piece = |at: u64| u64::from(id.0) << 32 | at;
        let pieces = (0..sketch::PIECES_MAX as u64).map(piece).collect();
        self.save(Key::publication(id), &Publication { rank: 0, data_hash, data, pieces });
        for (number, validator) in self.seated.clone().into_iter().enumerate() {
            let verdict = Verdict {
                validity: Validity::Valid,
                // A fourth of the committee is wrong each time, and slashed.
                trace: Hash([u8::from(number.is_multiple_of(4)); 32]),
                broken: Broken::default(),
            };
            let (target, commitment) = (id, Hash([3; 32]));
            let commit = VerdictCommit { target, validator, commitment, verdict: Some(verdict) };
            self.save(Key::verdict(id, &validator), &commit);
        }
    }
}

/// The genesis of a network with as many validators as there may be; a full committee is seated.
fn genesis(size: &Size) -> Genesis {
    let validator = |number: u32| GenesisValidator {
        address: somebody("validator", number),
        consensus_key: ConsensusKey(somebody("key", number).0),
        stake: Amount::soma(1_000),
        endpoints: Endpoints::default(),
    };
    Genesis {
        chain: "hostile".into(),
        timestamp_ms: START_MS,
        params: Params {
            targets_per_epoch: size.targets,
            models_per_target: 16,
            candidates_per_target: size.candidates,
            ..Params::network()
        },
        architecture: Architecture { dim: size.dim, ..Architecture::v1() },
        accounts: Vec::new(),
        validators: (0..size.validators).map(validator).collect(),
        models: Vec::new(),
        operator: None,
    }
}

/// The state in the attest phase of an epoch, in which all that can be due is due.
pub(crate) fn hostile_state(size: &Size) -> MemoryState {
    let genesis = genesis(size);
    let mut state = MemoryState::default();
    state.apply(&genesis.state().unwrap());
    let mut committee = read::committee(&state);
    committee.seats.truncate(64);
    let seated = committee.seats.iter().map(|seat| seat.validator).collect();
    let base = state.clone();
    let mut maker =
        Maker { size: *size, draft: Draft::new(&base), params: genesis.params.clone(), seated };
    maker.save(Key::committee(0), &committee);
    let clock = Clock {
        epoch: NOW,
        phase: Phase::Attest,
        phase_started_ms: START_MS,
        block_ms: START_MS,
        next_target: TargetId(2 * size.targets + 1),
    };
    maker.save(Key::clock(), &clock);
    maker.models();
    maker.stakers();
    maker.targets();
    let changes = maker.draft.into_changes();
    state.apply(&changes);
    balance(&mut state);
    state
}

/// Takes what the participants hold out of the reserve.
fn balance(state: &mut MemoryState) {
    let supply = read::supply(state);
    if let Err(invariants::Violation::Supply { found, .. }) = invariants::check(state) {
        let held = found.less(supply.reserve);
        let reserve = SUPPLY.less(held);
        let supply = Supply { reserve, ..supply };
        state.0.insert(Key::supply(), Arc::from(supply.to_bytes()));
    }
    invariants::check(state).unwrap();
}

/// Executes empty blocks from the state on, each as soon as it has something to do, through the end
/// of an epoch and the draw of the next. `execute` executes a block without transactions.
pub(crate) fn run(
    state: &mut MemoryState,
    mut execute: impl FnMut(&MemoryState, &BlockInfo) -> Outcome,
) {
    let mut now_ms = START_MS;
    for height in 1.. {
        let now = read::clock(state);
        let drawn = now.epoch == NOW.next() && now.phase == Phase::Compete;
        if drawn && read::tasks(state).0.is_empty() {
            return;
        }
        // Blocks come often enough that none of them counts as the end of a halt.
        let deadline_ms = query::deadline_ms(state).unwrap();
        let halt_ms = read::params(state).halt_ms;
        now_ms = deadline_ms.clamp(now_ms + 1, now_ms + halt_ms);
        let proposer = somebody("validator", 0);
        let block = BlockInfo { height, timestamp_ms: now_ms, proposer };
        let outcome = execute(state, &block);
        state.apply(&outcome.changes);
    }
}

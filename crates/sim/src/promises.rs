//! The promises that hold whoever attacks. They are checked on every finalized block by what the
//! block says and does: each is stated here on its own, not taken from the rule that keeps it.

use std::collections::BTreeMap;

use soma_protocol::record::{
    Account, Committee, Corpus, KeyHolder, Model, OpenProposals, Proposal, ReturnReason,
    SHARES_MIN, Share, StakeCount, StakedPool, Validator, VerdictCommit, Weights, bytes_max,
};
use soma_protocol::state::Record as _;
use soma_protocol::{
    Action, Address, Amount, BLOCK_WEIGHT_MAX, BlockInfo, Draft, Epoch, Event, Hash, Key,
    MemoryState, Outcome, PoolId, RECORD_OVERHEAD_BYTES, Receipt, Ruleset, StateRead, TargetId,
    Validity, VerifiedTransaction, read,
};

use crate::Violation;
use crate::genesis::TASK_WORK;

/// Tags of the records that no rule deletes, or only their holder.
const PERMANENT: [u8; 10] = [
    Account::TAG,
    Model::TAG,
    Weights::TAG,
    Validator::TAG,
    Share::TAG,
    StakedPool::TAG,
    StakeCount::TAG,
    KeyHolder::TAG,
    Proposal::TAG,
    Corpus::TAG,
];

/// The cheapest third of the seats holds at least one part in this many.
const CHEAPEST_THIRD: u64 = 4;

/// Who takes a seat has at least one part in this many of the stake of the middle one.
const MIDDLE_SEAT: u64 = 8;

/// Room of the pieces of data that its publication pays for.
const PIECES_ROOM_BYTES: u64 = 16 * (9 + RECORD_OVERHEAD_BYTES);

/// Open proposals of validators without a seat.
const UNSEATED_PROPOSALS: usize = 32;

/// Stake that joins may have gained this much from the rounding of others, in base units.
const ROUNDING: u64 = 1_000;

/// A block that was executed.
#[derive(Clone, Copy, Debug)]
pub struct Executed<'a> {
    /// The state before it.
    pub before: &'a MemoryState,
    /// Its height, time and proposer.
    pub info: &'a BlockInfo,
    /// Its transactions.
    pub transactions: &'a [VerifiedTransaction],
    /// What it did.
    pub outcome: &'a Outcome,
}

/// Checks the promises, block after block.
#[derive(Debug)]
pub struct Promises {
    ruleset: Ruleset,
    /// The stake that stakers have added to pools and that has not joined, with the epochs.
    joining: BTreeMap<(PoolId, Address), Vec<(Epoch, Amount)>>,
    /// The data that has won, with the target and its epoch.
    won: BTreeMap<Hash, (TargetId, Epoch)>,
}

impl Promises {
    /// The promises of a chain that follows these rules.
    pub const fn new(ruleset: Ruleset) -> Self {
        Self { ruleset, joining: BTreeMap::new(), won: BTreeMap::new() }
    }

    /// Checks the next block.
    ///
    /// # Errors
    /// The first promise that it breaks.
    pub fn check(&mut self, block: Executed<'_>) -> Result<(), Violation> {
        room(block)?;
        self.prices(block)?;
        work(block)?;
        records(block)?;
        self.stake_that_joins(block)?;
        self.wins(block)?;
        bound(block)?;
        undecided(block)?;
        broken(block)?;
        let mut after = Draft::new(block.before);
        after.extend(block.outcome.changes.clone());
        seats(block, &after)?;
        proposals(block, &after)?;
        files(block, &after)?;
        beacon(block, &after)
    }

    /// Every payment pays for its bytes and for the room of the permanent records that it makes,
    /// and every duty succeeds.
    fn prices(&self, block: Executed<'_>) -> Result<(), Violation> {
        let begun = self.ruleset.execute(block.before, block.info, &[]).unwrap_or_default();
        let mut state = Draft::new(block.before);
        state.extend(begun.changes);
        for (tx, receipt) in block.transactions.iter().zip(&block.outcome.receipts) {
            price(block.info.height, &state, tx, receipt)?;
            let Ok((_, changes)) = self.ruleset.check(&state, block.info, tx) else {
                continue;
            };
            let params = read::params(&state);
            let is_new = |key: &Key| state.get(key).is_none();
            let written = changes.0.iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
            let made = written.filter(|(key, value)| PERMANENT.contains(&value[0]) && is_new(key));
            let room_bytes: u64 =
                made.map(|(_, value)| value.len() as u64 + RECORD_OVERHEAD_BYTES).sum();
            let action = &tx.transaction().action;
            let publishes = matches!(action, Action::PublishData(_)) && receipt.result.is_ok();
            let pieces_bytes = if publishes { PIECES_ROOM_BYTES } else { 0 };
            let room_bytes = room_bytes + pieces_bytes;
            let due = tx.signed().admission_fee(&params).0 + params.room_fee.0 * room_bytes;
            let (height, hash, fee) = (block.info.height, receipt.hash, receipt.fee.0);
            let settles = read::tasks(&state).will_settle();
            if settles && receipt.result.is_ok() && needs_settlement(&state, tx) {
                return Err(Violation::Unsettled { height, hash });
            }
            if fee < due {
                return Err(Violation::FreeRoom { height, hash, fee, due });
            }
            state.extend(changes);
        }
        Ok(())
    }

    /// Data that has won cannot be published for a target of a later epoch.
    fn wins(&mut self, block: Executed<'_>) -> Result<(), Violation> {
        for event in &block.outcome.events {
            match event {
                Event::TargetSettled { target, epoch, .. } => {
                    if let Some(publication) = read::publication(block.before, *target) {
                        self.won.entry(publication.data_hash).or_insert((*target, *epoch));
                    }
                }
                Event::DataPublished { target, data_hash, .. } => {
                    let drawn = read::target(block.before, *target).map(|target| target.epoch);
                    if let Some((earlier, won)) = self.won.get(data_hash)
                        && drawn > Some(*won)
                    {
                        return Err(Violation::WonTwice { target: *target, earlier: *earlier });
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// What joins a pool was added at least two epochs before.
    fn stake_that_joins(&mut self, block: Executed<'_>) -> Result<(), Violation> {
        let mut epoch = read::clock(block.before).epoch;
        for event in &block.outcome.events {
            match event {
                Event::EpochBegan { epoch: begun } => epoch = *begun,
                Event::StakeAdded { pool, staker, amount, .. } => {
                    self.joining.entry((*pool, *staker)).or_default().push((epoch, *amount));
                }
                Event::StakeJoined { pool, staker, amount }
                | Event::StakeReturned { pool, staker, amount } => {
                    let waiting = self.joining.entry((*pool, *staker)).or_default();
                    let is_ripe = |added: &Epoch| added.0 + 2 <= epoch.0;
                    let ripe = waiting.iter().filter(|(added, _)| is_ripe(added));
                    let ripe: Amount = ripe.map(|(_, amount)| *amount).sum();
                    if amount.0 > ripe.0 + ROUNDING {
                        return Err(Violation::EarlyStake { epoch, staker: *staker });
                    }
                    waiting.retain(|(added, _)| !is_ripe(added));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A payment pays at least for itself, also if it is rejected; a duty is never rejected.
fn price(
    height: u64,
    state: &dyn StateRead,
    tx: &VerifiedTransaction,
    receipt: &Receipt,
) -> Result<(), Violation> {
    let hash = receipt.hash;
    if tx.transaction().action.is_duty() {
        let done = receipt.result.is_ok();
        return if done { Ok(()) } else { Err(Violation::RejectedDuty { height, hash }) };
    }
    let params = read::params(state);
    let bytes = params.byte_fee.0 * tx.weight();
    let due = params.base_fee.0 + bytes + tx.transaction().tip.0;
    let fee = receipt.fee.0;
    if fee < due { Err(Violation::Unpaid { height, hash, fee, due }) } else { Ok(()) }
}

/// Whether the rules must know what is settled before it: a publication, or the active stake of a
/// validator that has left.
fn needs_settlement(state: &dyn StateRead, tx: &VerifiedTransaction) -> bool {
    let transaction = tx.transaction();
    match transaction.action {
        Action::PublishData(_) => true,
        Action::RegisterValidator(_) => read::validator(state, &transaction.sender).is_some(),
        _ => false,
    }
}

/// No target is drawn for a model that has not revealed what it committed to.
fn bound(block: Executed<'_>) -> Result<(), Violation> {
    for event in &block.outcome.events {
        let Event::TargetDrawn { target, epoch, models, .. } = event else {
            continue;
        };
        let commits = |model| !read::commits_of(block.before, model, *epoch).is_empty();
        if let Some(model) = models.iter().copied().find(|model| commits(*model)) {
            return Err(Violation::Unbound { target: *target, model });
        }
    }
    Ok(())
}

/// A claim that was not decided costs something, unless a third of the stake found it true.
fn undecided(block: Executed<'_>) -> Result<(), Violation> {
    for event in &block.outcome.events {
        let Event::TargetReturned { target, epoch, reason, bond_returned, bond_burned, .. } = event
        else {
            continue;
        };
        let is_free = *bond_burned == Amount::ZERO && *bond_returned > Amount::ZERO;
        if *reason != ReturnReason::NoQuorum || !is_free {
            continue;
        }
        let (audited, auditors) = (Epoch(epoch.0 + 1), read::target(block.before, *target));
        let committee = read::committee_in(block.before, audited);
        let verdicts = auditors.map_or(Vec::new(), |target| read::verdicts(block.before, &target));
        let is_valid = |commit: &&VerdictCommit| {
            commit.verdict.as_ref().is_some_and(|verdict| verdict.validity == Validity::Valid)
        };
        let valid: Vec<Address> =
            verdicts.iter().filter(is_valid).map(|commit| commit.validator).collect();
        let third = committee.is_some_and(|committee| {
            let stake = committee.stake_where(|validator| valid.contains(validator));
            stake.0 * 3 > committee.stake().0
        });
        if !third {
            return Err(Violation::FreeDenial { target: *target });
        }
    }
    Ok(())
}

/// A broken model loses at least the rewards that it was drawn for in the targets' epoch, or all.
fn broken(block: Executed<'_>) -> Result<(), Violation> {
    let bps = read::params(block.before).broken_slash_bps;
    for event in &block.outcome.events {
        let Event::ModelBroken { model, target } = event else {
            continue;
        };
        let Some(target) = read::target(block.before, *target) else {
            continue;
        };
        let drawn = read::targets(block.before, target.epoch).into_iter();
        let denied: Amount = drawn
            .filter(|drawn| drawn.routed.iter().any(|routed| routed.model == *model))
            .map(|drawn| drawn.reward.bps(bps))
            .sum();
        let stake = read::model(block.before, *model).map_or(Amount::ZERO, |one| one.pool.total());
        let lost: Amount = block
            .outcome
            .events
            .iter()
            .filter_map(|event| match event {
                Event::ModelSlashed { model: slashed, amount } if slashed == model => Some(*amount),
                _ => None,
            })
            .sum();
        if lost.0 + ROUNDING < denied.0.min(stake.0) {
            return Err(Violation::CheapDenial { model: *model, lost, denied });
        }
    }
    Ok(())
}

/// Files of models that had none do not take more room than there is.
fn files(block: Executed<'_>, after: &dyn StateRead) -> Result<(), Violation> {
    let committed = |event: &Event| match event {
        Event::WeightsCommitted { model, .. } => Some(*model),
        _ => None,
    };
    let mut committed = block.outcome.events.iter().filter_map(committed);
    let is_first = |model| read::rent(block.before, model).is_none();
    if !committed.any(is_first) {
        return Ok(());
    }
    let (clock, mut bytes) = (read::clock(after), 0);
    for model in read::living_models(after) {
        let next = Epoch(clock.epoch.0 + 1);
        let commits = [clock.epoch, next].map(|epoch| read::commits_of(after, model.id, epoch));
        let committed = commits.iter().flatten().map(|commit| commit.size_bytes);
        let in_use = read::rent(after, model.id).map(|rent| rent.size_bytes);
        bytes += committed.chain(in_use).max().unwrap_or(0);
    }
    let max = read::params(after).files_bytes_max;
    if bytes > max {
        return Err(Violation::ManyFiles { height: block.info.height, bytes, max });
    }
    Ok(())
}

/// Validators without a seat have one open proposal each, and few together.
fn proposals(block: Executed<'_>, after: &dyn StateRead) -> Result<(), Violation> {
    let made = |event: &Event| matches!(event, Event::ProposalMade { .. });
    if !block.outcome.events.iter().any(made) {
        return Ok(());
    }
    let open =
        after.get(&Key::open_proposals()).and_then(|bytes| OpenProposals::from_bytes(&bytes));
    let seats = read::committee(after);
    let proposers = open.unwrap_or_default().0.into_iter().map(|open| open.proposer);
    let unseated: Vec<Address> =
        proposers.filter(|proposer| !seats.seats_validator(proposer)).collect();
    for event in &block.outcome.events {
        let Event::ProposalMade { proposer, .. } = event else {
            continue;
        };
        let own = unseated.iter().filter(|other| *other == proposer).count();
        if own > 1 || own == 1 && unseated.len() > UNSEATED_PROPOSALS {
            return Err(Violation::ManyProposals {
                height: block.info.height,
                proposer: *proposer,
            });
        }
    }
    Ok(())
}

/// Payments leave duties a quarter of the block, and duties leave payments one.
fn room(block: Executed<'_>) -> Result<(), Violation> {
    let (mut payments, mut duties) = (0, 0);
    for tx in block.transactions {
        let is_duty = tx.transaction().action.is_duty();
        *if is_duty { &mut duties } else { &mut payments } += tx.weight();
    }
    if payments.max(duties) * 4 > BLOCK_WEIGHT_MAX * 3 {
        return Err(Violation::NoQuarter { height: block.info.height, payments, duties });
    }
    Ok(())
}

/// No block works longer on tasks than a block may.
fn work(block: Executed<'_>) -> Result<(), Violation> {
    let (height, work, max) = (block.info.height, block.outcome.task_work, TASK_WORK);
    if work > max { Err(Violation::LongWork { height, work, max }) } else { Ok(()) }
}

/// Every record is within its bound, and no staker has few shares.
fn records(block: Executed<'_>) -> Result<(), Violation> {
    let height = block.info.height;
    for value in block.outcome.changes.0.values().flatten() {
        let (bytes, max) = (value.len(), bytes_max(value[0]).unwrap_or(0));
        if bytes > max {
            return Err(Violation::LongRecord { height, bytes, max });
        }
        if let Some(Share { shares, .. }) = Share::from_bytes(value)
            && (1..SHARES_MIN).contains(&shares)
        {
            return Err(Violation::FewShares { height, shares });
        }
    }
    Ok(())
}

/// Whoever takes a seat has stake like others, and the third that can stop consensus is not cheap.
fn seats(block: Executed<'_>, after: &dyn StateRead) -> Result<(), Violation> {
    let stake_of = |address: &Address| {
        let validator = read::validator(block.before, address);
        validator.map_or(Amount::ZERO, |validator| validator.pool.stake)
    };
    let seats = read::committee(block.before).seats;
    let mut stakes: Vec<Amount> = seats.iter().map(|seat| stake_of(&seat.validator)).collect();
    stakes.sort_unstable();
    let middle = stakes[(stakes.len() - 1) / 2];
    for event in &block.outcome.events {
        if let Event::SeatTaken { validator, .. } = event {
            let stake = stake_of(validator);
            if stake.0 * MIDDLE_SEAT < middle.0 {
                return Err(Violation::CheapSeat { validator: *validator, stake, middle });
            }
        }
    }
    let elected = block.outcome.changes.0.values().flatten();
    if elected.filter(|value| value[0] == Committee::TAG).count() == 0 {
        return Ok(());
    }
    let mut counted: Vec<Amount> =
        read::committee(after).seats.iter().map(|seat| seat.stake).collect();
    counted.sort_unstable();
    let blocking = (counted.len() - 1) / 3 + 1;
    let cheapest: Amount = counted[..blocking].iter().copied().sum();
    let all: Amount = counted.iter().copied().sum();
    if cheapest.0 * CHEAPEST_THIRD < all.0 {
        return Err(Violation::CheapThird { height: block.info.height, cheapest, all });
    }
    Ok(())
}

/// Only seats contribute to the beacon.
fn beacon(block: Executed<'_>, after: &dyn StateRead) -> Result<(), Violation> {
    for event in &block.outcome.events {
        let Event::BeaconDrawn { epoch, .. } = event else {
            continue;
        };
        let seats = read::committee(block.before);
        let contributed = read::epoch(after, *epoch).map_or(Vec::new(), |record| record.revealed);
        let outsider = contributed.iter().find(|address| !seats.seats_validator(address));
        if let Some(validator) = outsider {
            return Err(Violation::Outsider { epoch: *epoch, validator: *validator });
        }
    }
    Ok(())
}

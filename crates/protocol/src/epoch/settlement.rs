//! Settling candidates and targets after their epoch: silent candidates lose their bonds, valid
//! wins are split half and half, and everything else returns to the reserve.

use crate::money::{credit, rewards, slashing};
use crate::record::{
    Audits, Candidate, Candidates, Committee, EpochRecord, Model, ModelStatus, Piece, Publication,
    ReturnReason, SettleTask, Target, TargetStatus, Validity, Verdict,
};
use crate::state::{Draft, Key, StateRead, load};
use crate::transition::{Transition, Work};
use crate::value::BPS;
use crate::{Address, Amount, Defense, Epoch, Event, ModelId, TargetId, read};

/// Work of settling a target: counting the verdicts of a full committee, returning the bonds of all
/// candidates, keeping the pieces of the data and deleting the rest.
const TARGET_WORK: u64 = 800;

/// What hardly anybody audited costs one part in so many of its bond, if it is as long as data may
/// be, and less if it is shorter.
const UNDECIDED_PART: u64 = 4;

/// Work of paying a full committee and changing the commissions of all validators.
const PAY_WORK: u64 = 10_000;

/// Targets of an epoch for which nothing has been published.
fn unpublished(state: &dyn StateRead, epoch: Epoch) -> Vec<TargetId> {
    let targets = read::targets(state, epoch).into_iter();
    targets.filter(|target| target.status == TargetStatus::Open).map(|target| target.id).collect()
}

/// Whether a target of the epoch still waits for a candidate of this rank.
pub(crate) fn awaits(state: &dyn StateRead, epoch: Epoch, rank: u32) -> bool {
    let at = usize::try_from(rank).unwrap_or(usize::MAX);
    unpublished(state, epoch).into_iter().any(|id| read::candidates(state, id).len() > at)
}

/// Burns the bonds of candidates of this rank that did not publish.
pub(crate) fn forfeit_silent(transition: &mut Transition<'_, '_>, rank: u32) {
    for target in unpublished(transition.state, transition.clock.epoch.previous()) {
        let mut candidates = Candidates(read::candidates(transition.state, target));
        let at = usize::try_from(rank).unwrap_or(usize::MAX);
        let Some(candidate) = candidates.0.get_mut(at) else {
            continue;
        };
        let bond = std::mem::take(&mut candidate.bond);
        let submitter = candidate.submitter;
        transition.burn(bond);
        transition.state.save(Key::candidates(target), &candidates);
        transition.events.push(Event::SubmissionForfeited { target, rank, submitter, bond });
    }
}

/// Returns the bonds of all candidates except the one that publishes, at the time it does.
pub(crate) fn release_others(
    state: &mut Draft<'_>,
    events: &mut Vec<Event>,
    target: TargetId,
    candidates: &mut Candidates,
    published: Option<u32>,
) {
    for (rank, candidate) in (0..).zip(&mut candidates.0) {
        let bond = candidate.bond;
        if published == Some(rank) || bond == Amount::ZERO {
            continue;
        }
        candidate.bond = Amount::ZERO;
        let submitter = candidate.submitter;
        credit(state, &submitter, bond);
        events.push(Event::SubmissionReleased { target, rank, submitter, bond });
    }
}

/// The task of settling the targets of the epoch before the one that ends now.
pub(crate) fn task(transition: &Transition<'_, '_>) -> SettleTask {
    let ended = transition.clock.epoch;
    let record: Option<EpochRecord> = read::epoch(transition.state, ended.previous());
    let (next, count) = record.map_or((TargetId(1), 0), |one| (one.first_target, one.targets));
    let end = TargetId(next.0.saturating_add(count));
    SettleTask { ended, next, end, audits: Audits::default() }
}

/// Settles the targets that are left and deletes their candidates, data and verdicts; then pays the
/// validators. Returns whether all of that is done.
pub(crate) fn settle(
    transition: &mut Transition<'_, '_>,
    task: &mut SettleTask,
    work: &mut Work,
) -> bool {
    // Those that have audited, whoever has been elected since.
    let Some(committee) = read::committee_in(transition.state, task.ended) else {
        return true;
    };
    transition.audits = std::mem::take(&mut task.audits);
    while task.next < task.end && work.take(TARGET_WORK) {
        settle_target(transition, task.next, &committee);
        task.next = task.next.next();
    }
    if task.next < task.end || !work.take(PAY_WORK) {
        task.audits = std::mem::take(&mut transition.audits);
        return false;
    }
    rewards::pay_validators(transition, task.ended, &committee);
    rewards::change_commissions(transition, task.ended.next());
    true
}

fn settle_target(transition: &mut Transition<'_, '_>, id: TargetId, committee: &Committee) {
    let Some(mut target) = read::target(transition.state, id) else {
        return;
    };
    target.status = settle_one(transition, &target, committee);
    transition.state.save(Key::target(id), &target);
    let verdicts = committee.seats.iter().map(|seat| Key::verdict(id, &seat.validator));
    // Other targets of the epoch may have been seen from the same specializations. No audit needs
    // them any longer.
    let routed = target.routed.iter();
    let drawn = routed.map(|routed| Key::drawn_specialization(target.epoch, routed.model));
    let keys = [Key::candidates(id), Key::publication(id)].into_iter().chain(verdicts).chain(drawn);
    for key in keys {
        if transition.state.contains(&key) {
            transition.state.delete(key);
        }
    }
    for routed in &target.routed {
        forget_route(transition.state, target.epoch, routed.model);
    }
}

/// Deletes the count of a model's routes with the last of the targets.
fn forget_route(state: &mut Draft<'_>, epoch: Epoch, model: ModelId) {
    let Some(mut routes) = read::routes(state, epoch, model) else {
        return;
    };
    routes.left = routes.left.saturating_sub(1);
    if routes.left == 0 {
        state.delete(Key::routes(epoch, model));
    } else {
        state.save(Key::routes(epoch, model), &routes);
    }
}

fn settle_one(
    transition: &mut Transition<'_, '_>,
    target: &Target,
    committee: &Committee,
) -> TargetStatus {
    let mut candidates = Candidates(read::candidates(transition.state, target.id));
    let published = match target.status {
        TargetStatus::Published { rank } => Some(rank),
        _ => None,
    };
    release_others(transition.state, transition.events, target.id, &mut candidates, published);
    let claim = published.and_then(|rank| candidates.0.get(usize::try_from(rank).ok()?).copied());
    let publication = read::publication(transition.state, target.id);
    let (Some(claim), Some(publication)) = (claim, publication) else {
        return give_back(transition, target, ReturnReason::Unclaimed, None);
    };
    transition.audits.published = transition.audits.published.saturating_add(1);
    let Some(verdict) = decide(transition, target, committee) else {
        let lost = lost_undecided(transition, target, committee, &claim);
        return give_back(transition, target, ReturnReason::NoQuorum, Some((&claim, lost)));
    };
    punish_broken(transition, target, &verdict);
    match verdict.validity {
        Validity::Valid => pay(transition, target, &claim, &publication),
        Validity::Invalid => {
            give_back(transition, target, ReturnReason::Invalid, Some((&claim, claim.bond)))
        }
    }
}

/// What a claim loses of its bond if too few verdicts decide it. A verdict of more than a third of
/// the stake has an honest validator behind it, and honest validators agree: if it is valid, all of
/// the bond returns, and if it is invalid, nothing. If fewer have audited the claim, it has kept
/// others from the target, and nobody knows with what right: then it costs a part of the bond, the
/// more the longer it took to audit.
fn lost_undecided(
    transition: &Transition<'_, '_>,
    target: &Target,
    committee: &Committee,
    claim: &Candidate,
) -> Amount {
    if !transition.config.defends(Defense::UndecidedCosts) {
        return Amount::ZERO;
    }
    let verdicts = read::verdicts(transition.state, target);
    let given = |validator: &Address| {
        verdicts.iter().find(|one| one.validator == *validator)?.verdict.as_ref()
    };
    let is_known = |validity: Validity| {
        committee.seats.iter().filter_map(|seat| given(&seat.validator)).any(|verdict| {
            let agreeing = committee.stake_where(|other| given(other) == Some(verdict));
            verdict.validity == validity && agreeing.exceeds_thirds(1, committee.stake())
        })
    };
    if is_known(Validity::Valid) {
        return Amount::ZERO;
    }
    if is_known(Validity::Invalid) {
        return claim.bond;
    }
    let longest = transition.config.params.data_bytes_max;
    claim.bond.of(claim.size_bytes.into(), longest.into()).over(UNDECIDED_PART)
}

/// Whether a validator has committed to a verdict on a target of the epoch.
pub(crate) fn awaits_verdicts(state: &dyn StateRead, epoch: Epoch) -> bool {
    read::targets(state, epoch).iter().any(|target| !read::verdicts(state, target).is_empty())
}

/// The verdict of more than two thirds of the stake that the committee counts. Validators that
/// differ from it are slashed.
fn decide(
    transition: &mut Transition<'_, '_>,
    target: &Target,
    committee: &Committee,
) -> Option<Verdict> {
    let verdicts = read::verdicts(transition.state, target);
    let found = |validator: &Address| {
        let mut commits = verdicts.iter();
        commits.find(|commit| commit.validator == *validator)?.verdict.as_ref()
    };
    let decided = committee.seats.iter().find_map(|seat| {
        let verdict = found(&seat.validator)?;
        let agreeing = committee.stake_where(|other| found(other) == Some(verdict));
        agreeing.exceeds_thirds(2, committee.stake()).then_some(verdict)
    })?;
    let (mut agreed, mut disagreed) = (0_u32, 0_u32);
    for seat in &committee.seats {
        match found(&seat.validator) {
            Some(verdict) if verdict == decided => {
                agreed = agreed.saturating_add(1);
                let count = transition.audits.agreed.entry(seat.validator).or_default();
                *count = count.saturating_add(1);
            }
            Some(_) => {
                disagreed = disagreed.saturating_add(1);
                let bps = transition.config.params.verdict_slash_bps;
                slashing::validator(transition, &seat.validator, bps);
            }
            None => {}
        }
    }
    let silent = verdicts.iter().filter(|commit| commit.verdict.is_none()).count();
    transition.events.push(Event::TargetDecided {
        target: target.id,
        validity: decided.validity,
        trace: decided.trace,
        agreed,
        disagreed,
        silent: u32::try_from(silent).unwrap_or(u32::MAX),
    });
    Some(decided.clone())
}

/// Slashes models whose published file the auditors could not run: each for its own file, whatever
/// other models reveal. They are not routed until their next reveal.
fn punish_broken(transition: &mut Transition<'_, '_>, target: &Target, verdict: &Verdict) {
    for (place, routed) in target.routed.iter().enumerate() {
        if !verdict.broken.contains(place) {
            continue;
        }
        let Some(mut model) = read::model(transition.state, routed.model) else {
            continue;
        };
        // One punishment for all targets of an epoch, and for those that were drawn before the
        // verdict was known. Revealing other weights in time is no way out of it.
        let judged = model.broken >= target.epoch || model.broken >= model.revealed;
        if judged || model.status == ModelStatus::Retired {
            continue;
        }
        model.broken = target.epoch;
        let is_replaced =
            model.weights != Some(routed.weights_hash) || model.revealed > target.epoch;
        if model.status == ModelStatus::Active && !is_replaced {
            model.status = ModelStatus::Inactive;
        }
        transition.events.push(Event::ModelBroken { model: model.id, target: target.id });
        let bps = broken_slash_bps(transition, target, &model, is_replaced);
        slashing::model(transition, &mut model, bps);
        transition.state.save(Key::model(model.id), &model);
    }
}

/// The share of a broken model's stake that is burned: what it may have denied, so that denial
/// never brings more than it costs, and at least what a missed reveal costs. Whoever cannot tell if
/// a file is broken leaves its targets alone. They are those of the epoch, and those that were
/// drawn for the same file before this was known.
fn broken_slash_bps(
    transition: &Transition<'_, '_>,
    target: &Target,
    model: &Model,
    is_replaced: bool,
) -> u16 {
    let params = &transition.config.params;
    let next = target.epoch.next();
    let later = read::epoch(transition.state, next).filter(|_| !is_replaced);
    let rewards = [(target.epoch, target.reward)]
        .into_iter()
        .chain(later.map(|record| (next, record.target_reward)));
    let denied: Amount = rewards
        .map(|(epoch, reward)| {
            let routes = read::routes(transition.state, epoch, model.id);
            reward.times(routes.map_or(0, |routes| routes.targets).into())
        })
        .sum();
    let denied = denied.bps(params.broken_slash_bps);
    let share = u128::from(denied.0)
        .saturating_mul(BPS.into())
        .checked_div(model.pool.total().0.into())
        .map_or(BPS, |share| u16::try_from(share.saturating_add(1)).unwrap_or(BPS).min(BPS));
    let is_priced = denied > Amount::ZERO && transition.config.defends(Defense::BrokenCosts);
    params.missed_reveal_slash_bps.max(if is_priced { share } else { 0 })
}

/// Pays a win: half of the reward, plus the bond, to the submitter; the other half to the model.
fn pay(
    transition: &mut Transition<'_, '_>,
    target: &Target,
    claim: &Candidate,
    publication: &Publication,
) -> TargetStatus {
    let half = target.reward.over(2);
    credit(transition.state, &claim.submitter, half.plus(claim.bond));
    let commission = pay_model(transition, claim, half);
    keep_pieces(transition.state, target, publication);
    transition.events.push(Event::TargetSettled {
        target: target.id,
        epoch: target.epoch,
        model: claim.model,
        submitter: claim.submitter,
        loss_q32: claim.loss_q32,
        gain_q32: claim.gain_q32,
        distance: claim.distance,
        paid_submitter: half,
        paid_model: half,
        commission,
        bond: claim.bond,
    });
    TargetStatus::Settled {
        model: claim.model,
        submitter: claim.submitter,
        distance: claim.distance,
        data_hash: publication.data_hash,
        paid_submitter: half,
        paid_model: half,
    }
}

/// Keeps where each piece of the data won first.
fn keep_pieces(state: &mut Draft<'_>, target: &Target, publication: &Publication) {
    let piece = Piece { winner: target.id, epoch: target.epoch };
    for hash in &publication.pieces {
        let key = Key::piece(*hash);
        if !state.contains(&key) {
            state.save(key, &piece);
        }
    }
}

/// Pays the model's half: commission to the owner, the rest into the stake, so that better
/// prediction brings more routing. Returns the commission.
fn pay_model(transition: &mut Transition<'_, '_>, claim: &Candidate, half: Amount) -> Amount {
    let key = Key::model(claim.model);
    let Some(mut model) = load::<Model>(transition.state, &key) else {
        transition.return_to_reserve(half);
        return Amount::ZERO;
    };
    let commission = half.bps(model.commission_bps);
    let rest = half.less(commission);
    let alive = model.status != ModelStatus::Retired && model.pool.earn(rest);
    let commission = if alive { commission } else { half };
    model.wins = model.wins.saturating_add(1);
    model.earned = model.earned.plus(half);
    transition.state.save(key, &model);
    credit(transition.state, &model.owner, commission);
    commission
}

/// Returns the reward to the reserve. Of the claim's bond, what it loses is burned, and the rest
/// returned.
fn give_back(
    transition: &mut Transition<'_, '_>,
    target: &Target,
    reason: ReturnReason,
    claim: Option<(&Candidate, Amount)>,
) -> TargetStatus {
    transition.return_to_reserve(target.reward);
    let (mut returned, mut burned) = (Amount::ZERO, Amount::ZERO);
    if let Some((claim, lost)) = claim {
        (returned, burned) = (claim.bond.less(lost), claim.bond.min(lost));
        credit(transition.state, &claim.submitter, returned);
    }
    transition.burn(burned);
    transition.events.push(Event::TargetReturned {
        target: target.id,
        epoch: target.epoch,
        reason,
        reward: target.reward,
        bond_returned: returned,
        bond_burned: burned,
    });
    TargetStatus::Returned { reason }
}

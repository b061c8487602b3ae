//! What becomes of candidates and targets after their epoch: silent candidates lose their bonds,
//! valid wins are paid half and half, everything else returns to the reserve.

use std::collections::BTreeMap;

use crate::action::{Finding, Verdict};
use crate::balance::credit;
use crate::epoch::Turn;
use crate::record::{
    Candidate, Candidates, EpochRecord, Model, ModelStatus, Returned, Target, TargetStatus, Won,
    load,
};
use crate::state::{Draft, Key, Read};
use crate::validator::Validator;
use crate::{Address, Amount, Epoch, Event, Hash, TargetId, slashing, view};

/// Whether `part` is more than `numerator / 3` of `whole`.
pub(crate) fn exceeds_thirds(part: Amount, numerator: u64, whole: Amount) -> bool {
    u128::from(part.0).saturating_mul(3) > u128::from(whole.0).saturating_mul(numerator.into())
}

/// Targets of an epoch for which nothing has been published.
fn unpublished(state: &dyn Read, epoch: Epoch) -> Vec<TargetId> {
    let targets = view::targets(state, epoch).into_iter();
    targets
        .filter(|target| target.status == TargetStatus::Open)
        .map(|target| target.id)
        .collect()
}

/// Whether a target of the epoch still waits for a candidate of this rank.
pub(crate) fn awaits(state: &dyn Read, epoch: Epoch, rank: u32) -> bool {
    let at = usize::try_from(rank).unwrap_or(usize::MAX);
    unpublished(state, epoch)
        .into_iter()
        .any(|id| view::candidates(state, id).len() > at)
}

/// Burns the bonds of candidates of this rank that did not publish.
pub(crate) fn forfeit_silent(turn: &mut Turn<'_, '_>, rank: u32) {
    for target in unpublished(turn.state, turn.clock.epoch.previous()) {
        let mut candidates = Candidates(view::candidates(turn.state, target));
        let at = usize::try_from(rank).unwrap_or(usize::MAX);
        let Some(candidate) = candidates.0.get_mut(at) else {
            continue;
        };
        let bond = std::mem::take(&mut candidate.bond);
        let submitter = candidate.submitter;
        turn.supply.burned = turn.supply.burned.plus(bond);
        turn.state.save(Key::candidates(target), &candidates);
        turn.events.push(Event::SubmissionForfeited {
            target,
            rank,
            submitter,
            bond,
        });
    }
}

/// Returns the bonds of all candidates but the one that published. Used when it publishes.
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
        events.push(Event::SubmissionReleased {
            target,
            rank,
            submitter,
            bond,
        });
    }
}

/// Settles all targets of an epoch and forgets their candidates, data and verdicts.
pub(crate) fn settle(turn: &mut Turn<'_, '_>, epoch: Epoch) {
    let record: Option<EpochRecord> = view::epoch(turn.state, epoch);
    for id in record.iter().flat_map(EpochRecord::target_ids) {
        let Some(mut target) = view::target(turn.state, id) else {
            continue;
        };
        target.status = settle_one(turn, &target);
        turn.state.save(Key::target(id), &target);
        for key in [Key::candidates(id), Key::publication(id), Key::verdicts(id)] {
            if turn.state.get(&key).is_some() {
                turn.state.delete(key);
            }
        }
    }
}

fn settle_one(turn: &mut Turn<'_, '_>, target: &Target) -> TargetStatus {
    let mut candidates = Candidates(view::candidates(turn.state, target.id));
    let published = match target.status {
        TargetStatus::Published { rank } => Some(rank),
        _ => None,
    };
    release_others(
        turn.state,
        turn.events,
        target.id,
        &mut candidates,
        published,
    );
    let claim = published.and_then(|rank| candidates.0.get(usize::try_from(rank).ok()?).copied());
    let publication = view::publication(turn.state, target.id);
    let (Some(claim), Some(publication)) = (claim, publication) else {
        return give_back(turn, target, Returned::Unclaimed, None);
    };
    turn.audits.published = turn.audits.published.saturating_add(1);
    let Some(finding) = decide(turn, target) else {
        return give_back(turn, target, Returned::NoQuorum, Some(&claim));
    };
    punish_broken(turn, target, &finding);
    match finding.verdict {
        Verdict::Valid => pay(turn, target, &claim, publication.data_hash),
        Verdict::Invalid => give_back(turn, target, Returned::Invalid, Some(&claim)),
    }
}

/// How the auditors of an epoch's targets have done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audits {
    /// Targets for which something was published, so that there was something to audit.
    pub(crate) published: u32,
    /// Those of them on which each validator found what more than two thirds of the stake did.
    pub(crate) agreed: BTreeMap<Address, u32>,
}

/// Whether a finding on a target of the epoch waits to be shown.
pub(crate) fn awaits_findings(state: &dyn Read, epoch: Epoch) -> bool {
    view::targets(state, epoch)
        .iter()
        .any(|target| !view::verdicts(state, target.id).0.is_empty())
}

/// The finding of more than two thirds of all stake. Whoever has found otherwise is slashed.
fn decide(turn: &mut Turn<'_, '_>, target: &Target) -> Option<Finding> {
    let verdicts = view::verdicts(turn.state, target.id).0;
    let validators = view::seated(turn.state);
    let total: Amount = validators.iter().map(|one| one.pool.stake).sum();
    let found = |validator: &Validator| {
        let mut theirs = verdicts.iter();
        theirs
            .find(|one| one.validator == validator.address)
            .and_then(|one| one.finding.as_ref())
    };
    let decided = validators.iter().find_map(|one| {
        let finding = found(one)?;
        let agrees = |other: &&Validator| found(other) == Some(finding);
        let stake = validators.iter().filter(agrees).map(|one| one.pool.stake);
        exceeds_thirds(stake.sum(), 2, total).then_some(finding)
    })?;
    let (mut agreed, mut disagreed) = (0_u32, 0_u32);
    for validator in &validators {
        match found(validator) {
            Some(finding) if finding == decided => {
                agreed = agreed.saturating_add(1);
                let count = turn.audits.agreed.entry(validator.address).or_default();
                *count = count.saturating_add(1);
            }
            Some(_) => {
                disagreed = disagreed.saturating_add(1);
                let bps = turn.rules.params.verdict_slash_bps;
                slashing::validator(turn, validator.clone(), bps);
            }
            None => {}
        }
    }
    let silent = verdicts.iter().filter(|one| one.finding.is_none()).count();
    turn.events.push(Event::TargetDecided {
        target: target.id,
        verdict: decided.verdict,
        trace: decided.trace,
        agreed,
        disagreed,
        silent: u32::try_from(silent).unwrap_or(u32::MAX),
    });
    Some(decided.clone())
}

/// Models whose published file auditors could not run are slashed, and not routed until they
/// reveal something better.
fn punish_broken(turn: &mut Turn<'_, '_>, target: &Target, finding: &Finding) {
    for routed in &target.routed {
        if !finding.broken.contains(&routed.model) {
            continue;
        }
        let Some(mut model) = view::model(turn.state, routed.model) else {
            continue;
        };
        // Once is enough, and weights that were replaced in the meantime are not meant.
        if model.status != ModelStatus::Active || model.weights != Some(routed.weights_hash) {
            continue;
        }
        model.status = ModelStatus::Inactive;
        turn.events.push(Event::ModelBroken {
            model: model.id,
            target: target.id,
        });
        let bps = turn.rules.params.missed_reveal_slash_bps;
        slashing::model(turn, &mut model, bps);
        turn.state.save(Key::model(model.id), &model);
    }
}

/// Pays a win: half of the reward and the bond to the submitter, half to the model.
fn pay(
    turn: &mut Turn<'_, '_>,
    target: &Target,
    claim: &Candidate,
    data_hash: Hash,
) -> TargetStatus {
    let half = target.reward.over(2);
    credit(turn.state, &claim.submitter, half.plus(claim.bond));
    let commission = pay_model(turn, claim, half);
    let won = Key::won(&data_hash);
    if load::<Won>(turn.state, &won).is_none() {
        turn.state.save(won, &Won(target.epoch));
    }
    turn.events.push(Event::TargetSettled {
        target: target.id,
        epoch: target.epoch,
        model: claim.model,
        submitter: claim.submitter,
        loss_q32: claim.loss_q32,
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
        data_hash,
        paid_submitter: half,
        paid_model: half,
    }
}

/// The model's half: commission to the owner, the rest onto the stake, so that better prediction
/// brings more routing. Returns the commission.
fn pay_model(turn: &mut Turn<'_, '_>, claim: &Candidate, half: Amount) -> Amount {
    let key = Key::model(claim.model);
    let Some(mut model) = load::<Model>(turn.state, &key) else {
        turn.supply.reserve = turn.supply.reserve.plus(half);
        return Amount::ZERO;
    };
    let commission = half.bps(model.commission_bps);
    let rest = half.less(commission);
    let alive = model.status != ModelStatus::Retired && model.pool.earn(rest);
    let commission = if alive { commission } else { half };
    model.wins = model.wins.saturating_add(1);
    model.earned = model.earned.plus(half);
    turn.state.save(key, &model);
    credit(turn.state, &model.owner, commission);
    commission
}

/// Returns the reward to the reserve. The bond is burned if the claim was wrong, else returned.
fn give_back(
    turn: &mut Turn<'_, '_>,
    target: &Target,
    reason: Returned,
    claim: Option<&Candidate>,
) -> TargetStatus {
    turn.supply.reserve = turn.supply.reserve.plus(target.reward);
    let bond = claim.map_or(Amount::ZERO, |claim| claim.bond);
    let burned = if reason == Returned::Invalid {
        bond
    } else {
        Amount::ZERO
    };
    let returned = bond.less(burned);
    turn.supply.burned = turn.supply.burned.plus(burned);
    if let Some(claim) = claim {
        credit(turn.state, &claim.submitter, returned);
    }
    turn.events.push(Event::TargetReturned {
        target: target.id,
        epoch: target.epoch,
        reason,
        reward: target.reward,
        bond_returned: returned,
        bond_burned: burned,
    });
    TargetStatus::Returned { reason }
}

//! What the end of an epoch does to models, in one pass over those that live: rent is paid, commits
//! lapse, models that were not refreshed become inactive, retired ones are released, and
//! commissions change. The pass is a task: it takes as many blocks as it needs.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::LapseReason;
use crate::governance::migration;
use crate::money::{credit, rent, save_share, slashing};
use crate::record::{Model, ModelStatus, ModelTask, WeightsCommit};
use crate::state::{Draft, Key, load};
use crate::transition::{Transition, Work};
use crate::{Address, Amount, Epoch, Event, PoolId, living, read};

/// Work of visiting a model, at most: it changes its records for two architectures, its owner's
/// account, and the records of the model that takes its place.
const MODEL_WORK: u64 = 80;

/// What the visits of one block share.
struct Pass<'a> {
    ended: Epoch,
    architectures: &'a [u32],
    /// Validators that have answered the epoch's storage challenge.
    answered: BTreeSet<Address>,
    /// The rent that validators have earned in this block.
    rent: BTreeMap<Address, Amount>,
}

/// The task of visiting all models after the epoch that ends now.
pub(crate) fn task(transition: &Transition<'_, '_>) -> ModelTask {
    ModelTask {
        ended: transition.clock.epoch,
        architectures: read::open_architectures(transition.state).collect(),
        left: read::living_count(transition.state),
    }
}

/// Visits the models that are left; returns whether all are visited.
pub(crate) fn visit_models(
    transition: &mut Transition<'_, '_>,
    task: &mut ModelTask,
    work: &mut Work,
) -> bool {
    let ended = task.ended;
    let mut pass = Pass {
        ended,
        architectures: &task.architectures,
        answered: read::challenge_answers(transition.state, ended).into_iter().collect(),
        rent: BTreeMap::new(),
    };
    while let Some(place) = task.left.checked_sub(1) {
        if !work.take(MODEL_WORK) {
            break;
        }
        task.left = place;
        let id = read::living_model(transition.state, place);
        if let Some(model) = id.and_then(|id| read::model(transition.state, id)) {
            visit(transition, &mut pass, model);
        }
    }
    rent::pay(transition, ended, &pass.rent);
    let done = task.left == 0;
    if done && !pass.answered.is_empty() {
        transition.state.delete(Key::answers(ended));
    }
    done
}

fn visit(transition: &mut Transition<'_, '_>, pass: &mut Pass<'_>, mut model: Model) {
    let before = model.clone();
    for &number in pass.architectures {
        let key = Key::rent(model.id, number);
        rent::pay_installment(transition, key, &pass.answered, &mut pass.rent);
        end_commits(transition, &mut model, pass.ended, number);
    }
    if model.status != ModelStatus::Retired {
        migration::follow(transition, &mut model);
        release(transition, &mut model, pass.ended);
    }
    if model.status != ModelStatus::Retired {
        miss_refresh(transition, &mut model, pass.ended);
        change_commission(transition, &mut model, pass.ended);
    }
    if model.status == ModelStatus::Inactive {
        give_up_file(transition, &model, pass.ended.next());
    }
    if model != before {
        transition.state.save(Key::model(model.id), &model);
    }
}

/// Ends the commit for the epoch that has ended, which was not revealed, and the one for the epoch
/// that has begun, if it cannot be revealed.
fn end_commits(
    transition: &mut Transition<'_, '_>,
    model: &mut Model,
    ended: Epoch,
    architecture: u32,
) {
    let id = model.id;
    let commit = |state: &Draft<'_>, epoch| -> Option<WeightsCommit> {
        load(state, &Key::commit(id, epoch, architecture))
    };
    if let Some(missed) = commit(transition.state, ended) {
        miss_reveal(transition, model, &missed);
    }
    let Some(coming) = commit(transition.state, ended.next()) else {
        return;
    };
    // The owner is not at fault if too few validators hold the file, or the network has switched.
    if architecture < transition.config.network.architecture_number {
        rent::refund(transition, model, &coming, LapseReason::OldArchitecture);
    } else if !coming.available {
        rent::refund(transition, model, &coming, LapseReason::NotHeld);
    }
}

/// Burns what an unrevealed commit paid, and slashes its model.
fn miss_reveal(transition: &mut Transition<'_, '_>, model: &mut Model, commit: &WeightsCommit) {
    let epoch = commit.epoch;
    let key = Key::commit(model.id, epoch, commit.architecture);
    rent::change_files(transition.state, model.id, commit.architecture, |state| state.delete(key));
    transition.burn(commit.paid);
    transition.events.push(Event::CommitLapsed {
        model: model.id,
        epoch,
        reason: LapseReason::NotRevealed,
        returned: Amount::ZERO,
        burned: commit.paid,
    });
    let bps = transition.config.params.missed_reveal_slash_bps;
    slashing::model(transition, model, bps);
}

/// Returns the stake and leftover rent of a retiring model that is due.
fn release(transition: &mut Transition<'_, '_>, model: &mut Model, ended: Epoch) {
    let ModelStatus::Retiring { release } = model.status else {
        return;
    };
    if ended.next() < release {
        return;
    }
    let stake = withdraw_all(transition.state, model);
    let rent = slashing::forget_files(transition.state, model);
    living::remove(transition.state, model);
    model.status = ModelStatus::Retired;
    credit(transition.state, &model.owner, stake.plus(rent));
    let (model, owner) = (model.id, model.owner);
    transition.events.push(Event::StakeReleased { model, owner, stake, rent });
}

/// Takes the owner's whole stake out of a model's pool. Other stakers must withdraw their own.
fn withdraw_all(state: &mut Draft<'_>, model: &mut Model) -> Amount {
    let id = PoolId::Model(model.id);
    let mut share = read::share(state, id, &model.owner);
    let stake = model.pool.withdraw(std::mem::take(&mut share.shares));
    save_share(state, id, &model.owner, share);
    stake
}

/// Makes a model inactive that has not revealed in time. This is judged after an epoch in which it
/// could have, so that a model that refreshes in its last epoch stays active.
fn miss_refresh(transition: &mut Transition<'_, '_>, model: &mut Model, ended: Epoch) {
    let due = model.refresh_due(transition.config.params.refresh_epochs);
    if model.status == ModelStatus::Active && ended >= due {
        model.status = ModelStatus::Inactive;
        transition.events.push(Event::ModelInactive { model: model.id, epoch: ended });
    }
}

/// Ends the rent of an inactive model's file, which nodes do not keep; what is left is returned. A
/// commit that waits for its reveal has counted on it, and has it.
fn give_up_file(transition: &mut Transition<'_, '_>, model: &Model, beginning: Epoch) {
    let (id, number) = (model.id, model.architecture);
    let waits = transition.state.contains(&Key::commit(id, beginning, number));
    if waits || !transition.state.contains(&Key::rent(id, number)) {
        return;
    }
    let left =
        rent::change_files(transition.state, id, number, |state| rent::take(state, id, number));
    credit(transition.state, &model.owner, left);
}

fn change_commission(transition: &mut Transition<'_, '_>, model: &mut Model, ended: Epoch) {
    if let Some(next) = model.next_commission.filter(|next| next.epoch <= ended.next()) {
        model.commission_bps = next.bps;
        model.next_commission = None;
        let pool = PoolId::Model(model.id);
        transition.events.push(Event::CommissionChanged { pool, commission_bps: next.bps });
    }
}

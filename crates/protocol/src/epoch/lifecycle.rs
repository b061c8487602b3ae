//! What transitions do to models: commits become available or lapse, models that were not refreshed
//! become inactive, and the stakes of retired models are returned.

use crate::event::LapseReason;
use crate::money::{credit, rent, save_share, slashing};
use crate::record::{Model, ModelStatus, WeightsCommit};
use crate::state::{Draft, Key};
use crate::transition::Transition;
use crate::{Amount, Epoch, Event, PoolId, read};

/// Judges the commits for `epoch`, which is about to begin: those whose file is held by more than a
/// third of the seated stake may be revealed; the others lapse and cost nothing.
pub(crate) fn judge_commits(transition: &mut Transition<'_, '_>, epoch: Epoch) {
    let committee = read::committee(transition.state);
    for (model, commit) in read::commits(transition.state, epoch) {
        if commit.is_held(&committee) {
            let event = Event::WeightsAvailable { model, epoch };
            transition.events.push(event);
        } else {
            rent::refund(transition, model, &commit, LapseReason::NotHeld);
        }
    }
}

/// Ends the reveal phase for models: unrevealed commits lapse, what they paid is burned, and their
/// models are slashed. Then models that were not refreshed in time become inactive. This happens
/// only now, so that a model that refreshes in its last epoch stays active.
pub(crate) fn lapse_and_refresh(transition: &mut Transition<'_, '_>) {
    let epoch = transition.clock.epoch;
    for id in read::model_ids(transition.state) {
        let Some(mut model) = read::model(transition.state, id) else {
            continue;
        };
        let mut changed = lapse(transition, &mut model);
        let due = model.revealed.after(transition.config.params.refresh_epochs);
        if model.status == ModelStatus::Active && epoch >= due {
            model.status = ModelStatus::Inactive;
            changed = true;
            transition.events.push(Event::ModelInactive { model: id, epoch });
        }
        if changed {
            transition.state.save(Key::model(id), &model);
        }
    }
}

/// Lets the model's commits lapse, if it has any; returns whether the model may have changed.
fn lapse(transition: &mut Transition<'_, '_>, model: &mut Model) -> bool {
    let epoch = transition.clock.epoch;
    let commits = read::commits_of(transition.state, model.id, epoch);
    for commit in &commits {
        lapse_one(transition, model, commit);
    }
    !commits.is_empty()
}

fn lapse_one(transition: &mut Transition<'_, '_>, model: &mut Model, commit: &WeightsCommit) {
    let epoch = transition.clock.epoch;
    transition.state.delete(Key::commit(model.id, epoch, commit.architecture));
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

/// Returns the stake and leftover rent of the retiring models that are due as `epoch` begins.
pub(crate) fn release_stakes(transition: &mut Transition<'_, '_>, epoch: Epoch) {
    for id in read::model_ids(transition.state) {
        let Some(mut model) = read::model(transition.state, id) else {
            continue;
        };
        let ModelStatus::Retiring { release } = model.status else {
            continue;
        };
        if epoch < release {
            continue;
        }
        let stake = withdraw_all(transition.state, &mut model);
        let rent = slashing::forget_files(transition.state, id);
        model.status = ModelStatus::Retired;
        transition.state.save(Key::model(id), &model);
        credit(transition.state, &model.owner, stake.plus(rent));
        transition.events.push(Event::StakeReleased { model: id, owner: model.owner, stake, rent });
    }
}

/// Takes the owner's whole stake out of a model's pool. Other stakers must withdraw their own.
fn withdraw_all(state: &mut Draft<'_>, model: &mut Model) -> Amount {
    let id = PoolId::Model(model.id);
    let mut share = read::share(state, id, &model.owner);
    let stake = model.pool.withdraw(std::mem::take(&mut share.shares));
    save_share(state, id, &model.owner, share);
    stake
}

//! What the turns of an epoch do to models: commits are judged and lapse, unrefreshed models
//! become inactive, retired ones get their stake back.

use crate::balance::credit;
use crate::epoch::Turn;
use crate::event::Lapse;
use crate::record::{Commit, Model, ModelStatus};
use crate::settlement::exceeds_thirds;
use crate::state::{Draft, Key, Read};
use crate::{Amount, Epoch, Event, ModelId, PoolId, pool, slashing, view};

fn model_ids(state: &dyn Read) -> impl Iterator<Item = ModelId> + use<> {
    (1..=view::model_count(state)).map(ModelId)
}

/// Judges the commits for `epoch`, which is about to begin: those whose file more than a third of
/// the stake holds may be revealed, the others lapse and cost nothing.
pub(crate) fn judge_commits(turn: &mut Turn<'_, '_>, epoch: Epoch) {
    let validators = view::seated(turn.state);
    let total: Amount = validators
        .iter()
        .map(|validator| validator.pool.stake)
        .sum();
    for (model, commit) in view::commits(turn.state, epoch) {
        let key = Key::commit(model, epoch, commit.architecture);
        let holds =
            |validator: &&crate::validator::Validator| commit.holders.contains(&validator.address);
        let held = validators
            .iter()
            .filter(holds)
            .map(|validator| validator.pool.stake)
            .sum();
        if exceeds_thirds(held, 1, total) {
            turn.events.push(Event::WeightsAvailable { model, epoch });
            continue;
        }
        turn.state.delete(key);
        if let Some(record) = view::model(turn.state, model) {
            credit(turn.state, &record.owner, commit.paid);
        }
        turn.events.push(Event::CommitLapsed {
            model,
            epoch,
            reason: Lapse::NotHeld,
            returned: commit.paid,
            burned: Amount::ZERO,
        });
    }
}

/// At the end of the reveal phase: commits that were not revealed lapse, what they paid is burned,
/// and their models are slashed. Then models that were not refreshed in time become inactive: only
/// now, so that a model that refreshes in its last epoch never stops.
pub(crate) fn lapse_and_refresh(turn: &mut Turn<'_, '_>) {
    let epoch = turn.clock.epoch;
    for id in model_ids(turn.state) {
        let Some(mut model) = view::model(turn.state, id) else {
            continue;
        };
        let mut changed = lapse(turn, &mut model);
        let due = model.revealed.after(turn.rules.params.refresh_epochs);
        if model.status == ModelStatus::Active && epoch >= due {
            model.status = ModelStatus::Inactive;
            changed = true;
            turn.events.push(Event::ModelInactive { model: id, epoch });
        }
        if changed {
            turn.state.save(Key::model(id), &model);
        }
    }
}

/// Lets the model's commits lapse, if it has any; says whether the model may have changed.
fn lapse(turn: &mut Turn<'_, '_>, model: &mut Model) -> bool {
    let epoch = turn.clock.epoch;
    let commits = view::commits_of(turn.state, model.id, epoch);
    for commit in &commits {
        lapse_one(turn, model, commit);
    }
    !commits.is_empty()
}

fn lapse_one(turn: &mut Turn<'_, '_>, model: &mut Model, commit: &Commit) {
    let epoch = turn.clock.epoch;
    turn.state
        .delete(Key::commit(model.id, epoch, commit.architecture));
    turn.supply.burned = turn.supply.burned.plus(commit.paid);
    turn.events.push(Event::CommitLapsed {
        model: model.id,
        epoch,
        reason: Lapse::NotRevealed,
        returned: Amount::ZERO,
        burned: commit.paid,
    });
    let bps = turn.rules.params.missed_reveal_slash_bps;
    slashing::model(turn, model, bps);
}

/// Returns stake and left-over rent of the models whose waiting ends as `epoch` begins.
pub(crate) fn release_stakes(turn: &mut Turn<'_, '_>, epoch: Epoch) {
    for id in model_ids(turn.state) {
        let Some(mut model) = view::model(turn.state, id) else {
            continue;
        };
        let ModelStatus::Retiring { release } = model.status else {
            continue;
        };
        if epoch < release {
            continue;
        }
        let stake = withdraw_all(turn.state, &mut model);
        let rent = slashing::forget_files(turn.state, id);
        model.status = ModelStatus::Retired;
        turn.state.save(Key::model(id), &model);
        credit(turn.state, &model.owner, stake.plus(rent));
        turn.events.push(Event::StakeReleased {
            model: id,
            owner: model.owner,
            stake,
            rent,
        });
    }
}

/// Takes the owner's whole stake out of a model's pool. Others withdraw theirs when they like.
fn withdraw_all(state: &mut Draft<'_>, model: &mut Model) -> Amount {
    let id = PoolId::Model(model.id);
    let mut share = pool::share(state, id, &model.owner);
    let stake = model.pool.withdraw(std::mem::take(&mut share.shares));
    pool::save_share(state, id, &model.owner, share);
    stake
}

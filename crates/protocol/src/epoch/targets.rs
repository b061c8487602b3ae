//! Targets: directions drawn uniformly from an epoch's randomness. Nobody can choose, buy or
//! predict them, and everyone computes the same ones.

use soma_architecture::embedding::UNIT;

use super::routing::{RoutableModel, Routing};

use crate::money::rewards;
use crate::record::{
    EpochRecord, Model, ModelStatus, RouteTask, Routed, Specialization, TARGETS_PER_PASS_MAX,
    Target, TargetStatus,
};
use crate::ruleset::TASK_WORK_MAX;
use crate::state::{Key, StateRead};
use crate::transition::{Transition, Work};
use crate::value::parts_hasher;
use crate::{Address, Amount, Defense, Event, Hash, ModelId, TargetId, read};

/// Direction of a target, of length 32767: `dim` components `popcount(256 bits) - 128` from
/// BLAKE3's output stream over the beacon, scaled and rounded to nearest (halves away from zero).
pub(crate) fn direction(beacon: &Hash, target: TargetId, dim: u32) -> Vec<i16> {
    let mut stream =
        parts_hasher("soma target", &[&beacon.0, &target.0.to_le_bytes()]).finalize_xof();
    let raw: Vec<i16> = (0..dim)
        .map(|_| {
            let mut bits = [0; 32];
            stream.fill(&mut bits);
            let ones: u32 = bits.iter().map(|byte| byte.count_ones()).fold(0, u32::saturating_add);
            i16::try_from(ones).unwrap_or(0).saturating_sub(128)
        })
        .collect();
    scaled(&raw)
}

/// `raw` scaled to length 32767. (A zero vector, which never occurs, becomes the first axis.)
fn scaled(raw: &[i16]) -> Vec<i16> {
    let square = |component: i16| u64::from(component.unsigned_abs()).saturating_pow(2);
    let norm_squared = raw.iter().map(|&one| square(one)).fold(0, u64::saturating_add);
    if norm_squared == 0 {
        return (0..raw.len()).map(|at| if at == 0 { i16::MAX } else { 0 }).collect();
    }
    // |component| * UNIT / norm, rounded to nearest: half of (the floor of its double, plus one).
    let doubled = |component: i16| {
        let numerator = square(component).saturating_mul(UNIT.saturating_pow(2)).saturating_mul(4);
        numerator.checked_div(norm_squared).unwrap_or(0).isqrt()
    };
    raw.iter()
        .map(|&component| {
            let size = i16::try_from(doubled(component).div_ceil(2)).unwrap_or(i16::MAX);
            size.saturating_mul(component.signum())
        })
        .collect()
}

/// Fixes what the running epoch's targets depend on. Drawing them and routing models to them is a
/// task, because it takes as long as there are models.
pub(crate) fn begin(
    transition: &mut Transition<'_, '_>,
    beacon: Hash,
    revealed: Vec<Address>,
) -> RouteTask {
    let epoch = transition.clock.epoch;
    let living = read::living_count(transition.state);
    let record = EpochRecord {
        epoch,
        architecture: transition.config.network.architecture_number,
        beacon,
        first_target: transition.clock.next_target,
        targets: 0,
        target_reward: Amount::ZERO,
        validator_pot: Amount::ZERO,
        revealed,
        living,
        loss_margin_q32: transition.config.params.loss_margin_q32,
        gain_min_q32: transition.config.params.gain_min_q32,
    };
    transition.state.save(Key::epoch(epoch), &record);
    RouteTask { left: living, nearest: Vec::new() }
}

/// Draws targets, some at a time, and routes models to them, in as many blocks as it takes. Returns
/// whether all are drawn. If no model can be routed, there are none, and nothing is minted.
pub(crate) fn route(
    transition: &mut Transition<'_, '_>,
    task: &mut RouteTask,
    work: &mut Work,
) -> bool {
    let Some(mut record) = read::epoch(transition.state, transition.clock.epoch) else {
        return true;
    };
    let all = transition.config.params.targets_per_epoch;
    loop {
        let drawn = transition.clock.next_target.0.saturating_sub(record.first_target.0);
        let batch = all.saturating_sub(drawn).min(batch_max(transition));
        if batch == 0 {
            return true;
        }
        let Some(routed) = route_batch(transition, &record, task, batch, work) else {
            return false;
        };
        if record.targets == 0 {
            if routed.iter().all(Vec::is_empty) {
                return true;
            }
            let emission = rewards::emit(transition);
            record.targets = all;
            record.target_reward = emission.target_reward;
            record.validator_pot = emission.validator_pot;
            transition.state.save(Key::epoch(record.epoch), &record);
        }
        for models in routed {
            draw_one(transition, &record, models);
        }
    }
}

/// Goes through the living models with as many targets at a time as are computed in a small part of
/// a block. Returns the models of each, or `None` if the block has no work left.
fn route_batch(
    transition: &Transition<'_, '_>,
    record: &EpochRecord,
    task: &mut RouteTask,
    batch: u32,
    work: &mut Work,
) -> Option<Vec<Vec<ModelId>>> {
    let dim = transition.config.network.architecture.dim;
    if !work.take(direction_work(dim).saturating_mul(batch.into())) {
        return None;
    }
    let first = transition.clock.next_target.0;
    let ids = (first..first.saturating_add(batch)).map(TargetId);
    let directions = ids.map(|id| direction(&record.beacon, id, dim)).collect();
    let models = transition.config.params.models_per_target;
    let per_target = usize::try_from(models).unwrap_or(usize::MAX);
    let mut routing = Routing::resume(directions, per_target, std::mem::take(&mut task.nearest));
    let offer_work = offer_work(dim, batch);
    while let Some(place) = task.left.checked_sub(1) {
        if !work.take(offer_work) {
            task.nearest = routing.into_nearest();
            return None;
        }
        task.left = place;
        if let Some(model) = routable(transition, place) {
            let specialization = read::specialization(transition.state, model.id);
            routing.offer(&RoutableModel {
                model: model.id,
                activated: model.activated,
                stake: model.pool.stake,
                specialization: &specialization.unwrap_or_default(),
            });
        }
    }
    if !work.take(draw_work(dim, models).saturating_mul(batch.into())) {
        task.nearest = routing.into_nearest();
        return None;
    }
    task.left = record.living;
    Some(routing.finish().collect())
}

/// The living model at a place, if it may be routed: active, refreshed, with enough stake, and
/// bound to one specialization. One that has not revealed what it committed to is not: whoever saw
/// the beacon before it revealed could choose between its old and its new weights.
fn routable(transition: &Transition<'_, '_>, place: u32) -> Option<Model> {
    let params = &transition.config.params;
    let model = read::model(transition.state, read::living_model(transition.state, place)?)?;
    let refreshed = transition.clock.epoch < model.refresh_due(params.refresh_epochs);
    let architecture = transition.config.network.architecture_number;
    let commit = Key::commit(model.id, transition.clock.epoch, architecture);
    let bound =
        !transition.state.contains(&commit) || !transition.config.defends(Defense::BoundCommit);
    let routable = model.status == ModelStatus::Active
        && refreshed
        && bound
        && model.pool.stake >= params.model_stake_min;
    routable.then_some(model)
}

/// Saves the next target, with the models that compete for it and their specializations.
fn draw_one(transition: &mut Transition<'_, '_>, record: &EpochRecord, models: Vec<ModelId>) {
    let (id, epoch, reward) = (transition.clock.next_target, record.epoch, record.target_reward);
    let routed: Vec<Routed> =
        models.iter().filter_map(|&id| competitor(transition.state, id)).collect();
    for &Routed { model, .. } in &routed {
        let key = Key::drawn_specialization(epoch, model);
        if !transition.state.contains(&key) {
            let components = read::specialization(transition.state, model).unwrap_or_default();
            transition.state.save(key, &Specialization(components));
        }
        let mut routes = read::routes(transition.state, epoch, model).unwrap_or_default();
        routes.targets = routes.targets.saturating_add(1);
        routes.left = routes.left.saturating_add(1);
        transition.state.save(Key::routes(epoch, model), &routes);
    }
    let target = Target { id, epoch, reward, routed, status: TargetStatus::Open };
    transition.state.save(Key::target(id), &target);
    transition.clock.next_target = id.next();
    transition.events.push(Event::TargetDrawn { target: id, epoch, reward, models });
}

/// How many targets are routed in one pass over the models.
fn batch_max(transition: &Transition<'_, '_>) -> u32 {
    let each = direction_work(transition.config.network.architecture.dim);
    let fits = (TASK_WORK_MAX / 4).checked_div(each).unwrap_or(1);
    u32::try_from(fits).unwrap_or(u32::MAX).clamp(1, TARGETS_PER_PASS_MAX)
}

/// Work of computing a direction: eight components take a microsecond.
fn direction_work(dim: u32) -> u64 {
    u64::from(dim.div_ceil(8))
}

/// Work of saving a target, the specializations of its models, and how many targets they have.
fn draw_work(dim: u32, models: u32) -> u64 {
    let each = u64::from(dim).div_ceil(200).saturating_add(10);
    each.saturating_mul(models.into())
}

/// Work of loading a model and offering it to each target of a batch.
fn offer_work(dim: u32, batch: u32) -> u64 {
    let products = u64::from(dim).saturating_add(100).saturating_mul(batch.into());
    u64::from(dim).div_ceil(500).saturating_add(3).saturating_add(products.div_ceil(6_000))
}

/// The model, with the weights that it competes with from now on, whatever it reveals later.
fn competitor(state: &dyn StateRead, id: ModelId) -> Option<Routed> {
    let weights_hash = read::model(state, id)?.weights?;
    let age = read::weights(state, id, &weights_hash)?.age;
    Some(Routed { model: id, weights_hash, age })
}

#[cfg(test)]
mod tests {
    use super::{direction, scaled};
    use soma_architecture::embedding::{is_unit_length, length_squared};

    use crate::{Hash, TargetId};

    #[test]
    fn every_direction_has_unit_length_and_its_own_components() {
        for dim in [8, 128, 2_048] {
            let one = direction(&Hash([1; 32]), TargetId(1), dim);
            assert!(is_unit_length(length_squared(&one), dim));
            assert_eq!(one, direction(&Hash([1; 32]), TargetId(1), dim));
            assert_ne!(one, direction(&Hash([1; 32]), TargetId(2), dim));
            assert_ne!(one, direction(&Hash([2; 32]), TargetId(1), dim));
        }
    }

    #[test]
    fn scaling_rounds_to_nearest() {
        assert_eq!(scaled(&[3, -4]), [19_660, -26_214]); // 19660.2 and 26213.6
        assert_eq!(scaled(&[0, 5]), [0, 32_767]);
        assert_eq!(scaled(&[0, 0]), [32_767, 0]);
        assert_eq!(scaled(&[1, 1]), [23_170, 23_170]); // 23169.8
    }
}

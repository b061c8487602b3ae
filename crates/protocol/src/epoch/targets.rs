//! Targets: directions drawn uniformly from an epoch's randomness. Nobody can choose, buy or
//! predict them, and everyone computes the same ones.

use soma_architecture::embedding::UNIT;

use super::routing::{RoutableModel, Routing};

use crate::money::rewards;
use crate::money::rewards::Emission;
use crate::record::{EpochRecord, Model, ModelStatus, Routed, Target, TargetStatus};
use crate::state::{Key, StateRead};
use crate::transition::Transition;
use crate::value::parts_hasher;
use crate::{Address, Event, Hash, ModelId, TargetId, read};

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

/// Draws the running epoch's targets, routes models to them and takes their rewards from the
/// reserve. If no model can be routed, there are no targets, and nothing is minted.
pub(crate) fn draw(transition: &mut Transition<'_, '_>, beacon: Hash, revealed: Vec<Address>) {
    let epoch = transition.clock.epoch;
    let routable = routable(transition);
    let (count, emission) = if routable.is_empty() {
        (0, Emission::default())
    } else {
        (transition.config.params.targets_per_epoch, rewards::emit(transition))
    };
    let record = EpochRecord {
        epoch,
        architecture: transition.config.network.architecture_number,
        beacon,
        first_target: transition.clock.next_target,
        targets: count,
        target_reward: emission.target_reward,
        validator_pot: emission.validator_pot,
        revealed,
    };
    transition.state.save(Key::epoch(epoch), &record);
    let routed = route(transition, &record, &routable);
    for (id, models) in record.target_ids().zip(routed) {
        let reward = emission.target_reward;
        let routed = models.iter().filter_map(|&id| competitor(transition.state, id)).collect();
        let target = Target { id, epoch, reward, routed, status: TargetStatus::Open };
        transition.state.save(Key::target(id), &target);
        transition.clock.next_target = id.next();
        transition.events.push(Event::TargetDrawn { target: id, epoch, reward, models });
    }
}

/// Active models with enough stake, in order of id.
fn routable(transition: &Transition<'_, '_>) -> Vec<Model> {
    read::models(transition.state, 1..=u32::MAX)
        .filter(|model| model.status == ModelStatus::Active)
        .filter(|model| model.pool.stake >= transition.config.params.model_stake_min)
        .collect()
}

fn route(
    transition: &Transition<'_, '_>,
    record: &EpochRecord,
    routable: &[Model],
) -> Vec<Vec<ModelId>> {
    let dim = transition.config.network.architecture.dim;
    let directions = record.target_ids().map(|id| direction(&record.beacon, id, dim)).collect();
    let per_target =
        usize::try_from(transition.config.params.models_per_target).unwrap_or(usize::MAX);
    let mut routing = Routing::new(directions, per_target);
    for model in routable {
        let embedding = read::embedding(transition.state, model.id).unwrap_or_default();
        let entrant = RoutableModel {
            model: model.id,
            activated: model.activated,
            stake: model.pool.stake,
            embedding: &embedding,
        };
        routing.offer(&entrant);
    }
    routing.finish().collect()
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
    use crate::action::reveal_weights::check_embedding;
    use crate::{Hash, TargetId};

    #[test]
    fn every_direction_has_unit_length_and_its_own_components() {
        for dim in [8, 128, 2_048] {
            let one = direction(&Hash([1; 32]), TargetId(1), dim);
            check_embedding(&one, dim).unwrap();
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

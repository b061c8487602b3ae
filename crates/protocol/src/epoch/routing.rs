//! Which models compete for a target: exact stake-weighted nearest neighbors, in integers.
//!
//! A model's rank value is `3 * isqrt(dim) * 65536 * distance^2 - U * log2(stake)`, where U = 2 *
//! 32767^2, log2 is in 1/65536, and the distance is that of the specialization's direction from the
//! target's: how far the specialization reaches in it does not count. In high dimensions all
//! distances to a random target are alike, so dividing by a power of stake would route by stake
//! alone; here doubling the stake is worth a third of a standard deviation, and a model's share of
//! targets follows its share of stake.

use soma_architecture::embedding::{Length, UNIT, distance, length_squared};

use crate::record::Rank;
use crate::{Amount, Epoch, ModelId};

/// Units per doubling of stake in the fixed-point logarithm.
const LOG2_ONE: u32 = 65_536;

/// A model that may be routed.
#[derive(Clone, Copy, Debug)]
pub struct RoutableModel<'a> {
    /// The model.
    pub model: ModelId,
    /// Epoch since which it has been active.
    pub activated: Epoch,
    /// Its stake, at least one base unit.
    pub stake: Amount,
    /// Its specialization, with as many components as the directions.
    pub specialization: &'a [i16],
}

/// The nearest models found so far for each of several targets.
#[derive(Clone, Debug)]
pub struct Routing {
    targets: Vec<Target>,
    models_per_target: usize,
}

/// A direction and the models found near it.
#[derive(Clone, Debug)]
struct Target {
    direction: Vec<i16>,
    length_squared: u64,
    nearest: Vec<Rank>,
}

impl Routing {
    /// Routing for targets with these directions, with at most `models_per_target` models each.
    pub fn new(directions: Vec<Vec<i16>>, models_per_target: usize) -> Self {
        Self::resume(directions, models_per_target, Vec::new())
    }

    /// Like [`Self::new`], with the nearest models that an earlier part of the same routing found:
    /// what [`Self::into_nearest`] returned, or nothing.
    pub(crate) fn resume(
        directions: Vec<Vec<i16>>,
        models_per_target: usize,
        nearest: Vec<Vec<Rank>>,
    ) -> Self {
        let nearest = nearest.into_iter().chain(std::iter::repeat_with(Vec::new));
        let targets = directions.into_iter().zip(nearest).map(|(direction, nearest)| Target {
            length_squared: length_squared(&direction),
            direction,
            nearest,
        });
        Self { targets: targets.collect(), models_per_target }
    }

    /// The nearest models found so far, for each target.
    pub(crate) fn into_nearest(self) -> Vec<Vec<Rank>> {
        self.targets.into_iter().map(|target| target.nearest).collect()
    }

    /// Offers a model to all targets. The order of offers does not matter. One whose specialization
    /// is zero, which has no direction, is not routed.
    pub fn offer(&mut self, entrant: &RoutableModel<'_>) {
        let Some(length) = Length::of(entrant.specialization) else {
            return;
        };
        let weight = stake_term(entrant.stake);
        for target in &mut self.targets {
            let direction = &target.direction;
            let squared = target.length_squared;
            let distance = distance(entrant.specialization, length, direction, squared);
            let value = value(distance, direction.len(), weight);
            let rank = Rank { value, activated: entrant.activated, model: entrant.model };
            let nearest = &mut target.nearest;
            let at = nearest.partition_point(|nearer| *nearer < rank);
            if at < self.models_per_target {
                nearest.insert(at, rank);
                nearest.truncate(self.models_per_target);
            }
        }
    }

    /// The models of each target, nearest first.
    pub fn finish(self) -> impl Iterator<Item = Vec<ModelId>> {
        self.targets
            .into_iter()
            .map(|target| target.nearest.into_iter().map(|rank| rank.model).collect())
    }
}

/// The rank value of a model at a target: the lower, the nearer. `None` for a specialization that
/// is zero, which is not routed.
pub fn rank_value(specialization: &[i16], stake: Amount, direction: &[i16]) -> Option<i128> {
    let length = Length::of(specialization)?;
    let distance = distance(specialization, length, direction, length_squared(direction));
    Some(value(distance, direction.len(), stake_term(stake)))
}

/// The rank value of a distance in a space with `dim` dimensions, for a [`stake_term`].
fn value(distance: u64, dim: usize, stake_term: i128) -> i128 {
    let root = i128::try_from(dim.isqrt()).unwrap_or(i128::MAX);
    let factor = root.saturating_mul(3).saturating_mul(LOG2_ONE.into());
    i128::from(distance).saturating_mul(factor).saturating_sub(stake_term)
}

fn stake_term(stake: Amount) -> i128 {
    i128::from(UNIT.saturating_pow(2).saturating_mul(2)).saturating_mul(log2_q16(stake.0).into())
}

/// log2 of a positive integer in 1/65536: the position of the leading bit, and the bits below it as
/// a linear fraction. 0 for 0 and 1.
pub fn log2_q16(value: u64) -> u32 {
    let Some(leading) = value.checked_ilog2() else {
        return 0;
    };
    let normalized = value.wrapping_shl(63_u32.wrapping_sub(leading));
    let fraction = normalized.wrapping_shl(1).wrapping_shr(48);
    leading.wrapping_mul(LOG2_ONE).wrapping_add(u32::try_from(fraction).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::log2_q16;

    #[test]
    fn the_logarithm_is_exact_at_powers_of_two_and_linear_between() {
        assert_eq!(log2_q16(1), 0);
        assert_eq!(log2_q16(2), 65_536);
        assert_eq!(log2_q16(3), 65_536 + 32_768);
        assert_eq!(log2_q16(1 << 63), 63 * 65_536);
        assert_eq!(log2_q16(u64::MAX), 64 * 65_536 - 1);
        for value in 1..10_000 {
            assert!(log2_q16(value) <= log2_q16(value + 1));
        }
    }
}

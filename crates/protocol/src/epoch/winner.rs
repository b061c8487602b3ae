//! Which model predicted best: the one with the lowest cross-entropy, with a small margin in favor
//! of older weights; and whether it predicted well enough. Submitters and auditors call the same
//! functions.

use crate::record::WeightsAge;

/// Index of the winner among the routed models, or `None` if none could be scored.
///
/// `losses` are cross-entropies in 2^-32 nat, in routed order; `None` for a model whose file is
/// missing, malformed or not finite. Of the models whose loss is within [`margin`] of the lowest,
/// the oldest weights win: a copy never beats its original, not even with a little noise added.
pub fn winner(losses: &[Option<i64>], ages: &[WeightsAge], margin_q32: u64) -> Option<usize> {
    let scored = || {
        let places = losses.iter().zip(ages).enumerate();
        places.filter_map(|(at, (loss, age))| Some((at, (*loss)?, age)))
    };
    let lowest = scored().map(|(_, loss, _)| loss).min()?;
    let margin_q32 = margin(lowest, margin_q32);
    scored()
        .filter(|(_, loss, _)| loss.abs_diff(lowest) <= margin_q32)
        .min_by_key(|(at, _, age)| (*age, *at))
        .map(|(at, _, _)| at)
}

/// Whether a gain reaches a minimum, both in 2^-32 nat: whether a model predicts data so much
/// better than counting does that it understands it. A minimum of 0 is none.
pub fn is_gain_enough(gain_q32: i64, min_q32: u64) -> bool {
    min_q32 == 0 || u64::try_from(gain_q32).is_ok_and(|gain_q32| gain_q32 >= min_q32)
}

/// The margin for a lowest loss of l nat: `margin_q32 * (1 + l^2 / 4)`, rounded down, both in 2^-32
/// nat. Noise in the weights changes a loss in proportion to its square.
pub fn margin(lowest_q32: i64, margin_q32: u64) -> u64 {
    let lowest = u128::from(u64::try_from(lowest_q32).unwrap_or(0));
    let square_q32 = lowest.saturating_mul(lowest) >> 32;
    let wider = square_q32.saturating_mul(margin_q32.into()) >> 34;
    margin_q32.saturating_add(u64::try_from(wider).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::{is_gain_enough, margin, winner};
    use crate::Epoch;
    use crate::record::WeightsAge;

    fn age(epoch: u32, height: u64) -> WeightsAge {
        WeightsAge { epoch: Epoch(epoch), height, index: 0 }
    }

    #[test]
    fn the_lowest_loss_wins_beyond_the_margin() {
        let ages = [age(1, 1), age(2, 2)];
        assert_eq!(winner(&[Some(1_011), Some(1_000)], &ages, 10), Some(1));
        assert_eq!(winner(&[Some(1_010), Some(1_000)], &ages, 10), Some(0));
    }

    #[test]
    fn of_equal_losses_the_earlier_epoch_wins_then_the_earlier_commit() {
        assert_eq!(winner(&[Some(5), Some(5)], &[age(2, 1), age(1, 9)], 0), Some(1));
        assert_eq!(winner(&[Some(5), Some(5)], &[age(1, 9), age(1, 8)], 0), Some(1));
    }

    #[test]
    fn a_model_that_failed_ranks_last_and_none_wins_if_all_failed() {
        assert_eq!(winner(&[None, Some(i64::MAX)], &[age(1, 1), age(2, 2)], 10), Some(1));
        assert_eq!(winner(&[None, None], &[age(1, 1), age(2, 2)], 10), None);
        assert_eq!(winner(&[], &[], 10), None);
    }

    #[test]
    fn the_margin_grows_with_the_square_of_the_loss() {
        for (nats, margins) in [(0, 1), (2, 2), (4, 5), (10, 26), (20, 101)] {
            assert_eq!(margin(nats << 32, 1 << 22), margins << 22, "{nats}");
        }
        assert_eq!(margin(i64::MIN, 7), 7);
        assert_eq!(margin(i64::MAX, 0), 0, "a vote can do without");
        assert_eq!(margin(i64::MAX, u64::MAX), u64::MAX);
        let (ages, loss) = ([age(1, 1), age(2, 2)], 10 << 32);
        assert_eq!(winner(&[Some(loss + 260), Some(loss)], &ages, 10), Some(0));
        assert_eq!(winner(&[Some(loss + 261), Some(loss)], &ages, 10), Some(1));
    }

    #[test]
    fn a_gain_is_enough_at_the_minimum_and_without_one_always() {
        for (gain_q32, enough) in [(7, true), (6, false), (-7, false), (i64::MIN, false)] {
            assert_eq!(is_gain_enough(gain_q32, 7), enough, "{gain_q32}");
            assert!(is_gain_enough(gain_q32, 0));
        }
        assert!(!is_gain_enough(i64::MAX, u64::MAX));
    }

    #[test]
    fn a_chain_of_near_losses_does_not_stretch_the_margin() {
        let ages = [age(1, 1), age(2, 2), age(3, 3)];
        assert_eq!(winner(&[Some(20), Some(10), Some(0)], &ages, 10), Some(1));
    }
}

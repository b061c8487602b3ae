//! How much stake a seat needs, and how much of a seat's stake counts. Consensus counts seats, so
//! these two rules make a seat cost about as much as what it decides. Pure functions of stakes;
//! `docs/adr` has the reasons and measurements.

use crate::Amount;

/// The cheapest third of the seats holds at least one part in this many of the seated stake.
const CHEAPEST_THIRD: u64 = 4;

/// The fewest seats of which consensus tolerates one as faulty.
const TOLERANT_SEATS: u64 = 4;

/// The fewest seats without which the others cannot decide: one more than consensus tolerates as
/// faulty.
pub const fn blocking(seats: usize) -> usize {
    match seats.saturating_sub(1).checked_div(3) {
        Some(faulty) => faulty.saturating_add(1),
        None => 1,
    }
}

/// The stake that a seat needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// By a validator without one.
    pub to_take: Amount,
    /// By one that has a seat: a little less, so that small changes do not unseat anybody.
    pub to_keep: Amount,
}

/// What `seats` seats are worth if the one with the least stake has `stake`: that, for every seat,
/// since to consensus they are all alike. Fewer than four tolerate no fault and are worth half.
fn worth(seats: u64, stake: Amount) -> Amount {
    let tolerant = u64::from(seats >= TOLERANT_SEATS);
    stake.times(seats).times(tolerant.saturating_add(1))
}

/// The stake that a seat needs, given the stakes of all candidates from the largest down.
///
/// The first n candidates are worth n times the stake of the n-th. As many may take seats as are
/// worth most, and as many may keep them as are worth at least three quarters of that. So many
/// validators with little stake each get no seat beside a few with much, and one with much does not
/// unseat many with less until it has about two thirds of all stake.
pub fn needed(stakes: &[Amount]) -> Needed {
    let worths = || (1_u64..).zip(stakes).map(|(seats, stake)| (worth(seats, *stake), *stake));
    let best = worths().map(|(worth, _)| worth).max().unwrap_or_default();
    let least = |enough: Amount| {
        let last = worths().filter(|(worth, _)| worth.times(4) >= enough).last();
        last.map_or(Amount::ZERO, |(_, stake)| stake)
    };
    Needed { to_take: least(best.times(4)), to_keep: least(best.times(3)) }
}

/// The most stake that one seat counts, given the stakes of all seats from the largest down: the
/// largest amount with which the cheapest third of the seats ([`blocking`]) still holds at least a
/// quarter of what all seats count.
pub fn limit(stakes: &[Amount]) -> Amount {
    let (Some(largest), Some(smallest)) = (stakes.first(), stakes.last()) else {
        return Amount::ZERO;
    };
    // What all count alike always has enough; from there on, the share only shrinks.
    let (mut enough, mut above) = (smallest.0, largest.0);
    while enough < above {
        let middle = enough.midpoint(above).saturating_add(1);
        if third_has_enough(stakes, Amount(middle)) {
            enough = middle;
        } else {
            above = middle.saturating_sub(1);
        }
    }
    Amount(enough)
}

/// Whether the cheapest third holds enough if no seat counts more than `limit`.
fn third_has_enough(stakes: &[Amount], limit: Amount) -> bool {
    let counted =
        |stakes: &[Amount]| -> Amount { stakes.iter().map(|stake| *stake.min(&limit)).sum() };
    let (_, cheapest) = stakes.split_at(stakes.len().saturating_sub(blocking(stakes.len())));
    counted(cheapest).times(CHEAPEST_THIRD) >= counted(stakes)
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "small numbers of a test")]
mod tests {
    use super::{blocking, limit, needed};
    use crate::Amount;
    use proptest::prelude::*;

    fn soma(stakes: &[u64]) -> Vec<Amount> {
        stakes.iter().map(|stake| Amount::soma(*stake)).collect()
    }

    #[test]
    fn a_third_is_what_consensus_cannot_do_without() {
        assert_eq!([1, 2, 3, 4, 6, 7, 64].map(blocking), [1, 1, 1, 2, 2, 3, 22]);
    }

    /// How many of these candidates may take a seat, and how many may keep one.
    fn seats(stakes: &[u64]) -> (usize, usize) {
        let stakes = soma(stakes);
        let needed = needed(&stakes);
        let with = |least| stakes.iter().filter(|stake| **stake >= least).count();
        (with(needed.to_take), with(needed.to_keep))
    }

    fn beside(few: &[u64], count: usize, stake: u64) -> Vec<u64> {
        few.iter().copied().chain(std::iter::repeat_n(stake, count)).collect()
    }

    #[test]
    fn as_many_have_seats_as_are_worth_most() {
        assert_eq!(seats(&[]), (0, 0));
        assert_eq!(seats(&[900]), (1, 1));
        assert_eq!(seats(&[900, 450]), (2, 2));
        assert_eq!(seats(&[900, 449]), (1, 2));
        assert_eq!(seats(&[900, 300]), (1, 1));
        // Twenty with much stake, and as many with little as there is room for.
        let equals = [100_000; 20];
        assert_eq!(seats(&beside(&equals, 40, 1_000)), (20, 20));
        assert_eq!(seats(&beside(&equals, 44, 23_437)), (20, 20));
        assert_eq!(seats(&beside(&equals, 44, 23_438)), (20, 64));
        assert_eq!(seats(&beside(&equals, 44, 31_249)), (20, 64));
        assert_eq!(seats(&beside(&equals, 44, 31_250)), (64, 64));
        // One with much stake beside others that have less.
        assert_eq!(seats(&beside(&[42_000], 20, 1_000)), (21, 21));
        assert_eq!(seats(&beside(&[42_001], 20, 1_000)), (1, 21));
        assert_eq!(seats(&beside(&[56_001], 20, 1_000)), (1, 1));
        // Four of them tolerate one fault, and need only be worth more than the rest.
        assert_eq!(seats(&beside(&[6_000; 4], 20, 1_000)), (24, 24));
        assert_eq!(seats(&beside(&[6_001; 4], 20, 1_000)), (4, 24));
        assert_eq!(seats(&beside(&[8_001; 4], 20, 1_000)), (4, 4));
    }

    #[test]
    fn what_a_seat_counts_is_limited_only_where_a_third_would_be_cheap() {
        assert_eq!(limit(&[]), Amount::ZERO);
        assert_eq!(limit(&soma(&[7])), Amount::soma(7));
        assert_eq!(limit(&soma(&[100, 90, 80, 70])), Amount::soma(100));
        assert_eq!(limit(&soma(&[1_000, 100, 100, 100])), Amount::soma(500));
        assert_eq!(
            limit(&soma(&[9, 0, 0, 0])),
            Amount::ZERO,
            "seats without stake are no majority"
        );
    }

    fn stakes() -> impl Strategy<Value = Vec<Amount>> {
        let stake = prop_oneof![0..10_u64, 0..1_000_000_000_u64, any::<u32>().prop_map(u64::from)];
        prop::collection::vec(stake, 1..65).prop_map(|mut stakes| {
            stakes.sort_unstable_by(|one, other| other.cmp(one));
            stakes.into_iter().map(Amount).collect()
        })
    }

    proptest! {
        #[test]
        fn the_cheapest_third_has_a_quarter_and_no_larger_limit_would_do(stakes in stakes()) {
            let most = limit(&stakes);
            let third_of = |most: Amount| -> (Amount, Amount) {
                let counted: Vec<Amount> = stakes.iter().map(|stake| *stake.min(&most)).collect();
                let cheapest = counted.iter().rev().take(blocking(counted.len()));
                (cheapest.copied().sum(), counted.iter().copied().sum())
            };
            let (third, all) = third_of(most);
            prop_assert!(third.times(4) >= all);
            if most < stakes[0] {
                let (third, all) = third_of(most.plus(Amount(1)));
                prop_assert!(third.times(4) < all);
            }
        }

        #[test]
        fn whoever_has_as_much_as_a_third_of_equals_in_equal_parts_is_no_danger(
            honest in 4..48_usize, parts in 1..48_usize,
        ) {
            // The others together have a fifth of all stake at most, however many they are.
            let parts = parts.min(64 - honest);
            let stake = 1_000_000 * u64::try_from(parts).unwrap();
            let total = stake * u64::try_from(honest).unwrap();
            let part = total / 4 / u64::try_from(parts).unwrap();
            let mut all = vec![Amount(stake); honest];
            all.extend(std::iter::repeat_n(Amount(part), parts));
            all.sort_unstable_by(|one, other| other.cmp(one));
            let needed = needed(&all);
            prop_assert!(needed.to_keep <= Amount(stake), "an honest one is unseated");
            if part >= needed.to_keep.0 {
                prop_assert!(parts <= blocking(honest + parts), "{parts} beside {honest}");
            }
        }
    }
}

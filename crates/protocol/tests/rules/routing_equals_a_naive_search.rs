//! Routing keeps a short list while models stream by; here all models are ranked by the formula as
//! it is written, with sums of squares in arbitrary order and a sort of everything.

use proptest::prelude::*;
use soma_protocol::routing::{RoutableModel, Routing, log2_q16};
use soma_protocol::{Amount, Epoch, ModelId};

#[derive(Clone, Debug)]
struct Candidate {
    activated: u32,
    stake: u64,
    specialization: Vec<i16>,
}

/// log2 by repeated halving, with the linear fraction from exact division.
fn naive_log2_q16(stake: u64) -> i128 {
    let mut leading = 0_u32;
    while u128::from(stake) >> (leading + 1) > 0 {
        leading += 1;
    }
    let power = 1_i128 << leading;
    i128::from(leading) * 65_536 + (i128::from(stake) - power) * 65_536 / power
}

/// The squared distance between two directions, the second of length 32767: twice its square, less
/// twice the product, which is rounded toward zero and at most as large.
fn naive_distance(vector: &[i16], target: &[i16]) -> Option<i128> {
    let products = vector.iter().zip(target).rev().map(|(a, b)| i128::from(*a) * i128::from(*b));
    let product: i128 = products.sum();
    let squared: u128 = vector.iter().map(|one| u128::from(one.unsigned_abs()).pow(2)).sum();
    let unit = 32_767_u128.pow(2);
    let square = (product.unsigned_abs().pow(2) * unit).checked_div(squared)?;
    // The largest number whose square is not larger, bit by bit.
    let mut along = 0_u128;
    for bit in (0..64).rev() {
        let larger = along | (1 << bit);
        if larger * larger <= square {
            along = larger;
        }
    }
    let along = i128::try_from(along.min(unit)).unwrap() * product.signum();
    Some(2 * (i128::try_from(unit).unwrap() - along))
}

fn naive_route(direction: &[i16], models: &[Candidate], k: usize) -> Vec<ModelId> {
    let mut root = 0_i128;
    while (root + 1) * (root + 1) <= direction.len() as i128 {
        root += 1;
    }
    let mut ranked: Vec<(i128, u32, u32)> = models
        .iter()
        .enumerate()
        .filter_map(|(at, model)| {
            let distance = naive_distance(&model.specialization, direction)?;
            let unit = 2 * 32_767_i128.pow(2);
            let value = 3 * root * 65_536 * distance - unit * naive_log2_q16(model.stake);
            Some((value, model.activated, u32::try_from(at).unwrap() + 1))
        })
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().take(k).map(|(_, _, id)| ModelId(id)).collect()
}

fn routed(direction: &[i16], models: &[Candidate], k: usize, backwards: bool) -> Vec<ModelId> {
    let mut routing = Routing::new(vec![direction.to_vec()], k);
    let mut order: Vec<usize> = (0..models.len()).collect();
    if backwards {
        order.reverse();
    }
    for at in order {
        routing.offer(&RoutableModel {
            model: ModelId(u32::try_from(at).unwrap() + 1),
            activated: Epoch(models[at].activated),
            stake: Amount(models[at].stake),
            specialization: &models[at].specialization,
        });
    }
    routing.finish().next().unwrap()
}

fn models(dim: usize) -> impl Strategy<Value = Vec<Candidate>> {
    // Few distinct values, so that ties of every kind come up; and any values at all.
    let component = prop_oneof![Just(0), Just(1), Just(-1), any::<i16>()];
    let stake = prop_oneof![Just(1), Just(2), Just(3), 1..=u64::MAX];
    let model = (0..3_u32, stake, prop::collection::vec(component, dim)).prop_map(
        |(activated, stake, specialization)| Candidate { activated, stake, specialization },
    );
    prop::collection::vec(model, 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn routing_is_exactly_the_formula(
        (direction, models) in (1..20_usize).prop_flat_map(|dim| {
            (prop::collection::vec(any::<i16>(), dim), models(dim))
        }),
        k in 1..6_usize,
    ) {
        let naive = naive_route(&direction, &models, k);
        prop_assert_eq!(&routed(&direction, &models, k, false), &naive);
        prop_assert_eq!(&routed(&direction, &models, k, true), &naive, "in any order");
    }

    #[test]
    fn the_logarithm_is_exact(value in 1..=u64::MAX, shift in 0..64_u32) {
        let value = (value >> shift).max(1);
        prop_assert_eq!(i128::from(log2_q16(value)), naive_log2_q16(value));
    }
}

#[test]
fn of_equal_models_the_one_active_longer_ranks_first_then_the_lower_id() {
    let model = |activated| Candidate { activated, stake: 5, specialization: vec![3, 4] };
    let models = [model(2), model(1), model(1), model(3)];
    assert_eq!(routed(&[7, 7], &models, 3, true), [2, 3, 1].map(ModelId));
}

#[test]
fn how_far_a_specialization_reaches_in_its_direction_does_not_count() {
    let model = |specialization: [i16; 2]| Candidate {
        activated: 1,
        stake: 5,
        specialization: specialization.to_vec(),
    };
    let models = [model([30, 40]), model([3_000, 4_000]), model([15_000, 20_001])];
    let target = [19_660, 26_214];
    assert_eq!(routed(&target, &models, 2, true), [1, 2].map(ModelId), "then the lower id");
    assert_eq!(routed(&target, &[model([0, 0]), model([-3, -4])], 2, false), [ModelId(2)]);
}

#[test]
fn a_doubling_of_stake_is_worth_a_third_of_a_deviation_and_no_more() {
    // dim 2048: squared distances of random directions spread by U / isqrt(dim) = U / 45.
    let (unit, dim, million) = (2 * 32_767_i128.pow(2), 2_048, 1_000_000_u64);
    let target: Vec<i16> = (0..dim).map(|at| if at == 0 { i16::MAX } else { 0 }).collect();
    // A direction whose squared distance is U less so many millionths of it.
    let at = |along: u64| {
        let across = (million.pow(2) - along.pow(2)).isqrt();
        let mut direction = vec![0_i16; dim];
        for (component, part) in direction.iter_mut().zip([along, across]) {
            *component = i16::try_from(part * 32_767 / million).unwrap();
        }
        direction
    };
    let third = million / 45 / 3;
    let near = Candidate { activated: 1, stake: 1_000, specialization: at(million / 2) };
    let farther =
        |by: u64| Candidate { stake: 2_000, specialization: at(million / 2 - by), ..near.clone() };
    let less = farther(third * 9 / 10);
    assert_eq!(routed(&target, &[near.clone(), less], 1, false), [ModelId(2)]);
    let more = farther(third * 11 / 10);
    assert_eq!(routed(&target, &[near.clone(), more], 1, false), [ModelId(1)]);
    let distance = naive_distance(&near.specialization, &target).unwrap();
    assert!((distance - unit / 2).abs() < unit / 1_000);
}

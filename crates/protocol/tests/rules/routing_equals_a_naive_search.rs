//! Routing keeps a short list while models stream by; here all models are ranked by the formula as
//! it is written, with sums of squares in arbitrary order and a sort of everything.

use proptest::prelude::*;
use soma_architecture::embedding::distance_squared;
use soma_protocol::routing::{RoutableModel, Routing, log2_q16};
use soma_protocol::{Amount, Epoch, ModelId};

#[derive(Clone, Debug)]
struct Candidate {
    activated: u32,
    stake: u64,
    embedding: Vec<i16>,
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

fn naive_route(direction: &[i16], models: &[Candidate], k: usize) -> Vec<ModelId> {
    let mut root = 0_i128;
    while (root + 1) * (root + 1) <= direction.len() as i128 {
        root += 1;
    }
    let mut ranked: Vec<(i128, u32, u32)> = models
        .iter()
        .enumerate()
        .map(|(at, model)| {
            let distance: i128 = direction
                .iter()
                .zip(&model.embedding)
                .rev()
                .map(|(a, b)| (i128::from(*a) - i128::from(*b)).pow(2))
                .sum();
            let unit = 2 * 32_767_i128.pow(2);
            let value = 3 * root * 65_536 * distance - unit * naive_log2_q16(model.stake);
            (value, model.activated, u32::try_from(at).unwrap() + 1)
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
            embedding: &models[at].embedding,
        });
    }
    routing.finish().next().unwrap()
}

fn models(dim: usize) -> impl Strategy<Value = Vec<Candidate>> {
    // Few distinct values, so that ties of every kind come up; and any values at all.
    let component = prop_oneof![Just(0), Just(1), Just(-1), any::<i16>()];
    let stake = prop_oneof![Just(1), Just(2), Just(3), 1..=u64::MAX];
    let model = (0..3_u32, stake, prop::collection::vec(component, dim))
        .prop_map(|(activated, stake, embedding)| Candidate { activated, stake, embedding });
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
    fn distances_are_exact_whatever_the_length(
        (a, b) in (1..70_usize).prop_flat_map(|dim| {
            let vector = || (0..16_u32, prop::collection::vec(any::<i16>(), dim))
                .prop_map(|(shift, v)| v.into_iter().map(|x| x >> shift).collect::<Vec<_>>());
            (vector(), vector())
        }),
    ) {
        let naive: u64 = a.iter().zip(&b).map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2)).sum();
        prop_assert_eq!(distance_squared(&a, &b), naive);
    }

    #[test]
    fn the_logarithm_is_exact(value in 1..=u64::MAX, shift in 0..64_u32) {
        let value = (value >> shift).max(1);
        prop_assert_eq!(i128::from(log2_q16(value)), naive_log2_q16(value));
    }
}

#[test]
fn of_equal_models_the_one_active_longer_ranks_first_then_the_lower_id() {
    let model = |activated| Candidate { activated, stake: 5, embedding: vec![3, 4] };
    let models = [model(2), model(1), model(1), model(3)];
    assert_eq!(routed(&[7, 7], &models, 3, true), [2, 3, 1].map(ModelId));
}

#[test]
fn a_doubling_of_stake_is_worth_a_third_of_a_deviation_and_no_more() {
    // dim 2048: squared distances of random unit vectors spread by U / isqrt(dim) = U / 45.
    let unit = 2 * 32_767_u64.pow(2);
    let dim = 2_048;
    let at = |distance: u64| {
        // A vector at this squared distance from the zero vector, up to a tenth of `third`.
        let component = (distance / dim as u64).isqrt();
        vec![i16::try_from(component).unwrap(); dim]
    };
    let third = unit / 45 / 3;
    let near = Candidate { activated: 1, stake: 1_000, embedding: at(unit / 2) };
    let farther =
        |by: u64| Candidate { stake: 2_000, embedding: at(unit / 2 + by), ..near.clone() };
    let target = vec![0; dim];
    assert_eq!(routed(&target, &[near.clone(), farther(third / 2)], 1, false), [ModelId(2)]);
    assert_eq!(routed(&target, &[near.clone(), farther(third * 3 / 2)], 1, false), [ModelId(1)]);
    assert!(distance_squared(&near.embedding, &target).abs_diff(unit / 2) < third / 5);
}

//! Embeddings: directions as integers, of length [`UNIT`] up to rounding; the means of several, of
//! at most that length; and the distances of their directions from targets.
//!
//! Distances decide who is routed and paid, so this arithmetic is implemented only once, and it
//! is exact: the real number, rounded once.

/// Length of an embedding and of a target's direction.
pub const UNIT: u64 = 32_767;

/// Squared length, exact for up to 2^33 components.
pub fn length_squared(embedding: &[i16]) -> u64 {
    embedding
        .iter()
        .map(|&component| u64::from(component.unsigned_abs()).pow(2))
        .fold(0, u64::wrapping_add)
}

/// Whether a vector of this squared length has the length [`UNIT`], up to the rounding of its `dim`
/// components. A shorter vector would be nearer to every target than an honest one.
pub fn is_unit_length(length_squared: u64, dim: u32) -> bool {
    length_squared.abs_diff(UNIT.saturating_pow(2)) <= rounding(dim)
}

/// Whether a vector of this squared length can be a mean of embeddings: it is not zero, and not
/// longer than [`UNIT`] up to the rounding of the embeddings and of their mean.
pub fn is_mean_length(length_squared: u64, dim: u32) -> bool {
    let max = UNIT.saturating_pow(2).saturating_add(rounding(dim).saturating_mul(2));
    (1..=max).contains(&length_squared)
}

/// The mean of embeddings, rounded to nearest (halves away from zero): the specialization of a
/// model that embeds its own documents.
///
/// Embeddings with a different number of components from the first are ignored. `None` if there
/// are no embeddings or their mean is zero, which is no specialization.
pub fn mean<'a>(embeddings: impl IntoIterator<Item = &'a [i16]>) -> Option<Vec<i16>> {
    let mut embeddings = embeddings.into_iter();
    let first = embeddings.next()?;
    let mut sums: Vec<i64> = first.iter().map(|&component| component.into()).collect();
    let mut count = 1_i64;
    for embedding in embeddings.filter(|embedding| embedding.len() == first.len()) {
        count = count.saturating_add(1);
        for (sum, &component) in sums.iter_mut().zip(embedding) {
            *sum = sum.saturating_add(component.into());
        }
    }
    let rounded = |sum: i64| {
        let half_away = count.saturating_mul(sum.signum());
        let doubled = sum.saturating_mul(2).saturating_add(half_away);
        i16::try_from(doubled.checked_div(count.saturating_mul(2))?).ok()
    };
    let mean: Vec<i16> = sums.into_iter().map(rounded).collect::<Option<_>>()?;
    mean.iter().any(|&component| component != 0).then_some(mean)
}

/// Maximum [`distance`]: that of opposite directions.
pub const DISTANCE_MAX: u64 = 4 * UNIT * UNIT;

/// The length of a vector that is not zero, computed once for its distances from many targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    squared: u64,
    /// `UNIT / length` in units of 2^-49, rounded down.
    inverse: u64,
}

impl Length {
    /// The length of a vector, or `None` if it is zero and so has no direction.
    pub fn of(vector: &[i16]) -> Option<Self> {
        Self::of_squared(length_squared(vector))
    }

    /// The square of the length.
    pub fn squared(self) -> u64 {
        self.squared
    }

    fn of_squared(squared: u64) -> Option<Self> {
        // The square root of the quotient's floor is the floor of the quotient's square root.
        let unit = u128::from(UNIT.saturating_pow(2)).wrapping_shl(2 * INVERSE_BITS);
        let inverse = unit.checked_div(squared.into())?.isqrt();
        Some(Self { squared, inverse: u64::try_from(inverse).unwrap_or(u64::MAX) })
    }
}

/// Binary digits of a [`Length`]'s inverse below the point; with as many, it is below 2^64.
const INVERSE_BITS: u32 = 49;

/// Squared distance between the direction of `vector` and `target`, a direction of length [`UNIT`]
/// up to rounding: `2 UNIT^2 - 2 s`, where `s` is their product `vector . target` times `UNIT /
/// |vector|`, rounded toward zero and at most `UNIT^2` in magnitude. So it is at most
/// [`DISTANCE_MAX`], and positive multiples of a vector have the same distance within the rounding.
///
/// `length` is that of `vector`, `target_squared` the [`length_squared`] of `target`. Exact for up
/// to 2^16 components. If the numbers of components differ, the distance is greater than any other:
/// [`u64::MAX`].
pub fn distance(vector: &[i16], length: Length, target: &[i16], target_squared: u64) -> u64 {
    if vector.len() != target.len() {
        return u64::MAX;
    }
    distance_given_product(dot(vector, target, [length.squared, target_squared]), length)
}

/// Squared distance of a document from `target`: that of the direction in which its `embedding`
/// lies, seen from `specialization`, the mean of what its model is for. Otherwise as [`distance`].
///
/// `None` if the document has no direction, because it lies at the mean itself, or if the numbers
/// of components differ.
pub fn document_distance(embedding: &[i16], specialization: &[i16], target: &[i16]) -> Option<u64> {
    if embedding.len() != specialization.len() || embedding.len() != target.len() {
        return None;
    }
    let (mut squared, mut product) = (0_u64, 0_i64);
    for ((&component, &mean), &along) in embedding.iter().zip(specialization).zip(target) {
        let component = i64::from(component).wrapping_sub(mean.into());
        squared = squared.wrapping_add(component.unsigned_abs().wrapping_pow(2));
        product = product.wrapping_add(component.wrapping_mul(along.into()));
    }
    Some(distance_given_product(product, Length::of_squared(squared)?))
}

/// [`distance`] of a vector of this length, whose product with the target is `product`.
fn distance_given_product(product: i64, length: Length) -> u64 {
    let one = UNIT.saturating_pow(2);
    let size = product.unsigned_abs();
    // |product| * UNIT / length, rounded down: this or one more, because the inverse is too small
    // by less than 2^-49 and products of 2^16 components are below 2^47.
    let scaled = u128::from(size).saturating_mul(length.inverse.into()) >> INVERSE_BITS;
    let next = scaled.saturating_add(1);
    let square = u128::from(size.saturating_mul(UNIT));
    let reaches = next.saturating_pow(2).saturating_mul(length.squared.into())
        <= square.saturating_mul(square);
    let along = u64::try_from(if reaches { next } else { scaled }).unwrap_or(one).min(one);
    let half = if product < 0 { one.saturating_add(along) } else { one.saturating_sub(along) };
    half.saturating_mul(2)
}

/// How far rounding to integers can move the squared length of a vector of length [`UNIT`].
fn rounding(dim: u32) -> u64 {
    let dim = u64::from(dim);
    UNIT.saturating_mul(dim.isqrt().saturating_add(1)).saturating_add(dim)
}

/// The product `a . b` of vectors with these squared lengths.
fn dot(a: &[i16], b: &[i16], [a_squared, b_squared]: [u64; 2]) -> i64 {
    /// If the squared lengths multiply to no more than this, all sums of products, in any order,
    /// fit in an i32 (Cauchy-Schwarz). Processors add such products sixteen at a time, and all
    /// embeddings, means and directions are that short.
    const SHORT: u128 = (i32::MAX as u128).pow(2);
    let products = a.iter().zip(b).map(|(&a, &b)| i32::from(a).wrapping_mul(b.into()));
    if u128::from(a_squared).saturating_mul(b_squared.into()) <= SHORT {
        i64::from(products.fold(0, i32::wrapping_add))
    } else {
        products.map(i64::from).fold(0, i64::wrapping_add)
    }
}

#[cfg(test)]
#[expect(clippy::arithmetic_side_effects, reason = "overflow panics in tests")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn vectors_of_different_lengths_are_as_far_apart_as_can_be() {
        assert_eq!(distance(&[1, 2], Length::of(&[1, 2]).unwrap(), &[1], 1), u64::MAX);
        assert_eq!(document_distance(&[1, 2], &[1, 1], &[1]), None);
        assert_eq!(document_distance(&[1, 2], &[1], &[1, 1]), None);
    }

    #[test]
    fn only_unit_length_is_unit_length() {
        assert!(is_unit_length(length_squared(&[32_767, 0]), 2));
        assert!(!is_unit_length(length_squared(&[30_000, 0]), 2));
    }

    fn from_target(vector: &[i16], target: &[i16]) -> Option<u64> {
        Some(distance(vector, Length::of(vector)?, target, length_squared(target)))
    }

    /// The definition, in numbers that are large enough for it.
    fn defined(product: i128, squared: u128) -> Option<u64> {
        let one = u128::from(UNIT).pow(2);
        let along = product.unsigned_abs().pow(2).checked_mul(one).unwrap().checked_div(squared)?;
        let along = i128::try_from(along.isqrt().min(one)).unwrap() * product.signum();
        let distance = 2 * (i128::try_from(one).unwrap() - along);
        Some(u64::try_from(distance).unwrap())
    }

    fn product(a: impl Iterator<Item = i128>, b: &[i16]) -> i128 {
        a.zip(b).map(|(a, &b)| a * i128::from(b)).sum()
    }

    fn squared(a: impl Iterator<Item = i128>) -> u128 {
        a.map(|component| component.unsigned_abs().pow(2)).sum()
    }

    #[test]
    fn the_distance_of_a_direction_depends_on_the_angle_alone() {
        let target = [32_767, 0, 0];
        let two_units = 2 * UNIT * UNIT;
        for size in [1, 2, 77, 32_767] {
            assert_eq!(from_target(&[size, 0, 0], &target), Some(0));
            assert_eq!(from_target(&[-size, 0, 0], &target), Some(DISTANCE_MAX));
            assert_eq!(from_target(&[0, size, 0], &target), Some(two_units));
        }
        // 3 : 4 : 5, so the cosine is 0.6.
        let at_three_fifths = two_units - 2 * (3 * UNIT * UNIT / 5);
        assert_eq!(from_target(&[3, 4, 0], &target), Some(at_three_fifths));
        assert_eq!(from_target(&[6_000, 8_000, 0], &target), Some(at_three_fifths));
        assert_eq!(
            document_distance(&[1_003, 5, -7], &[1_000, 1, -7], &target),
            Some(at_three_fifths)
        );
    }

    #[test]
    fn what_lies_at_the_mean_itself_has_no_direction() {
        assert_eq!(Length::of(&[0; 7]), None);
        assert_eq!(Length::of(&[]), None);
        assert_eq!(document_distance(&[5, -6, 7], &[5, -6, 7], &[1, 2, 3]), None);
        assert_eq!(document_distance(&[0, 0], &[0, 0], &[1, 2]), None);
    }

    #[test]
    fn the_largest_vectors_of_the_most_components_do_not_wrap() {
        let dim = 1 << 16;
        let (low, high) = (vec![i16::MIN; dim], vec![i16::MAX; dim]);
        for (a, b, expected) in [
            (&low, &low, 0),
            (&high, &low, DISTANCE_MAX),
            (&low, &high, DISTANCE_MAX),
            (&high, &high, 0),
        ] {
            assert_eq!(from_target(a, b), Some(expected));
        }
        assert_eq!(document_distance(&low, &high, &low), Some(0));
        assert_eq!(document_distance(&low, &high, &high), Some(DISTANCE_MAX));
        // Long products of many digits.
        let mixed: Vec<i16> = (0..dim).map(|at| [i16::MAX, 3, -1, 29_573][at % 4]).collect();
        let wide = |a: &[i16]| a.iter().map(|&x| i128::from(x)).collect::<Vec<_>>().into_iter();
        for vector in [&low, &high, &mixed] {
            let expected = defined(product(wide(vector), &mixed), squared(wide(vector)));
            assert_eq!(from_target(vector, &mixed), expected);
            let seen = || wide(vector).zip(wide(&low)).map(|(a, b)| a - b);
            let expected = defined(product(seen(), &mixed), squared(seen()));
            assert_eq!(document_distance(vector, &low, &mixed), expected);
        }
    }

    #[test]
    fn a_mean_is_rounded_to_nearest_and_a_mean_of_zero_is_none() {
        let means = |given: &[&[i16]]| mean(given.iter().copied());
        assert_eq!(means(&[&[5, -5, 0]]), Some(vec![5, -5, 0]));
        assert_eq!(means(&[&[1, -1, 2], &[2, -2, 2]]), Some(vec![2, -2, 2]));
        assert_eq!(means(&[&[1, -1], &[1, -1], &[2, -2]]), Some(vec![1, -1]));
        assert_eq!(
            means(&[&[i16::MAX, i16::MIN], &[i16::MAX, i16::MIN]]),
            Some(vec![32_767, -32_768])
        );
        assert_eq!(means(&[&[4, 4], &[9], &[6, 6]]), Some(vec![5, 5]));
        assert_eq!(means(&[&[4, 4], &[-4, -4]]), None);
        assert_eq!(means(&[]), None);
    }

    /// A direction as the score makes it: scaled to [`UNIT`] and rounded.
    fn unit(vector: &[i16]) -> Vec<i16> {
        let squared = length_squared(vector).max(1);
        let component = |&x: &i16| {
            let size = u64::from(x.unsigned_abs()).pow(2) * 4 * UNIT * UNIT / squared;
            i16::try_from(size.isqrt().div_ceil(2)).unwrap() * x.signum()
        };
        vector.iter().map(component).collect()
    }

    fn vectors(count: usize) -> impl Strategy<Value = Vec<Vec<i16>>> {
        (1..70_usize).prop_flat_map(move |dim| {
            let vector = (0..16_u32, prop::collection::vec(any::<i16>(), dim))
                .prop_map(|(shift, vector)| vector.into_iter().map(|x| x >> shift).collect());
            prop::collection::vec(vector, count)
        })
    }

    proptest! {
        #[test]
        fn distances_are_exactly_the_definition(given in vectors(3)) {
            let [a, b, target] = &given[..] else { unreachable!() };
            let wide = |a: &[i16]| a.iter().map(|&x| i128::from(x)).collect::<Vec<_>>();
            let whole = wide(a);
            let expected = defined(
                product(whole.iter().copied(), target),
                squared(whole.iter().copied()),
            );
            prop_assert_eq!(from_target(a, target), expected);
            prop_assert!(expected <= Some(DISTANCE_MAX));
            let seen: Vec<i128> = whole.into_iter().zip(wide(b)).map(|(a, b)| a - b).collect();
            let expected =
                defined(product(seen.iter().copied(), target), squared(seen.iter().copied()));
            prop_assert_eq!(document_distance(a, b, target), expected);
        }

        #[test]
        fn of_two_vectors_of_one_length_the_one_with_the_larger_product_is_not_farther(
            squared in 1..=1_u64 << 48,
            products in prop::array::uniform2(-(1_i64 << 47)..=1_i64 << 47),
        ) {
            let length = Length::of_squared(squared).unwrap();
            let [low, high] = [products[0].min(products[1]), products[0].max(products[1])];
            let distance = |product| distance_given_product(product, length);
            prop_assert!(distance(high) <= distance(low));
            prop_assert_eq!(Some(distance(low)), defined(low.into(), squared.into()));
            prop_assert_eq!(distance(low) + distance(-low), DISTANCE_MAX);
        }

        #[test]
        fn every_mean_of_embeddings_has_the_length_of_a_mean(given in vectors(4)) {
            let units: Vec<Vec<i16>> = given.iter().map(|vector| unit(vector)).collect();
            let dim = u32::try_from(given[0].len()).unwrap();
            for count in 1..=units.len() {
                if let Some(mean) = mean(units[..count].iter().map(Vec::as_slice)) {
                    prop_assert!(is_mean_length(length_squared(&mean), dim));
                }
            }
        }
    }

    #[test]
    fn a_specialization_is_neither_zero_nor_longer_than_an_embedding() {
        assert!(!is_mean_length(0, 2_048));
        assert!(is_mean_length(1, 2_048));
        assert!(is_mean_length(UNIT * UNIT, 2_048));
        assert!(!is_mean_length(UNIT * UNIT * 101 / 100, 2_048));
        assert!(!is_mean_length(u64::MAX, u32::MAX));
    }
}

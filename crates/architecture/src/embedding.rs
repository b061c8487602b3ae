//! Embeddings: directions as integers, of length [`UNIT`] up to rounding, and their distances.
//!
//! Distances decide who is routed and paid, so this arithmetic is implemented only once, and it
//! is exact.

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

/// Maximum squared distance between two embeddings: both of maximum length, in opposite directions.
pub fn distance_squared_max(dim: u32) -> u64 {
    UNIT.saturating_pow(2).saturating_add(rounding(dim)).saturating_mul(4)
}

/// How far rounding to integers can move the squared length of a vector of length [`UNIT`].
fn rounding(dim: u32) -> u64 {
    let dim = u64::from(dim);
    UNIT.saturating_mul(dim.isqrt().saturating_add(1)).saturating_add(dim)
}

/// Squared distance, exact. Vectors with different numbers of components count as farther apart
/// than any others: [`u64::MAX`].
pub fn distance_squared(a: &[i16], b: &[i16]) -> u64 {
    distance_squared_given_lengths(a, b, [length_squared(a), length_squared(b)])
}

/// [`distance_squared`] of vectors whose [`length_squared`] is already computed.
pub fn distance_squared_given_lengths(
    a: &[i16],
    b: &[i16],
    [a_squared, b_squared]: [u64; 2],
) -> u64 {
    /// If the squared lengths multiply to no more than this, all sums of products, in any order,
    /// fit in an i32 (Cauchy-Schwarz). Processors add such products sixteen at a time, and all
    /// embeddings and directions are that short.
    const SHORT: u128 = (i32::MAX as u128).pow(2);
    if a.len() != b.len() {
        return u64::MAX;
    }
    let products = a.iter().zip(b).map(|(&a, &b)| i32::from(a).wrapping_mul(b.into()));
    let dot = if u128::from(a_squared).saturating_mul(b_squared.into()) <= SHORT {
        i64::from(products.fold(0, i32::wrapping_add))
    } else {
        products.map(i64::from).fold(0, i64::wrapping_add)
    };
    // |a|^2 + |b|^2 - 2 a.b
    let lengths = a_squared.wrapping_add(b_squared);
    lengths.wrapping_sub(dot.wrapping_mul(2).cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_of_extreme_components_do_not_wrap() {
        let (low, high) = (vec![i16::MIN; 2_048], vec![i16::MAX; 2_048]);
        assert_eq!(distance_squared(&low, &high), 2_048 * 65_535 * 65_535);
    }

    #[test]
    fn vectors_of_different_lengths_are_as_far_apart_as_can_be() {
        assert_eq!(distance_squared(&[1, 2], &[1]), u64::MAX);
        assert_eq!(distance_squared(&[3, 0], &[0, 4]), 25);
    }

    #[test]
    fn only_unit_length_is_unit_length_and_nothing_is_farther_than_opposite_units() {
        let axis = [32_767, 0];
        assert!(is_unit_length(length_squared(&axis), 2));
        assert!(!is_unit_length(length_squared(&[30_000, 0]), 2));
        let distance = distance_squared(&axis, &[-32_767, 0]);
        assert!(distance <= distance_squared_max(2));
    }
}

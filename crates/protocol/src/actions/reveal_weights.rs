//! Revealing what a model was committed to. Anyone may carry it: only the commitment counts.

use crate::Rejection;

/// Length of an embedding and of a target's direction.
pub(crate) const UNIT: u64 = 32_767;

/// Whether an embedding has exactly `dim` components and unit length within rounding. A shorter
/// one would be nearer to every target than an honest one.
pub(crate) fn check_embedding(embedding: &[i16], dim: u32) -> Result<(), Rejection> {
    let found = u32::try_from(embedding.len()).unwrap_or(u32::MAX);
    if found != dim {
        return Err(Rejection::BadEmbeddingDimension {
            found,
            expected: dim,
        });
    }
    let square = |component: &i16| u64::from(component.unsigned_abs()).saturating_pow(2);
    let norm_squared = embedding.iter().map(square).fold(0, u64::saturating_add);
    if norm_squared.abs_diff(UNIT.saturating_pow(2)) > norm_tolerance(dim) {
        return Err(Rejection::BadEmbeddingLength { norm_squared });
    }
    Ok(())
}

/// How far rounding to integers can move the squared length of a vector of length [`UNIT`].
pub(crate) fn norm_tolerance(dim: u32) -> u64 {
    let dim = u64::from(dim);
    UNIT.saturating_mul(dim.isqrt().saturating_add(1))
        .saturating_add(dim)
}

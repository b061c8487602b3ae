//! Targets: directions drawn uniformly from an epoch's randomness. Nobody can choose, buy or
//! foresee them, and everyone computes the same.

use crate::Hash;
use crate::actions::reveal_weights::UNIT;
use crate::hash::parts_hasher;

/// Direction of a target, of length 32767: `dim` components `popcount(256 bits) - 128` from BLAKE3's
/// output stream over the beacon, scaled and rounded to nearest (halves away from zero).
pub fn direction(beacon: &Hash, target: crate::TargetId, dim: u32) -> Vec<i16> {
    let mut stream =
        parts_hasher("soma target", &[&beacon.0, &target.0.to_le_bytes()]).finalize_xof();
    let raw: Vec<i16> = (0..dim)
        .map(|_| {
            let mut bits = [0; 32];
            stream.fill(&mut bits);
            let ones: u32 = bits
                .iter()
                .map(|byte| byte.count_ones())
                .fold(0, u32::saturating_add);
            i16::try_from(ones).unwrap_or(0).saturating_sub(128)
        })
        .collect();
    scaled(&raw)
}

/// `raw` scaled to length 32767. (A zero vector, which never comes up, becomes the first axis.)
fn scaled(raw: &[i16]) -> Vec<i16> {
    let square = |component: i16| u64::from(component.unsigned_abs()).saturating_pow(2);
    let norm_squared = raw
        .iter()
        .map(|&one| square(one))
        .fold(0, u64::saturating_add);
    if norm_squared == 0 {
        return (0..raw.len())
            .map(|at| if at == 0 { i16::MAX } else { 0 })
            .collect();
    }
    // |component| * UNIT / norm, rounded to nearest: half of (the floor of its double, plus one).
    let doubled = |component: i16| {
        let numerator = square(component)
            .saturating_mul(UNIT.saturating_pow(2))
            .saturating_mul(4);
        numerator.checked_div(norm_squared).unwrap_or(0).isqrt()
    };
    raw.iter()
        .map(|&component| {
            let size = i16::try_from(doubled(component).div_ceil(2)).unwrap_or(i16::MAX);
            size.saturating_mul(component.signum())
        })
        .collect()
}

//! Compares SIGReg with its formula in float64, and tests the two cases that tell the right mean
//! from the wrong one.
#![expect(
    clippy::float_cmp,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "a test of bits and of small numbers"
)]

use super::*;
use crate::kernels::KernelChoice;

fn architecture() -> Architecture {
    Architecture { dim: 64, heads: 4, sig_reg_slices: 256, ..Architecture::nano() }
}

/// Independent, approximately normal numbers, each the sum of twelve uniform ones.
fn normal(seed: u8, count: usize) -> Vec<f32> {
    let mut bytes = vec![0; count * 48];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    let unit = |b: &[u8; 4]| f64::from(u32::from_le_bytes(*b)) / 4_294_967_296.0;
    bytes
        .as_chunks::<48>()
        .0
        .iter()
        .map(|b| (b.as_chunks::<4>().0.iter().map(unit).sum::<f64>() - 6.0) as f32)
        .collect()
}

fn sigreg(rows: &[f32], samples: usize) -> f64 {
    let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
    let architecture = architecture();
    let directions = Directions::new(&architecture, [3; 32]);
    let mut projections = Vec::new();
    project(&engine, rows, &directions, &mut projections);
    let projections = Matrix::new(&projections, samples, architecture.sig_reg_slices as usize);
    samples as f64 * distance_from_normal(&engine, &Nodes::new(&architecture), projections)
}

/// The definition, term by term.
#[expect(
    clippy::disallowed_methods,
    reason = "the library's functions are the independent reference"
)]
fn sigreg_in_float64(rows: &[f32], samples: usize) -> f64 {
    let architecture = architecture();
    let directions = Directions::new(&architecture, [3; 32]);
    let mut sum = 0.0;
    for column in 0..architecture.sig_reg_slices as usize {
        let project = |row: &[f32]| -> f64 {
            let matrix = directions.matrix();
            row.iter()
                .enumerate()
                .map(|(k, &z)| f64::from(z) * f64::from(matrix.at(k, column)))
                .sum()
        };
        let projections: Vec<f64> = rows.chunks(architecture.dim as usize).map(project).collect();
        for j in 0..=16 {
            let t = 3.0 * f64::from(j) / 16.0;
            let phi = (-t * t / 2.0).exp();
            let weight = phi * 3.0 / 16.0 * if j == 0 || j == 16 { 1.0 } else { 2.0 };
            let cos = projections.iter().map(|p| (t * p).cos()).sum::<f64>() / samples as f64;
            let sin = projections.iter().map(|p| (t * p).sin()).sum::<f64>() / samples as f64;
            sum += weight * ((cos - phi).powi(2) + sin.powi(2));
        }
    }
    samples as f64 * sum / f64::from(architecture.sig_reg_slices)
}

#[test]
fn sigreg_equals_its_formula() {
    for samples in [1, 5, 64] {
        let rows = normal(1, samples * 64);
        let (got, expected) = (sigreg(&rows, samples), sigreg_in_float64(&rows, samples));
        assert!((got / expected - 1.0).abs() < 1e-5, "{samples} samples: {got} {expected}");
    }
}

#[test]
fn collapsed_rows_score_far_higher_than_independent_ones() {
    let samples = 64;
    let collapsed: Vec<f32> = normal(2, 64).repeat(samples);
    let independent = normal(3, 64 * samples);
    let (collapsed, independent) = (sigreg(&collapsed, samples), sigreg(&independent, samples));
    assert!((60.0..72.0).contains(&collapsed), "{collapsed}");
    assert!((0.9..1.3).contains(&independent), "{independent}");
}

#[test]
fn directions_are_the_bits_of_the_seed_and_have_length_one() {
    let architecture = architecture();
    let Sizes { dim, slices, .. } = Sizes::from(&architecture);
    let mut bits = vec![0; dim * slices / 8];
    blake3::Hasher::new().update(&[9; 32]).finalize_xof().fill(&mut bits);
    let directions = Directions::new(&architecture, [9; 32]);
    for row in 0..dim {
        for column in 0..slices {
            let bit = row * slices + column;
            let set = bits[bit / 8] >> (bit % 8) & 1 == 1;
            assert_eq!(directions.matrix().at(row, column), if set { 0.125 } else { -0.125 });
        }
    }
    let others = Directions::new(&architecture, [8; 32]);
    assert_ne!(directions.matrix().data(), others.matrix().data());
}

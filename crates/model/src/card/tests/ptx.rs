//! What can be said of the text for the driver without a card.

use std::path::Path;

use sha2::{Digest, Sha256};

/// The sources of the kernels, in the order in which they are hashed.
pub(super) const SOURCES: [&str; 4] =
    ["arithmetic.cuh", "functions.cuh", "product.cuh", "kernels.cu"];

const PTX: &str = include_str!("../../../cuda/kernels.ptx");

#[test]
fn the_ptx_was_made_from_these_sources() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cuda");
    let mut hasher = Sha256::new();
    for name in SOURCES {
        hasher.update(std::fs::read(folder.join(name)).unwrap());
    }
    let expected = format!("// sources: {}", hex::encode(hasher.finalize()));
    assert_eq!(PTX.lines().next(), Some(expected.as_str()), "run .ci/ptx");
}

#[test]
fn every_float_operation_in_the_ptx_is_rounded_to_nearest_and_none_is_approximate() {
    let mut count = 0;
    for line in PTX.lines().map(str::trim) {
        assert!(!line.contains(".ftz") && !line.contains(".approx"), "{line}");
        assert!(!line.contains(".sat") && !line.contains(".full"), "{line}");
        let mut parts = line.split_whitespace().next().unwrap_or_default().split('.');
        let operation = parts.next().unwrap_or_default();
        let parts: Vec<&str> = parts.collect();
        let is_float = parts.iter().any(|part| part.starts_with("f32") || part.starts_with("f64"));
        if !is_float {
            continue;
        }
        match operation {
            "add" | "sub" | "mul" | "div" | "sqrt" | "fma" => {
                assert_eq!(parts[0], "rn", "{line}");
                count += 1;
            }
            // Rounding of an integer to a float32, or of a float64; widening is exact.
            "cvt" => assert!(
                line.contains(".rn.f32")
                    || line.contains(".rni.f64.f64")
                    || line.contains("cvt.f64.f32"),
                "{line}"
            ),
            "mov" | "ld" | "st" | "selp" | "setp" | "neg" | "abs" | "max" | "min" => {}
            _ => panic!("an unknown operation on floats: {line}"),
        }
    }
    assert!(count > 1000, "{count}");
}

#[test]
fn the_ptx_is_for_every_card_from_ampere_on() {
    let lines: Vec<&str> = PTX.lines().collect();
    assert!(lines.contains(&".version 7.0"));
    assert!(lines.contains(&".target sm_80"));
    assert!(PTX.is_ascii());
    assert!(PTX.len() < 1_500_000, "{}", PTX.len());
}

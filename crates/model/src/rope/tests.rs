//! Tests the tables to the bit, and against the platform's sin and cos.

use super::*;

fn hex(architecture: &Architecture) -> String {
    blake3::Hash::from(Rope::new(architecture).hash()).to_string()
}

#[test]
fn the_tables_have_the_hashes_that_the_numerics_page_prints() {
    let page = include_str!("../../../../docs/numerics.md");
    for architecture in [Architecture::nano(), Architecture::v1()] {
        let hash = hex(&architecture);
        assert!(page.contains(&hash), "{hash} of {} positions", architecture.positions);
    }
}

#[test]
fn the_tables_are_within_one_ulp_of_cos_and_sin() {
    let architecture = Architecture::v1();
    let rope = Rope::new(&architecture);
    for position in 0..architecture.positions as usize {
        for i in 0..rope.half {
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let (p, exponent) = (position as f64, 2.0 * i as f64 / 256.0);
            let angle = p / libm::pow(10000.0, exponent);
            let at = position * rope.half + i;
            for (got, exact) in [(rope.cos[at], libm::cos(angle)), (rope.sin[at], libm::sin(angle))]
            {
                // The error of the angle itself counts where the value is near zero.
                let limit = exact.abs() * f64::from(f32::EPSILON) / 2.0 + 1e-13;
                assert!((f64::from(got) - exact).abs() <= limit, "{position} {i}: {got} {exact}");
            }
        }
    }
}

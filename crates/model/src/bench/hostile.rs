//! Weights made to take as long as possible: an auditor must score whatever a competitor
//! publishes, so no choice of weights may make a score slow.
//!
//! The slowest numbers are subnormal ones, which some CPUs multiply a hundred times more slowly.
//! The tests here expect that none ever reaches an operation of a score; `examples/slow_weights.rs`
//! measures the time.

use rayon::prelude::*;
use soma_architecture::{Architecture, Linear, Norm, Tensor, TensorSpec};

use crate::error::Error;
use crate::weights::Weights;

/// Seed of the honest weights that recipes change.
const SEED: [u8; 32] = [7; 32];
/// The largest magnitude that still counts as zero in a product.
const BELOW: f32 = f32::from_bits((87 << 23) - 1);

/// A way to choose weights that could make a score slow.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// What is unusual.
    pub name: &'static str,
    /// From a tensor, an element's index and its honest value to its hostile one.
    change: fn(Tensor, usize, f32) -> f32,
}

/// 2^n for a normal or subnormal float32.
const fn two_to(n: i32) -> f32 {
    #[expect(clippy::cast_sign_loss, reason = "both shifts are checked not to be negative")]
    if n >= -126 {
        f32::from_bits(((n + 127) as u32) << 23)
    } else {
        f32::from_bits(1 << (n + 149) as u32)
    }
}

/// A whole number below `count` that looks random.
fn noise(index: usize, count: u32) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "some bits of the index are enough")]
    let mixed = (index as u32 ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9);
    (mixed ^ mixed >> 15).wrapping_mul(0x85eb_ca6b).wrapping_shr(8) % count
}

/// A number of this sign whose exponent is between two others.
fn between(index: usize, sign: f32, [least, most]: [i32; 2]) -> f32 {
    let exponent = least + noise(index, (most - least + 1).cast_unsigned()).cast_signed();
    (two_to(exponent)).copysign(sign)
}

fn is_gain(tensor: Tensor) -> bool {
    matches!(tensor, Tensor::Gamma(_))
}

fn is_map(tensor: Tensor) -> bool {
    matches!(tensor, Tensor::Weight(_))
}

/// Whether the tensor is the matrix of an attention's queries or keys.
fn asks(tensor: Tensor) -> bool {
    matches!(tensor, Tensor::Weight(Linear::Query(_) | Linear::Key(_)))
}

/// Whether the tensor is the matrix of a map that writes to the residual stream.
fn writes(tensor: Tensor) -> bool {
    matches!(tensor, Tensor::Weight(Linear::Output(_) | Linear::Outer(_)))
}

/// Every recipe.
pub const RECIPES: [Recipe; 26] = [
    Recipe {
        name: "tiny gains and matrices",
        change: |tensor, _, x| match tensor {
            Tensor::Gamma(_) => 1e-19,
            Tensor::Weight(_) => x * 1e-20,
            _ => x,
        },
    },
    Recipe {
        name: "gains and matrices at the edge",
        change: |tensor, _, x| match tensor {
            Tensor::Gamma(_) | Tensor::Weight(_) => two_to(-40).copysign(x),
            _ => x,
        },
    },
    Recipe {
        name: "matrices just below the edge",
        change: |tensor, _, x| if is_map(tensor) { BELOW.copysign(x) } else { x },
    },
    Recipe {
        name: "a tiny number in every matrix",
        change: |tensor, index, x| if is_map(tensor) && index == 0 { 1e-30 } else { x },
    },
    Recipe { name: "all subnormal", change: |_, _, x| two_to(-130).copysign(x) },
    Recipe { name: "all at the edge", change: |_, _, x| two_to(-40).copysign(x) },
    Recipe { name: "all about the edge", change: |_, index, x| between(index, x, [-42, -38]) },
    Recipe {
        name: "residual at the edge",
        change: |tensor, index, x| match tensor {
            Tensor::Embedding => between(index, x, [-41, -38]),
            _ if writes(tensor) => x * two_to(-38),
            _ => x,
        },
    },
    Recipe {
        name: "subnormal embedding and offsets",
        change: |tensor, index, x| match tensor {
            Tensor::Embedding | Tensor::Beta(_) | Tensor::Bias(_) => {
                between(index, x, [-149, -120])
            }
            _ => x,
        },
    },
    Recipe {
        name: "constant embedding",
        change: |tensor, index, x| match tensor {
            Tensor::Embedding => 1.0 + two_to(-23) * f32::from(noise(index, 2) == 0),
            _ if writes(tensor) => x * two_to(-30),
            _ => x,
        },
    },
    Recipe {
        name: "next to nothing after LayerNorm",
        change: |tensor, index, x| match tensor {
            Tensor::Embedding => between(index, x, [-41, -36]),
            Tensor::Gamma(_) => two_to(-40),
            Tensor::Weight(_) => between(index, x, [-40, -38]),
            _ => x,
        },
    },
    Recipe {
        name: "huge residual",
        change: |tensor, _, x| match tensor {
            Tensor::Embedding => x * 1e18,
            Tensor::Gamma(_) => two_to(-40),
            _ => x,
        },
    },
    Recipe {
        name: "tiny queries and keys",
        change: |tensor, _, x| if asks(tensor) { x * two_to(-36) } else { x },
    },
    Recipe {
        name: "scores about the smallest number",
        change: |tensor, _, x| if asks(tensor) { x * two_to(-63) } else { x },
    },
    Recipe {
        name: "exponentials at their end",
        change: |tensor, _, x| if asks(tensor) { x * 5.5 } else { x },
    },
    Recipe {
        name: "tiny shares of tiny values",
        change: |tensor, _, x| match tensor {
            Tensor::Weight(Linear::Query(_) | Linear::Key(_)) => x * 3.0,
            Tensor::Weight(Linear::Value(_)) => x * two_to(-38),
            _ => x,
        },
    },
    Recipe {
        name: "tiny values that cancel",
        change: |tensor, index, x| match tensor {
            Tensor::Weight(Linear::Value(_)) => x * two_to(-39),
            Tensor::Weight(Linear::Output(_)) => between(index, x, [-40, -38]),
            _ => x,
        },
    },
    Recipe {
        name: "tails of the GELU",
        change: |tensor, index, x| match tensor {
            Tensor::Weight(Linear::Inner(_)) => 0.0,
            Tensor::Bias(Linear::Inner(_)) => {
                [-5.5, -13.0, -88.0, 1e-12, 4.0, 1e38, -1e38, -0.0][index % 8]
            }
            _ => x,
        },
    },
    Recipe {
        name: "GELU of next to nothing",
        change: |tensor, index, x| match tensor {
            Tensor::Weight(Linear::Inner(_)) => between(index, x, [-80, -40]),
            _ => x,
        },
    },
    Recipe {
        name: "next to overflow",
        change: |tensor, index, x| if is_map(tensor) { between(index, x, [118, 127]) } else { x },
    },
    Recipe {
        name: "infinities and NaN",
        change: |tensor, _, x| if writes(tensor) { f32::MAX.copysign(x) } else { x },
    },
    Recipe {
        name: "sums that cancel",
        change: |tensor, index, x| match tensor {
            Tensor::Gamma(_) => two_to(-24),
            Tensor::Beta(_) => 1.0,
            Tensor::Weight(_) => if index % 3 == 0 { 1.0_f32 } else { two_to(-20) }.copysign(x),
            _ => x,
        },
    },
    Recipe { name: "all magnitudes up to one", change: |_, index, x| between(index, x, [-149, 0]) },
    Recipe { name: "all magnitudes", change: |_, index, x| between(index, x, [-149, 127]) },
    Recipe {
        name: "tiny representations",
        change: |tensor, _, x| match tensor {
            Tensor::Gamma(Norm::Final) => two_to(-39),
            Tensor::Weight(Linear::Predictor) => x * two_to(-30),
            _ => x,
        },
    },
    Recipe {
        name: "zeros of both signs",
        change: |tensor, index, x| {
            if is_map(tensor) || is_gain(tensor) {
                [0.0, -0.0, two_to(-149), x][noise(index, 4) as usize]
            } else {
                x
            }
        },
    },
];

/// Honest weights, as many recipes start from.
///
/// # Errors
/// An architecture out of bounds.
pub fn honest(architecture: &Architecture) -> Result<Weights, Error> {
    Weights::init(architecture, SEED)
}

/// The weights of a recipe.
///
/// # Errors
/// An architecture out of bounds.
pub fn hostile(architecture: &Architecture, recipe: Recipe) -> Result<Weights, Error> {
    let weights = honest(architecture)?;
    let change = |spec: &TensorSpec, values: &[f32]| -> Vec<f32> {
        let changed = values.par_iter().enumerate();
        changed.map(|(index, &x)| (recipe.change)(spec.tensor, index, x)).collect()
    };
    let tensors = weights.tensors().map(|(spec, values)| change(spec, &values)).collect();
    Ok(Weights::from_tensors(architecture, tensors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{Engine, KernelChoice};
    use crate::layers::sigreg::Directions;
    use crate::score::score;
    use crate::simd::{KernelKind, subnormals};

    /// Small shapes: of one tile, of several with rests, and of V1's proportions.
    fn architectures() -> [Architecture; 3] {
        let small = Architecture { layers: 2, sig_reg_slices: 20, ..Architecture::nano() };
        [
            Architecture { dim: 6, heads: 1, ffn: 9, positions: 12, ..small.clone() },
            Architecture { dim: 42, heads: 3, ffn: 77, positions: 37, ..small.clone() },
            Architecture { dim: 64, heads: 2, ffn: 256, positions: 64, ..small },
        ]
    }

    /// A chunk and a rest.
    fn data(architecture: &Architecture) -> Vec<u8> {
        (0..architecture.positions + 5).map(|i| (i * i / 3 % 251) as u8).collect()
    }

    #[test]
    fn no_operation_of_a_score_meets_a_subnormal_number_whatever_the_weights_are() {
        let engine = Engine::watched().unwrap();
        for architecture in architectures() {
            let directions = Directions::new(&architecture, [0; 32]);
            let data = data(&architecture);
            for recipe in RECIPES {
                let weights = hostile(&architecture, recipe).unwrap();
                let (met, _) = subnormals(|| score(&engine, &weights, &data, &directions));
                assert_eq!(met, 0, "{}, width {}", recipe.name, architecture.dim);
            }
        }
    }

    #[test]
    fn the_watch_sees_subnormal_operands_and_results() {
        use crate::simd::{LANES, Simd, Watched};
        let product = |x: f32| subnormals(|| Watched.mul([x; LANES], [1e-20; LANES])).0;
        assert_eq!([1e-10, 1e-20, 1e-39].map(product), [0, 16, 16]);
    }

    #[test]
    fn every_kernel_gives_hostile_weights_the_score_of_the_reference() {
        for architecture in architectures() {
            let directions = Directions::new(&architecture, [0; 32]);
            let data = data(&architecture);
            let score_on = |kind, weights: &Weights| {
                let engine = Engine::new(KernelChoice::Kind(kind), 2).unwrap();
                score(&engine, weights, &data, &directions).map_err(|error| error.to_string())
            };
            for recipe in RECIPES {
                let weights = hostile(&architecture, recipe).unwrap();
                let expected = score_on(KernelKind::Reference, &weights);
                for kind in KernelKind::ALL.into_iter().filter(|kind| kind.is_available()) {
                    assert_eq!(score_on(kind, &weights), expected, "{} on {kind}", recipe.name);
                }
            }
        }
    }
}

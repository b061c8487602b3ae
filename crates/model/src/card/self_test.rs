//! The comparison of a card with the reference, once per card and process, before it is used.
//!
//! It must never be skipped: a driver that compiles a kernel wrongly would split the network.
#![expect(unsafe_code, reason = "a kernel is launched")]

use std::fmt;

use soma_architecture::Architecture;

use super::layout::{Kind, Placed, place};
use super::linear::{Epilogue, Map, TILES};
use super::stages::Stages;
use crate::device::{Argument, Card, Kernel};
use crate::error::DeviceFault;
use crate::kernels::{
    Engine, Epilogue as Expected, KernelChoice, Matrix, MatrixMut, functions, matmul, same_bits,
    values, values_of,
};
use crate::layers::sigreg::{Directions, Nodes};
use crate::math;
use crate::pass::{Pass, Rows, Subject};
use crate::simd::{KernelKind, LANES, Portable, Simd, operand};
use crate::weights::{HalfKind, Weights};

/// Numbers that the functions are computed of.
const SAMPLES: usize = LANES * 64;
/// Functions that the kernel computes of each.
const FUNCTIONS: usize = 9;

/// Compares functions, products and small scores: every kernel, and of the products every shape of
/// tile with every kind of weights and everything that may become of its chains.
///
/// # Errors
/// [`DeviceFault::Unequal`] if something differs, or a failure of the card.
pub(super) fn run(card: &mut Card) -> Result<(), DeviceFault> {
    let unequal = |card: &Card, what| DeviceFault::Unequal { name: card.name().to_owned(), what };
    if !functions_equal(card)? {
        return Err(unequal(card, "functions"));
    }
    // Without threads there is no engine, and nothing to compare with.
    let engine = Engine::new(KernelChoice::Kind(KernelKind::Reference), 1)
        .map_err(|_| unequal(card, "no reference"))?;
    for kind in [Kind::Float, Kind::Bf16, Kind::F16] {
        // No extent of columns or depth is a multiple of a tile's.
        let product = Product { rows: 160, depth: 67, columns: 133, kind };
        if !product.is_equal(card, &engine, &[1])? {
            return Err(unequal(card, "products"));
        }
    }
    if !passes_equal(card, &engine)? {
        return Err(unequal(card, "a score"));
    }
    Ok(())
}

/// What the kernel `functions` computes, on the portable lanes.
fn functions_of(x: [f32; LANES]) -> [[f32; LANES]; FUNCTIONS] {
    let lanes = Portable;
    let [exp, ln, erf, gelu, sin, cos, quotient, operand] = functions(lanes, x);
    let zero = lanes.splat(0.0);
    let term = math::softmax_term(lanes, lanes.sub(zero, lanes.abs(x)), zero);
    [exp, ln, erf, gelu, sin, cos, quotient, operand, term]
}

pub(super) fn functions_equal(card: &Card) -> Result<bool, DeviceFault> {
    let samples = values(4, SAMPLES);
    let x = card.allocate(SAMPLES * 4)?;
    let to = card.allocate(SAMPLES * FUNCTIONS * 4)?;
    x.write(&samples)?;
    let arguments =
        [x.of::<f32>(SAMPLES), Argument::Count(SAMPLES), to.of::<f32>(SAMPLES * FUNCTIONS)];
    // SAFETY: it reads the samples and writes all functions of each.
    unsafe {
        card.launch(Kernel::Functions, [SAMPLES.div_ceil(128), 1, 1], 128, &arguments)?;
    }
    let got: Vec<f32> = to.read(SAMPLES * FUNCTIONS)?;
    Ok(samples.as_chunks::<LANES>().0.iter().enumerate().all(|(index, chunk)| {
        let expected = functions_of(*chunk);
        expected.iter().enumerate().all(|(function, expected)| {
            same_bits(expected, &got[function * SAMPLES + index * LANES..][..LANES])
        })
    }))
}

/// A product of `[rows, depth]` and `[depth, columns]`, with weights of some kind.
#[derive(Clone, Copy, Debug)]
pub(super) struct Product {
    /// A multiple of 32.
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) columns: usize,
    pub(super) kind: Kind,
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rows, depth, columns, kind } = self;
        write!(f, "{rows}x{columns}x{depth}, {kind:?}")
    }
}

/// Weights as they come to a card.
enum Numbers {
    Floats(Vec<f32>),
    Halves(Vec<u16>),
}

impl Product {
    /// Extents up to some thousand, and a kind of weights, from a seed.
    pub(super) fn random(seed: &[u8]) -> Self {
        let random = blake3::hash(seed);
        let number = |at: usize, most: u16| {
            let bytes = [random.as_bytes()[at], random.as_bytes()[at + 1]];
            usize::from(u16::from_le_bytes(bytes) % most)
        };
        Self {
            rows: 32 * (number(0, 40) + 1),
            depth: number(2, 2500) + 1,
            columns: number(4, 2500) + 1,
            kind: [Kind::Float, Kind::Bf16, Kind::F16][number(6, 3)],
        }
    }

    /// Hostile weights.
    fn weights(self, seed: &[u8]) -> (Numbers, Vec<f32>) {
        let count = self.depth * self.columns;
        let floats = values_of(seed, count);
        let kind = match self.kind {
            Kind::Float => {
                let operands = floats.iter().map(|&value| operand(value)).collect();
                return (Numbers::Floats(floats), operands);
            }
            Kind::Bf16 => HalfKind::Bf16,
            Kind::F16 => HalfKind::F16,
        };
        #[expect(clippy::cast_possible_truncation, reason = "the other half is not used")]
        let halves: Vec<u16> = floats
            .iter()
            .map(|value| match kind {
                HalfKind::Bf16 => (value.to_bits() >> 16) as u16,
                // Any bits, but for those of infinities and NaN.
                HalfKind::F16 => value.to_bits() as u16,
            })
            .map(|bits| if kind.is_finite(bits) { bits } else { bits & 0x8fff })
            .collect();
        let widened = halves.iter().map(|&bits| kind.widen(bits)).collect();
        (Numbers::Halves(halves), widened)
    }

    /// Whether every shape of tile gives a product of hostile values the bits of the engine,
    /// whatever becomes of the chains.
    pub(super) fn is_equal(
        self,
        card: &Card,
        engine: &Engine,
        seed: &[u8],
    ) -> Result<bool, DeviceFault> {
        let Self { rows, depth, columns, kind } = self;
        let x = values_of(&[seed, b"x"].concat(), depth * rows);
        let (numbers, weight) = self.weights(&[seed, b"weight"].concat());
        let bias = values_of(&[seed, b"bias"].concat(), columns);
        let bias: Vec<f32> = bias.into_iter().map(operand).collect();
        let before = values_of(&[seed, b"before"].concat(), columns * rows);
        let mut chains = vec![0.0; columns * rows];
        matmul(
            engine,
            Matrix::new(&weight, depth, columns).transposed(),
            Matrix::new(&x, depth, rows),
            MatrixMut::new(&mut chains, columns, rows),
            false,
            Expected::None,
        );
        let placed = Placed::matrix(0, depth, columns, kind);
        let bias_at = Placed::matrix(placed.bytes(), 1, columns, Kind::Float);
        let model = card.allocate(placed.bytes() + bias_at.bytes())?;
        let staging = card.allocate(weight.len() * 4)?;
        match &numbers {
            Numbers::Floats(floats) => place(card, &staging, floats, kind, &model, placed)?,
            Numbers::Halves(halves) => place(card, &staging, halves, kind, &model, placed)?,
        }
        place(card, &staging, &bias, Kind::Float, &model, bias_at)?;
        let (x_on_card, out) = (card.allocate(x.len() * 4)?, card.allocate(chains.len() * 4)?);
        x_on_card.write(&x)?;
        for epilogue in Epilogue::ALL {
            let expected = finished(epilogue, &chains, &bias, &before);
            for tile in TILES {
                out.write(&before)?;
                let map = Map {
                    x: &x_on_card,
                    model: &model,
                    weight: placed,
                    bias: (epilogue != Epilogue::Operand).then_some(bias_at),
                    rows,
                    epilogue,
                };
                map.run_with(card, tile, &out)?;
                if !same_bits(&expected, &out.read::<f32>(expected.len())?) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// What becomes of chains, `[columns][rows]`, by definition.
fn finished(epilogue: Epilogue, chains: &[f32], bias: &[f32], before: &[f32]) -> Vec<f32> {
    let rows = chains.len() / bias.len();
    let sums = chains.chunks_exact(rows).zip(bias);
    let sums = sums.flat_map(|(column, &bias)| column.iter().map(move |&chain| chain + bias));
    match epilogue {
        Epilogue::Operand => chains.iter().map(|&chain| operand(chain)).collect(),
        Epilogue::Bias => sums.collect(),
        Epilogue::BiasOperand => sums.map(operand).collect(),
        Epilogue::BiasGelu => {
            let mut values: Vec<f32> = sums.map(operand).collect();
            // Rows are a multiple of the lanes.
            for lanes in values.as_chunks_mut::<LANES>().0 {
                *lanes = math::gelu(Portable, *lanes).map(operand);
            }
            values
        }
        Epilogue::BiasResidual => sums.zip(before).map(|(sum, before)| before + sum).collect(),
    }
}

fn passes_equal(card: &mut Card, engine: &Engine) -> Result<bool, DeviceFault> {
    let architecture = Architecture {
        dim: 36,
        heads: 2,
        layers: 2,
        ffn: 70,
        positions: 150,
        sig_reg_slices: 18,
        ..Architecture::nano()
    };
    let tensors = architecture.tensors();
    // Uneven, and large enough that no row is dull.
    let tensors = tensors.iter().zip(1..).map(|(spec, seed)| {
        let scale = if spec.shape.len() == 1 { 0.25 } else { 0.05 };
        values(seed, spec.elements()).into_iter().map(|value| value % 8.0 * scale).collect()
    });
    let weights = Weights::from_tensors(&architecture, tensors.collect());
    let directions = Directions::new(&architecture, [5; 32]);
    let nodes = Nodes::new(&architecture);
    let subject = Subject { weights: &weights, directions: &directions, nodes: &nodes };
    let tokens = |count: u16, step: u16| (0..count).map(|i| i * step % 256).collect::<Vec<u16>>();
    for chunks in [vec![tokens(150, 7), tokens(5, 1)], vec![tokens(3, 9), tokens(40, 11)]] {
        let (mut expected_rows, mut rows) = (Rows::default(), Rows::default());
        let expected = Pass::default().run(engine, subject, &chunks, Some(&mut expected_rows));
        let got = Stages::new(subject, &chunks).run(card, Some(&mut rows))?;
        let equal = expected == got
            && same_bits(&expected_rows.representations, &rows.representations)
            && same_bits(&expected_rows.logits, &rows.logits);
        if !equal || expected.contains(&None) {
            return Ok(false);
        }
    }
    Ok(true)
}

//! The comparison of a card with the reference, once per card and process, before it is used.
//!
//! It must never be skipped: a driver that compiles a kernel wrongly would split the network.

use soma_architecture::Architecture;

use super::layout::{Placed, copy};
use super::linear::{Epilogue, LARGE, MEDIUM, Map, SMALL};
use super::stages;
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
use crate::weights::Weights;

/// Numbers that the functions are computed of.
const SAMPLES: usize = LANES * 64;
/// Functions that the kernel computes of each.
const FUNCTIONS: usize = 9;

/// Compares functions, products and a small score.
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
    // No extent of columns or depth is a multiple of a tile's.
    let extents = Extents { rows: 160, depth: 67, columns: 133 };
    if !product_equal(card, &engine, extents, &[1])? {
        return Err(unequal(card, "products"));
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
    let arguments = [x.start(), Argument::Count(SAMPLES), to.start()];
    card.launch(Kernel::Functions, [SAMPLES.div_ceil(128), 1, 1], 128, &arguments)?;
    let got: Vec<f32> = to.read(SAMPLES * FUNCTIONS)?;
    Ok(samples.as_chunks::<LANES>().0.iter().enumerate().all(|(index, chunk)| {
        let expected = functions_of(*chunk);
        expected.iter().enumerate().all(|(function, expected)| {
            same_bits(expected, &got[function * SAMPLES + index * LANES..][..LANES])
        })
    }))
}

/// The extents of a product.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extents {
    /// A multiple of 32.
    pub(super) rows: usize,
    pub(super) depth: usize,
    pub(super) columns: usize,
}

/// Whether every shape of tile gives a product of hostile values the bits of the engine.
pub(super) fn product_equal(
    card: &Card,
    engine: &Engine,
    extents: Extents,
    seed: &[u8],
) -> Result<bool, DeviceFault> {
    let Extents { rows, depth, columns } = extents;
    let x = values_of(&[seed, b"x"].concat(), depth * rows);
    let weight = values_of(&[seed, b"weight"].concat(), depth * columns);
    let mut expected = vec![0.0; columns * rows];
    matmul(
        engine,
        Matrix::new(&weight, depth, columns).transposed().raw(true),
        Matrix::new(&x, depth, rows),
        MatrixMut::new(&mut expected, columns, rows),
        false,
        Expected::None,
    );
    for value in &mut expected {
        *value = operand(*value);
    }
    let placed = Placed { first: 0, stride: columns.next_multiple_of(4) };
    let (x_on_card, out) = (card.allocate(x.len() * 4)?, card.allocate(expected.len() * 4)?);
    let (model, staging) =
        (card.allocate(depth * placed.stride * 4)?, card.allocate(weight.len() * 4)?);
    x_on_card.write(&x)?;
    copy(card, &staging, &weight, 0, columns, &model, placed)?;
    for tile in [LARGE, MEDIUM, SMALL] {
        let map = Map {
            x: &x_on_card,
            model: &model,
            weight: placed,
            bias: placed,
            inputs: depth,
            outputs: columns,
            rows,
            epilogue: Epilogue::Operand,
        };
        map.run_with(card, tile, &out)?;
        if !same_bits(&expected, &out.read::<f32>(expected.len())?) {
            return Ok(false);
        }
    }
    Ok(true)
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
        let got = stages::run(card, subject, &chunks, Some(&mut rows))?;
        let equal = expected == got
            && same_bits(&expected_rows.representations, &rows.representations)
            && same_bits(&expected_rows.logits, &rows.logits);
        if !equal || expected.contains(&None) {
            return Ok(false);
        }
    }
    card.free_rooms();
    Ok(true)
}

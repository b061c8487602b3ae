//! Kernels one by one.

use proptest::prelude::*;

use super::emulated::Emulated;
use crate::card::layout::{Placed, copy};
use crate::card::linear::{Epilogue, LARGE, MEDIUM, Map, SMALL};
use crate::card::self_test;
use crate::device::Card;
use crate::kernels::{
    Engine, Epilogue as Expected, KernelChoice, Matrix, MatrixMut, matmul, same_bits, values,
};
use crate::simd::{KernelKind, operand};
use crate::weights::HalfKind;

fn reference() -> Engine {
    Engine::new(KernelChoice::Kind(KernelKind::Reference), 1).unwrap()
}

/// A map of hostile values, computed by the reference and by every shape of tile.
fn compare(card: &Card, seed: u8, rows: usize, depth: usize, columns: usize, epilogue: Epilogue) {
    let x = values(seed, rows * depth);
    let weight = values(seed ^ 0x55, depth * columns);
    let bias: Vec<f32> = values(seed ^ 0xaa, columns).into_iter().map(operand).collect();
    let residual = values(seed ^ 0xff, rows * columns);
    let residual = Matrix::new(&residual, rows, columns);
    let mut expected = vec![0.0; rows * columns];
    matmul(
        &reference(),
        Matrix::new(&x, rows, depth),
        Matrix::new(&weight, depth, columns).raw(true),
        MatrixMut::new(&mut expected, rows, columns),
        false,
        match epilogue {
            Epilogue::Plain | Epilogue::Operand => Expected::None,
            Epilogue::Bias => Expected::Bias(&bias),
            Epilogue::BiasOperand => Expected::BiasOperand(&bias),
            Epilogue::BiasGelu => Expected::BiasGelu(&bias),
            Epilogue::BiasResidual => Expected::BiasResidual(&bias, residual),
        },
    );
    if epilogue == Epilogue::Operand {
        for value in &mut expected {
            *value = operand(*value);
        }
    }

    let all = rows.next_multiple_of(32);
    let feature_major = |matrix: Matrix<'_>| {
        let mut to = vec![f32::NAN; matrix.columns() * all];
        for row in 0..rows {
            for column in 0..matrix.columns() {
                to[column * all + row] = matrix.at(row, column);
            }
        }
        to
    };
    let placed = Placed { first: 0, stride: columns.next_multiple_of(4) };
    let bias_placed = Placed { first: depth * placed.stride, stride: placed.stride };
    let model = card.allocate((depth + 1) * placed.stride * 4).unwrap();
    let staging = card.allocate(1000).unwrap();
    copy(card, &staging, &weight, 0, columns, &model, placed).unwrap();
    copy(card, &staging, &bias, 0, columns, &model, bias_placed).unwrap();
    let on_card = feature_major(Matrix::new(&x, rows, depth));
    let x = card.allocate(on_card.len() * 4).unwrap();
    x.write(&on_card).unwrap();
    let start = feature_major(residual);
    let out = card.allocate(start.len() * 4).unwrap();
    for tile in [LARGE, MEDIUM, SMALL] {
        out.write(&start).unwrap();
        let map = Map {
            x: &x,
            model: &model,
            weight: placed,
            bias: bias_placed,
            inputs: depth,
            outputs: columns,
            rows: all,
            epilogue,
        };
        map.run_with(card, tile, &out).unwrap();
        let got: Vec<f32> = out.read(start.len()).unwrap();
        for row in 0..rows {
            for column in 0..columns {
                let (e, g) = (expected[row * columns + column], got[column * all + row]);
                assert!(
                    same_bits(&[e], &[g]),
                    "{tile:?} {epilogue:?} ({row}, {column}): {e:e} {g:e}"
                );
            }
        }
    }
}

#[test]
fn an_emulated_card_passes_the_self_test() {
    let Some(emulated) = Emulated::new() else { return };
    for descending in [false, true] {
        emulated.set_order(descending);
        self_test::run(&mut emulated.card()).unwrap();
    }
    assert_eq!(emulated.used(), 0, "everything is freed");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_shape_of_tile_gives_the_bits_of_the_reference(
        seed: u8,
        rows in 1_usize..300,
        depth in 1_usize..70,
        columns in 1_usize..270,
        epilogue in 0_usize..6,
        descending: bool,
    ) {
        let Some(emulated) = Emulated::new() else { return Ok(()) };
        emulated.set_order(descending);
        let epilogue = [
            Epilogue::Plain,
            Epilogue::Operand,
            Epilogue::Bias,
            Epilogue::BiasOperand,
            Epilogue::BiasGelu,
            Epilogue::BiasResidual,
        ][epilogue];
        compare(&emulated.card(), seed, rows, depth, columns, epilogue);
    }
}

#[test]
fn every_half_is_widened_on_a_card_as_on_the_cpu() {
    let Some(emulated) = Emulated::new() else { return };
    let card = emulated.card();
    for (kind, number) in [(HalfKind::Bf16, 1), (HalfKind::F16, 2)] {
        let halves: Vec<u16> = (0..=u16::MAX).filter(|&bits| kind.is_finite(bits)).collect();
        let columns = 61;
        let rows = halves.len().div_ceil(columns);
        let memory = card.allocate(rows * 64 * 4).unwrap();
        let staging = card.allocate(10_001).unwrap();
        let placed = Placed { first: 0, stride: 64 };
        copy(&card, &staging, &halves, number, columns, &memory, placed).unwrap();
        let got: Vec<f32> = memory.read(rows * 64).unwrap();
        for (index, &bits) in halves.iter().enumerate() {
            let got = got[index / columns * 64 + index % columns];
            assert_eq!(got.to_bits(), kind.widen(bits).to_bits(), "{kind:?} {bits:04x}");
        }
    }
}

//! Kernels one by one.

use proptest::prelude::*;

use super::emulated::Emulated;
use crate::card::layout::{Kind, Placed, place};
use crate::card::linear::{Epilogue, Map, TILES};
use crate::card::self_test::{self, Product};
use crate::error::DeviceFault;
use crate::kernels::{Engine, KernelChoice};
use crate::simd::KernelKind;
use crate::weights::HalfKind;

const KINDS: [Kind; 3] = [Kind::Float, Kind::Bf16, Kind::F16];

fn reference() -> Engine {
    Engine::new(KernelChoice::Kind(KernelKind::Reference), 1).unwrap()
}

#[test]
fn an_emulated_card_passes_the_self_test_in_every_order() {
    let Some(emulated) = Emulated::new() else { return };
    emulated.in_every_order(|| self_test::run(&mut emulated.card()).unwrap());
    assert_eq!(emulated.get("used"), 0, "everything is freed");
}

#[test]
fn copies_are_emulated_as_late_and_as_early_as_they_may_be() {
    let Some(emulated) = Emulated::new() else { return };
    assert_eq!(emulated.careless().to_bits(), 1_f32.to_bits());
    emulated.set("early", 1);
    assert_eq!(emulated.careless().to_bits(), 2_f32.to_bits());
}

#[test]
fn a_kernel_that_does_not_wait_for_its_copies_is_noticed() {
    let Some(emulated) = Emulated::new() else { return };
    emulated.set("forgotten", 1);
    let fault = self_test::run(&mut emulated.card()).unwrap_err();
    assert!(matches!(fault, DeviceFault::Unequal { what: "products", .. }), "{fault}");
}

#[test]
fn sixteen_bytes_at_an_address_that_is_not_a_multiple_of_sixteen_are_noticed() {
    let Some(emulated) = Emulated::new() else { return };
    let card = emulated.card();
    for (kind, first) in [(Kind::Float, 4), (Kind::Bf16, 2), (Kind::F16, 8)] {
        let weight = Placed::matrix(first, 8, 64, kind);
        let [x, model, out] = [(); 3].map(|()| card.allocate(16 << 10).unwrap());
        let (bias, rows, epilogue) = (None, 32, Epilogue::Operand);
        let map = Map { x: &x, model: &model, weight, bias, rows, epilogue };
        for tile in TILES {
            let fault = map.run_with(&card, tile, &out).unwrap_err();
            assert!(fault.to_string().contains("misaligned address"), "{fault}");
        }
        let aligned = Map { weight: Placed::matrix(0, 8, 64, kind), ..map };
        aligned.run_with(&card, TILES[0], &out).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn every_tile_kind_of_weights_and_epilogue_gives_the_bits_of_the_reference(
        seed: [u8; 4],
        rows in 1_usize..10,
        depth in 1_usize..70,
        columns in 1_usize..270,
        kind in 0_usize..3,
        descending in 0_i64..2,
        early in 0_i64..2,
    ) {
        let Some(emulated) = Emulated::new() else { return Ok(()) };
        emulated.set("descending", descending);
        emulated.set("early", early);
        let product = Product { rows: 32 * rows, depth, columns, kind: KINDS[kind] };
        prop_assert!(product.is_equal(&emulated.card(), &reference(), &seed).unwrap());
    }
}

#[test]
fn every_half_is_widened_on_a_card_as_on_the_cpu() {
    let Some(emulated) = Emulated::new() else { return };
    let card = emulated.card();
    for (half, kind) in [(HalfKind::Bf16, Kind::Bf16), (HalfKind::F16, Kind::F16)] {
        let columns = 61;
        let mut halves: Vec<u16> = (0..=u16::MAX).filter(|&bits| half.is_finite(bits)).collect();
        halves.resize(halves.len().next_multiple_of(columns), 0);
        let rows = halves.len() / columns;
        let staging = card.allocate(10_001).unwrap();
        let floats = Placed::matrix(0, rows, columns, Kind::Float);
        let memory = card.allocate(floats.bytes()).unwrap();
        place(&card, &staging, &halves, kind, &memory, floats).unwrap();
        let widened: Vec<f32> = memory.read(rows * floats.stride).unwrap();
        let kept = Placed::matrix(0, rows, columns, kind);
        let memory = card.allocate(kept.bytes()).unwrap();
        place(&card, &staging, &halves, kind, &memory, kept).unwrap();
        let kept_halves: Vec<u16> = memory.read(rows * kept.stride).unwrap();
        for (index, &bits) in halves.iter().enumerate() {
            let (row, column) = (index / columns, index % columns);
            let expected = half.widen(bits).to_bits();
            let got = widened[row * floats.stride + column].to_bits();
            assert_eq!(got, expected, "{kind:?} {bits:04x}");
            let kept = kept_halves[row * kept.stride + column];
            assert_eq!(kept, if expected == 0 { 0 } else { bits }, "{kind:?} {bits:04x}");
        }
    }
}

//! Whole scores.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use soma_architecture::Architecture;
use soma_codes::{Code, Coded as _};

use super::emulated::Emulated;
use crate::bench::hostile::{RECIPES, hostile};
use crate::card::stages;
use crate::device::{Device, DeviceChoice, Warn};
use crate::error::Error;
use crate::kernels::{Engine, KernelChoice, same_bits, values};
use crate::layers::sigreg::{Directions, Nodes};
use crate::pass::{Pass, Rows, Subject};
use crate::score::{score, score_all, score_with_dump};
use crate::weights::Weights;

fn cpu() -> Engine {
    Engine::new(KernelChoice::Auto, 1).unwrap()
}

/// An engine on the emulated card.
fn on(emulated: &Emulated, warn: fn(&Error)) -> Engine {
    let card = OnceLock::from(Some(Arc::new(Mutex::new(emulated.card()))));
    cpu().with_device(Device {
        choice: DeviceChoice::Cuda(0),
        warn: Some(Warn(Arc::new(warn))),
        card,
    })
}

/// For whoever expects no warning.
fn alarm(error: &Error) {
    panic!("{error}");
}

/// Weights of which no tensor is dull.
fn weights(architecture: &Architecture, seed: u8) -> Weights {
    let specs = architecture.tensors();
    let tensors = specs.iter().zip(seed..).map(|(spec, seed)| {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let inputs = spec.shape[0] as f32;
        let scale = if spec.shape.len() == 1 { 0.3 } else { 0.4 / inputs.sqrt() };
        values(seed, spec.elements()).into_iter().map(|value| value % 4.0 * scale).collect()
    });
    Weights::from_tensors(architecture, tensors.collect())
}

fn bytes(seed: u8, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}

/// Architectures with odd extents: heads of 2 and of more than a tile, few and many nodes, one
/// direction and more than a block's.
fn architectures() -> Vec<Architecture> {
    let nano = Architecture::nano();
    vec![
        Architecture { layers: 1, ..nano.clone() },
        Architecture {
            layers: 2,
            dim: 6,
            heads: 3,
            ffn: 5,
            vocabulary: 259,
            positions: 7,
            sig_reg_slices: 1,
            sig_reg_points: 2,
            ..nano.clone()
        },
        Architecture {
            layers: 3,
            dim: 44,
            heads: 2,
            ffn: 131,
            vocabulary: 300,
            positions: 200,
            sig_reg_slices: 130,
            sig_reg_points: 40,
            ..nano.clone()
        },
        Architecture {
            layers: 1,
            dim: 266,
            heads: 1,
            ffn: 18,
            vocabulary: 258,
            positions: 40,
            sig_reg_slices: 7,
            ..nano
        },
    ]
}

#[test]
fn a_card_gives_every_architecture_and_document_the_score_of_the_cpu() {
    let Some(emulated) = Emulated::new() else { return };
    for (index, architecture) in architectures().iter().enumerate() {
        let weights = weights(architecture, 10 + u8::try_from(index).unwrap());
        let directions = Directions::new(architecture, [3; 32]);
        let positions = architecture.positions as usize;
        let lengths = [1, 2, 3, 4, 5, positions - 1, positions, positions + 1, 2 * positions + 3];
        let documents: Vec<Vec<u8>> = (0..).zip(lengths).map(|(i, len)| bytes(i, len)).collect();
        let documents: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
        let expected = score_all(&cpu(), &weights, &documents, &directions, |_| ()).unwrap();
        for descending in [false, true] {
            emulated.set_order(descending);
            let engine = on(&emulated, alarm);
            let got = score_all(&engine, &weights, &documents, &directions, |_| ()).unwrap();
            for (expected, got) in expected.iter().zip(got) {
                assert_eq!(expected.as_ref().unwrap(), &got.unwrap(), "{architecture:?}");
            }
        }
        let engine = on(&emulated, alarm);
        let last = documents[documents.len() - 1];
        let expected = score_with_dump(&cpu(), &weights, last, &directions).unwrap();
        let got = score_with_dump(&engine, &weights, last, &directions).unwrap();
        assert_eq!(expected.0, got.0);
        assert!(same_bits(&expected.1.representations, &got.1.representations));
        assert!(same_bits(&expected.1.logits, &got.1.logits));
        assert!(same_bits(&expected.1.nll, &got.1.nll));
    }
}

#[test]
fn a_card_gives_hostile_weights_the_score_of_the_cpu() {
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture {
        layers: 2,
        dim: 20,
        heads: 2,
        ffn: 30,
        positions: 70,
        sig_reg_slices: 5,
        ..Architecture::nano()
    };
    let directions = Directions::new(&architecture, [0; 32]);
    let data = bytes(1, 150);
    let engine = on(&emulated, alarm);
    for recipe in RECIPES {
        let weights = hostile(&architecture, recipe).unwrap();
        let on_engine = |engine: &Engine| {
            score(engine, &weights, &data, &directions).map_err(|error| error.to_string())
        };
        assert_eq!(on_engine(&engine), on_engine(&cpu()), "{}", recipe.name);
    }
}

#[test]
fn without_a_card_it_is_an_error_to_ask_for_one_and_auto_is_the_cpu() {
    let architecture = Architecture { layers: 1, ..Architecture::nano() };
    let weights = weights(&architecture, 1);
    let directions = Directions::new(&architecture, [3; 32]);
    let auto = cpu().on(DeviceChoice::Auto, alarm).unwrap();
    let expected = score(&cpu(), &weights, b"some data", &directions).unwrap();
    assert_eq!(score(&auto, &weights, b"some data", &directions).unwrap(), expected);
    // There may be a card, but hardly so many.
    let error = cpu().on(DeviceChoice::Cuda(9999), alarm).unwrap_err();
    assert_eq!(error.code(), Code::DeviceUnavailable, "{error}");
}

#[test]
fn attention_gives_the_same_bits_however_little_memory_its_scores_have() {
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture { layers: 1, dim: 24, heads: 4, ..Architecture::nano() };
    let weights = weights(&architecture, 1);
    let directions = Directions::new(&architecture, [3; 32]);
    let nodes = Nodes::new(&architecture);
    let subject = Subject { weights: &weights, directions: &directions, nodes: &nodes };
    let tokens = |seed, count| bytes(seed, count).into_iter().map(u16::from).collect::<Vec<_>>();
    for chunks in [vec![tokens(1, 256), tokens(2, 9), tokens(3, 131)], vec![tokens(4, 33); 3]] {
        let mut expected_rows = Rows::default();
        let expected = Pass::default().run(&cpu(), subject, &chunks, Some(&mut expected_rows));
        for floats in [1, 40_000, 70_000, 1 << 20] {
            let (mut card, mut rows) = (emulated.card(), Rows::default());
            let got = stages::run_within(&mut card, subject, &chunks, Some(&mut rows), floats);
            assert_eq!(got.unwrap(), expected, "{floats}");
            assert!(same_bits(&rows.representations, &expected_rows.representations));
        }
    }
}

#[test]
fn a_document_without_a_score_leaves_the_others_of_its_pass_alone() {
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture { layers: 1, ..Architecture::nano() };
    let specs = architecture.tensors();
    let tensors = specs.iter().zip(1..).map(|(spec, seed)| {
        let mut values: Vec<f32> =
            values(seed, spec.elements()).into_iter().map(|value| value % 1.0).collect();
        if seed == 1 {
            // The byte 'x' overflows everything.
            let dim = architecture.dim as usize;
            values[usize::from(b'x') * dim..][..dim].fill(3e38);
        }
        values
    });
    let weights = Weights::from_tensors(&architecture, tensors.collect());
    let directions = Directions::new(&architecture, [3; 32]);
    let documents: [&[u8]; 4] = [b"before", b"some x in it", b"", b"behind it"];
    let on_engine = |engine: &Engine| {
        score_all(engine, &weights, &documents, &directions, |_| ())
            .unwrap()
            .into_iter()
            .map(|score| score.map_err(|error| error.to_string()))
            .collect::<Vec<_>>()
    };
    let expected = on_engine(&cpu());
    assert_eq!(on_engine(&on(&emulated, alarm)), expected);
    assert_eq!([true, false, false, true], [0, 1, 2, 3].map(|i| expected[i].is_ok()));
}

#[test]
fn with_little_memory_a_card_computes_smaller_passes_and_with_less_the_cpu_does() {
    static WARNINGS: AtomicUsize = AtomicUsize::new(0);
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture { layers: 1, positions: 64, ..Architecture::nano() };
    let directions = Directions::new(&architecture, [3; 32]);
    let (first, second) = (weights(&architecture, 1), weights(&architecture, 50));
    let data = bytes(9, 64 * 10 + 5);
    let expected =
        [&first, &second].map(|weights| score(&cpu(), weights, &data, &directions).unwrap());
    let engine = on(&emulated, |_| _ = WARNINGS.fetch_add(1, Ordering::Relaxed));
    // A pass of all chunks takes about 7 MB, and each model 1.1 MB.
    for megabytes in [64, 8, 6, 4] {
        emulated.set_memory(megabytes << 20);
        for (weights, expected) in [&first, &second].into_iter().zip(&expected) {
            assert_eq!(&score(&engine, weights, &data, &directions).unwrap(), expected);
        }
        assert_eq!(WARNINGS.load(Ordering::Relaxed), 0, "{megabytes} MiB are enough");
    }
    // Another model does not fit at all.
    emulated.set_memory(512 << 10);
    drop(first);
    let third = weights(&architecture, 99);
    let expected = score(&cpu(), &third, &data, &directions).unwrap();
    assert_eq!(score(&engine, &third, &data, &directions).unwrap(), expected);
    let told = WARNINGS.load(Ordering::Relaxed);
    assert!(told > 0, "the CPU has computed it");
    emulated.set_memory(64 << 20);
    assert_eq!(score(&engine, &third, &data, &directions).unwrap(), expected);
    assert_eq!(WARNINGS.load(Ordering::Relaxed), told, "memory is used again once it is there");
    assert!(emulated.used() > 1 << 20);
}

#[test]
fn when_a_card_fails_the_cpu_computes_the_same_score_and_one_warning_is_given() {
    static WARNINGS: AtomicUsize = AtomicUsize::new(0);
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture { layers: 1, positions: 20, ..Architecture::nano() };
    let directions = Directions::new(&architecture, [3; 32]);
    let weights = weights(&architecture, 1);
    let data = bytes(9, 50);
    let expected = score(&cpu(), &weights, &data, &directions).unwrap();
    for (failures, calls) in (0..).zip([1, 2, 3, 10, 30, 50, 60, 70, 75]) {
        assert_eq!(WARNINGS.load(Ordering::Relaxed), failures);
        emulated.set_failure(-1);
        let engine = on(&emulated, |_| _ = WARNINGS.fetch_add(1, Ordering::Relaxed));
        emulated.set_failure(calls);
        for _ in 0..3 {
            assert_eq!(score(&engine, &weights, &data, &directions).unwrap(), expected);
        }
    }
    assert_eq!(WARNINGS.load(Ordering::Relaxed), 9);
}

//! Whole scores.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use soma_architecture::{Architecture, Linear, Tensor};

use super::emulated::Emulated;
use crate::bench::hostile::{RECIPES, hostile};
use crate::card::stages::Stages;
use crate::device::{Cards, Device, DeviceChoice, Warn};
use crate::error::Error;
use crate::kernels::{Engine, KernelChoice, same_bits, values};
use crate::layers::sigreg::{Directions, Nodes};
use crate::pass::{Pass, Rows, Subject};
use crate::score::{score, score_all, score_while, score_with_dump};
use crate::weights::{Weights, framed};

fn cpu() -> Engine {
    Engine::new(KernelChoice::Auto, 1).unwrap()
}

/// An engine on the emulated card, which was not tested.
fn on(emulated: &Emulated, warn: fn(&Error)) -> Engine {
    let (cards, warn) = (Cards::with(emulated.card()), Some(Warn(Arc::new(warn))));
    cpu().with_device(Device { choice: DeviceChoice::Cuda(0), cards, warn, ..Device::default() })
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
        emulated.in_every_order(|| {
            let engine = on(&emulated, alarm);
            let got = score_all(&engine, &weights, &documents, &directions, |_| ()).unwrap();
            for (expected, got) in expected.iter().zip(got) {
                assert_eq!(expected.as_ref().unwrap(), &got.unwrap(), "{architecture:?}");
            }
        });
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

/// These weights in a file, each tensor with elements of the type that `kind` names. What is too
/// small for F16 becomes subnormal, with other values.
fn in_file(weights: &Weights, kind: impl Fn(Tensor) -> &'static str) -> Weights {
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (spec, values) in weights.tensors() {
        let (begin, dtype) = (data.len(), kind(spec.tensor));
        for value in values.iter() {
            let bits = value.to_bits();
            let exponent = (bits >> 23 & 0xff).saturating_sub(112).min(30);
            let half = (bits >> 16 & 0x8000) | exponent << 10 | (bits >> 13 & 0x3ff);
            match dtype {
                "F32" => data.extend(bits.to_le_bytes()),
                "BF16" => data.extend(&bits.to_le_bytes()[2..]),
                _ => data.extend(&half.to_le_bytes()[..2]),
            }
        }
        let entry = serde_json::json!({
            "dtype": dtype, "shape": spec.shape, "data_offsets": [begin, data.len()]
        });
        header.insert(spec.name.clone(), entry);
    }
    let mut file = framed(serde_json::Value::Object(header).to_string());
    file.extend(data);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights");
    std::fs::write(&path, file).unwrap();
    Weights::open(&path, Some(weights.architecture())).unwrap()
}

/// What kind of numbers a tensor has in a file.
type TypeOf = fn(Tensor) -> &'static str;

#[test]
fn weights_of_half_precision_have_the_score_of_the_cpu_and_half_the_memory() {
    let Some(emulated) = Emulated::new() else { return };
    // Rows of no map are a multiple of sixteen bytes long.
    let architecture = Architecture {
        layers: 2,
        dim: 50,
        heads: 5,
        ffn: 202,
        positions: 150,
        vocabulary: 262,
        sig_reg_slices: 5,
        ..Architecture::nano()
    };
    let plain = weights(&architecture, 3);
    let directions = Directions::new(&architecture, [1; 32]);
    let data = bytes(7, 330);
    let types: [(&str, TypeOf); 4] = [
        ("F32", |_| "F32"),
        ("BF16", |_| "BF16"),
        ("F16", |_| "F16"),
        // Queries, keys and values, which are one map on a card, are not alike.
        ("mixed", |tensor| match tensor {
            Tensor::Weight(Linear::Key(_) | Linear::Outer(1)) | Tensor::Embedding => "F16",
            Tensor::Weight(Linear::Outer(_)) => "BF16",
            _ => "F32",
        }),
    ];
    let used = types.map(|(name, kind)| {
        let weights = in_file(&plain, kind);
        let expected = score_with_dump(&cpu(), &weights, &data, &directions).unwrap();
        emulated.in_every_order(|| {
            let engine = on(&emulated, alarm);
            let got = score_with_dump(&engine, &weights, &data, &directions).unwrap();
            assert_eq!(got, expected, "{name}");
        });
        let engine = on(&emulated, alarm);
        score(&engine, &weights, &data, &directions).unwrap();
        let before = emulated.get("used");
        drop(weights);
        before - emulated.get("used")
    });
    let [float, bf16, f16, mixed] = used;
    assert_eq!(bf16, f16);
    assert!(bf16 * 100 < float * 70, "{bf16} of {float} bytes, with embedding and tables");
    assert!(bf16 < mixed && mixed < float, "{mixed}");
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
            let stages = Stages::within(subject, &chunks, floats);
            assert_eq!(stages.run(&mut card, Some(&mut rows)).unwrap(), expected, "{floats}");
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
        emulated.set("memory", megabytes << 20);
        for (weights, expected) in [&first, &second].into_iter().zip(&expected) {
            assert_eq!(&score(&engine, weights, &data, &directions).unwrap(), expected);
        }
        assert_eq!(WARNINGS.load(Ordering::Relaxed), 0, "{megabytes} MiB are enough");
    }
    // Another model does not fit at all.
    emulated.set("memory", 512 << 10);
    drop(first);
    let third = weights(&architecture, 99);
    let expected = score(&cpu(), &third, &data, &directions).unwrap();
    for _ in 0..3 {
        assert_eq!(score(&engine, &third, &data, &directions).unwrap(), expected);
    }
    let told = WARNINGS.load(Ordering::Relaxed);
    assert_eq!(told, 1, "the CPU has computed it, which is told once");
    emulated.set("memory", 64 << 20);
    assert_eq!(score(&engine, &third, &data, &directions).unwrap(), expected);
    assert_eq!(WARNINGS.load(Ordering::Relaxed), told, "memory is used again once it is there");
    assert!(emulated.get("used") > 1 << 20);
}

#[test]
fn a_model_that_cannot_fit_takes_no_other_from_the_card() {
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture { layers: 1, positions: 16, ..Architecture::nano() };
    let large = Architecture { layers: 8, ..architecture.clone() };
    let directions = Directions::new(&architecture, [3; 32]);
    let (small, large) = (weights(&architecture, 1), weights(&large, 2));
    let data = bytes(9, 40);
    let engine = on(&emulated, |_| ());
    emulated.set("memory", 4 << 20);
    score(&engine, &small, &data, &directions).unwrap();
    let expected = score(&cpu(), &large, &data, &directions).unwrap();
    let (written, refused) = (emulated.get("written"), emulated.get("refused"));
    for _ in 0..2 {
        assert_eq!(score(&engine, &large, &data, &directions).unwrap(), expected);
    }
    assert_eq!(emulated.get("written"), written, "nothing is copied for it");
    score(&engine, &small, &data, &directions).unwrap();
    let written = emulated.get("written") - written;
    assert!(written < 100 << 10, "{written} bytes: the other model has stayed");
    assert_eq!(emulated.get("refused"), refused, "no memory is asked for in vain");
}

#[test]
fn memory_that_is_not_there_in_one_piece_is_asked_for_once_and_not_in_every_pass() {
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture { layers: 1, positions: 64, ..Architecture::nano() };
    let directions = Directions::new(&architecture, [3; 32]);
    let weights = weights(&architecture, 1);
    let data = bytes(9, 64 * 10 + 5);
    let expected = score(&cpu(), &weights, &data, &directions).unwrap();
    let engine = on(&emulated, alarm);
    // Enough for the model, and for what some of the chunks need.
    score(&engine, &weights, b"short", &directions).unwrap();
    emulated.set("largest", 400 << 10);
    let before = emulated.get("refused");
    assert_eq!(score(&engine, &weights, &data, &directions).unwrap(), expected);
    let refused = emulated.get("refused");
    assert!(refused > before, "the whole pass does not fit");
    for _ in 0..3 {
        assert_eq!(score(&engine, &weights, &data, &directions).unwrap(), expected);
    }
    assert_eq!(emulated.get("refused"), refused, "the size that fits is known");
}

#[test]
fn what_a_card_keeps_is_copied_once_and_freed_with_its_owner() {
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture { layers: 1, positions: 16, ..Architecture::nano() };
    let directions = Directions::new(&architecture, [3; 32]);
    let weights = weights(&architecture, 1);
    let engine = on(&emulated, alarm);
    let before = emulated.get("written");
    score(&engine, &weights, b"some data", &directions).unwrap();
    let first = emulated.get("written") - before;
    score(&engine, &weights, b"some data", &directions.clone()).unwrap();
    let second = emulated.get("written") - before - first;
    assert!(second < 4 << 10 && first > 1 << 20, "{first} bytes, then {second}");
    let used = emulated.get("used");
    drop(weights);
    assert!(emulated.get("used") < used - (1 << 20), "at once");
    let used = emulated.get("used");
    drop(directions);
    assert!(emulated.get("used") < used);
    drop(engine);
    assert_eq!(emulated.get("used"), 0);
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
        emulated.set("failure", -1);
        let engine = on(&emulated, |_| _ = WARNINGS.fetch_add(1, Ordering::Relaxed));
        emulated.set("failure", calls);
        for _ in 0..2 {
            assert_eq!(score(&engine, &weights, &data, &directions).unwrap(), expected);
        }
        assert_eq!(emulated.get("used"), 0, "nothing is left on it");
    }
    assert_eq!(WARNINGS.load(Ordering::Relaxed), 9);
}

#[test]
fn after_a_card_has_failed_a_score_is_interrupted_as_soon_as_on_the_cpu() {
    let Some(emulated) = Emulated::new() else { return };
    let architecture = Architecture { layers: 1, ..Architecture::nano() };
    let directions = Directions::new(&architecture, [3; 32]);
    let weights = weights(&architecture, 1);
    let data = bytes(9, 4 * 1024);
    let asked_by = |engine: &Engine, limit| {
        let asked = Cell::new(0);
        let proceed = || {
            asked.set(asked.get() + 1);
            asked.get() <= limit
        };
        let scored = score_while(engine, &weights, &data, &directions, &proceed).unwrap();
        (asked.get(), scored.is_some())
    };
    let (passes, _) = asked_by(&cpu(), u32::MAX);
    assert!(passes >= 4);
    let failing = || {
        emulated.set("failure", -1);
        let engine = on(&emulated, |_| ());
        emulated.set("failure", 1);
        engine
    };
    assert_eq!(asked_by(&failing(), u32::MAX), (passes, true));
    assert_eq!(asked_by(&failing(), 2), (3, false), "nothing is computed after that");
}

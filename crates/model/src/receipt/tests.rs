//! Receipts are read back as they were written, and whatever differs is named.

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::kernels::KernelChoice;
use crate::simd::KernelKind;
use crate::tokenizer::chunks;

fn small() -> Architecture {
    Architecture { name: "custom".to_owned(), layers: 1, positions: 8, ..Architecture::nano() }
}

fn engine(kind: KernelKind, threads: usize) -> Engine {
    Engine::new(KernelChoice::Kind(kind), threads).unwrap()
}

fn weights() -> Weights {
    Weights::init(&small(), [7; 32]).unwrap()
}

fn receipt(weights: &Weights, data: &[u8], seed: [u8; 32]) -> Receipt {
    let engine = engine(KernelKind::Reference, 1);
    Receipt::compute(&engine, weights, data, seed, |_| ()).unwrap().0
}

fn fields(differences: &[Difference]) -> Vec<&'static str> {
    differences.iter().map(|difference| difference.field).collect()
}

#[test]
fn a_receipt_is_equal_on_every_kernel_and_thread_count_and_survives_its_json() {
    let (weights, data) = (weights(), b"to be, or not to be");
    let written = receipt(&weights, data, [9; 32]);
    let read = Receipt::from_json(&written.to_json()).unwrap();
    assert_eq!(read, written);
    for kind in KernelKind::ALL.into_iter().filter(|kind| kind.is_available()) {
        for threads in [1, 3] {
            let engine = engine(kind, threads);
            let (here, _) = Receipt::compute(&engine, &weights, data, [9; 32], |_| ()).unwrap();
            assert_eq!(read.differences(&here), [], "{kind} on {threads} threads");
        }
    }
}

#[test]
fn other_data_weights_and_seeds_are_named() {
    let (mine, data) = (weights(), b"to be, or not to be");
    let written = receipt(&mine, data, [9; 32]);
    let other_data = written.differences(&receipt(&mine, b"to be, or not to bf", [9; 32]));
    assert_eq!(other_data[0].field, "data_hash");
    let others = Weights::init(&small(), [8; 32]).unwrap();
    let other_weights = written.differences(&receipt(&others, data, [9; 32]));
    assert_eq!(fields(&other_weights)[..2], ["weights_hash", "nll"]);
    let later = Subject { numerics: NUMERICS_VERSION + 1, ..written.subject.clone() };
    assert_eq!(fields(&later.differences(&written.subject)), ["numerics"]);

    // The seed of a receipt decides what is computed here, and nothing but the loss shows it.
    let reseeded =
        Receipt { subject: Subject { seed: [1; 32], ..written.subject.clone() }, ..written };
    let here = receipt(&mine, data, reseeded.subject.seed);
    assert_eq!(fields(&reseeded.differences(&here)), ["loss_q32"]);
}

#[test]
fn every_changed_byte_of_a_receipt_is_an_error_or_a_difference() {
    let written = receipt(&weights(), b"to be, or", [9; 32]);
    let text = written.to_json();
    let value: Value = serde_json::from_str(&text).unwrap();
    let mut noticed = 0;
    for at in 0..text.len() - 1 {
        for byte in [b'0', b'7', b'a', b'F', b'x', b' ', b'"', b','] {
            let mut changed = text.clone().into_bytes();
            if std::mem::replace(&mut changed[at], byte) == byte {
                continue;
            }
            let changed = String::from_utf8(changed).unwrap();
            match Receipt::from_json(&changed) {
                Err(_) => noticed += 1,
                Ok(other) if !other.differences(&written).is_empty() => noticed += 1,
                // Another way to write the same numbers.
                Ok(_) => assert_eq!(serde_json::from_str::<Value>(&changed).unwrap(), value),
            }
        }
    }
    assert!(noticed > 7 * text.len(), "{noticed} of {}", 8 * text.len());
}

#[test]
fn a_cut_or_foreign_file_is_told_from_a_receipt_of_another_version() {
    let text = receipt(&weights(), b"to be, or", [9; 32]).to_json();
    for length in [0, 1, text.len() / 2, text.len() - 2] {
        let fault = Receipt::from_json(&text[..length]).unwrap_err();
        assert!(matches!(fault, ReceiptFault::CutOff), "{length}: {fault}");
    }
    let newer = text.replace("receipt/1", "receipt/2");
    let fault = Receipt::from_json(&newer).unwrap_err();
    assert_eq!(fault.to_string(), "its schema is `receipt/2`, but this software reads receipt/1");
    let fault = Receipt::from_json(r#"{"schema":"score/1"}"#).unwrap_err();
    assert!(matches!(fault, ReceiptFault::NoReceipt));
    let fault = Receipt::from_json(&text.replace("\"trace\"", "\"trase\"")).unwrap_err();
    assert!(fault.to_string().contains("trase"), "{fault}");
    for (field, from, to) in [
        ("bytes", "\"bytes\":9", "\"bytes\":0"),
        ("nll", "\"bytes\":9", "\"bytes\":10"),
        ("loss_q32", "\"loss_q32\":\"", "\"loss_q32\":\"+"),
        ("seed", "\"seed\":\"09", "\"seed\":\"0"),
    ] {
        let fault = Receipt::from_json(&text.replace(from, to)).unwrap_err();
        assert_eq!(fault.to_string(), format!("`{field}` is malformed"));
    }
}

proptest! {
    #[test]
    fn the_first_different_loss_is_found_in_its_chunk_and_at_its_byte(
        bytes in 1..40_usize, positions in 2..12_u32, at: prop::sample::Index,
    ) {
        let architecture = Architecture { positions, ..small() };
        let positions = positions as usize;
        let data = vec![0; bytes];
        // Chunk, position and byte of every predicted position.
        let mut places = Vec::new();
        for (chunk, piece) in chunks(&data, positions).enumerate() {
            for position in 0..piece.predicted() {
                let byte = chunk * positions + position + 1;
                let byte = (position + 1 < piece.bytes.len()).then_some(byte);
                places.push(Place { chunk, position, byte });
            }
        }
        let subject = Subject {
            numerics: NUMERICS_VERSION,
            weights_hash: [1; 32],
            architecture,
            data_hash: [2; 32],
            bytes,
            seed: [3; 32],
        };
        let nll = vec![1.5_f32.to_bits(); places.len()];
        let (embedding_hash, trace) = ([4; 32], [5; 32]);
        let written = Receipt { subject, loss_q32: -5, embedding_hash, trace, nll };
        prop_assert_eq!(&Receipt::from_json(&written.to_json()).unwrap(), &written);
        let first = at.index(places.len());
        let mut other = written.clone();
        other.nll[first..].fill(2.5_f32.to_bits());
        let differences = other.differences(&written);
        prop_assert_eq!(fields(&differences), ["nll"]);
        prop_assert_eq!(differences[0].place, Some(places[first]));
        prop_assert_eq!((&*differences[0].receipt, &*differences[0].here), ("2.5", "1.5"));
    }
}

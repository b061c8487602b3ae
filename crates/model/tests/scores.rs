//! What a score promises: the same bits on every kernel, thread count and batch, and an error
//! instead of nonsense.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a failed unwrap fails the test, and the numbers are small"
)]

use std::path::Path;

use proptest::prelude::*;
use soma_architecture::NUMERICS_VERSION;
use soma_architecture::embedding::length_squared;
use soma_codes::Coded as _;
use soma_model::bench::hostile;
use soma_model::counting::counting_q32;
use soma_model::{
    Architecture, Directions, Engine, Error, KernelChoice, KernelKind, Report, Score, Weights,
    score, score_all, score_with_dump,
};

/// Small, and odd in every extent: nothing is a multiple of sixteen.
fn odd() -> Architecture {
    Architecture {
        dim: 42,
        heads: 3,
        layers: 2,
        ffn: 77,
        vocabulary: 261,
        positions: 37,
        sig_reg_slices: 21,
        ..Architecture::nano()
    }
}

fn engine(kind: KernelKind, threads: usize) -> Engine {
    Engine::new(KernelChoice::Kind(kind), threads).unwrap()
}

fn auto() -> Engine {
    Engine::new(KernelChoice::Auto, 2).unwrap()
}

fn text(bytes: usize) -> Vec<u8> {
    b"The quick brown fox jumps over the lazy dog. ".iter().copied().cycle().take(bytes).collect()
}

fn judge(engine: &Engine, weights: &Weights, data: &[u8]) -> Report {
    let directions = Directions::new(weights.architecture(), [0; 32]);
    score(engine, weights, data, &directions).unwrap()
}

#[test]
fn every_kernel_and_thread_count_gives_the_same_score() {
    for architecture in [odd(), Architecture { layers: 1, ..Architecture::nano() }] {
        let weights = Weights::init(&architecture, [7; 32]).unwrap();
        let data = text(architecture.positions as usize + 11);
        let expected = judge(&engine(KernelKind::Reference, 2), &weights, &data);
        for kind in KernelKind::ALL {
            if !kind.is_available() {
                println!("skipped: this CPU cannot run the kernel `{kind}`");
                continue;
            }
            if kind == KernelKind::Reference {
                continue;
            }
            for threads in [1, 2, 3, 7] {
                let got = judge(&engine(kind, threads), &weights, &data);
                assert_eq!(got, expected, "{kind} on {threads} threads");
            }
        }
    }
}

#[test]
fn the_gain_is_the_same_to_the_last_bit_on_every_kernel_and_however_documents_are_batched() {
    let weights = Weights::init(&odd(), [7; 32]).unwrap();
    let directions = Directions::new(&odd(), [0; 32]);
    let documents: Vec<Vec<u8>> = (1..120).step_by(17).map(text).collect();
    let views: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
    let reference = engine(KernelKind::Reference, 1);
    let expected: Vec<i64> =
        views.iter().map(|view| judge(&reference, &weights, view).score.gain_q32).collect();
    for kind in KernelKind::ALL.into_iter().filter(|kind| kind.is_available()) {
        for threads in [1, 3] {
            let engine = engine(kind, threads);
            let scores = score_all(&engine, &weights, &views, &directions, |_| ()).unwrap();
            let gains = scores.into_iter().map(|report| report.unwrap().score.gain_q32);
            assert_eq!(gains.collect::<Vec<_>>(), expected, "{kind} on {threads} threads");
        }
    }
}

#[test]
fn the_gain_is_the_loss_of_counting_less_the_cross_entropy() {
    let data = text(100);
    let counting = counting_q32(&data, odd().positions as usize).unwrap();
    for seed in 0..3 {
        let report = judge(&auto(), &Weights::init(&odd(), [seed; 32]).unwrap(), &data);
        let Score { counting_q32, gain_q32, .. } = report.score;
        assert_eq!(counting_q32, counting, "whatever the model");
        let cross_entropy = (report.cross_entropy * 4_294_967_296.0).round_ties_even() as i64;
        assert_eq!(gain_q32, counting_q32 - cross_entropy);
        assert!((report.gain - (report.counting - report.cross_entropy)).abs() < 1e-9);
    }
}

#[test]
fn scores_have_the_recorded_bits() {
    // Recorded on x86-64. If one changes, every score in the world changes with it.
    let recorded = include_str!("recorded_scores.txt");
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let mut lines = Vec::new();
    for (name, seed) in [("nano", 1), ("odd", 2)] {
        let architecture = if name == "nano" { Architecture::nano() } else { odd() };
        let weights = Weights::init(&architecture, [seed; 32]).unwrap();
        for bytes in [1, 100, 256, 1000] {
            let report = judge(&auto(), &weights, &text(bytes));
            lines.push(line(&format!("{name} {bytes}"), &report));
        }
    }
    for name in ["tiny_text", "tiny_binary", "tiny_one_byte"] {
        let json = std::fs::read_to_string(vectors.join(name).join("config.json")).unwrap();
        let architecture = Architecture::from_json(&json).unwrap();
        let path = vectors.join(name).join("weights.safetensors");
        let weights = Weights::open(&path, Some(&architecture)).unwrap();
        let data = std::fs::read(vectors.join(name).join("data.bin")).unwrap();
        lines.push(line(name, &judge(&auto(), &weights, &data)));
    }
    // Numbers about 2^-40, where they begin to count as zero, and others that are not ordinary.
    let directions = Directions::new(&odd(), [0; 32]);
    for recipe in hostile::RECIPES {
        let weights = hostile::hostile(&odd(), recipe).unwrap();
        lines.push(match score(&auto(), &weights, &text(50), &directions) {
            Ok(report) => line(recipe.name, &report),
            Err(error) => format!("{} {}", recipe.name, error.code()),
        });
    }
    assert_eq!(lines.join("\n"), recorded.trim_end());
    // Caches of scores know the version alone: new bits are a new version.
    let hash = blake3::hash(recorded.trim_end().as_bytes()).to_hex();
    assert_eq!((NUMERICS_VERSION, &hash[..16]), (3, "6a89119ef5ba469c"));
}

fn line(name: &str, report: &Report) -> String {
    let hex = |bytes: [u8; 32]| blake3::Hash::from(bytes).to_hex();
    let score = &report.score;
    let Score { loss_q32, counting_q32, gain_q32, .. } = score;
    let hashes = format!("{} {}", hex(score.embedding_hash()), hex(score.trace));
    format!("{name} {loss_q32} {counting_q32} {gain_q32} {hashes}")
}

/// Architectures that are a multiple of nothing, and documents of every size beside their chunks.
fn shapes() -> impl Strategy<Value = (Architecture, Vec<Vec<u8>>)> {
    let architecture =
        (1..4_u32, 1..9_u32, 1..3_u32, 1..70_u32).prop_flat_map(|(heads, half, layers, ffn)| {
            (prop_oneof![2..40_u32, 300..700_u32], 1..40_u32).prop_map(
                move |(positions, sig_reg_slices)| Architecture {
                    dim: heads * half * 2,
                    heads,
                    layers,
                    ffn,
                    positions,
                    sig_reg_slices,
                    ..Architecture::nano()
                },
            )
        });
    let bytes = prop_oneof![0..4_usize, 0..200_usize, 200..1500_usize];
    let document = bytes.prop_flat_map(|bytes| prop::collection::vec(any::<u8>(), bytes));
    (architecture, prop::collection::vec(document, 0..12))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn documents_scored_together_have_the_scores_they_have_alone(
        (architecture, documents) in shapes(),
        seed in any::<[u8; 32]>(),
        threads in 1..4_usize,
    ) {
        let weights = Weights::init(&architecture, seed).unwrap();
        let directions = Directions::new(&architecture, seed);
        let together = Engine::new(KernelChoice::Auto, threads).unwrap();
        let alone = auto();
        let views: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
        let mut bytes = 0;
        let scores = score_all(&together, &weights, &views, &directions, |done| bytes += done);
        let scores = scores.unwrap();
        prop_assert_eq!(scores.len(), documents.len());
        prop_assert_eq!(bytes, documents.iter().map(Vec::len).sum::<usize>());
        for (got, document) in scores.into_iter().zip(&views) {
            match score(&alone, &weights, document, &directions) {
                Ok(expected) => prop_assert_eq!(got.unwrap(), expected),
                Err(expected) => prop_assert_eq!(got.unwrap_err().code(), expected.code()),
            }
        }
    }
}

#[test]
fn a_document_that_has_no_score_takes_none_from_the_others() {
    // The embedding of one byte alone overflows.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    Weights::init(&odd(), [3; 32]).unwrap().save(&path).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let row = header + usize::from(b'!') * 42 * 4;
    let huge = [f32::MAX.to_le_bytes(), f32::MIN.to_le_bytes()].concat();
    bytes[row..row + 42 * 4].copy_from_slice(&huge.repeat(21));
    std::fs::write(&path, bytes).unwrap();
    let weights = Weights::open(&path, None).unwrap();
    let directions = Directions::new(&odd(), [0; 32]);
    let documents: [&[u8]; 4] = [b"one", b"two!", b"", b"three"];
    let scores = score_all(&auto(), &weights, &documents, &directions, |_| ()).unwrap();
    for (index, score) in scores.iter().enumerate() {
        match (index, score) {
            (1, Err(Error::NonFinite)) | (2, Err(Error::EmptyData)) => {}
            (0 | 3, Ok(report)) => {
                assert_eq!(*report, judge(&auto(), &weights, documents[index]));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_position_depends_on_nothing_after_it_and_nothing_in_other_chunks() {
    let architecture = odd();
    let weights = Weights::init(&architecture, [3; 32]).unwrap();
    let directions = Directions::new(&architecture, [0; 32]);
    let dump = |data: &[u8]| score_with_dump(&auto(), &weights, data, &directions).unwrap().1;
    let data = text(2 * 37 + 20);
    let whole = dump(&data);
    let row = |p: usize| p * 42..(p + 1) * 42;

    let mut changed = data.clone();
    changed[37 + 12] ^= 1;
    let changed = dump(&changed);
    for p in (0..37 + 12).chain(2 * 37..2 * 37 + 21) {
        assert_eq!(changed.representations[row(p)], whole.representations[row(p)], "{p}");
    }
    for p in 37 + 12..2 * 37 {
        assert_ne!(changed.representations[row(p)], whole.representations[row(p)], "{p}");
    }

    let last = dump(&data[2 * 37..]);
    assert_eq!(last.representations[..], whole.representations[2 * 37 * 42..]);
    assert_eq!(last.nll[..], whole.nll[2 * 36..]);
}

#[test]
fn a_chunk_that_is_full_has_no_end_and_a_short_one_has() {
    let weights = Weights::init(&odd(), [3; 32]).unwrap();
    let directions = Directions::new(&odd(), [0; 32]);
    for (bytes, positions, predicted) in
        [(1, 2, 1), (36, 37, 36), (37, 37, 36), (38, 39, 37), (74, 74, 72)]
    {
        let (report, dump) = score_with_dump(&auto(), &weights, &text(bytes), &directions).unwrap();
        assert_eq!((report.positions, dump.nll.len()), (positions, predicted), "{bytes} bytes");
        let mean = dump.nll.iter().map(|&nll| f64::from(nll)).sum::<f64>() / predicted as f64;
        assert!((report.cross_entropy - mean).abs() < 1e-12);
        let loss = report.cross_entropy + 0.02 * report.sigreg;
        assert_eq!(report.loss.to_bits(), loss.to_bits());
        assert_eq!(report.score.loss_q32, (loss * 4_294_967_296.0).round_ties_even() as i64);
    }
}

#[test]
fn a_file_of_a_tenth_costs_a_tenth() {
    // Positions are the cost: there is no padding to compute.
    let architecture = Architecture { positions: 1024, layers: 1, ..Architecture::nano() };
    let weights = Weights::init(&architecture, [3; 32]).unwrap();
    assert_eq!(judge(&auto(), &weights, &text(100)).positions, 101);
    assert_eq!(judge(&auto(), &weights, &text(1024)).positions, 1024);
    let engine = engine(KernelKind::Reference, 1);
    let seconds = |bytes: usize| {
        let start = std::time::Instant::now();
        judge(&engine, &weights, &text(bytes));
        start.elapsed().as_secs_f64()
    };
    // The smaller is timed several times, so that a busy machine does not decide.
    let small = (0..5).map(|_| seconds(100)).fold(f64::INFINITY, |a, b| if b < a { b } else { a });
    assert!(small < seconds(1024) / 4.0);
}

#[test]
fn numbers_that_are_not_finite_are_an_error_and_never_a_score() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    Weights::init(&odd(), [3; 32]).unwrap().save(&path).unwrap();
    let original = std::fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
    let directions = Directions::new(&odd(), [0; 32]);
    let attempt = |change: &dyn Fn(&mut [u8])| {
        let mut bytes = original.clone();
        change(&mut bytes[header..]);
        std::fs::write(&path, bytes).unwrap();
        let weights = Weights::open(&path, None).unwrap();
        score(&auto(), &weights, &text(50), &directions).unwrap_err()
    };
    // The largest finite weights everywhere overflow at once.
    let huge = f32::MAX.to_le_bytes();
    let error = attempt(&|data| data.as_chunks_mut::<4>().0.fill(huge));
    assert!(matches!(error, Error::NonFinite), "{error}");
    // A bias of the predictor that makes every other token's loss more than 2^20 nats.
    let bias = 1e30_f32.to_le_bytes();
    let error = attempt(&|data| {
        data.as_chunks_mut::<4>().0.last_mut().unwrap().copy_from_slice(&bias);
    });
    assert!(matches!(error, Error::NonFinite), "{error}");
    // No gain and no offset in the last LayerNorm: representations of zero.
    let error = attempt(&|data| {
        let predictor = (42 * 261 + 261) * 4;
        let end = data.len() - predictor;
        data[end - 2 * 42 * 4..end].fill(0);
    });
    assert!(matches!(error, Error::ZeroEmbedding), "{error}");
}

#[test]
fn empty_data_and_foreign_directions_are_errors() {
    let weights = Weights::init(&odd(), [3; 32]).unwrap();
    let directions = Directions::new(&odd(), [0; 32]);
    assert!(matches!(score(&auto(), &weights, b"", &directions), Err(Error::EmptyData)));
    let foreign = Directions::new(&Architecture::nano(), [0; 32]);
    assert!(matches!(score(&auto(), &weights, b"x", &foreign), Err(Error::OtherDirections)));
}

#[test]
fn an_embedding_has_length_32767() {
    let weights = Weights::init(&odd(), [3; 32]).unwrap();
    let embedding = judge(&auto(), &weights, &text(50)).score.embedding;
    let length = (length_squared(&embedding) as f64).sqrt();
    assert!((length - 32767.0).abs() < 4.0, "{length}");
}

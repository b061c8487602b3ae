//! The engine agrees with the public implementation, within the tolerance of vectors/README.md.
#![expect(
    clippy::unwrap_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a failed unwrap fails the test, and the numbers are small"
)]

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use soma_model::{Architecture, Directions, Engine, KernelChoice, Weights, score_with_dump};

const VECTORS: [&str; 3] = ["tiny_text", "tiny_binary", "tiny_one_byte"];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors").join(name)
}

fn architecture(name: &str) -> Architecture {
    let json = std::fs::read_to_string(folder(name).join("config.json")).unwrap();
    Architecture::from_json(&json).unwrap()
}

fn tensor(expected: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let bytes = expected.tensor(name).unwrap().data();
    bytes.as_chunks::<8>().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect()
}

fn relative_distance(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let difference: f64 =
        got.iter().zip(expected).map(|(&g, e)| f64::from(g) - e).map(|d| d * d).sum();
    let length: f64 = expected.iter().map(|e| e * e).sum();
    (difference / length).sqrt()
}

/// The columns of the noise, normalized, as directions.
fn directions(architecture: &Architecture, expected: &SafeTensors<'_>) -> Directions {
    let noise = tensor(expected, "noise");
    let slices = architecture.sig_reg_slices as usize;
    let length = |column: usize| -> f64 {
        noise.iter().skip(column).step_by(slices).map(|x| x * x).sum::<f64>().sqrt()
    };
    let lengths: Vec<f64> = (0..slices).map(length).collect();
    let values = noise.iter().enumerate().map(|(i, x)| (x / lengths[i % slices]) as f32).collect();
    Directions::from_columns(architecture, values).unwrap()
}

#[test]
fn every_vector_is_reproduced_within_its_tolerance() {
    let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
    for name in VECTORS {
        // No cap, so that the report's SIGReg is the n * D of the vectors.
        let architecture = Architecture { sig_reg_cap: 1 << 16, ..architecture(name) };
        let weights =
            Weights::open(&folder(name).join("weights.safetensors"), Some(&architecture)).unwrap();
        let bytes = std::fs::read(folder(name).join("expected.safetensors")).unwrap();
        let expected = SafeTensors::deserialize(&bytes).unwrap();
        let data = std::fs::read(folder(name).join("data.bin")).unwrap();
        let directions = directions(&architecture, &expected);
        let (report, dump) = score_with_dump(&engine, &weights, &data, &directions).unwrap();

        let representations = tensor(&expected, "representations");
        assert!(relative_distance(&dump.representations, &representations) < 1e-4, "{name}");
        assert!(relative_distance(&dump.logits, &tensor(&expected, "logits")) < 1e-4, "{name}");
        assert!(relative_distance(&dump.nll, &tensor(&expected, "nll")) < 1e-4, "{name}");
        let cross_entropy = tensor(&expected, "cross_entropy")[0];
        assert!((report.cross_entropy - cross_entropy).abs() < 1e-5, "{name}");

        let mean = tensor(&expected, "embedding_mean");
        let length = mean.iter().map(|x| x * x).sum::<f64>().sqrt();
        for (&got, mean) in report.score.embedding.iter().zip(&mean) {
            assert!((f64::from(got) - mean / length * 32767.0).abs() < 1.0, "{name}");
        }

        let lengths: Vec<usize> =
            soma_model::tokenizer::chunks(&data, architecture.positions as usize)
                .map(|chunk| chunk.positions())
                .collect();
        let per_chunk = tensor(&expected, "sigreg_per_chunk");
        assert_eq!(per_chunk.len(), lengths.len(), "{name}");
        let weighted: f64 = per_chunk.iter().zip(&lengths).map(|(s, &n)| s * n as f64).sum();
        let sigreg = weighted / lengths.iter().sum::<usize>() as f64;
        assert!((report.sigreg / sigreg - 1.0).abs() < 1e-4, "{name}: {} {sigreg}", report.sigreg);
    }
}

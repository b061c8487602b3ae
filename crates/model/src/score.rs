//! The score of a model on data: the last place where floats exist. Only integers leave it.
//!
//! It must never let a non-finite number become a score, nor let anything depend on how the data
//! was batched.

mod passes;

use crate::error::Error;
use crate::kernels::Engine;
use crate::layers::sigreg::Directions;
use crate::tokenizer::chunks;
use crate::weights::{Weights, framed};
use passes::Passes;

/// The result that enters the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// The loss in units of 2^-32 nat.
    pub loss_q32: i64,
    /// The loss of [counting](crate::counting), in units of 2^-32 nat.
    pub counting_q32: i64,
    /// How much better the model predicts than counting does: its cross-entropy, rounded to units
    /// of 2^-32 nat, subtracted from `counting_q32`.
    pub gain_q32: i64,
    /// The mean representation, scaled to length 32767.
    pub embedding: Vec<i16>,
    /// BLAKE3 over every nll (float32) and the embedding, little-endian, as evidence that the work
    /// was done.
    pub trace: [u8; 32],
}

impl Score {
    /// What models compete in: the mean nll over the predicted positions, rounded to units of 2^-32
    /// nat. `SIGReg` is left out, because an owner can lower it without predicting better.
    pub const fn cross_entropy_q32(&self) -> i64 {
        self.counting_q32.saturating_sub(self.gain_q32)
    }

    /// BLAKE3 of the embedding as little-endian i16.
    pub fn embedding_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.embedding.iter().for_each(|value| _ = hasher.update(&value.to_le_bytes()));
        hasher.finalize().into()
    }
}

/// A score and the floats it was made from, for display.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The result that enters the protocol.
    pub score: Score,
    /// Cross-entropy plus the coefficient times SIGReg, in nats.
    pub loss: f64,
    /// Mean nll over the predicted positions, in nats.
    pub cross_entropy: f64,
    /// SIGReg before multiplication by its coefficient.
    pub sigreg: f64,
    /// Mean loss of counting over the predicted positions, in nats.
    pub counting: f64,
    /// `counting` less `cross_entropy`: how much better the model predicts than counting does.
    pub gain: f64,
    /// The cross-entropy in bits.
    pub bits_per_byte: f64,
    /// Bytes of data.
    pub bytes: usize,
    /// Positions that were computed.
    pub positions: usize,
}

/// Everything that the score was computed from, for comparison with other implementations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dump {
    /// Output of the last LayerNorm, `[positions, dim]`.
    pub representations: Vec<f32>,
    /// Output of the predictor, `[positions, vocabulary]`.
    pub logits: Vec<f32>,
    /// Negative log likelihood of every predicted token.
    pub nll: Vec<f32>,
}

/// What is kept of the intermediate results.
enum Keep<'a> {
    Nothing,
    /// The nll of every predicted position, in order.
    Nll(&'a mut Vec<f32>),
    All(&'a mut Dump),
}

/// A report, and what each byte of the data costs the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ByteReport {
    /// What [`score`] says.
    pub report: Report,
    /// The negative log likelihood of each byte in thousandths of a nat, rounded; `None` for the
    /// first byte of a chunk, which nothing predicts. The mean of them is not the score, which has
    /// more digits and counts the end.
    pub byte_losses: Vec<Option<u32>>,
}

/// Scores data with a model.
pub fn score(
    engine: &Engine,
    weights: &Weights,
    data: &[u8],
    directions: &Directions,
) -> Result<Report, Error> {
    let mut passes = Passes::new(engine, weights, directions)?;
    only(passes.run(&[data], Keep::Nothing, |_| ()))
}

/// Scores data with a model as [`score`] does, or gives up: `None` once `proceed` is false, which
/// it asks before every forward pass.
///
/// # Errors
/// Same as [`score`].
pub fn score_while(
    engine: &Engine,
    weights: &Weights,
    data: &[u8],
    directions: &Directions,
    proceed: &dyn Fn() -> bool,
) -> Result<Option<Report>, Error> {
    let mut passes = Passes::new(engine, weights, directions)?.while_true(proceed);
    let scores = passes.run(&[data], Keep::Nothing, |_| ());
    if passes.gave_up() { Ok(None) } else { only(scores).map(Some) }
}

/// Scores data with a model as [`score_while`] does, and tells what each byte costs.
///
/// # Errors
/// Same as [`score`].
pub fn score_bytes(
    engine: &Engine,
    weights: &Weights,
    data: &[u8],
    directions: &Directions,
    proceed: &dyn Fn() -> bool,
) -> Result<Option<ByteReport>, Error> {
    let mut nll = Vec::with_capacity(data.len());
    let mut passes = Passes::new(engine, weights, directions)?.while_true(proceed);
    let scores = passes.run(&[data], Keep::Nll(&mut nll), |_| ());
    if passes.gave_up() {
        return Ok(None);
    }
    let report = only(scores)?;
    let positions = weights.sizes().positions;
    let mut nll = nll.iter();
    let mut byte_losses = Vec::with_capacity(data.len());
    for chunk in chunks(data, positions) {
        let predicted: Vec<u32> =
            nll.by_ref().take(chunk.predicted()).map(|&nll| thousandths(nll)).collect();
        byte_losses.push(None);
        // What the end costs is nobody's byte.
        byte_losses.extend(predicted.into_iter().take(chunk.bytes.len() - 1).map(Some));
    }
    Ok(Some(ByteReport { report, byte_losses }))
}

/// A finite nll in thousandths of a nat.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded before")]
fn thousandths(nll: f32) -> u32 {
    (f64::from(nll) * 1_000.0).round().clamp(0.0, f64::from(u32::MAX)) as u32
}

/// Scores documents with a model, each as in [`score`]; small ones share a forward pass.
///
/// `done` is called with the number of bytes of every chunk that is computed (or skipped because
/// its document failed). Scores are in document order. Beyond the scores, only the memory of one
/// pass is needed, whatever the number and size of the documents.
///
/// # Errors
/// [`Error::OtherDirections`]. A document without a score has its own error and does not affect the
/// others.
pub fn score_all(
    engine: &Engine,
    weights: &Weights,
    documents: &[&[u8]],
    directions: &Directions,
    done: impl FnMut(usize),
) -> Result<Vec<Result<Report, Error>>, Error> {
    Ok(Passes::new(engine, weights, directions)?.run(documents, Keep::Nothing, done))
}

/// Scores data with a model and keeps the intermediate results.
pub fn score_with_dump(
    engine: &Engine,
    weights: &Weights,
    data: &[u8],
    directions: &Directions,
) -> Result<(Report, Dump), Error> {
    let mut dump = Dump::default();
    let mut passes = Passes::new(engine, weights, directions)?;
    let report = only(passes.run(&[data], Keep::All(&mut dump), |_| ()))?;
    Ok((report, dump))
}

/// Scores data with a model and keeps the nll of every predicted position, in order; `done` is
/// called with the number of bytes of every chunk.
///
/// # Errors
/// Same as [`score`].
pub(crate) fn score_with_nll(
    engine: &Engine,
    weights: &Weights,
    data: &[u8],
    directions: &Directions,
    done: impl FnMut(usize),
) -> Result<(Report, Vec<f32>), Error> {
    let mut nll = Vec::new();
    let mut passes = Passes::new(engine, weights, directions)?;
    let report = only(passes.run(&[data], Keep::Nll(&mut nll), done))?;
    Ok((report, nll))
}

/// The score of a single document.
fn only(scores: Vec<Result<Report, Error>>) -> Result<Report, Error> {
    scores.into_iter().next().unwrap_or(Err(Error::EmptyData))
}

impl Dump {
    /// The safetensors file of the dump, including the embedding of its report.
    pub fn to_safetensors(&self, report: &Report) -> Vec<u8> {
        let floats =
            |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
        let embedding = &report.score.embedding;
        let rows = report.positions.max(1);
        let tensors = [
            (
                "representations",
                "F32",
                vec![rows, self.representations.len() / rows],
                floats(&self.representations),
            ),
            ("logits", "F32", vec![rows, self.logits.len() / rows], floats(&self.logits)),
            ("nll", "F32", vec![self.nll.len()], floats(&self.nll)),
            (
                "embedding",
                "I16",
                vec![embedding.len()],
                embedding.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ),
        ];
        let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
        for (name, dtype, shape, bytes) in tensors {
            let offsets = [data.len(), data.len() + bytes.len()];
            let entry =
                serde_json::json!({ "dtype": dtype, "shape": shape, "data_offsets": offsets });
            header.insert(name.to_owned(), entry);
            data.extend(bytes);
        }
        let mut file = framed(serde_json::Value::Object(header).to_string());
        file.extend(data);
        file
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{ByteReport, Directions, score, score_bytes, score_while};
    use crate::kernels::{Engine, KernelChoice};
    use crate::simd::KernelKind;
    use crate::weights::Weights;
    use soma_architecture::Architecture;

    #[test]
    fn a_score_is_given_up_between_two_passes_and_is_the_same_otherwise() {
        let architecture = Architecture { layers: 1, ..Architecture::nano() };
        let weights = Weights::init(&architecture, [7; 32]).unwrap();
        let directions = Directions::new(&architecture, [9; 32]);
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        let data = vec![b'x'; 4 * 1024];
        let (asked, limit) = (Cell::new(0), Cell::new(u32::MAX));
        let proceed = || {
            asked.set(asked.get() + 1);
            asked.get() <= limit.get()
        };
        let scored = score_while(&engine, &weights, &data, &directions, &proceed).unwrap();
        assert_eq!(scored, Some(score(&engine, &weights, &data, &directions).unwrap()));
        assert!(asked.get() >= 4);
        asked.set(0);
        limit.set(2);
        assert_eq!(score_while(&engine, &weights, &data, &directions, &proceed).unwrap(), None);
        assert_eq!(asked.get(), 3, "nothing is computed after that");
    }

    #[test]
    fn what_each_byte_costs_adds_up_to_the_score_but_for_the_end_of_the_data() {
        let architecture = Architecture { layers: 1, ..Architecture::nano() };
        let weights = Weights::init(&architecture, [7; 32]).unwrap();
        let directions = Directions::new(&architecture, [9; 32]);
        let engine = Engine::new(KernelChoice::Auto, 1).unwrap();
        let positions = architecture.positions as usize;
        // Two whole chunks, so that no end is predicted.
        let data: Vec<u8> = (0..=250).cycle().take(2 * positions).collect();
        let scored = score_bytes(&engine, &weights, &data, &directions, &|| true).unwrap();
        let ByteReport { report, byte_losses: costs } = scored.unwrap();
        assert_eq!(report, score(&engine, &weights, &data, &directions).unwrap());
        assert_eq!(costs.len(), data.len());
        let untold: Vec<usize> = (0..costs.len()).filter(|&at| costs[at].is_none()).collect();
        assert_eq!(untold, [0, positions]);
        let told = costs.iter().flatten().map(|&cost| f64::from(cost)).sum::<f64>();
        let mean = told / f64::from(2 * architecture.positions - 2) / 1_000.0;
        assert!((mean - report.cross_entropy).abs() < 0.001, "{mean} {}", report.cross_entropy);
        let short = &data[..positions + 5];
        let scored = score_bytes(&engine, &weights, short, &directions, &|| true).unwrap();
        assert_eq!(scored.unwrap().byte_losses.len(), short.len());
        assert!(score_bytes(&engine, &weights, &data, &directions, &|| false).unwrap().is_none());
    }

    #[test]
    fn every_kernel_that_runs_here_gives_the_score_of_the_reference() {
        let architecture = Architecture { layers: 2, ..Architecture::nano() };
        let weights = Weights::init(&architecture, [7; 32]).unwrap();
        let directions = Directions::new(&architecture, [9; 32]);
        let data: Vec<u8> = (0..300_u32).map(|i| (i * i % 251) as u8).collect();
        let scores = KernelKind::ALL.map(|kind| {
            kind.is_available().then(|| {
                let engine = Engine::new(KernelChoice::Kind(kind), 1).unwrap();
                score(&engine, &weights, &data, &directions).unwrap().score
            })
        });
        let [reference, neon, ..] = &scores;
        assert!(neon.is_some(), "NEON runs everywhere in tests, emulated if need be");
        for score in scores.iter().flatten() {
            assert_eq!(Some(score), reference.as_ref());
        }
    }
}

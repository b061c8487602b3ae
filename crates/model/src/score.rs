//! The score of a model on data: the last place where a float exists. Only integers leave.
//!
//! It must never let a non-finite number become a score, nor anything depend on how the data was batched.

use crate::error::Error;
use crate::forward::{Forward, logits};
use crate::kernels::Engine;
use crate::loss::negative_log_likelihood;
use crate::sigreg::{Directions, Nodes, distance_from_normal};
use crate::tokenizer::{Chunk, chunks};
use crate::weights::Weights;

/// Positions that are computed together at least, if there are as many.
const GROUP_POSITIONS: usize = 1024;
/// A loss of this many nats or more is no loss but an overflow.
const LOSS_LIMIT: f64 = 1_048_576.0;

/// What enters the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// The loss in units of 2^-32 nat.
    pub loss_q32: i64,
    /// The mean representation, scaled to length 32767.
    pub embedding: Vec<i16>,
    /// BLAKE3 over every nll (float32) and the embedding, little-endian: proof that one did the work.
    pub trace: [u8; 32],
}

impl Score {
    /// BLAKE3 of the embedding as little-endian i16.
    pub fn embedding_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.embedding
            .iter()
            .for_each(|value| _ = hasher.update(&value.to_le_bytes()));
        hasher.finalize().into()
    }
}

/// A score with the floats behind it, for people.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// What enters the protocol.
    pub score: Score,
    /// Cross-entropy plus the coefficient times SIGReg, in nats.
    pub loss: f64,
    /// Mean nll over the predicted positions, in nats.
    pub cross_entropy: f64,
    /// SIGReg before its coefficient.
    pub sigreg: f64,
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

/// Scores data with a model.
pub fn score(
    engine: &Engine,
    weights: &Weights,
    data: &[u8],
    directions: &Directions,
) -> Result<Report, Error> {
    Scoring::new(engine, weights, directions)?.run(data, None)
}

/// Scores data with a model and keeps what was computed on the way.
pub fn score_with_dump(
    engine: &Engine,
    weights: &Weights,
    data: &[u8],
    directions: &Directions,
) -> Result<(Report, Dump), Error> {
    let mut dump = Dump::default();
    let report = Scoring::new(engine, weights, directions)?.run(data, Some(&mut dump))?;
    Ok((report, dump))
}

impl Dump {
    /// The safetensors file of the dump with the embedding of its report.
    pub fn to_safetensors(&self, report: &Report) -> Vec<u8> {
        let floats = |values: &[f32]| {
            values
                .iter()
                .flat_map(|v| v.to_le_bytes())
                .collect::<Vec<_>>()
        };
        let embedding = &report.score.embedding;
        let rows = report.positions.max(1);
        let tensors = [
            (
                "representations",
                "F32",
                vec![rows, self.representations.len() / rows],
                floats(&self.representations),
            ),
            (
                "logits",
                "F32",
                vec![rows, self.logits.len() / rows],
                floats(&self.logits),
            ),
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
        let mut header = serde_json::Value::Object(header).to_string();
        header.extend(std::iter::repeat_n(
            ' ',
            header.len().next_multiple_of(8) - header.len(),
        ));
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.into_bytes());
        file.extend(data);
        file
    }
}

/// Squared distance of two embeddings, exact.
///
/// Embeddings of different lengths are as far apart as can be.
pub fn distance_squared(a: &[i16], b: &[i16]) -> u64 {
    if a.len() != b.len() {
        return u64::MAX;
    }
    a.iter()
        .zip(b)
        .map(|(&a, &b)| u64::from(a.abs_diff(b)).pow(2))
        .sum()
}

/// The direction that lies amid these embeddings: what a model that embeds its own domain is special in.
///
/// Their mean, scaled as an embedding is; embeddings of another length than the first's count for nothing. None given, or
/// a mean of zero, is [`Error::ZeroEmbedding`].
pub fn mean_embedding<'a>(
    embeddings: impl IntoIterator<Item = &'a [i16]>,
) -> Result<Vec<i16>, Error> {
    let mut embeddings = embeddings.into_iter().peekable();
    let dim = embeddings.peek().ok_or(Error::ZeroEmbedding)?.len();
    let (mut sum, mut count) = (vec![0.0; dim], 0);
    for given in embeddings.filter(|given| given.len() == dim) {
        count += 1;
        for (sum, &component) in sum.iter_mut().zip(given) {
            *sum += f64::from(component);
        }
    }
    embedding(&sum, count)
}

/// Sums over the chunks so far, in their order.
#[derive(Debug)]
struct Sums {
    nll: f64,
    predicted: usize,
    sigreg: f64,
    representation: Vec<f64>,
    positions: usize,
    trace: blake3::Hasher,
}

struct Scoring<'a> {
    engine: &'a Engine,
    weights: &'a Weights,
    directions: &'a Directions,
    nodes: Nodes,
    forward: Forward,
    logits: Vec<f32>,
    sums: Sums,
}

impl<'a> Scoring<'a> {
    fn new(
        engine: &'a Engine,
        weights: &'a Weights,
        directions: &'a Directions,
    ) -> Result<Self, Error> {
        let architecture = weights.architecture();
        let (matrix, dim) = (directions.matrix(), architecture.dim);
        if matrix.rows() != dim || matrix.columns() != architecture.sigreg_slices {
            return Err(Error::OtherDirections);
        }
        let sums = Sums {
            nll: 0.0,
            predicted: 0,
            sigreg: 0.0,
            representation: vec![0.0; dim],
            positions: 0,
            trace: blake3::Hasher::new(),
        };
        let (nodes, forward) = (Nodes::new(architecture), Forward::default());
        Ok(Self {
            engine,
            weights,
            directions,
            nodes,
            forward,
            logits: Vec::new(),
            sums,
        })
    }

    fn run(mut self, data: &[u8], mut dump: Option<&mut Dump>) -> Result<Report, Error> {
        let positions = self.weights.architecture().positions;
        let chunks: Vec<_> = chunks(data, positions).collect();
        for group in chunks.chunks(GROUP_POSITIONS.div_ceil(positions)) {
            self.group(group, dump.as_deref_mut())?;
        }
        self.finish(data.len())
    }

    /// Computes some chunks together and adds them up one by one.
    fn group(&mut self, group: &[Chunk<'_>], mut dump: Option<&mut Dump>) -> Result<(), Error> {
        let dim = self.weights.architecture().dim;
        let vocabulary = self.weights.architecture().vocabulary;
        let tokens: Vec<Vec<u16>> = group.iter().map(|chunk| chunk.tokens().collect()).collect();
        let representations = self
            .forward
            .representations(self.engine, self.weights, &tokens);
        check_finite(representations)?;
        logits(self.engine, self.weights, representations, &mut self.logits);
        check_finite(&self.logits)?;
        if let Some(dump) = dump.as_deref_mut() {
            dump.representations.extend_from_slice(representations);
            dump.logits.extend_from_slice(&self.logits);
        }
        let mut first = 0;
        for tokens in &tokens {
            let rows = first..first + tokens.len();
            let representations = &representations[rows.start * dim..rows.end * dim];
            let logits = &mut self.logits[rows.start * vocabulary..(rows.end - 1) * vocabulary];
            let mut nll = vec![0.0; tokens.len() - 1];
            negative_log_likelihood(self.engine, logits, &tokens[1..], &mut nll);
            let distance =
                distance_from_normal(self.engine, &self.nodes, representations, self.directions);
            let cap = self.weights.architecture().sigreg_cap;
            self.sums.add_chunk(&nll, representations, distance, cap);
            if let Some(dump) = dump.as_deref_mut() {
                dump.nll.extend_from_slice(&nll);
            }
            first = rows.end;
        }
        Ok(())
    }

    fn finish(self, bytes: usize) -> Result<Report, Error> {
        let sums = self.sums;
        if sums.predicted == 0 {
            return Err(Error::EmptyData);
        }
        let cross_entropy = sums.nll / float(sums.predicted);
        let sigreg = sums.sigreg / float(sums.positions);
        let loss = cross_entropy + self.weights.architecture().sigreg_coefficient * sigreg;
        if !loss.is_finite() || loss.abs() >= LOSS_LIMIT {
            return Err(Error::NonFinite);
        }
        let embedding = embedding(&sums.representation, sums.positions)?;
        let mut trace = sums.trace;
        for value in &embedding {
            trace.update(&value.to_le_bytes());
        }
        #[expect(
            clippy::cast_possible_truncation,
            reason = "below 2^52 after the check of the loss"
        )]
        let loss_q32 = (loss * 4_294_967_296.0).round_ties_even() as i64;
        let score = Score {
            loss_q32,
            embedding,
            trace: trace.finalize().into(),
        };
        Ok(Report {
            score,
            loss,
            cross_entropy,
            sigreg,
            bits_per_byte: cross_entropy / std::f64::consts::LN_2,
            bytes,
            positions: sums.positions,
        })
    }
}

impl Sums {
    /// Two levels: float64 in the order of positions inside the chunk, then the chunks' sums in their order.
    fn add_chunk(&mut self, nll: &[f32], representations: &[f32], distance: f64, cap: usize) {
        let dim = self.representation.len();
        let samples = representations.len() / dim;
        self.nll += nll.iter().fold(0.0, |sum, &nll| sum + f64::from(nll));
        self.predicted += nll.len();
        let mut sum = vec![0.0; dim];
        for row in representations.chunks_exact(dim) {
            for (sum, &value) in sum.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        for (total, sum) in self.representation.iter_mut().zip(sum) {
            *total += sum;
        }
        self.sigreg += float(samples) * (float(samples.min(cap)) * distance);
        self.positions += samples;
        for nll in nll {
            self.trace.update(&nll.to_le_bytes());
        }
    }
}

/// `rint(mean / |mean| * 32767)`, all in float64, the squares of the length summed in order.
fn embedding(sum: &[f64], positions: usize) -> Result<Vec<i16>, Error> {
    let mean: Vec<f64> = sum.iter().map(|sum| sum / float(positions)).collect();
    let length = mean
        .iter()
        .fold(0.0, |sum, value| sum + value * value)
        .sqrt();
    if !length.is_finite() {
        return Err(Error::NonFinite);
    }
    if length == 0.0 {
        return Err(Error::ZeroEmbedding);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most 32767 in magnitude"
    )]
    let scaled = mean
        .iter()
        .map(|value| (value / length * 32767.0).round_ties_even() as i16);
    Ok(scaled.collect())
}

fn check_finite(values: &[f32]) -> Result<(), Error> {
    let finite = values
        .iter()
        .fold(true, |all, value| all & value.is_finite());
    if finite {
        Ok(())
    } else {
        Err(Error::NonFinite)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(count: usize) -> f64 {
    count as f64
}

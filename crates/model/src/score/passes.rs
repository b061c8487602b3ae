//! Documents in forward passes: chunks of small ones run together, of large ones one by one; each
//! document is summed separately.
//!
//! Computing chunks together must never change a bit, and a document that fails must never affect
//! another.

use super::{Keep, Report, Score};
use soma_architecture::Architecture;
use soma_architecture::architecture::PASS_POSITIONS;

use crate::card::{CARD_POSITIONS, CardPass};
use crate::counting::counting_q32;
use crate::error::Error;
use crate::kernels::Engine;
use crate::layers::sigreg::{Directions, Nodes};
use crate::pass::{Outcome, Pass, Rows, Subject};
use crate::tokenizer::{Chunk, chunks};
use crate::weights::Weights;

/// A loss of this many nats or more is an overflow, not a loss.
const LOSS_LIMIT: f64 = 1_048_576.0;

/// A model working its way through documents, with the buffers of a pass.
pub(super) struct Passes<'a> {
    engine: &'a Engine,
    weights: &'a Weights,
    directions: &'a Directions,
    nodes: Nodes,
    pass: Pass,
    /// Computes passes instead of the engine.
    card: Option<CardPass<'a>>,
    /// Asked before every pass; false ends the work.
    proceed: &'a dyn Fn() -> bool,
    gave_up: bool,
}

/// A chunk and the index of its document in the list.
type Placed<'d> = (usize, Chunk<'d>);

/// A document's sums so far, or why it has no score.
type Partial = Result<Sums, Error>;

/// Sums over the chunks so far, in order.
struct Sums {
    nll: f64,
    predicted: usize,
    sigreg: f64,
    representation: Vec<f64>,
    positions: usize,
    trace: blake3::Hasher,
}

impl<'a> Passes<'a> {
    /// # Errors
    /// [`Error::OtherDirections`]
    pub(super) fn new(
        engine: &'a Engine,
        weights: &'a Weights,
        directions: &'a Directions,
    ) -> Result<Self, Error> {
        let sizes = weights.sizes();
        let matrix = directions.matrix();
        if matrix.rows() != sizes.dim || matrix.columns() != sizes.slices {
            return Err(Error::OtherDirections);
        }
        Ok(Self {
            engine,
            weights,
            directions,
            nodes: Nodes::new(weights.architecture()),
            pass: Pass::default(),
            card: CardPass::new(engine, weights),
            proceed: &|| true,
            gave_up: false,
        })
    }

    /// Asks `proceed` before every pass, and computes nothing more once it is false.
    pub(super) fn while_true(self, proceed: &'a dyn Fn() -> bool) -> Self {
        Self { proceed, ..self }
    }

    /// Whether passes are missing from the scores, which mean nothing then.
    pub(super) fn gave_up(&self) -> bool {
        self.gave_up
    }

    /// Scores of documents, in order, or none once it gives up; `done` receives the number of bytes
    /// of every chunk.
    pub(super) fn run(
        &mut self,
        documents: &[&[u8]],
        mut keep: Keep<'_>,
        mut done: impl FnMut(usize),
    ) -> Vec<Result<Report, Error>> {
        let sizes = self.weights.sizes();
        let mut partial: Vec<Partial> =
            documents.iter().map(|_| Ok(Sums::new(sizes.dim))).collect();
        let positions_max = self.card.as_ref().map_or(PASS_POSITIONS as usize, |_| CARD_POSITIONS);
        let (mut pass, mut positions) = (Vec::new(), 0);
        for (document, data) in documents.iter().enumerate() {
            for chunk in chunks(data, sizes.positions) {
                if partial[document].is_err() {
                    done(chunk.bytes.len());
                    continue;
                }
                if positions + chunk.positions() > positions_max {
                    self.compute(&pass, &mut partial, &mut keep, &mut done);
                    if self.gave_up {
                        return Vec::new();
                    }
                    pass.clear();
                    positions = 0;
                }
                positions += chunk.positions();
                pass.push((document, chunk));
            }
        }
        self.compute(&pass, &mut partial, &mut keep, &mut done);
        if self.gave_up {
            return Vec::new();
        }
        let architecture = self.weights.architecture();
        let ended = partial.into_iter().zip(documents);
        ended.map(|(sums, data)| sums?.finish(data, architecture)).collect()
    }

    /// Computes chunks: in one pass on the card, or in those of the engine if there is no card or
    /// it fails. Asks before each pass.
    fn compute(
        &mut self,
        chunks: &[Placed<'_>],
        partial: &mut [Partial],
        keep: &mut Keep<'_>,
        done: &mut impl FnMut(usize),
    ) {
        let subject =
            Subject { weights: self.weights, directions: self.directions, nodes: &self.nodes };
        let wants_rows = matches!(keep, Keep::All(_));
        self.gave_up = self.gave_up || !(self.proceed)();
        if let (false, Some(card)) = (chunks.is_empty() || self.gave_up, &self.card) {
            let mut rows = Rows::default();
            if let Some(outcomes) =
                card.run(subject, &tokens(chunks), wants_rows.then_some(&mut rows))
            {
                self.add(chunks, outcomes, rows, partial, keep, done);
                return;
            }
            self.card = None;
        }
        for (index, part) in parts(chunks, PASS_POSITIONS as usize).enumerate() {
            self.gave_up = self.gave_up || (index > 0 && !(self.proceed)());
            if self.gave_up {
                return;
            }
            let mut rows = Rows::default();
            let wanted = wants_rows.then_some(&mut rows);
            let outcomes = self.pass.run(self.engine, subject, &tokens(part), wanted);
            self.add(part, outcomes, rows, partial, keep, done);
        }
    }

    /// Adds up the chunks of a pass, one by one.
    fn add(
        &self,
        pass: &[Placed<'_>],
        outcomes: Vec<Option<Outcome>>,
        rows: Rows,
        partial: &mut [Partial],
        keep: &mut Keep<'_>,
        done: &mut impl FnMut(usize),
    ) {
        if let Keep::All(dump) = keep {
            dump.representations.extend(rows.representations);
            dump.logits.extend(rows.logits);
        }
        let cap = self.weights.architecture().sig_reg_cap as usize;
        for (outcome, &(document, chunk)) in outcomes.into_iter().zip(pass) {
            done(chunk.bytes.len());
            let Ok(sums) = &mut partial[document] else {
                continue;
            };
            let Some(outcome) = outcome else {
                partial[document] = Err(Error::NonFinite);
                continue;
            };
            sums.add_chunk(&outcome, chunk.positions(), cap);
            match keep {
                Keep::Nothing => {}
                Keep::Nll(kept) => kept.extend_from_slice(&outcome.nll),
                Keep::All(dump) => dump.nll.extend_from_slice(&outcome.nll),
            }
        }
    }
}

fn tokens(chunks: &[Placed<'_>]) -> Vec<Vec<u16>> {
    chunks.iter().map(|(_, chunk)| chunk.tokens().collect()).collect()
}

/// Cuts chunks into passes of at most so many positions, or of one chunk.
fn parts<'p, 'd>(
    chunks: &'p [Placed<'d>],
    positions_max: usize,
) -> impl Iterator<Item = &'p [Placed<'d>]> {
    let mut rest = chunks;
    std::iter::from_fn(move || {
        let mut positions = 0;
        let count = rest
            .iter()
            .take_while(|(_, chunk)| {
                positions += chunk.positions();
                positions <= positions_max
            })
            .count();
        let (part, others) = rest.split_at(count.max(1).min(rest.len()));
        rest = others;
        (!part.is_empty()).then_some(part)
    })
}

impl Sums {
    /// The sums before any chunk, for representations of this width.
    fn new(dim: usize) -> Self {
        Self {
            nll: 0.0,
            predicted: 0,
            sigreg: 0.0,
            representation: vec![0.0; dim],
            positions: 0,
            trace: blake3::Hasher::new(),
        }
    }

    /// Adds up in two levels: float64 in position order within the chunk, then the chunks' sums
    /// in order.
    fn add_chunk(&mut self, outcome: &Outcome, samples: usize, cap: usize) {
        let Outcome { nll, representation, distance } = outcome;
        self.nll += nll.iter().fold(0.0, |sum, &nll| sum + f64::from(nll));
        self.predicted += nll.len();
        for (total, sum) in self.representation.iter_mut().zip(representation) {
            *total += sum;
        }
        self.sigreg += float(samples) * (float(samples.min(cap)) * distance);
        self.positions += samples;
        for nll in nll {
            self.trace.update(&nll.to_le_bytes());
        }
    }

    /// The score of the document `data`.
    fn finish(self, data: &[u8], architecture: &Architecture) -> Result<Report, Error> {
        let sums = self;
        if sums.predicted == 0 {
            return Err(Error::EmptyData);
        }
        let cross_entropy = sums.nll / float(sums.predicted);
        let sigreg = sums.sigreg / float(sums.positions);
        let coefficient = f64::from(architecture.sig_reg_coefficient_millionths) / 1e6;
        let loss = cross_entropy + coefficient * sigreg;
        if !loss.is_finite() || loss.abs() >= LOSS_LIMIT {
            return Err(Error::NonFinite);
        }
        let embedding = embedding(&sums.representation, sums.positions)?;
        let mut trace = sums.trace;
        for value in &embedding {
            trace.update(&value.to_le_bytes());
        }
        let positions = architecture.positions as usize;
        let counting_q32 = counting_q32(data, positions).ok_or(Error::EmptyData)?;
        let gain_q32 = counting_q32 - q32(cross_entropy);
        let score = Score {
            loss_q32: q32(loss),
            counting_q32,
            gain_q32,
            embedding,
            trace: trace.finalize().into(),
        };
        Ok(Report {
            score,
            loss,
            cross_entropy,
            sigreg,
            counting: nats(counting_q32),
            gain: nats(gain_q32),
            bits_per_byte: cross_entropy / std::f64::consts::LN_2,
            bytes: data.len(),
            positions: sums.positions,
        })
    }
}

/// `rint(mean / |mean| * 32767)`, all in float64, with the squares of the length summed in order.
fn embedding(sum: &[f64], positions: usize) -> Result<Vec<i16>, Error> {
    let mean: Vec<f64> = sum.iter().map(|sum| sum / float(positions)).collect();
    let length = mean.iter().fold(0.0, |sum, value| sum + value * value).sqrt();
    if !length.is_finite() {
        return Err(Error::NonFinite);
    }
    if length == 0.0 {
        return Err(Error::ZeroEmbedding);
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 32767 in magnitude")]
    let scaled = mean.iter().map(|value| (value / length * 32767.0).round_ties_even() as i16);
    Ok(scaled.collect())
}

/// Nats in units of 2^-32, rounded to nearest even.
#[expect(clippy::cast_possible_truncation, reason = "below 2^52: below LOSS_LIMIT")]
fn q32(nats: f64) -> i64 {
    (nats * 4_294_967_296.0).round_ties_even() as i64
}

/// Units of 2^-32 in nats, for display.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
fn nats(q32: i64) -> f64 {
    q32 as f64 / 4_294_967_296.0
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^53")]
fn float(count: usize) -> f64 {
    count as f64
}

//! How well weights predict, as a modeled number: training forty real models for a thousand epochs
//! is not feasible. `docs/economics.md` states the model and its assumptions. Losses and embeddings
//! are rounded to the integers of the rules before they enter a transaction.

use rand::RngExt as _;

use crate::rng::SimRng;

/// Dimensions of directions and embeddings: a 32nd of the full architecture's.
pub const DIM: usize = 64;
/// Dimensions of the random part of a loss, which makes a document easier for some weights.
const QUIRKS: usize = 16;

/// The irreducible loss, in nats per byte.
const FLOOR: f64 = 0.8;
/// The loss above the floor is `GAIN / effort^(1/4)`, a power law as in language models.
const GAIN: f64 = 1.2;
/// Nats between the losses of a document along the specialization and one orthogonal to it.
const SPECIAL: f64 = 0.05;
/// Standard deviation, in nats, of the loss of unrelated weights on one document.
const LUCK: f64 = 0.02;
/// The share of the quirks of weights that remains after an epoch of training.
const KEPT: f64 = 0.99;
/// How far an epoch of training turns the specialization toward the one its owner wants.
const TURN: f64 = 0.3;
/// By how many nats text sampled from weights is easier for those weights.
pub const OWN_TEXT: f64 = 0.1;
/// By how many nats every model is worse at garbage than counting is: 0.3 to 9 on real models.
const GARBAGE: f64 = 3.0;

/// 2^32, the unit of a loss in the rules.
const Q32: f64 = 4_294_967_296.0;
/// Loss of counting on a document, in nats: about that of natural text.
const COUNTING: f64 = 2.8;
/// Length of a specialization: how far what a model is for lies from the middle of everything.
const REACH: f64 = 0.25;
/// Length of an embedding in the rules.
#[expect(clippy::cast_precision_loss, reason = "below 2^53")]
const UNIT: f64 = soma_architecture::embedding::UNIT as f64;

/// How well weights predict.
#[derive(Clone, Debug, PartialEq)]
pub struct Quality {
    /// Training of the weights and their ancestors, in epochs of one trainer.
    pub effort: f64,
    /// The direction in which they predict best, of unit length.
    pub focus: Vec<f64>,
    quirks: Vec<f64>,
    /// The owner who trained them last: text sampled from them is easy for them and their copies.
    pub voice: usize,
}

/// The properties of data that matter to models.
#[derive(Clone, Debug)]
pub struct Document {
    /// Its direction, of unit length; all models embed it there.
    pub direction: Vec<f64>,
    /// The same direction in the integers of the rules.
    pub embedding: Vec<i16>,
    quirks: Vec<f64>,
    /// The owner whose model it was sampled from, if it was.
    pub voice: Option<usize>,
    /// Whether nobody understands it.
    pub garbage: bool,
    /// Its bytes: a unique random number.
    pub bytes: Vec<u8>,
}

impl Quality {
    /// Weights at genesis: all owners have trained equally long.
    pub fn first(voice: usize, rng: &mut SimRng) -> Self {
        Self { effort: 16.0, focus: direction(rng), quirks: normals(QUIRKS, rng), voice }
    }

    /// The weights after an epoch of training with this effort, toward `focus`.
    #[must_use]
    pub fn trained(&self, effort: f64, focus: &[f64], voice: usize, rng: &mut SimRng) -> Self {
        let new = (1.0 - KEPT * KEPT).sqrt();
        let drift = normals(QUIRKS, rng);
        let turned = self.focus.iter().zip(focus);
        Self {
            effort: self.effort + effort,
            focus: scaled(turned.map(|(old, aim)| old + TURN * (aim - old)).collect()),
            quirks: mixed(&self.quirks, KEPT, &drift, new),
            voice,
        }
    }

    /// A copy with noise that changes the loss on a document by about `nats`, up or down.
    #[must_use]
    pub fn noisy(&self, nats: f64, rng: &mut SimRng) -> Self {
        let noise = normals(QUIRKS, rng);
        Self { quirks: mixed(&self.quirks, 1.0, &noise, nats / LUCK), ..self.clone() }
    }

    /// Mean loss in nats on documents along the specialization.
    pub fn general_loss(&self) -> f64 {
        FLOOR + GAIN / self.effort.sqrt().sqrt()
    }

    /// Mean loss in nats on documents of this direction.
    pub fn expected_loss(&self, direction: &[f64]) -> f64 {
        self.general_loss() + SPECIAL * (1.0 - dot(&self.focus, direction))
    }

    /// Loss on one document, in 2^-32 nat.
    #[expect(clippy::cast_possible_truncation, reason = "a loss is a few nats")]
    pub fn loss_q32(&self, document: &Document) -> i64 {
        let luck = LUCK * dot(&self.quirks, &document.quirks);
        let own = if document.voice == Some(self.voice) { OWN_TEXT } else { 0.0 };
        let natural = self.expected_loss(&document.direction) + luck - own;
        let loss = if document.garbage { COUNTING + GARBAGE } else { natural };
        (loss.max(0.0) * Q32).round() as i64
    }
}

impl Document {
    /// A document with a random direction, or text sampled from the model of `voice`.
    pub fn random(voice: Option<usize>, rng: &mut SimRng) -> Self {
        let direction = direction(rng);
        Self {
            embedding: embedding(&direction),
            direction,
            quirks: scaled(normals(QUIRKS, rng)),
            voice,
            garbage: false,
            bytes: rng.random::<[u8; 32]>().to_vec(),
        }
    }

    /// A document that no model predicts as well as counting does.
    pub fn garbage(rng: &mut SimRng) -> Self {
        Self { garbage: true, ..Self::random(None, rng) }
    }
}

/// A uniform random direction, of unit length.
pub fn direction(rng: &mut SimRng) -> Vec<f64> {
    scaled(normals(DIM, rng))
}

/// Standard normal numbers, approximated by 256 coin flips: the same on every machine.
fn normals(count: usize, rng: &mut SimRng) -> Vec<f64> {
    let mut normal = || {
        let heads: u32 = (0..4).map(|_| rng.random::<u64>().count_ones()).sum();
        (f64::from(heads) - 128.0) / 8.0
    };
    (0..count).map(|_| normal()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn mixed(a: &[f64], of_a: f64, b: &[f64], of_b: f64) -> Vec<f64> {
    let pairs = a.iter().zip(b);
    pairs.map(|(a, b)| a * of_a + b * of_b).collect()
}

fn scaled(vector: Vec<f64>) -> Vec<f64> {
    let length = dot(&vector, &vector).sqrt();
    vector.into_iter().map(|component| component / length).collect()
}

/// A direction of unit length in the integers of the rules.
#[expect(clippy::cast_possible_truncation, reason = "components of a vector of unit length")]
pub fn embedding(vector: &[f64]) -> Vec<i16> {
    vector.iter().map(|component| (component * UNIT).round() as i16).collect()
}

/// The specialization of weights for documents around this direction, in the integers of the rules.
#[expect(clippy::cast_possible_truncation, reason = "components of a vector below unit length")]
pub fn specialization(vector: &[f64]) -> Vec<i16> {
    vector.iter().map(|component| (component * REACH * UNIT).round() as i16).collect()
}

/// The gain of weights with this loss, in 2^-32 nat.
#[expect(clippy::cast_possible_truncation, reason = "a loss is a few nats")]
pub fn gain_q32(loss_q32: i64) -> i64 {
    (COUNTING * Q32) as i64 - loss_q32
}

#[cfg(test)]
mod tests {
    use super::{Document, Quality};
    use crate::rng::stream;

    #[test]
    fn further_training_predicts_better_and_a_copy_predicts_the_same() {
        let mut rng = stream(1, "quality");
        let first = Quality::first(0, &mut rng);
        let focus = first.focus.clone();
        let later = first.trained(50.0, &focus, 0, &mut rng);
        assert!(later.expected_loss(&focus) < first.expected_loss(&focus) - 0.1);
        let document = Document::random(None, &mut rng);
        assert_eq!(first.clone().loss_q32(&document), first.loss_q32(&document));
        let noisy = first.noisy(0.001, &mut rng);
        let difference = noisy.loss_q32(&document).abs_diff(first.loss_q32(&document));
        assert!(difference > 0 && difference < 1 << 25, "{difference}");
    }

    #[test]
    fn text_sampled_from_a_model_is_easier_for_it_and_its_copies() {
        let mut rng = stream(2, "quality");
        let weights = Quality::first(7, &mut rng);
        let mut document = Document::random(None, &mut rng);
        let before = weights.loss_q32(&document);
        document.voice = Some(7);
        assert!(weights.loss_q32(&document) < before - (1 << 28));
    }
}

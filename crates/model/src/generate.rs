//! Continues bytes with a model: one pass over the weights per byte, with keys and values cached.
//!
//! The bits are those of the whole forward pass. When the positions of a chunk are used up, its
//! second half starts a new chunk.

use std::ops::ControlFlow;

use crate::error::Error;
use crate::forward::{Cache, Forward, logits};
use crate::kernels::Engine;
use crate::math::softmax_row;
use crate::simd::{Operation, Simd};
use crate::tokenizer::EOS;
use crate::weights::Weights;

/// How the next byte is chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; at 0, the most likely byte is taken.
    pub temperature: f32,
    /// The seed of the choices: the same seed gives the same choices.
    pub seed: [u8; 32],
}

/// exp((logit - max) / temperature) of one row.
struct Likelihoods<'a> {
    logits: &'a mut [f32],
    temperature: f32,
}

impl Operation for Likelihoods<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // The highest is subtracted first: divided by very little, it would be infinite.
        let higher = |highest, &logit| if logit > highest { logit } else { highest };
        let highest = self.logits.iter().fold(f32::NEG_INFINITY, higher);
        self.logits.iter_mut().for_each(|logit| *logit = (*logit - highest) / self.temperature);
        softmax_row(simd, self.logits);
    }
}

/// Calls `on_byte` for up to `count` bytes that continue `prompt`; stops at EOS or when it breaks.
///
/// Returns the number of bytes. An empty prompt is [`Error::EmptyData`]; logits that are not finite
/// are [`Error::NonFinite`].
pub fn generate(
    engine: &Engine,
    weights: &Weights,
    prompt: &[u8],
    count: usize,
    sampling: Sampling,
    mut on_byte: impl FnMut(u8) -> ControlFlow<()>,
) -> Result<usize, Error> {
    let positions = weights.sizes().positions;
    let mut history: Vec<u16> = prompt.iter().copied().map(u16::from).collect();
    if history.is_empty() {
        return Err(Error::EmptyData);
    }
    let mut stream =
        blake3::Hasher::new_keyed(&sampling.seed).update(b"soma generate").finalize_xof();
    let (mut forward, mut row) = (Forward::default(), Vec::new());
    let mut cache = Cache::new(weights);
    let mut unseen = history.split_off(history.len() - history.len().min(positions));
    history.clear();
    for made in 0..count {
        if cache.positions() + unseen.len() > positions {
            cache = Cache::new(weights);
            unseen.splice(0..0, history.split_off(history.len() - positions / 2));
            history.clear();
        }
        history.extend_from_slice(&unseen);
        let last = forward.continue_chunk(engine, weights, std::mem::take(&mut unseen), &mut cache);
        let last = &last[last.len() - weights.sizes().dim..];
        logits(engine, weights, last, &mut row);
        let token = choose(engine, &mut row, sampling.temperature, &mut stream)?;
        let Ok(byte) = u8::try_from(token) else {
            return Ok(made);
        };
        unseen.push(token);
        if on_byte(byte).is_break() {
            return Ok(made + 1);
        }
    }
    Ok(count)
}

/// Chooses among the bytes and EOS; the other ids are never output.
fn choose(
    engine: &Engine,
    row: &mut [f32],
    temperature: f32,
    stream: &mut blake3::OutputReader,
) -> Result<u16, Error> {
    if !row.iter().all(|logit| logit.is_finite()) {
        return Err(Error::NonFinite);
    }
    let candidates = || (0..=EOS).filter(|&token| token < 256 || token == EOS);
    if temperature <= 0.0 {
        let better = |best: u16, token: u16| {
            if row[usize::from(token)] > row[usize::from(best)] { token } else { best }
        };
        return Ok(candidates().fold(0, better));
    }
    engine.run(Likelihoods { logits: row, temperature });
    let weight = |token: u16| f64::from(row[usize::from(token)]);
    let total = candidates().fold(0.0, |sum, token| sum + weight(token));
    let mut bytes = [0; 8];
    stream.fill(&mut bytes);
    #[expect(clippy::cast_precision_loss, reason = "53 bits")]
    let unit = (u64::from_le_bytes(bytes) >> 11) as f64 / 9_007_199_254_740_992.0;
    let mut left = unit * total;
    for token in candidates() {
        left -= weight(token);
        if left < 0.0 {
            return Ok(token);
        }
    }
    Ok(0)
}

//! AdamW and the clipping of gradients, in one fixed order of operations.
//!
//! Weights below 2^-40 in magnitude become zero: that is how a weights file is read, and a
//! checkpoint must not differ from the run that made it. Moments below the smallest normal number
//! become zero, because they would only make training slow.

use super::Recipe;
use crate::kernels::Engine;
use crate::simd::{LANES, Operation, Simd, load_lanes, store_lanes};

/// Number of elements in a task and in a partial sum of the norm.
const CHUNK: usize = 1 << 14;

/// Running means of every parameter's gradient and squared gradient, flat, in file order.
#[derive(Debug)]
pub(crate) struct AdamW {
    pub(crate) first_moments: Vec<f32>,
    pub(crate) second_moments: Vec<f32>,
    /// `beta^t` by repeated product, in float64.
    powers: [f64; 2],
}

/// The factors of one step, the same for every element.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    clip: f32,
    betas: [f32; 2],
    /// `1 - beta`
    rests: [f32; 2],
    /// `1 / (1 - beta^t)`
    corrections: [f32; 2],
    epsilon: f32,
    learning_rate: f32,
    /// `1 - learning_rate * weight_decay`
    keep: f32,
}

impl AdamW {
    pub(crate) fn new(parameters: usize) -> Self {
        Self::resume(vec![0.0; parameters], vec![0.0; parameters], 0, &Recipe::default())
    }

    /// The state after `steps` steps that left these moments.
    pub(crate) fn resume(first: Vec<f32>, second: Vec<f32>, steps: u64, recipe: &Recipe) -> Self {
        let powers = [recipe.beta_1, recipe.beta_2].map(|beta| {
            let mut power = 1.0;
            for _ in 0..steps {
                let next = power * beta;
                if next.to_bits() == f64::to_bits(power) {
                    break;
                }
                power = next;
            }
            power
        });
        Self { first_moments: first, second_moments: second, powers }
    }

    /// Updates the values by one step with these factors. `tensors` gives, in file order, each
    /// tensor's length and whether it decays.
    pub(crate) fn update(
        &mut self,
        engine: &Engine,
        mut factors: Factors,
        tensors: impl Iterator<Item = (usize, bool)>,
        mut values: &mut [f32],
        mut gradients: &[f32],
    ) {
        let keep = factors.keep;
        let (mut first, mut second) = (&mut *self.first_moments, &mut *self.second_moments);
        let mut tasks = Vec::new();
        for (length, decays) in tensors {
            factors.keep = if decays { keep } else { 1.0 };
            let mut left = length;
            while left > 0 {
                let n = left.min(CHUNK);
                tasks.push(Update {
                    factors,
                    values: values.split_off_mut(..n).unwrap_or_default(),
                    gradients: gradients.split_off(..n).unwrap_or_default(),
                    first: first.split_off_mut(..n).unwrap_or_default(),
                    second: second.split_off_mut(..n).unwrap_or_default(),
                });
                left -= n;
            }
        }
        engine.for_each(tasks, |task| engine.run(task));
    }

    /// The factors of the next step; `norm` is the norm of the gradient.
    #[expect(clippy::cast_possible_truncation, reason = "each factor is rounded once, here")]
    pub(crate) fn next_factors(
        &mut self,
        recipe: &Recipe,
        learning_rate: f32,
        norm: f64,
    ) -> Factors {
        let betas = [recipe.beta_1, recipe.beta_2];
        for (power, beta) in self.powers.iter_mut().zip(betas) {
            *power *= beta;
        }
        let clip = recipe.clip;
        let decay = f64::from(learning_rate) * recipe.weight_decay;
        Factors {
            clip: if norm > clip { (clip / norm) as f32 } else { 1.0 },
            betas: betas.map(|beta| beta as f32),
            rests: betas.map(|beta| (1.0 - beta) as f32),
            corrections: self.powers.map(|power| (1.0 / (1.0 - power)) as f32),
            epsilon: recipe.epsilon as f32,
            learning_rate,
            keep: (1.0 - decay) as f32,
        }
    }
}

/// The update of up to [`CHUNK`] elements.
struct Update<'a> {
    factors: Factors,
    values: &'a mut [f32],
    gradients: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

impl Operation for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let factors = self.factors;
        let vectors = (self.values.chunks_mut(LANES).zip(self.gradients.chunks(LANES)))
            .zip(self.first.chunks_mut(LANES).zip(self.second.chunks_mut(LANES)));
        for ((w, g), (m, v)) in vectors {
            let state = [load_lanes(s, w), load_lanes(s, g), load_lanes(s, m), load_lanes(s, v)];
            let [new_w, new_m, new_v] = update(s, factors, state);
            store_lanes(s, new_w, w);
            store_lanes(s, new_m, m);
            store_lanes(s, new_v, v);
        }
    }
}

/// From weight, gradient and moments to the new weight and moments.
#[inline(always)]
fn update<S: Simd>(s: S, factors: Factors, [w, g, m, v]: [S::F; 4]) -> [S::F; 3] {
    let g = s.mul(g, s.splat(factors.clip));
    let m = s.fma(s.splat(factors.betas[0]), m, s.mul(s.splat(factors.rests[0]), g));
    let square = s.mul(g, g);
    let v = s.fma(s.splat(factors.betas[1]), v, s.mul(s.splat(factors.rests[1]), square));
    let (m, v) = (without_subnormals(s, m), without_subnormals(s, v));
    let mean = s.mul(m, s.splat(factors.corrections[0]));
    let root = s.sqrt(s.mul(v, s.splat(factors.corrections[1])));
    let direction = s.div(mean, s.add(root, s.splat(factors.epsilon)));
    let kept = s.mul(w, s.splat(factors.keep));
    let w = s.fnma(s.splat(factors.learning_rate), direction, kept);
    [s.operand(w), m, v]
}

#[inline(always)]
fn without_subnormals<S: Simd>(s: S, x: S::F) -> S::F {
    s.select(s.less(s.abs(x), s.splat(f32::MIN_POSITIVE)), s.splat(0.0), x)
}

/// The global norm: float64 squares in 16 strided lanes per chunk of a tensor, with the chunks
/// added in file order.
pub(crate) fn norm(
    engine: &Engine,
    mut gradients: &[f32],
    lengths: impl Iterator<Item = usize>,
) -> f64 {
    let mut chunks = Vec::new();
    for length in lengths {
        let tensor = gradients.split_off(..length).unwrap_or_default();
        chunks.extend(tensor.chunks(CHUNK));
    }
    let mut sums = vec![0.0; chunks.len()];
    let tasks = chunks.into_iter().zip(&mut sums).collect();
    engine.for_each(tasks, |(chunk, sum)| *sum = engine.run(SumOfSquares(chunk)));
    sums.iter().sum::<f64>().sqrt()
}

struct SumOfSquares<'a>(&'a [f32]);

impl Operation for SumOfSquares<'_> {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> f64 {
        let mut lanes = [0.0_f64; LANES];
        for part in self.0.chunks(LANES) {
            for (lane, &g) in lanes.iter_mut().zip(part) {
                *lane += f64::from(g) * f64::from(g);
            }
        }
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                lanes[i] += lanes[i + half];
            }
            half /= 2;
        }
        lanes[0]
    }
}

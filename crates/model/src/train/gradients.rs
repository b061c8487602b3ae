//! Compares the gradient of every parameter with finite differences of a naive float64 model, which
//! shares no code with the real one.
#![expect(clippy::disallowed_methods, reason = "the naive model is only close, not equal")]

use super::*;
use crate::kernels::KernelChoice;

/// The model and its loss in float64, as plainly as possible.
struct Naive<'a> {
    architecture: &'a Architecture,
    sizes: Sizes,
    layout: &'a Layout,
    values: Vec<f64>,
    directions: Vec<f64>,
    recipe: &'a Recipe,
}

type Rows = Vec<Vec<f64>>;

impl Naive<'_> {
    fn tensor(&self, name: &str) -> &[f64] {
        let specs = self.architecture.tensors();
        let index = specs.iter().position(|spec| spec.name == name).unwrap();
        &self.values[self.layout.places()[index].range.clone()]
    }

    fn linear(&self, name: &str, rows: &Rows) -> Rows {
        let (weight, bias) =
            (self.tensor(&format!("{name}.weight")), self.tensor(&format!("{name}.bias")));
        let width = bias.len();
        let output = |row: &Vec<f64>, n: usize| -> f64 {
            row.iter().enumerate().map(|(k, x)| x * weight[k * width + n]).sum::<f64>() + bias[n]
        };
        rows.iter().map(|row| (0..width).map(|n| output(row, n)).collect()).collect()
    }

    fn norm(&self, name: &str, rows: &Rows) -> Rows {
        let (gamma, beta) =
            (self.tensor(&format!("{name}.gamma")), self.tensor(&format!("{name}.beta")));
        let normalize = |row: &Vec<f64>| {
            let width = row.len() as f64;
            let mean = row.iter().sum::<f64>() / width;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width;
            let inverse = 1.0 / (variance + 1e-5).sqrt();
            row.iter()
                .zip(gamma.iter().zip(beta))
                .map(|(x, (g, b))| (x - mean) * inverse * g + b)
                .collect()
        };
        rows.iter().map(normalize).collect()
    }

    fn rotate(&self, rows: &Rows) -> Rows {
        let (width, half) = (self.sizes.head_dim(), self.sizes.head_dim() / 2);
        let mut rotated = rows.clone();
        for (position, row) in rotated.iter_mut().enumerate() {
            for head in row.chunks_exact_mut(width) {
                for i in 0..half {
                    let angle = position as f64 / 10000_f64.powf(2.0 * i as f64 / width as f64);
                    let (sin, cos) = angle.sin_cos();
                    let (a, b) = (head[i], head[i + half]);
                    (head[i], head[i + half]) = (a * cos - b * sin, b * cos + a * sin);
                }
            }
        }
        rotated
    }

    fn attention(&self, name: &str, rows: &Rows) -> Rows {
        let project = |map| self.linear(&format!("{name}.{map}"), rows);
        let (queries, keys) = (self.rotate(&project("query")), self.rotate(&project("key")));
        let values = project("value");
        let width = self.sizes.head_dim();
        let mut attended = vec![vec![0.0; self.sizes.dim]; rows.len()];
        for head in 0..self.sizes.heads {
            let columns = head * width..(head + 1) * width;
            for m in 0..rows.len() {
                let score = |j: usize| -> f64 {
                    let pairs = columns.clone().map(|c| queries[m][c] * keys[j][c]);
                    pairs.sum::<f64>() / (width as f64).sqrt()
                };
                let weights: Vec<f64> = (0..=m).map(|j| score(j).exp()).collect();
                let sum: f64 = weights.iter().sum();
                for c in columns.clone() {
                    let mixed: f64 = weights.iter().zip(&values).map(|(w, v)| w * v[c]).sum();
                    attended[m][c] = mixed / sum;
                }
            }
        }
        self.linear(&format!("{name}.output"), &attended)
    }

    fn representations(&self, tokens: &[u16]) -> Rows {
        let embedding = self.tensor("embedding.weight");
        let dim = self.sizes.dim;
        let row = |&token: &u16| embedding[usize::from(token) * dim..][..dim].to_vec();
        let mut residual: Rows = tokens.iter().map(row).collect();
        for layer in 0..self.sizes.layers {
            let name = format!("encoder.layers.{layer}");
            let normed = self.norm(&format!("{name}.norm_1"), &residual);
            add(&mut residual, &self.attention(&format!("{name}.attention"), &normed));
            let normed = self.norm(&format!("{name}.norm_2"), &residual);
            let mut hidden = self.linear(&format!("{name}.pwff.linear_inner"), &normed);
            hidden.iter_mut().flatten().for_each(|x| *x = gelu(*x));
            add(&mut residual, &self.linear(&format!("{name}.pwff.linear_outer"), &hidden));
        }
        self.norm("final_norm", &residual)
    }

    /// The loss over windows of tokens and targets.
    fn loss(&self, windows: &[(Vec<u16>, Vec<u16>)]) -> f64 {
        let (mut nll, mut predicted, mut samples) = (0.0, 0.0, Rows::new());
        for (tokens, targets) in windows {
            let representations = self.representations(tokens);
            let logits = self.linear("predictor", &representations);
            for (logits, &target) in logits.iter().zip(targets).filter(|(_, t)| **t != NO_TARGET) {
                let sum: f64 = logits.iter().map(|x| x.exp()).sum();
                nll += sum.ln() - logits[usize::from(target)];
                predicted += 1.0;
            }
            samples.extend(representations);
        }
        let factor = (samples.len() as f64).min(self.recipe.sigreg_cap as f64);
        let coefficient = self.recipe.sigreg_coefficient;
        nll / predicted + coefficient * factor * self.distance(&samples)
    }

    fn distance(&self, samples: &Rows) -> f64 {
        let (slices, last) = (self.sizes.slices, self.architecture.sig_reg_points - 1);
        let t_max = f64::from(self.architecture.sig_reg_t_max_thousandths) / 1e3;
        let mut total = 0.0;
        for slice in 0..slices {
            let project = |row: &Vec<f64>| -> f64 {
                row.iter().enumerate().map(|(k, z)| z * self.directions[k * slices + slice]).sum()
            };
            let projections: Vec<f64> = samples.iter().map(project).collect();
            for j in 0..=last {
                let t = t_max * f64::from(j) / f64::from(last);
                let phi = (-0.5 * t * t).exp();
                let ends = if j == 0 || j == last { 1.0 } else { 2.0 };
                let weight = phi * t_max / f64::from(last) * ends;
                let n = samples.len() as f64;
                let real = projections.iter().map(|p| (t * p).cos()).sum::<f64>() / n - phi;
                let imaginary = projections.iter().map(|p| (t * p).sin()).sum::<f64>() / n;
                total += weight * (real * real + imaginary * imaginary);
            }
        }
        total / slices as f64
    }
}

fn add(to: &mut Rows, rows: &Rows) {
    to.iter_mut().flatten().zip(rows.iter().flatten()).for_each(|(x, y)| *x += y);
}

/// GELU with erf by Simpson's rule.
fn gelu(x: f64) -> f64 {
    let steps = 400;
    let h = x / f64::from(steps);
    let density = |t: f64| (-0.5 * t * t).exp() / std::f64::consts::TAU.sqrt();
    let inside = |i: i32| density(h * f64::from(i)) * if i % 2 == 0 { 2.0 } else { 4.0 };
    let integral = h / 3.0 * (density(0.0) + density(x) + (1..steps).map(inside).sum::<f64>());
    x * (0.5 + integral)
}

/// An architecture in which no width is a whole number of vectors and windows exceed a row block.
fn awkward_architecture() -> Architecture {
    Architecture {
        dim: 20,
        heads: 2,
        layers: 2,
        ffn: 24,
        positions: 37,
        sig_reg_slices: 19,
        ..Architecture::nano()
    }
}

fn noise(count: usize, scale: f32) -> impl Iterator<Item = f32> {
    let mut state = 0x9e37_79b9_u32;
    (0..count).map(move |_| {
        state = state.wrapping_mul(0x0019_660d).wrapping_add(0x3c6e_f35f);
        scale * ((state >> 8) as f32 / 8_388_608.0 - 1.0)
    })
}

fn trainer<'e>(engine: &'e Engine, architecture: &Architecture, recipe: Recipe) -> Trainer<'e> {
    let mut corpus = Corpus::new();
    corpus.push(
        b"It was the best of times, it was the worst of times, it was the age of wisdom, ...",
    );
    corpus.push(b"short");
    let weights = Weights::init(architecture, [1; 32]).unwrap();
    let mut trainer = Trainer::new(engine, &weights, recipe, corpus).unwrap();
    let noise = noise(trainer.values.len(), 0.3);
    trainer.values.iter_mut().zip(noise).for_each(|(value, noise)| *value += noise);
    trainer
}

#[test]
fn the_gradient_of_every_parameter_equals_finite_differences() {
    let architecture = awkward_architecture();
    let recipe =
        Recipe { batch: 3, micro_batches: 1, sigreg_coefficient: 0.1, ..Recipe::default() };
    let engine = Engine::new(KernelChoice::Auto, 2).unwrap();
    let mut trainer = trainer(&engine, &architecture, recipe.clone());
    let before = trainer.values.clone();
    let [cross_entropy, sigreg] = trainer.micro_batch(0, &mut 0, &|| true).unwrap();
    let take = |pass: &Pass| (pass.tokens.clone(), pass.targets.clone());
    let windows: Vec<_> = trainer.passes.iter().map(take).collect();
    let mut naive = Naive {
        architecture: &architecture,
        sizes: Sizes::from(&architecture),
        layout: &trainer.layout,
        values: before.iter().copied().map(f64::from).collect(),
        directions: trainer.directions.matrix().data().iter().copied().map(f64::from).collect(),
        recipe: &recipe,
    };
    let loss = cross_entropy + recipe.sigreg_coefficient * sigreg;
    assert!((loss - naive.loss(&windows)).abs() < 1e-5, "{loss} {}", naive.loss(&windows));
    for place in trainer.layout.places() {
        for pick in 0..4 {
            // For the embedding, rows of letters that occur; for other tensors, any element.
            let element = match place.tensor {
                Tensor::Embedding => usize::from(b't') * place.columns + pick * 5,
                _ => place.len() * (2 * pick + 1) / 8,
            };
            let at = place.range.start + element;
            let value = naive.values[at];
            let mut difference = |step: f64| {
                naive.values[at] = value + step;
                naive.loss(&windows)
            };
            let slope = (difference(1e-5) - difference(-1e-5)) / 2e-5;
            naive.values[at] = value;
            let gradient = f64::from(trainer.gradients[at]);
            let tolerance = 2e-4 * slope.abs() + 2e-6;
            assert!(
                (gradient - slope).abs() < tolerance,
                "{:?}[{element}]: {gradient} {slope}",
                place.tensor
            );
        }
    }
}

//! Training: a pure function of (architecture, recipe, seed, data), down to the last bit.
//!
//! A step takes the next windows of the data, runs each forward and backward on its own, computes
//! the gradients of the matrices as one chain over all positions of a micro-batch, adds the
//! micro-batches in order, and applies `AdamW`. Nothing that differs between machines, kernels or
//! thread counts may ever reach the weights.
#![expect(
    clippy::cast_precision_loss,
    reason = "widths, positions and steps are far below what a float cannot count"
)]

mod recipe;
mod schedule;
mod data;
mod layout;
mod pass;
mod adamw;
mod checkpoint;
#[cfg(test)]
mod gradients;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Mutex;

use soma_architecture::{Architecture, Tensor};
use soma_os::file::AtomicFile;

pub use data::Corpus;
pub use recipe::Recipe;

use self::adamw::AdamW;
use self::checkpoint::Hashed;
use self::data::Order;
use self::layout::{Layout, Place};
use self::pass::{Model, Pass, Scratch};
pub use crate::error::CheckpointFault;
use crate::error::Error;
use crate::kernels::{Engine, Epilogue, MatrixMut, Triangle, matmul_here};
use crate::layers::loss::NO_TARGET;
use crate::layers::sigreg::{CharacteristicFunction, Directions};
use crate::rope::Rope;
use crate::sizes::Sizes;
use crate::tokenizer;
use crate::weights::{self, Weights};

/// Rows of a weight's gradient that make up one task.
const GRADIENT_ROWS: usize = 128;

/// Result of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Mean negative log likelihood in nats, before the step.
    pub cross_entropy: f64,
    /// `SIGReg` including its factor, but not its coefficient.
    pub sigreg: f64,
    /// `cross_entropy + coefficient * sigreg`
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate of the step.
    pub learning_rate: f32,
    /// Positions computed in the step.
    pub tokens: usize,
}

/// What a resumed run does differently from then on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Changes {
    /// Another number of steps: the schedule continues as if the run had had it from the beginning.
    pub steps: Option<u64>,
    /// Another peak learning rate.
    pub learning_rate: Option<f64>,
}

/// Asked again and again from all threads: false once the caller no longer wants the result.
pub type Proceed<'a> = &'a (dyn Fn() -> bool + Sync);

/// A training run between two steps.
#[derive(Debug)]
pub struct Trainer<'e> {
    engine: &'e Engine,
    architecture: Architecture,
    sizes: Sizes,
    recipe: Recipe,
    layout: Layout,
    step: u64,
    values: Vec<f32>,
    gradients: Vec<f32>,
    adamw: AdamW,
    order: Order,
    passes: Vec<Pass>,
    scratch: Mutex<Vec<Scratch>>,
    sigreg: CharacteristicFunction,
    directions: Directions,
    rope: Rope,
}

impl<'e> Trainer<'e> {
    /// A run from its first step, starting at `weights` (such as those of [`Weights::init`]).
    ///
    /// # Errors
    /// [`Error::EmptyData`] and [`Error::NothingToPredict`] if there is nothing to train on,
    /// [`Error::Recipe`] if the recipe cannot be followed.
    pub fn new(
        engine: &'e Engine,
        weights: &Weights,
        recipe: Recipe,
        corpus: Corpus,
    ) -> Result<Self, Error> {
        recipe.check()?;
        let mut values = Vec::new();
        for (_, tensor) in weights.tensors() {
            values.extend_from_slice(&tensor);
        }
        let adamw = AdamW::new(values.len());
        let state = State { step: 0, place: (0, 0), values, adamw };
        Self::assemble(engine, weights.architecture().clone(), recipe, corpus, state)
    }

    fn assemble(
        engine: &'e Engine,
        architecture: Architecture,
        recipe: Recipe,
        corpus: Corpus,
        state: State,
    ) -> Result<Self, Error> {
        let layout = Layout::new(&architecture);
        let sizes = Sizes::from(&architecture);
        let order = Order::new(corpus, recipe.seed, sizes.positions, state.place)?;
        let sigreg = CharacteristicFunction::new(&architecture);
        let passes = (0..recipe.batch).map(|_| Pass::new(sizes, &layout, &sigreg)).collect();
        Ok(Self {
            gradients: vec![0.0; layout.len()],
            directions: Directions::new(&architecture, recipe.seed),
            scratch: Mutex::new(Vec::new()),
            rope: Rope::new(&architecture),
            step: state.step,
            values: state.values,
            adamw: state.adamw,
            engine,
            architecture,
            sizes,
            recipe,
            layout,
            order,
            passes,
            sigreg,
        })
    }

    /// The recipe that this run follows.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// The architecture of the model.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// Follows a changed recipe from the next step on.
    ///
    /// # Errors
    /// [`Error::Recipe`] if it cannot be followed, or has fewer steps than are done.
    pub fn change(&mut self, changes: Changes) -> Result<(), Error> {
        let recipe = Recipe {
            steps: changes.steps.unwrap_or(self.recipe.steps),
            learning_rate: changes.learning_rate.unwrap_or(self.recipe.learning_rate),
            ..self.recipe.clone()
        };
        recipe.check()?;
        if changes.steps.is_some_and(|steps| steps < self.step) {
            return Err(Error::Recipe { field: "steps" });
        }
        self.recipe = recipe;
        Ok(())
    }

    /// Steps done so far.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// The weights as they are now.
    pub fn weights(&self) -> Weights {
        let values = |place: &Place| self.values[place.range.clone()].to_vec();
        let tensors = self.layout.places().iter().map(values).collect();
        Weights::from_tensors(&self.architecture, tensors)
    }

    /// Writes the weights as [`Weights::save`] does, without a copy of them; returns their hash.
    ///
    /// # Errors
    /// [`Error::Io`] if they cannot be written.
    pub fn save(&self, path: &Path) -> Result<[u8; 32], Error> {
        let write = || -> io::Result<[u8; 32]> {
            let mut out = Hashed::new(AtomicFile::create(path)?);
            self.write_to(&mut out)?;
            let (file, hash) = out.finish();
            file.commit()?;
            Ok(hash.into())
        };
        write().map_err(|source| Error::Io { path: path.to_owned(), source })
    }

    /// BLAKE3 of the file that [`Self::save`] writes.
    pub fn weights_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        self.write_to(&mut hasher).map_or([0; 32], |()| hasher.finalize().into())
    }

    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&weights::header_of(&self.architecture))?;
        weights::write_floats(out, &self.values)
    }

    /// Mean negative log likelihood, in nats, of other data under the current weights: documents
    /// in chunks, as in a score.
    ///
    /// # Errors
    /// [`Error::NothingToPredict`] if there is nothing to predict, [`Error::NonFinite`] if the mean
    /// is not finite.
    pub fn evaluate(&mut self, corpus: &Corpus) -> Result<f64, Error> {
        let positions = self.sizes.positions;
        let documents = corpus.documents();
        let mut chunks =
            documents.flat_map(|document| tokenizer::chunks(document, positions)).peekable();
        let model = Model {
            engine: self.engine,
            sizes: self.sizes,
            layout: &self.layout,
            values: &self.values,
            directions: &self.directions,
            rope: &self.rope,
        };
        let (mut nll, mut predicted) = (0.0, 0_usize);
        while chunks.peek().is_some() {
            let mut filled = Vec::new();
            for (pass, chunk) in self.passes.iter_mut().zip(&mut chunks) {
                pass.fill(chunk.tokens());
                predicted += chunk.predicted();
                filled.push(pass);
            }
            let last = filled.len();
            self.engine.for_each(filled, |pass| pass.forward(&model, 0.0));
            nll = self.passes[..last].iter().fold(nll, |sum, pass| sum + pass.nll);
        }
        match nll / predicted as f64 {
            _ if predicted == 0 => Err(Error::NothingToPredict),
            mean if mean.is_finite() => Ok(mean),
            _ => Err(Error::NonFinite),
        }
    }

    /// Performs one optimizer step.
    ///
    /// # Errors
    /// [`Error::Diverged`] if the loss or the gradient is not finite; the run stays as it was.
    #[expect(clippy::expect_used, reason = "nothing asks it to stop")]
    pub fn step(&mut self) -> Result<StepReport, Error> {
        Ok(self.step_while(&|| true)?.expect("work that always proceeds is done"))
    }

    /// Performs one optimizer step as [`Self::step`] does, or gives up: `None` once `proceed` is
    /// false; the run stays as it was.
    ///
    /// # Errors
    /// Same as [`Self::step`].
    pub fn step_while(&mut self, proceed: Proceed<'_>) -> Result<Option<StepReport>, Error> {
        let place = self.order.place();
        let report = self.gradient(proceed);
        match &report {
            Ok(Some(report)) => self.update(report),
            Ok(None) | Err(_) => self.order.return_to(place),
        }
        report
    }

    /// What the next step will report, at the cost of one; the run stays as it was. `None` once
    /// `proceed` is false. Only this tells whether the present weights have a finite loss: a step
    /// reports the loss of the weights from before it.
    ///
    /// # Errors
    /// Same as [`Self::step`].
    pub fn next_report(&mut self, proceed: Proceed<'_>) -> Result<Option<StepReport>, Error> {
        let place = self.order.place();
        let report = self.gradient(proceed);
        self.order.return_to(place);
        report
    }

    /// The gradient of the next step and its report. Leaves the data's place where the step ends.
    fn gradient(&mut self, proceed: Proceed<'_>) -> Result<Option<StepReport>, Error> {
        let mut report = StepReport {
            step: self.step + 1,
            cross_entropy: 0.0,
            sigreg: 0.0,
            loss: 0.0,
            gradient_norm: 0.0,
            learning_rate: schedule::learning_rate(&self.recipe, self.step),
            tokens: 0,
        };
        for index in 0..self.recipe.micro_batches {
            let means = self.micro_batch(index, &mut report.tokens, proceed);
            let Some([cross_entropy, sigreg]) = means else {
                return Ok(None);
            };
            report.cross_entropy += cross_entropy;
            report.sigreg += sigreg;
        }
        report.cross_entropy /= self.recipe.micro_batches as f64;
        report.sigreg /= self.recipe.micro_batches as f64;
        let coefficient = self.recipe.sigreg_coefficient;
        report.loss = report.cross_entropy + coefficient * report.sigreg;
        let lengths = self.layout.places().iter().map(Place::len);
        report.gradient_norm = adamw::norm(self.engine, &self.gradients, lengths);
        for (what, value) in [("loss", report.loss), ("gradient", report.gradient_norm)] {
            if !value.is_finite() {
                return Err(Error::Diverged { step: report.step, what });
            }
        }
        Ok(Some(report))
    }

    /// Changes the weights by the gradient that has this report.
    fn update(&mut self, report: &StepReport) {
        let places = self.layout.places().iter();
        let (rate, norm) = (report.learning_rate, report.gradient_norm);
        let factors = self.adamw.next_factors(&self.recipe, rate, norm);
        self.adamw.update(
            self.engine,
            factors,
            places.map(|place| (place.len(), place.tensor.is_matrix())),
            &mut self.values,
            &self.gradients,
        );
        self.step = report.step;
    }

    /// Adds the gradients of the next micro-batch; returns its cross-entropy and its `SIGReg`, or
    /// `None` once `proceed` is false.
    #[expect(clippy::cast_possible_truncation, reason = "the weight is rounded once, here")]
    fn micro_batch(
        &mut self,
        index: usize,
        tokens: &mut usize,
        proceed: Proceed<'_>,
    ) -> Option<[f64; 2]> {
        for pass in &mut self.passes {
            self.order.next(&mut pass.tokens, &mut pass.targets);
        }
        let positions: usize = self.passes.iter().map(|pass| pass.tokens.len()).sum();
        let targets = self.passes.iter().flat_map(|pass| &pass.targets);
        let predicted = targets.filter(|&&target| target != NO_TARGET).count().max(1);
        *tokens += positions;
        let share = 1.0 / self.recipe.micro_batches as f64;
        let weight = (share / predicted as f64) as f32;
        let seed = self.recipe.directions_seed(self.step, index);
        self.directions = Directions::new(&self.architecture, seed);
        let model = Model {
            engine: self.engine,
            sizes: self.sizes,
            layout: &self.layout,
            values: &self.values,
            directions: &self.directions,
            rope: &self.rope,
        };
        let (sigreg, scratch) = (&self.sigreg, &self.scratch);
        let passes = self.passes.iter_mut().collect();
        self.engine.for_each(passes, |pass| {
            if proceed() {
                pass.forward(&model, weight);
                pass.sample(&model, sigreg);
            }
        });
        if !proceed() {
            return None;
        }
        let factor = positions.min(self.recipe.sigreg_cap) as f64;
        let coefficient = self.recipe.sigreg_coefficient * factor * share;
        let sums = self.passes.iter().map(|pass| &pass.sigreg_sums);
        let distance = self.sigreg.distance(sums, positions, coefficient);
        let sigreg = &self.sigreg;
        let passes = self.passes.iter_mut().collect();
        self.engine.for_each(passes, |pass| {
            if !proceed() {
                return;
            }
            let kept = scratch.lock().ok().and_then(|mut kept| kept.pop());
            let mut room = kept.unwrap_or_else(|| Scratch::new(model.sizes));
            pass.backward(&model, sigreg, &mut room);
            if let Ok(mut kept) = scratch.lock() {
                kept.push(room);
            }
        });
        if !proceed() {
            return None;
        }
        add_gradients(&model, &self.passes, &mut self.gradients, index > 0);
        let nll: f64 = self.passes.iter().map(|pass| pass.nll).sum();
        Some([nll / predicted as f64, factor * distance])
    }
}

/// What a checkpoint holds besides architecture, recipe and data.
#[derive(Debug)]
struct State {
    step: u64,
    place: (u64, usize),
    values: Vec<f32>,
    adamw: AdamW,
}

/// Adds the gradients of all windows, in order, to those of the previous micro-batches (`add`), or
/// starts from zero.
fn add_gradients(model: &Model<'_>, passes: &[Pass], mut gradients: &mut [f32], add: bool) {
    let mut tasks = Vec::new();
    for place in model.layout.places() {
        let mut rows = gradients.split_off_mut(..place.len()).unwrap_or_default();
        let height =
            if matches!(place.tensor, Tensor::Weight(_)) { GRADIENT_ROWS } else { place.rows };
        for first in (0..place.rows).step_by(height) {
            let count = height.min(place.rows - first);
            let part = rows.split_off_mut(..count * place.columns).unwrap_or_default();
            tasks.push((place, first, part));
        }
    }
    model.engine.for_each(tasks, |(place, first, sums)| {
        if !add {
            sums.fill(0.0);
        }
        match place.tensor {
            Tensor::Weight(linear) => {
                for pass in passes {
                    let [inputs, d_outputs] = pass.factors(linear, model);
                    let count = sums.len() / place.columns;
                    let inputs = inputs.columns_from(first, count).transposed();
                    let sums = MatrixMut::new(sums, count, place.columns);
                    let (engine, full) = (model.engine, Triangle::Full);
                    matmul_here(engine, inputs, d_outputs, sums, true, full, Epilogue::None);
                }
            }
            Tensor::Embedding => {
                for pass in passes {
                    let rows = pass.d_embedded().chunks_exact(place.columns);
                    for (&token, row) in pass.tokens.iter().zip(rows) {
                        add_to(&mut sums[usize::from(token) * place.columns..], row);
                    }
                }
            }
            Tensor::Bias(_) | Tensor::Gamma(_) | Tensor::Beta(_) => {
                for pass in passes {
                    add_to(sums, &pass.vectors[place.vector_range.clone()]);
                }
            }
        }
    });
}

fn add_to(sums: &mut [f32], row: &[f32]) {
    for (sum, x) in sums.iter_mut().zip(row) {
        *sum += x;
    }
}

//! `soma train`: trains a model on this machine. The weights depend, bit for bit, on architecture,
//! recipe, seed and data only; threads and kernels never change them.

mod kept;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use soma_codes::Code;
use soma_model::train::{Changes, Corpus, Recipe, StepReport, Trainer};
use soma_model::{Engine, Weights};
use soma_os::data::check_memory;

use self::kept::Kept;
use crate::data::Data;
use crate::error::{Error, Result};
use crate::model_flags::{self, Arch, EngineArgs};
use crate::output::{Output, Unit};
use crate::seed::Seed;
use crate::signals::Stop;

/// Train a model on this machine, reproducibly.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma train --arch nano --data notes/ -o notes.safetensors")]
pub(crate) struct Train {
    /// `nano`, `v1` or a JSON file.
    #[arg(long, required_unless_present_any = ["resume", "from"])]
    arch: Option<Arch>,
    /// Training data: files, or folders of files; repeat for more.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// Start from these weights instead of random ones.
    #[arg(long, value_name = "WEIGHTS", conflicts_with = "resume")]
    from: Option<PathBuf>,
    /// Optimizer steps, with those of a resumed run: a larger number prolongs it.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// Windows of one context length in a step.
    #[arg(long)]
    batch: Option<usize>,
    /// Peak learning rate.
    #[arg(long, value_name = "X")]
    lr: Option<f64>,
    /// Seed of the initial weights and the order of the data: an integer, or 64 hex digits.
    #[arg(long, default_value = "0")]
    seed: Seed,
    /// Data to evaluate on [default: the last tenth of the training bytes, held out].
    #[arg(long, value_name = "PATH")]
    val: Option<PathBuf>,
    /// Resume from a checkpoint, with its recipe but for --steps and --lr.
    #[arg(long, value_name = "CKPT", conflicts_with_all = ["arch", "batch", "seed"])]
    resume: Option<PathBuf>,
    /// Write a checkpoint to this file after steps 25, 50 and 100 and every 200 steps, at the end,
    /// and when the run is interrupted [default: the file of -o with `.checkpoint` appended, until
    /// the run is finished].
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Append one line of JSON per step to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write the weights to this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// The last line of the result.
#[derive(Serialize)]
struct Summary {
    schema: &'static str,
    weights_hash: String,
    steps: u64,
    /// Mean over the last steps, nats per byte; `None` if no step was left to do.
    cross_entropy: Option<f64>,
    /// On held-out data, nats per byte; `None` without such data.
    val_cross_entropy: Option<f64>,
    seconds: f64,
    tokens_per_second: f64,
}

impl Train {
    pub(crate) fn run(self, output: &Output) -> Result {
        let stop = Stop::listen()?;
        Kept::check(&self)?;
        self.warn_of_outputs_among_data(output);
        let engine = self.engine.build()?;
        let Corpora { training: corpus, held_out, found } = self.corpora(output)?;
        output.say(format_args!(
            "training on {} bytes, evaluating on {}; {} on {}",
            corpus.len(),
            held_out.len(),
            engine.kernel(),
            model_flags::threads(engine.threads()),
        ));
        let mut trainer = self.trainer(&engine, corpus)?;
        if trainer.steps_done() == trainer.recipe().steps {
            output.warn(format_args!(
                "the run is finished at step {}; to prolong it, add --steps N",
                trainer.steps_done()
            ));
        }
        let mut kept = Kept::prepare(&self, &trainer, output)?;
        let mut run = Run::new();
        match steps(&mut trainer, &mut kept, &mut run, &stop, output) {
            Ok(()) if trainer.steps_done() < trainer.recipe().steps => {
                return Err(kept.interrupted(&trainer, &run));
            }
            Err(error) => return Err(kept.failed(&trainer, error)),
            Ok(()) => {}
        }
        let seconds = run.seconds();
        let weights_hash = kept.finished(&trainer, &run)?.unwrap_or_else(|| trainer.weights_hash());
        let summary = Summary {
            schema: "train/1",
            weights_hash: hex::encode(weights_hash),
            steps: trainer.steps_done(),
            cross_entropy: (run.steps > 0).then_some(run.cross_entropy),
            val_cross_entropy: evaluate(&mut trainer, &held_out, output),
            seconds,
            tokens_per_second: run.tokens as f64 / seconds.max(f64::MIN_POSITIVE),
        };
        output.result(summary.text(self.output.as_deref()), &summary)?;
        kept.complete()?;
        found.iter().try_for_each(Data::ended)
    }

    /// Warns of outputs that a later run would read as data, so that it could not be resumed.
    fn warn_of_outputs_among_data(&self, output: &Output) {
        let outputs = [&self.output, &self.checkpoint, &self.log].into_iter().flatten();
        for path in outputs.filter_map(|path| std::path::absolute(path).ok()) {
            let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
            let lies_in = |data: &&PathBuf| {
                let data = data.canonicalize().ok().filter(|data| data.is_dir());
                data.zip(folder.as_ref()).is_some_and(|(data, folder)| folder.starts_with(data))
            };
            if let Some(data) = self.data.iter().find(lies_in) {
                let (path, data) = (path.display(), data.display());
                output.warn(format_args!(
                    "{path} lies in {data}: a run that is resumed or repeated reads it as data"
                ));
            }
        }
    }

    fn corpora(&self, output: &Output) -> Result<Corpora> {
        let (corpus, data) = read(&self.data, output)?;
        let Some(path) = &self.val else {
            let (training, held_out) = corpus.hold_out();
            return Ok(Corpora { training, held_out, found: vec![data] });
        };
        let (held_out, held_out_data) = read(std::slice::from_ref(path), output)?;
        Ok(Corpora { training: corpus, held_out, found: vec![data, held_out_data] })
    }

    fn trainer<'e>(&self, engine: &'e Engine, corpus: Corpus) -> Result<Trainer<'e>> {
        if let Some(path) = &self.resume {
            let mut trainer = Trainer::resume(engine, path, corpus)?;
            let done = trainer.steps_done();
            if self.steps.is_some_and(|steps| steps < done) {
                let message = format!("{} has done {done} steps already", path.display());
                return Err(Error::usage(message)
                    .hint(format!("--steps counts all steps of the run: name more than {done}")));
            }
            trainer.change(Changes { steps: self.steps, learning_rate: self.lr })?;
            return Ok(trainer);
        }
        let weights = match (&self.from, &self.arch) {
            (Some(path), arch) => model_flags::open(path, arch.as_ref())?,
            (None, Some(arch)) => Weights::init(&arch.0, self.seed.0)?,
            (None, None) => return Err(Error::usage("--arch, --from or --resume is needed")),
        };
        let defaults = Recipe::default();
        let recipe = Recipe {
            steps: self.steps.unwrap_or(defaults.steps),
            batch: self.batch.unwrap_or(defaults.batch),
            learning_rate: self.lr.unwrap_or(defaults.learning_rate),
            seed: self.seed.0,
            ..defaults
        };
        Ok(Trainer::new(engine, &weights, recipe, corpus)?)
    }
}

/// The data of a run.
struct Corpora {
    training: Corpus,
    held_out: Corpus,
    /// Where it is from.
    found: Vec<Data>,
}

/// Runs until the last step, or until it is asked to stop.
fn steps(
    trainer: &mut Trainer<'_>,
    kept: &mut Kept<'_>,
    run: &mut Run,
    stop: &Stop,
    output: &Output,
) -> Result {
    let total = trainer.recipe().steps;
    let bar = output.bar(total, "training", Unit::Items);
    bar.set_position(trainer.steps_done());
    let mut signs = output.signs();
    while trainer.steps_done() < total {
        let Some(report) = trainer.step_while(&|| !stop.is_set())? else {
            break;
        };
        run.add(&report);
        kept.step(trainer, &report, run, stop);
        bar.set_message(format!("cross-entropy {:.3}", run.cross_entropy));
        bar.inc(1);
        signs.tick(|| run.sign(report.step, total));
    }
    bar.finish_and_clear();
    Ok(())
}

/// Figures of the steps of this process.
struct Run {
    begun: Instant,
    /// Running mean, dominated by the last twenty steps or so.
    cross_entropy: f64,
    steps: u64,
    tokens: usize,
}

impl Run {
    fn new() -> Self {
        Self { begun: Instant::now(), cross_entropy: 0.0, steps: 0, tokens: 0 }
    }

    fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn add(&mut self, report: &StepReport) {
        self.steps += 1;
        self.tokens += report.tokens;
        let weight = 1.0 / self.steps.min(20) as f64;
        self.cross_entropy += weight * (report.cross_entropy - self.cross_entropy);
    }

    /// A line for the log of a job.
    fn sign(&self, step: u64, total: u64) -> String {
        let seconds = self.seconds() / self.steps.max(1) as f64 * (total - step) as f64;
        let left = Duration::try_from_secs_f64(seconds.floor()).unwrap_or_default();
        let left = humantime::format_duration(left);
        let cross_entropy = self.cross_entropy;
        format!("step {step} of {total}, cross-entropy {cross_entropy:.3}, about {left} left")
    }
}

/// The cross-entropy of held-out data, if there is any; it must not cost the weights.
fn evaluate(trainer: &mut Trainer<'_>, held_out: &Corpus, output: &Output) -> Option<f64> {
    if held_out.is_empty() {
        return None;
    }
    let evaluated = trainer.evaluate(held_out);
    evaluated
        .inspect_err(|error| output.warn(format_args!("no figure for held-out data: {error}")))
        .ok()
}

impl Summary {
    fn text(&self, path: Option<&Path>) -> String {
        let figure = |value: Option<f64>| value.map_or("-".into(), |value| format!("{value:.4}"));
        let val = figure(self.val_cross_entropy);
        let path =
            path.map_or_else(String::new, |path| format!("\nweights        {}", path.display()));
        format!(
            "cross-entropy  {} nats per byte while training\nheld out       {val}\n\
             steps          {} in {:.1} s, {:.0} tokens/s\nweights hash   {}{path}",
            figure(self.cross_entropy),
            self.steps,
            self.seconds,
            self.tokens_per_second,
            self.weights_hash
        )
    }
}

/// All files in order, one document each.
fn read(paths: &[PathBuf], output: &Output) -> Result<(Corpus, Data)> {
    let data = Data::find(paths, output)?;
    // A file that is too large by itself is left out.
    let sizes = data.files.iter().map(|file| file.size_bytes);
    let bytes = sizes.filter(|bytes| check_memory(*bytes).is_ok()).sum();
    check_memory(bytes).map_err(|error| {
        let message = format!("all of the data is in memory while it is learned: {error}");
        Error::new(Code::NoMemory, message).hint("train on less of it at a time, and use --from")
    })?;
    let mut corpus = Corpus::new();
    for file in &data.files {
        if let Some(content) = data.read(file, output)? {
            corpus.push(&content);
        }
    }
    Ok((corpus, data))
}

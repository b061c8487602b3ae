//! `soma train`: trains a model on this machine. The weights depend, bit for bit, on architecture,
//! recipe, seed and data only; threads and kernels never change them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use soma_codes::Code;
use soma_model::train::{Corpus, Recipe, StepReport, Trainer};
use soma_model::{Engine, Weights};

use crate::error::{Error, Result};
use crate::model_flags::{self, Arch, EngineArgs};
use crate::output::{Output, Unit};
use crate::seed::Seed;

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
    /// Optimizer steps.
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
    /// Resume from a checkpoint, with its recipe.
    #[arg(long, value_name = "CKPT", conflicts_with_all = ["arch", "steps", "batch", "lr", "seed"])]
    resume: Option<PathBuf>,
    /// Write a checkpoint to this file every 200 steps and at the end.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Write one line of JSON per step to this file.
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Write the weights to this file.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    engine: EngineArgs,
}

/// Steps between two checkpoints.
const CHECKPOINT_STEPS: u64 = 200;

/// The last line of the result.
#[derive(Serialize)]
struct Summary {
    schema: &'static str,
    weights_hash: String,
    steps: u64,
    /// Mean over the last steps, nats per byte.
    cross_entropy: f64,
    /// On held-out data, nats per byte; `None` without such data.
    val_cross_entropy: Option<f64>,
    seconds: f64,
    tokens_per_second: f64,
}

#[derive(Serialize)]
struct LogLine {
    step: u64,
    loss: f64,
    cross_entropy: f64,
    sigreg: f64,
    gradient_norm: f64,
    learning_rate: f32,
    tokens: usize,
    seconds: f64,
}

impl Train {
    pub(crate) fn run(self, output: &Output) -> Result {
        let engine = self.engine.build()?;
        let (corpus, held_out) = self.corpora()?;
        output.say(format_args!(
            "training on {} bytes, evaluating on {}; {} on {} threads",
            corpus.len(),
            held_out.len(),
            engine.kernel(),
            engine.threads(),
        ));
        let mut trainer = self.trainer(&engine, corpus)?;
        let run = self.steps(&mut trainer, output)?;
        let weights = trainer.weights();
        if let Some(path) = &self.output {
            weights.save(path)?;
        }
        let val = if held_out.is_empty() { None } else { Some(trainer.evaluate(&held_out)?) };
        let summary = Summary {
            schema: "train/1",
            weights_hash: hex::encode(weights.hash()),
            steps: trainer.steps_done(),
            cross_entropy: run.cross_entropy,
            val_cross_entropy: val,
            seconds: run.seconds,
            tokens_per_second: run.tokens as f64 / run.seconds.max(f64::MIN_POSITIVE),
        };
        output.result(summary.text(self.output.as_deref()), &summary)
    }

    /// Training data and held-out data.
    fn corpora(&self) -> Result<(Corpus, Corpus)> {
        let corpus = read(&self.data)?;
        match &self.val {
            Some(path) => Ok((corpus, read(std::slice::from_ref(path))?)),
            None => Ok(corpus.hold_out()),
        }
    }

    fn trainer<'e>(&self, engine: &'e Engine, corpus: Corpus) -> Result<Trainer<'e>> {
        if let Some(path) = &self.resume {
            return Ok(Trainer::resume(engine, path, corpus)?);
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

    fn steps(&self, trainer: &mut Trainer<'_>, output: &Output) -> Result<Run> {
        let mut log = self.log.as_deref().map(Log::create).transpose()?;
        let total = trainer.recipe().steps;
        let bar = output.bar(total, "training", Unit::Items);
        bar.set_position(trainer.steps_done());
        let started = Instant::now();
        let mut run = Run::default();
        while trainer.steps_done() < total {
            let report = trainer.step()?;
            run.add(&report);
            if let Some(log) = &mut log {
                log.write(&report, started.elapsed().as_secs_f64())?;
            }
            bar.set_message(format!("cross-entropy {:.3}", run.cross_entropy));
            bar.inc(1);
            let due = report.step.is_multiple_of(CHECKPOINT_STEPS) || report.step == total;
            if let (true, Some(path)) = (due, &self.checkpoint) {
                trainer.save_checkpoint(path)?;
            }
        }
        bar.finish_and_clear();
        run.seconds = started.elapsed().as_secs_f64();
        Ok(run)
    }
}

/// Figures of the steps of this process.
#[derive(Default)]
struct Run {
    /// Running mean, dominated by the last twenty steps or so.
    cross_entropy: f64,
    steps: u64,
    tokens: usize,
    seconds: f64,
}

impl Run {
    fn add(&mut self, report: &StepReport) {
        self.steps += 1;
        self.tokens += report.tokens;
        let weight = 1.0 / self.steps.min(20) as f64;
        self.cross_entropy += weight * (report.cross_entropy - self.cross_entropy);
    }
}

/// The file of `--log`: one line of JSON per step.
struct Log<'a> {
    path: &'a Path,
    file: BufWriter<File>,
}

impl<'a> Log<'a> {
    fn create(path: &'a Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| Error::file(path, "create", &error))?;
        Ok(Self { path, file: BufWriter::new(file) })
    }

    fn write(&mut self, report: &StepReport, seconds: f64) -> Result {
        let line = LogLine {
            step: report.step,
            loss: report.loss,
            cross_entropy: report.cross_entropy,
            sigreg: report.sigreg,
            gradient_norm: report.gradient_norm,
            learning_rate: report.learning_rate,
            tokens: report.tokens,
            seconds,
        };
        let written = serde_json::to_writer(&mut self.file, &line).map_err(std::io::Error::from);
        written
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.flush())
            .map_err(|error| Error::file(self.path, "write", &error))
    }
}

impl Summary {
    fn text(&self, path: Option<&Path>) -> String {
        let val = self.val_cross_entropy.map_or("-".into(), |val| format!("{val:.4}"));
        let path =
            path.map_or_else(String::new, |path| format!("\nweights        {}", path.display()));
        format!(
            "cross-entropy  {:.4} nats per byte while training\nheld out       {val}\n\
             steps          {} in {:.1} s, {:.0} tokens/s\nweights hash   {}{path}",
            self.cross_entropy, self.steps, self.seconds, self.tokens_per_second, self.weights_hash
        )
    }
}

/// All files in the order of their paths, one document each.
fn read(paths: &[PathBuf]) -> Result<Corpus> {
    let mut corpus = Corpus::new();
    for path in paths {
        for file in soma_compete::documents::files_below(path)? {
            let bytes = std::fs::read(&file).map_err(|error| Error::file(&file, "read", &error))?;
            corpus.push(&bytes);
        }
    }
    if corpus.is_empty() {
        return Err(Error::new(Code::EmptyData, "the training data is empty")
            .hint("name files with at least two bytes in total"));
    }
    Ok(corpus)
}

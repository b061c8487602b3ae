//! What a training run leaves on disk: weights, checkpoints, a log.
//!
//! Hours of work must never depend on a file that turns out unwritable at their end: every output
//! is tried before the first step. A checkpoint or log that fails later is told and tried again,
//! and never ends the run.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use soma_codes::Code;
use soma_model::train::{StepReport, Trainer};
use soma_os::file::{Destination, destination, room};

use super::{Run, Train};
use crate::error::{Error, Result};
use crate::output::Output;
use crate::output_file::{self, Existing};
use crate::signals::Stop;

/// Steps between two checkpoints.
const CHECKPOINT_STEPS: u64 = 200;

/// Steps with a checkpoint before the first of those, so that a run that ends early leaves one.
const EARLY_STEPS: [u64; 3] = [25, 50, 100];

/// The same in words, for the help of `--checkpoint` and for what is said as a run begins.
const CHECKPOINT_TIMES: &str = "after steps 25, 50 and 100 and every 200 steps";

/// A mean cross-entropy that is higher than at the last checkpoint by this many nats means that the
/// run diverges, and that the last checkpoint is worth more than a new one.
const RISE_MAX: f64 = 1.0;

/// Steps after which the running mean says something.
const MEAN_STEPS: u64 = 20;

/// Bytes of log lines that wait while the disk is full.
const PENDING_BYTES_MAX: usize = 16 << 20;

/// The files of a run.
pub(super) struct Kept<'a> {
    output: &'a Output,
    weights: Option<&'a Path>,
    checkpoint: Option<Checkpoint>,
    log: Option<Log<'a>>,
}

/// The checkpoint of a run.
struct Checkpoint {
    path: PathBuf,
    /// Whether it was not asked for, and is deleted when the run is finished.
    until_finished: bool,
    /// Step and mean cross-entropy of what lies on the disk, if this run made it or continues it.
    saved: Option<(u64, f64)>,
    /// Whether the file of another run lies there.
    foreign: bool,
    /// Why the last attempt failed, if it did.
    failure: Option<Error>,
    /// Whether it was told that the run diverges.
    told: bool,
}

impl<'a> Kept<'a> {
    /// Tries what can be tried before any data is read.
    pub(super) fn check(train: &Train) -> Result {
        for path in [&train.output, &train.checkpoint].into_iter().flatten() {
            output_file::check(path, Existing::Replaced)?;
        }
        Ok(())
    }

    /// Prepares the outputs of a run, and tells what will be kept.
    pub(super) fn prepare(
        train: &'a Train,
        trainer: &Trainer<'_>,
        output: &'a Output,
    ) -> Result<Self> {
        let weights_bytes = trainer.architecture().parameters() * 4;
        if let Some(path) = &train.output {
            check_room(path, weights_bytes)?;
        }
        let checkpoint = Checkpoint::prepare(train, trainer, 3 * weights_bytes, output)?;
        let log = train.log.as_deref().map(Log::open).transpose()?;
        match (&train.output, &checkpoint) {
            (None, None) => output.warn(
                "the weights are not kept: name a file for them with -o, or for checkpoints \
                 with --checkpoint",
            ),
            (_, Some(checkpoint)) => output.say(format_args!(
                "a checkpoint goes to {} {CHECKPOINT_TIMES}{}",
                checkpoint.path.display(),
                if checkpoint.until_finished { " until the run is finished" } else { "" },
            )),
            (Some(_), None) => {}
        }
        Ok(Self { output, weights: train.output.as_deref(), checkpoint, log })
    }

    /// Notes a step, and saves a checkpoint if one is due.
    pub(super) fn step(
        &mut self,
        trainer: &mut Trainer<'_>,
        report: &StepReport,
        run: &Run,
        stop: &Stop,
    ) {
        if let Some(log) = &mut self.log {
            log.write(report, run.seconds(), self.output);
        }
        let Some(checkpoint) = &mut self.checkpoint else {
            return;
        };
        if checkpoint.saved.is_some_and(|(_, mean)| mean.is_nan()) && run.steps >= MEAN_STEPS {
            checkpoint.saved = checkpoint.saved.map(|(step, _)| (step, run.cross_entropy));
        }
        let step = report.step;
        let due = step.is_multiple_of(CHECKPOINT_STEPS) || EARLY_STEPS.contains(&step);
        let saves = if step == trainer.recipe().steps {
            // The last one of a finished run is only for whoever asked for it.
            !checkpoint.until_finished
        } else {
            due && is_finite(trainer, stop)
        };
        if saves {
            checkpoint.save(trainer, run, self.output);
        }
    }

    /// Keeps what an interrupted run has done; the error says where, and how to continue.
    pub(super) fn interrupted(mut self, trainer: &Trainer<'_>, run: &Run) -> Error {
        let (done, total) = (trainer.steps_done(), trainer.recipe().steps);
        let message = format!("interrupted after step {done} of {total}");
        let place = self.checkpoint.as_mut().and_then(|checkpoint| {
            checkpoint.save(trainer, run, self.output);
            checkpoint.saved.map(|(step, _)| (step, checkpoint.path.display().to_string()))
        });
        match place {
            Some((step, path)) => {
                Error::new(Code::Interrupted, format!("{message}; step {step} is in {path}"))
                    .hint(format!("continue with the same --data, and --resume {path}"))
            }
            None => Error::new(Code::Interrupted, format!("{message}; nothing was kept"))
                .hint("to keep what is done, name a file: -o WEIGHTS, or --checkpoint FILE"),
        }
    }

    /// Keeps the last good state of a run that failed with `error`.
    pub(super) fn failed(self, trainer: &Trainer<'_>, error: Error) -> Error {
        let rate = trainer.recipe().learning_rate;
        // The present state is the one whose loss or gradient is not finite; a checkpoint that was
        // due for it was not saved.
        let saved =
            self.checkpoint.and_then(|checkpoint| Some((checkpoint.saved?.0, checkpoint.path)));
        let Some((step, path)) = saved else {
            return error.hint(format!("start again with a lower learning rate than --lr {rate}"));
        };
        let path = path.display();
        let message = format!("{}; step {step} is kept in {path}", error.message);
        Error { message, ..error }.hint(format!(
            "start again with a lower learning rate than --lr {rate}, or continue with the same \
             --data, and --resume {path} --lr {}",
            rate / 4.0
        ))
    }

    /// Writes the weights of a finished run, if they are kept, and returns their hash; an error
    /// says where the run itself is kept.
    pub(super) fn finished(
        &mut self,
        trainer: &Trainer<'_>,
        run: &Run,
    ) -> Result<Option<[u8; 32]>> {
        let (Some(path), output) = (self.weights, self.output) else {
            return Ok(None);
        };
        let error = match trainer.save(path) {
            Ok(hash) => {
                if let Some(checkpoint) =
                    self.checkpoint.as_ref().filter(|kept| kept.until_finished)
                    && checkpoint.saved.is_some()
                {
                    // What remains of it is only in the way.
                    let _gone = std::fs::remove_file(&checkpoint.path);
                }
                return Ok(Some(hash));
            }
            Err(error) => Error::from(error),
        };
        let Some(checkpoint) = &mut self.checkpoint else {
            return Err(error);
        };
        checkpoint.save(trainer, run, output);
        match checkpoint.saved {
            Some((step, _)) => Err(error.hint(format!(
                "step {step} is kept: continue with the same --data, and --resume {} -o FILE",
                checkpoint.path.display()
            ))),
            None => Err(error),
        }
    }

    /// Fails if a file that was asked for could not be written to its end.
    pub(super) fn complete(self) -> Result {
        let asked = self.checkpoint.filter(|checkpoint| !checkpoint.until_finished);
        match (asked.and_then(|checkpoint| checkpoint.failure), self.log) {
            (Some(failure), _) => Err(failure),
            (None, Some(log)) => log.complete(),
            (None, None) => Ok(()),
        }
    }
}

impl Checkpoint {
    /// The checkpoint that was asked for, or one beside the weights while the run is unfinished.
    fn prepare(
        train: &Train,
        trainer: &Trainer<'_>,
        bytes: u64,
        output: &Output,
    ) -> Result<Option<Self>> {
        let (path, until_finished) = match (&train.checkpoint, &train.output) {
            (Some(path), _) => (path.clone(), false),
            (None, Some(weights)) => match destination(weights) {
                Ok(Destination::File(_)) => (beside(weights), true),
                Ok(Destination::Stream(_)) | Err(_) => return Ok(None),
            },
            (None, None) => return Ok(None),
        };
        match output_file::check(&path, Existing::Replaced).and_then(|()| check_room(&path, bytes))
        {
            Err(error) if until_finished => {
                output.warn(format_args!("there will be no checkpoints: {}", error.message));
                return Ok(None);
            }
            tried => tried?,
        }
        let continued = train.resume.as_deref().is_some_and(|resumed| same(resumed, &path));
        // Its mean is known after some steps.
        let saved = continued.then(|| (trainer.steps_done(), f64::NAN));
        let foreign = !continued && path.is_file();
        Ok(Some(Self { path, until_finished, saved, foreign, failure: None, told: false }))
    }

    /// Saves the run, unless it diverges and an earlier state is on the disk.
    fn save(&mut self, trainer: &Trainer<'_>, run: &Run, output: &Output) {
        let (done, mean) = (trainer.steps_done(), run.cross_entropy);
        match self.saved {
            Some((step, _)) if step == done => return,
            Some((step, before)) if mean > before + RISE_MAX => {
                if !std::mem::replace(&mut self.told, true) {
                    output.warn(format_args!(
                        "cross-entropy rose from {before:.3} at step {step} to {mean:.3}: the \
                         checkpoint of step {step} is kept until it falls again"
                    ));
                }
                return;
            }
            _ => {}
        }
        match self.write(trainer) {
            Ok(()) => {
                (self.saved, self.foreign) = (Some((done, mean)), false);
                self.told = false;
                if self.failure.take().is_some() {
                    output.say(format_args!("{} is written again", self.path.display()));
                }
            }
            Err(error) => {
                if self.failure.is_none() {
                    let message = &error.message;
                    output.warn(format_args!("{message}; the run continues and tries again"));
                }
                self.failure = Some(error);
            }
        }
    }

    fn write(&self, trainer: &Trainer<'_>) -> Result {
        if self.foreign {
            // Another run's work, which nobody asked to give up.
            let mut previous = self.path.clone().into_os_string();
            previous.push(".previous");
            std::fs::rename(&self.path, previous)
                .map_err(|error| Error::file(&self.path, "rename", &error))?;
        }
        Ok(trainer.save_checkpoint(&self.path)?)
    }
}

/// Whether the present loss and gradient are finite, which only the next step would report; false
/// once the run is asked to stop.
fn is_finite(trainer: &mut Trainer<'_>, stop: &Stop) -> bool {
    matches!(trainer.next_report(&|| !stop.is_set()), Ok(Some(_)))
}

/// Where an unfinished run is kept whose weights go to `weights`.
fn beside(weights: &Path) -> PathBuf {
    let mut path = weights.to_owned().into_os_string();
    path.push(".checkpoint");
    path.into()
}

/// Whether two paths name one file.
fn same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// Fails if the disk of an output has too little room for it.
fn check_room(path: &Path, bytes: u64) -> Result {
    match room(path).map_err(|error| Error::file(path, "write", &error))? {
        Some(left) if left < bytes => {
            let path = path.display();
            let message = format!("{path} will have {bytes} bytes, and its disk has {left} left");
            Err(Error::new(Code::DiskFull, message))
        }
        _ => Ok(()),
    }
}

/// A line of the log.
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

/// The file of `--log`: one line of JSON per step, after those that are there. What the disk does
/// not take now waits until it does.
struct Log<'a> {
    path: &'a Path,
    file: File,
    pending: Vec<u8>,
    failure: Option<io::Error>,
}

impl<'a> Log<'a> {
    fn open(path: &'a Path) -> Result<Self> {
        let open = || {
            let file = File::options().append(true).create(true).open(path)?;
            // A killed run may have left half a line.
            let half = file.metadata()?.is_file() && !ends_with_newline(path)?;
            Ok((file, if half { b"\n".to_vec() } else { Vec::new() }))
        };
        let (file, pending) = open().map_err(|error| Error::file(path, "write", &error))?;
        Ok(Self { path, file, pending, failure: None })
    }

    fn write(&mut self, report: &StepReport, seconds: f64, output: &Output) {
        let line = serde_json::to_vec(&LogLine {
            step: report.step,
            loss: report.loss,
            cross_entropy: report.cross_entropy,
            sigreg: report.sigreg,
            gradient_norm: report.gradient_norm,
            learning_rate: report.learning_rate,
            tokens: report.tokens,
            seconds,
        });
        if let (Ok(line), true) = (line, self.pending.len() < PENDING_BYTES_MAX) {
            self.pending.extend(line);
            self.pending.push(b'\n');
        }
        match self.write_pending() {
            Ok(()) => self.failure = None,
            Err(error) => {
                if self.failure.is_none() {
                    let path = self.path.display();
                    output.warn(format_args!(
                        "cannot write {path}: {error}; the run continues and tries again"
                    ));
                }
                self.failure = Some(error);
            }
        }
    }

    fn write_pending(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.file.write(&self.pending) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn complete(self) -> Result {
        match self.failure {
            Some(error) => Err(Error::file(self.path, "write", &error)),
            None => Ok(()),
        }
    }
}

/// Whether a file is empty or its last line is complete.
fn ends_with_newline(path: &Path) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::{CHECKPOINT_STEPS, CHECKPOINT_TIMES, EARLY_STEPS};

    #[test]
    fn the_help_of_train_says_after_which_steps_there_are_checkpoints() {
        let [first, second, third] = EARLY_STEPS;
        let times =
            format!("after steps {first}, {second} and {third} and every {CHECKPOINT_STEPS} steps");
        assert_eq!(CHECKPOINT_TIMES, times);
        let command = crate::args::Args::command();
        let train = command.find_subcommand("train").unwrap();
        let mut arguments = train.get_arguments();
        let checkpoint = arguments.find(|it| it.get_id() == "checkpoint").unwrap();
        assert!(checkpoint.get_help().unwrap().to_string().contains(CHECKPOINT_TIMES));
    }
}

//! `soma score FILE... --model W...`: which of these models predicts this data best?

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use soma_model::{Directions, Engine, Report, Weights, score_with_dump};

use crate::error::{Error, Result};
use crate::exit::Exit;
use crate::model_files::{self, Arch, EngineArgs};
use crate::output::{Output, Unit};
use crate::seed::Seed;

/// Score local files with local weights.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: soma score notes.txt --model owl.safetensors --model fox.safetensors"
)]
pub(crate) struct Score {
    /// Data to score.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Weights to score it with; repeat for several models.
    #[arg(short, long = "model", required = true, value_name = "WEIGHTS")]
    models: Vec<PathBuf>,
    /// `nano`, `v1` or a JSON file [default: what the weights file says].
    #[arg(long)]
    arch: Option<Arch>,
    /// Seed of the regularizer's directions: 64 hex digits, or an integer. On a network it is the
    /// epoch's beacon.
    #[arg(long, default_value = ZERO, hide_default_value = true)]
    seed: Seed,
    #[command(flatten)]
    engine: EngineArgs,
    /// Write representations, logits, nll and embedding as safetensors (one model, one file).
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
}

const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// A score, or why there is none: that model ranks behind every other.
type Scored = std::result::Result<Report, soma_model::Error>;

/// One data file and what every model makes of it.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    file: &'a Path,
    seed: String,
    /// Place of the lowest loss in `scores`; none if no model has a score.
    winner: Option<usize>,
    scores: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    model: &'a Path,
    weights_hash: String,
    bytes: usize,
    seconds: f64,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Scored {
        loss_q32: String,
        loss: f64,
        cross_entropy: f64,
        sigreg: f64,
        bits_per_byte: f64,
        embedding_hash: String,
        trace: String,
    },
    Failed {
        error: Cow<'static, str>,
        message: String,
    },
}

impl Score {
    pub(crate) fn run(self, output: &Output) -> Result {
        if self.dump.is_some() && (self.files.len() != 1 || self.models.len() != 1) {
            return Err(Error::usage("--dump takes one file and one model"));
        }
        let engine = self.engine.build()?;
        let data = self
            .files
            .iter()
            .map(|file| read(file))
            .collect::<Result<Vec<_>>>()?;
        let bar = output.bar(
            (data.len() * self.models.len()) as u64,
            "scoring",
            Unit::Items,
        );
        // A model is opened once for all files.
        let mut scored: Vec<Vec<Entry<'_>>> = data.iter().map(|_| Vec::new()).collect();
        for path in &self.models {
            let weights = model_files::open(path, self.arch.as_ref())?;
            let hash = hex::encode(weights.hash());
            let directions = Directions::new(weights.architecture(), self.seed.0);
            for (data, entries) in data.iter().zip(&mut scored) {
                let started = Instant::now();
                let report = match &self.dump {
                    Some(file) => dump(&engine, &weights, data, &directions, file)?,
                    None => soma_model::score(&engine, &weights, data, &directions),
                };
                entries.push(entry(path, &hash, data.len(), started, report));
                bar.inc(1);
            }
        }
        bar.finish_and_clear();
        let all_failed = scored
            .iter()
            .flatten()
            .all(|entry| entry.loss_q32().is_none());
        for (file, scores) in self.files.iter().zip(scored) {
            print(output, file, self.seed, scores)?;
        }
        if all_failed {
            return Err(Error::new(
                Exit::Verification,
                "no_score",
                "no model has a score for this data",
            ));
        }
        Ok(())
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let data = std::fs::read(file).map_err(|error| Error::file(file, "read", &error))?;
    if data.is_empty() {
        let message = format!("{} is empty: there is nothing to predict", file.display());
        return Err(Error::new(Exit::Failed, "empty_data", message)
            .hint("score a file of at least one byte"));
    }
    Ok(data)
}

/// Scores and writes what the score was computed from.
fn dump(
    engine: &Engine,
    weights: &Weights,
    data: &[u8],
    directions: &Directions,
    file: &Path,
) -> Result<Scored> {
    let (report, dump) = match score_with_dump(engine, weights, data, directions) {
        Ok(scored) => scored,
        Err(error) => return Ok(Err(error)),
    };
    std::fs::write(file, dump.to_safetensors(&report))
        .map_err(|error| Error::file(file, "write", &error))?;
    Ok(Ok(report))
}

fn entry<'a>(
    model: &'a Path,
    hash: &str,
    bytes: usize,
    started: Instant,
    report: Scored,
) -> Entry<'a> {
    let outcome = match report {
        Ok(report) => Outcome::Scored {
            loss_q32: report.score.loss_q32.to_string(),
            loss: report.loss,
            cross_entropy: report.cross_entropy,
            sigreg: report.sigreg,
            bits_per_byte: report.bits_per_byte,
            embedding_hash: hex::encode(report.score.embedding_hash()),
            trace: hex::encode(report.score.trace),
        },
        Err(error) => {
            let Error { code, message, .. } = error.into();
            Outcome::Failed {
                error: code,
                message,
            }
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    Entry {
        model,
        weights_hash: hash.to_owned(),
        bytes,
        seconds,
        outcome,
    }
}

impl Entry<'_> {
    fn loss_q32(&self) -> Option<i64> {
        match &self.outcome {
            Outcome::Scored { loss_q32, .. } => loss_q32.parse().ok(),
            Outcome::Failed { .. } => None,
        }
    }
}

/// The lowest loss; the first of equals. (On a network the age of the weights decides near ties.)
fn winner(scores: &[Entry<'_>]) -> Option<usize> {
    let losses = scores.iter().enumerate();
    losses
        .filter_map(|(index, entry)| Some((entry.loss_q32()?, index)))
        .min()
        .map(|(_, index)| index)
}

fn print(output: &Output, file: &Path, seed: Seed, scores: Vec<Entry<'_>>) -> Result {
    let winner = winner(&scores);
    let mut text = format!("{}\n", output.strong(file.display()));
    for (index, entry) in scores.iter().enumerate() {
        let name = entry.model.display();
        let mark = if Some(index) == winner {
            output.good("best")
        } else {
            "    ".into()
        };
        text += &match &entry.outcome {
            Outcome::Scored {
                loss,
                cross_entropy,
                sigreg,
                bits_per_byte,
                ..
            } => format!(
                "  {mark}  loss {loss:.4}  = cross-entropy {cross_entropy:.4} + sigreg {sigreg:.3}  \
                 ({bits_per_byte:.3} bits/byte, {:.2} s)  {name}\n",
                entry.seconds
            ),
            Outcome::Failed { error, message } => format!("  {mark}  {error}: {message}  {name}\n"),
        };
    }
    let line = Line {
        schema: "score/1",
        file,
        seed: seed.to_hex(),
        winner,
        scores,
    };
    output.result(text.trim_end(), &line)
}

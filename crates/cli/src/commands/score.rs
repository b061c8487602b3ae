//! `soma score FILE... --model W...`: which of these models predicts this data best.
//!
//! Every file is read once, and a model is opened again only if there is no memory for all of them.
//! Memory must never grow with the number of files: they are read, scored by all models and printed
//! batch by batch.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use soma_codes::Code;
use soma_compete::{OpenModels, ScoreCache, Scored, Scorer};
use soma_model::{Directions, Engine, Receipt, Report, Weights, score_with_dump};
use soma_protocol::record::Params;

use crate::data::{Data, LeftOut, Shown};
use crate::error::{Error, Result};
use crate::global::Global;
use crate::harmless::one_line;
use crate::home::Home;
use crate::model_flags::{Arch, ScoringArgs};
use crate::output::{Output, Unit};
use crate::output_file::{self, Existing};
use crate::seed::Seed;

/// Score local files with local weights.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example: soma score notes.txt --model owl.safetensors --model fox.safetensors"
)]
pub(crate) struct Score {
    /// Data to score: files, or folders of files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Weights file to score with; repeat for several models.
    #[arg(short, long = "model", required = true, value_name = "WEIGHTS")]
    models: Vec<PathBuf>,
    /// `nano`, `v1` or a JSON file [default: from the file's metadata].
    #[arg(long)]
    arch: Option<Arch>,
    /// Seed of the regularizer's directions: 64 hex digits, or an integer. A network uses the
    /// epoch's beacon.
    #[arg(long, default_value = ZERO, hide_default_value = true)]
    seed: Seed,
    /// Use the score cache; an interrupted run continues where it stopped.
    #[arg(long, conflicts_with_all = ["dump", "receipt"])]
    cache: bool,
    #[command(flatten)]
    engine: ScoringArgs,
    /// Write representations, logits, nll and embedding as safetensors (one model, one file).
    #[arg(long, value_name = "FILE")]
    dump: Option<PathBuf>,
    /// Write a receipt, from which `soma verify` computes the score again anywhere (one model, one
    /// file).
    #[arg(long, value_name = "FILE", conflicts_with = "dump")]
    receipt: Option<PathBuf>,
}

/// A file that is written about a single score.
#[derive(Clone, Copy)]
enum Extra<'a> {
    Dump(&'a Path),
    Receipt(&'a Path),
}

/// The least gain of a submission on a network that has not voted for another.
const GAIN_MIN_Q32: u64 = Params::network().gain_min_q32;

const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One data file and its score with every model.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    file: Shown<'a>,
    seed: String,
    /// Index of the lowest cross-entropy in `scores`; `None` if no model has a score.
    winner: Option<usize>,
    /// Least gain that a network's submissions have, unless it has voted for another.
    gain_min_q32: String,
    scores: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    model: Shown<'a>,
    weights_hash: String,
    bytes: usize,
    /// The time of a batch is shared by its files' bytes; 0 for a cached score.
    seconds: f64,
    /// Read from the score cache (`--cache`).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cached: bool,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Outcome {
    Scored {
        loss_q32: String,
        /// What models compete in.
        cross_entropy_q32: String,
        counting_q32: String,
        gain_q32: String,
        loss: f64,
        cross_entropy: f64,
        sigreg: f64,
        counting: f64,
        gain: f64,
        bits_per_byte: f64,
        embedding_hash: String,
        trace: String,
    },
    Failed {
        error: &'static str,
        message: String,
    },
}

/// How much better than counting a model predicts, and the loss of counting in nats.
struct Gain {
    gain_q32: i64,
    counting: f64,
}

/// A model that scores.
struct Model {
    path: PathBuf,
    hash: String,
    seed: Seed,
    directions: Directions,
}

/// Files are read and scored in batches of this many bytes: large enough for models that do not fit
/// into memory together, small enough to show results early.
const BATCH_BYTES: u64 = 16 << 10;

impl Score {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let cache = if self.cache {
            ScoreCache::new(Home::find(global)?.scores())
        } else {
            ScoreCache::off()
        };
        let engine = self.engine.build(output)?;
        let data = Data::find(&self.files, output)?;
        let files = &data.files;
        let extra = self.extra(files.len())?;
        let mut opened = OpenModels::new();
        let models = self
            .models
            .iter()
            .map(|path| Model::open(path, self.arch.as_ref(), self.seed, &mut opened))
            .collect::<Result<Vec<_>>>()?;
        let mut totals = vec![Total::default(); models.len()];
        let bytes: u64 = files.iter().map(|file| file.size_bytes).sum();
        let bar = output.bar(bytes * models.len() as u64, "scoring", Unit::Bytes);
        let mut signs = output.signs();
        let (mut any_score, mut scored_files) = (false, 0);
        for batch in data.batches(BATCH_BYTES) {
            let batch = data.read_all(batch, output)?;
            let contents: Vec<&[u8]> = batch.iter().map(|(_, content)| &content[..]).collect();
            let mut scored: Vec<Vec<Entry<'_>>> = batch.iter().map(|_| Vec::new()).collect();
            for (index, model) in models.iter().enumerate() {
                let weights = opened.get(index)?;
                let done = |bytes| bar.inc(bytes);
                let entries = match (extra, contents.as_slice()) {
                    (Some(extra), [data]) => {
                        vec![model.score_with(extra, &engine, weights, data, done)?]
                    }
                    _ => model.score(&engine, weights, &cache, &contents, done)?,
                };
                for (entry, entries) in entries.into_iter().zip(&mut scored) {
                    any_score |= entry.cross_entropy_q32().is_some();
                    entries.push(entry);
                }
            }
            for ((file, _), scores) in batch.iter().zip(scored) {
                add(&mut totals, &scores);
                scored_files += 1;
                if !print(output, &file.path, self.seed, scores)? {
                    return Ok(());
                }
            }
            signs.tick(|| format!("{scored_files} of {} files scored", files.len()));
        }
        bar.finish_and_clear();
        if files.len() > 1 || data.summary().is_some() {
            summarize(output, &models, &totals, scored_files, &data, self.seed)?;
        }
        if !any_score {
            return Err(Error::new(Code::NoScore, "no model has a score for this data"));
        }
        data.ended()
    }

    /// What is written besides, if the score is a single one and the file can be written.
    fn extra(&self, files: usize) -> Result<Option<Extra<'_>>> {
        let (flag, path, extra) = match (&self.dump, &self.receipt) {
            (Some(path), _) => ("--dump", path, Extra::Dump(path)),
            (None, Some(path)) => ("--receipt", path, Extra::Receipt(path)),
            (None, None) => return Ok(None),
        };
        let models = self.models.len();
        if (files, models) != (1, 1) {
            let given = format!("not {} and {}", count(files, "file"), count(models, "model"));
            return Err(Error::usage(format!("{flag} takes one file and one model, {given}"))
                .hint("run the command once for each file and model"));
        }
        output_file::check(path, Existing::Replaced)?;
        Ok(Some(extra))
    }
}

/// A number of things.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

impl Model {
    /// A model whose weights are in `opened`, at the index that the model has among all.
    fn open(path: &Path, arch: Option<&Arch>, seed: Seed, opened: &mut OpenModels) -> Result<Self> {
        let index = opened.add(path, arch.map(|arch| &arch.0))?;
        Ok(Self {
            path: path.to_owned(),
            hash: hex::encode(opened.hash(index)),
            seed,
            directions: Directions::new(opened.architecture(index), seed.0),
        })
    }

    /// Scores a batch; `done` is called with the bytes of each file.
    fn score(
        &self,
        engine: &Engine,
        weights: &Weights,
        cache: &ScoreCache,
        documents: &[&[u8]],
        mut done: impl FnMut(u64),
    ) -> Result<Vec<Entry<'_>>> {
        let started = Instant::now();
        let scorer = Scorer { engine, weights, seed: self.seed.0, directions: &self.directions };
        let scores = cache.score_all(scorer, documents, |bytes| done(bytes as u64))?;
        let seconds = started.elapsed().as_secs_f64();
        let computed = documents.iter().zip(&scores).filter(|(_, scored)| !scored.cached);
        let bytes: usize = computed.map(|(data, _)| data.len()).sum();
        let entry = |(data, scored): (&&[u8], Scored)| {
            let share = if scored.cached { 0.0 } else { data.len() as f64 / bytes as f64 };
            self.entry(data, seconds * share, scored)
        };
        Ok(documents.iter().zip(scores).map(entry).collect())
    }

    /// Scores a file, and writes what else was asked for if it has a score; `done` is called with
    /// the bytes of each chunk.
    fn score_with(
        &self,
        extra: Extra<'_>,
        engine: &Engine,
        weights: &Weights,
        data: &[u8],
        mut done: impl FnMut(u64),
    ) -> Result<Entry<'_>> {
        let started = Instant::now();
        let written = match extra {
            Extra::Dump(file) => score_with_dump(engine, weights, data, &self.directions)
                .map(|(report, dump)| (file, dump.to_safetensors(&report), report)),
            Extra::Receipt(file) => {
                Receipt::compute(engine, weights, data, self.seed.0, |bytes| done(bytes as u64))
                    .map(|(receipt, report)| (file, receipt.to_json().into_bytes(), report))
            }
        };
        let report = match written {
            Ok((file, bytes, report)) => {
                soma_os::file::write(file, &bytes)
                    .map_err(|error| Error::file(file, "write", &error))?;
                Ok(report)
            }
            Err(error @ soma_model::Error::LongData { .. }) => return Err(error.into()),
            Err(error) => Err(error),
        };
        let scored = Scored { report, cached: false };
        Ok(self.entry(data, started.elapsed().as_secs_f64(), scored))
    }

    fn entry(&self, data: &[u8], seconds: f64, scored: Scored) -> Entry<'_> {
        Entry {
            model: Shown(&self.path),
            weights_hash: self.hash.clone(),
            bytes: data.len(),
            seconds,
            cached: scored.cached,
            outcome: scored.report.into(),
        }
    }
}

impl From<std::result::Result<Report, soma_model::Error>> for Outcome {
    fn from(report: std::result::Result<Report, soma_model::Error>) -> Self {
        match report {
            Ok(report) => Self::Scored {
                loss_q32: report.score.loss_q32.to_string(),
                cross_entropy_q32: report.score.cross_entropy_q32().to_string(),
                counting_q32: report.score.counting_q32.to_string(),
                gain_q32: report.score.gain_q32.to_string(),
                loss: report.loss,
                cross_entropy: report.cross_entropy,
                sigreg: report.sigreg,
                counting: report.counting,
                gain: report.gain,
                bits_per_byte: report.bits_per_byte,
                embedding_hash: hex::encode(report.score.embedding_hash()),
                trace: hex::encode(report.score.trace),
            },
            Err(error) => {
                let Error { code, message, .. } = error.into();
                Self::Failed { error: code.as_str(), message }
            }
        }
    }
}

impl Entry<'_> {
    /// What it took, as text.
    fn effort(&self) -> String {
        if self.cached { "cached".to_owned() } else { format!("{:.2} s", self.seconds) }
    }

    fn cross_entropy_q32(&self) -> Option<i64> {
        match &self.outcome {
            Outcome::Scored { cross_entropy_q32, .. } => cross_entropy_q32.parse().ok(),
            Outcome::Failed { .. } => None,
        }
    }

    fn gain(&self) -> Option<Gain> {
        match &self.outcome {
            Outcome::Scored { gain_q32, counting, .. } => {
                Some(Gain { gain_q32: gain_q32.parse().ok()?, counting: *counting })
            }
            Outcome::Failed { .. } => None,
        }
    }
}

/// Index of the lowest cross-entropy, the first among equals. (On a network, the age of the weights
/// decides near ties.)
fn winner(scores: &[Entry<'_>]) -> Option<usize> {
    let scores = scores.iter().enumerate();
    let scored = scores.filter_map(|(index, entry)| Some((entry.cross_entropy_q32()?, index)));
    scored.min().map(|(_, index)| index)
}

/// Prints the scores of a file; false once the reader has closed the pipe.
fn print(output: &Output, file: &Path, seed: Seed, scores: Vec<Entry<'_>>) -> Result<bool> {
    let winner = winner(&scores);
    let mut text = format!("{}\n", output.strong(one_line(file.display())));
    for (index, entry) in scores.iter().enumerate() {
        let name = one_line(entry.model.0.display());
        let mark = if Some(index) == winner { output.good("best") } else { "    ".into() };
        text += &match &entry.outcome {
            Outcome::Scored { loss, cross_entropy, sigreg, gain, bits_per_byte, .. } => format!(
                "  {mark}  loss {loss:.4}  = cross-entropy {cross_entropy:.4} + \
                 sigreg {sigreg:.3}  gain {gain:.4}  ({bits_per_byte:.3} bits/byte, {})  {name}\n",
                entry.effort()
            ),
            Outcome::Failed { error, message } => format!("  {mark}  {error}: {message}  {name}\n"),
        };
    }
    if let Some(gain) = winner.and_then(|winner| scores[winner].gain()) {
        text += &judgment(&gain);
    }
    let line = Line {
        schema: "score/1",
        file: Shown(file),
        seed: seed.to_hex(),
        winner,
        gain_min_q32: GAIN_MIN_Q32.to_string(),
        scores,
    };
    output.line(text.trim_end(), &line)
}

/// The sentence that says whether a network takes data that its best model predicts with this gain.
fn judgment(gain: &Gain) -> String {
    let Gain { gain_q32, counting } = *gain;
    let minimum = GAIN_MIN_Q32 as f64 / 2_f64.powi(32);
    let reached = u64::try_from(gain_q32).is_ok_and(|gain| gain >= GAIN_MIN_Q32);
    let verb = if reached { "reaches" } else { "is below" };
    format!(
        "        counting takes {counting:.4}; the gain {verb} the minimum of a network, \
         {minimum:.4} by default\n"
    )
}

/// What a model's scores of many files come to.
#[derive(Clone, Copy, Default)]
struct Total {
    /// Files with a score, and their bytes.
    files: usize,
    bytes: usize,
    /// Files on which the model is the best.
    best: usize,
    /// Sums over the files, each weighted by its bytes.
    loss: f64,
    cross_entropy: f64,
    bits_per_byte: f64,
}

/// A model in the summary; the means are over bytes, and `None` if the model has no score at all.
#[derive(Serialize)]
struct Summed<'a> {
    model: Shown<'a>,
    weights_hash: &'a str,
    files: usize,
    bytes: usize,
    best_of: usize,
    loss: Option<f64>,
    cross_entropy: Option<f64>,
    bits_per_byte: Option<f64>,
}

/// The last line of JSON for more than one file.
#[derive(Serialize)]
struct Summary<'a> {
    schema: &'static str,
    files: usize,
    seed: String,
    /// What could not be used.
    left_out: Vec<LeftOut>,
    /// Index of the best in `models`: the lowest mean cross-entropy among those that score the most
    /// bytes.
    best_model: Option<usize>,
    models: Vec<Summed<'a>>,
}

impl Total {
    fn mean(&self, sum: f64) -> Option<f64> {
        (self.bytes > 0).then(|| sum / self.bytes as f64)
    }
}

/// Adds the scores of one file to the totals of the models.
fn add(totals: &mut [Total], scores: &[Entry<'_>]) {
    let best = winner(scores);
    for (index, (total, entry)) in totals.iter_mut().zip(scores).enumerate() {
        let Outcome::Scored { loss, cross_entropy, bits_per_byte, .. } = &entry.outcome else {
            continue;
        };
        let bytes = entry.bytes as f64;
        total.files += 1;
        total.bytes += entry.bytes;
        total.best += usize::from(best == Some(index));
        total.loss += loss * bytes;
        total.cross_entropy += cross_entropy * bytes;
        total.bits_per_byte += bits_per_byte * bytes;
    }
}

/// Prints which model is best for all files together.
fn summarize(
    output: &Output,
    models: &[Model],
    totals: &[Total],
    files: usize,
    data: &Data,
    seed: Seed,
) -> Result {
    let most = totals.iter().map(|total| total.bytes).max().unwrap_or_default();
    let complete = totals.iter().enumerate().filter(|(_, total)| total.bytes == most && most > 0);
    let best = complete.min_by(|(_, a), (_, b)| a.cross_entropy.total_cmp(&b.cross_entropy));
    let best_model = best.map(|(index, _)| index);
    let mut text = format!("{}\n", output.strong(format_args!("all {files} files together")));
    let mut summed = Vec::new();
    for (index, (model, total)) in models.iter().zip(totals).enumerate() {
        let mark = if Some(index) == best_model { output.good("best") } else { "    ".into() };
        let (name, best) = (one_line(model.path.display()), total.best);
        let [loss, cross_entropy, bits_per_byte] =
            [total.loss, total.cross_entropy, total.bits_per_byte].map(|sum| total.mean(sum));
        text += &match (loss, cross_entropy, bits_per_byte) {
            (Some(loss), Some(cross_entropy), Some(bits)) => format!(
                "  {mark}  loss {loss:.4}  cross-entropy {cross_entropy:.4}  ({bits:.3} bits/byte, \
                 {} files, best of {best})  {name}\n",
                total.files
            ),
            _ => format!("  {mark}  no score  {name}\n"),
        };
        summed.push(Summed {
            model: Shown(&model.path),
            weights_hash: &model.hash,
            files: total.files,
            bytes: total.bytes,
            best_of: best,
            loss,
            cross_entropy,
            bits_per_byte,
        });
    }
    if let Some(left_out) = data.summary() {
        text += &format!("        left out: {left_out}\n");
    }
    let (seed, left_out) = (seed.to_hex(), data.left_out());
    let schema = "score_summary/1";
    let summary = Summary { schema, files, seed, left_out, best_model, models: summed };
    output.result(text.trim_end(), &summary)
}

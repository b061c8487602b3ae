//! `soma find PATH...`: which public models predict this data best. The data stays on this machine.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use soma_codes::Code;
use soma_compete::{Document, Finder, Found, ScoreCache, Scoring, find};
use soma_os::data::DataFile;

use crate::data::{Data, Shown};
use crate::error::{Error, Result};
use crate::global::Global;
use crate::harmless::one_line;
use crate::home::Home;
use crate::model_flags::ScoringArgs;
use crate::network;
use crate::output::Output;

/// Find the public models that predict data best.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma find notes/ --top 3\n\n\
                  Weights are downloaded once and kept. The data stays on this machine. The best \
                  model is\nthe one with the lowest cross-entropy, as on the network.")]
pub(crate) struct Find {
    /// Data: files, or folders of files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How many models to list for each file.
    #[arg(long, default_value_t = 5, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    #[command(flatten)]
    search: Search,
    #[command(flatten)]
    engine: ScoringArgs,
}

/// How public models are compared.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Search {
    /// How many models to download and score; of more, those whose specializations are nearest to
    /// the data.
    #[arg(long, default_value_t = 16, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    candidates: u32,
    /// Bytes of a file to score; of a longer one, chunks from all over it, at least one.
    #[arg(long, default_value_t = 4 << 10, value_name = "BYTES")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    /// Compute every score, even if it is cached.
    #[arg(long)]
    no_cache: bool,
}

/// Bytes of samples that are scored before their results are printed, so that memory does not grow
/// with the number of files.
const BATCH_BYTES: usize = 4 << 20;
/// Files from all over the data that decide which of many models are scored.
const NARROWING_FILES: usize = 16;

/// A file and the models that predict it best.
#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    file: Shown<'a>,
    bytes: u64,
    /// Bytes that were scored.
    sample_bytes: usize,
    /// The best first.
    models: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    id: u32,
    name: String,
    weights_hash: String,
    loss: f64,
    cross_entropy: f64,
    gain: f64,
    bits_per_byte: f64,
}

impl From<&Found> for Entry {
    fn from(found: &Found) -> Self {
        let Found { id, name, file, report } = found;
        Self {
            id: *id,
            name: name.clone(),
            weights_hash: file.weights_hash.to_string(),
            loss: report.loss,
            cross_entropy: report.cross_entropy,
            gain: report.gain,
            bits_per_byte: report.bits_per_byte,
        }
    }
}

/// How models predict all files together.
#[derive(Default)]
struct Totals {
    bytes: usize,
    /// Bytes of the files that the samples are from.
    of_bytes: u64,
    /// By model: its file and name, the bytes that it has a score for, and the sum of its
    /// cross-entropies over them.
    models: BTreeMap<u32, (Found, usize, f64)>,
}

impl Totals {
    fn add(&mut self, file: &DataFile, found: &[Found]) {
        let Some(first) = found.first() else {
            return;
        };
        self.of_bytes += file.size_bytes;
        self.bytes += first.report.bytes;
        for found in found {
            let (bytes, cross_entropy) = (found.report.bytes, found.report.cross_entropy);
            let total = self.models.entry(found.id).or_insert_with(|| (found.clone(), 0, 0.0));
            total.1 += bytes;
            total.2 += cross_entropy * bytes as f64;
        }
    }

    /// The model with the lowest mean cross-entropy of those that have a score for every file, and
    /// that mean.
    fn best(&self) -> Option<(&Found, f64)> {
        let all = self.models.values().filter(|(_, bytes, _)| *bytes == self.bytes);
        let means = all.map(|(found, bytes, sum)| (found, sum / *bytes as f64));
        means.min_by(|(_, a), (_, b)| a.total_cmp(b))
    }

    /// How much was scored.
    fn read(&self) -> String {
        read(self.bytes, self.of_bytes)
    }
}

/// How much of data was scored.
fn read(bytes: usize, of_bytes: u64) -> String {
    match bytes as u64 {
        bytes if bytes < of_bytes => format!("{bytes} of {of_bytes} bytes"),
        bytes => format!("{bytes} bytes"),
    }
}

impl Find {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        let data = Data::find(&self.paths, output)?;
        let home = Home::find(global)?;
        let (engine, client) = (self.engine.build(output)?, network::client(global, output)?);
        let weights = network::weights(global, &home)?;
        let scores = self.search.scores(&home);
        let scoring = Scoring { engine: &engine, weights: &weights, scores: &scores };
        network::block_on(async {
            let mut finder = Finder::new(&client, scoring).await?;
            let (_, documents) = self.search.spread(&finder, &data);
            finder.narrow(&documents, self.search.candidates as usize, output).await?;
            let mut totals = Totals::default();
            for batch in self.search.batches(&data, &finder) {
                let (files, documents) = self.search.samples(batch, &data, &finder, output)?;
                let found = finder.find(&documents, output).await?;
                for ((file, document), found) in files.iter().zip(&documents).zip(found) {
                    if found.is_empty() {
                        let error = Error::new(Code::NoScore, "no model has a score for it");
                        data.leave_out::<()>(&file.path, error, output)?;
                        continue;
                    }
                    totals.add(file, &found);
                    if !self.print(file, document, &found, output)? {
                        return Ok(());
                    }
                }
            }
            if let Some((found, cross_entropy)) = totals.best() {
                output.say(format_args!(
                    "best for all: model {} {}, cross-entropy {cross_entropy:.4} on {}; get it: \
                     soma model pull {}",
                    found.id,
                    found.name,
                    totals.read(),
                    found.id
                ));
            }
            data.ended()
        })
    }

    /// Prints the best models for a file; false once the reader has closed the pipe.
    fn print(
        &self,
        file: &DataFile,
        document: &Document,
        found: &[Found],
        output: &Output,
    ) -> Result<bool> {
        let models: Vec<Entry> = found.iter().take(self.top as usize).map(Entry::from).collect();
        let name = output.strong(one_line(file.path.display()));
        let mut text = format!("{name}  {}\n", read(document.size_bytes(), file.size_bytes));
        for (rank, model) in models.iter().enumerate() {
            let Entry { id, name, cross_entropy, gain, bits_per_byte, .. } = model;
            let name = format!("{:19}", one_line(name));
            let name = if rank == 0 { output.good(name) } else { name };
            text += &format!(
                "  {id:>4} {name} cross-entropy {cross_entropy:.4}  gain {gain:>7.4}  \
                 {bits_per_byte:.3} bits/byte\n"
            );
        }
        let line = Line {
            schema: "find/1",
            file: Shown(&file.path),
            bytes: file.size_bytes,
            sample_bytes: document.size_bytes(),
            models,
        };
        output.line(text.trim_end(), &line)
    }
}

impl Search {
    pub(crate) fn scores(&self, home: &Home) -> ScoreCache {
        if self.no_cache { ScoreCache::off() } else { ScoreCache::new(home.scores()) }
    }

    /// Files whose samples are scored together.
    fn batches<'d>(
        &self,
        data: &'d Data,
        finder: &Finder<'_>,
    ) -> impl Iterator<Item = &'d [DataFile]> + use<'d> {
        let bytes = find::sample_bytes(self.sample as usize, finder.architecture());
        data.files.chunks((BATCH_BYTES / bytes).max(1))
    }

    /// The files that can be read, with their samples.
    fn samples<'f>(
        &self,
        files: &'f [DataFile],
        data: &Data,
        finder: &Finder<'_>,
        output: &Output,
    ) -> Result<(Vec<&'f DataFile>, Vec<Document>)> {
        let (mut read, mut samples) = (Vec::new(), Vec::new());
        for file in files {
            match find::sample(file, self.sample as usize, finder.architecture()) {
                Ok(document) => {
                    read.push(file);
                    samples.push(document);
                }
                Err(error) => {
                    data.leave_out::<()>(&file.path, error.into(), output)?;
                }
            }
        }
        Ok((read, samples))
    }

    /// Some files from all over the data, with their samples.
    fn spread<'d>(
        &self,
        finder: &Finder<'_>,
        data: &'d Data,
    ) -> (Vec<&'d DataFile>, Vec<Document>) {
        let step = data.files.len().div_ceil(NARROWING_FILES).max(1);
        let files = data.files.iter().step_by(step);
        let sample = |file| find::sample(file, self.sample as usize, finder.architecture());
        // What cannot be read is told when it is scored.
        files.filter_map(|file| Some((file, sample(file).ok()?))).unzip()
    }

    /// The public model that predicts data best, by files from all over it.
    ///
    /// # Errors
    /// [`Code::NoScore`] if no model has a score for these; those of [`Finder`].
    pub(crate) async fn best(
        &self,
        finder: &mut Finder<'_>,
        data: &Data,
        output: &Output,
    ) -> Result<Found> {
        let (files, documents) = self.spread(finder, data);
        finder.narrow(&documents, self.candidates as usize, output).await?;
        let mut totals = Totals::default();
        for (file, found) in files.iter().zip(finder.find(&documents, output).await?) {
            totals.add(file, &found);
        }
        let Some((found, cross_entropy)) = totals.best() else {
            return Err(Error::new(Code::NoScore, "no public model has a score for this data"));
        };
        output.say(format_args!(
            "model {} {} predicts the data best: cross-entropy {cross_entropy:.4} on {}",
            found.id,
            found.name,
            totals.read()
        ));
        Ok(found.clone())
    }
}

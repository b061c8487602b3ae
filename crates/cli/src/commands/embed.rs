//! `soma embed PATH... -o FILE`: embeddings of files, as one file for other programs.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use soma_codes::Code;
use soma_compete::{Embeddings, Finder, Observer, Scoring};
use soma_model::{Directions, Engine, Weights};
use soma_os::file::AtomicFile;

use crate::commands::find::Search;
use crate::data::{Data, LeftOut, Shown};
use crate::error::{Error, Result};
use crate::global::Global;
use crate::home::Home;
use crate::model_flags::{self, Arch, ScoringArgs};
use crate::network;
use crate::output::Output;
use crate::output_file::{self, Existing};

/// Write the embeddings of files to one file.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma embed notes/ -o notes.safetensors\n\n\
                  The file has the tensor `embeddings`, 16-bit integers of the shape [files, \
                  dim], and in\nits metadata the names of the files, as a list in JSON. In \
                  Python:\nsafetensors.numpy.load_file(FILE)[\"embeddings\"]")]
pub(crate) struct Embed {
    /// Data: files, or folders of files.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The file to write, `NAME.safetensors`.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Weights file to embed with [default: the public model that predicts the data best].
    #[arg(short, long, value_name = "WEIGHTS")]
    model: Option<PathBuf>,
    /// `nano`, `v1` or a JSON file [default: from the weights file's metadata].
    #[arg(long, requires = "model")]
    arch: Option<Arch>,
    #[command(flatten)]
    search: Search,
    #[command(flatten)]
    engine: ScoringArgs,
}

/// Files that are read and embedded together have about this many bytes.
const BATCH_BYTES: u64 = 1 << 20;

#[derive(Serialize)]
struct Written<'a> {
    schema: &'static str,
    path: Shown<'a>,
    files: usize,
    dim: u32,
    weights_hash: String,
    /// The public model that was found; `None` for a file of this machine.
    model: Option<u32>,
    left_out: Vec<LeftOut>,
}

impl Embed {
    pub(crate) fn run(self, global: &Global, output: &Output) -> Result {
        check_name(&self.output)?;
        output_file::check(&self.output, Existing::Replaced)?;
        let not_written = |error: std::io::Error| Error::file(&self.output, "write", &error);
        let data = Data::find(&self.paths, output)?;
        let engine = self.engine.build(output)?;
        let (weights, model) = match &self.model {
            Some(path) => (model_flags::open(path, self.arch.as_ref())?, None),
            None => self.find(global, &data, &engine, output)?,
        };
        let embeddings = embed(&engine, &weights, &data, output)?;
        let mut file = AtomicFile::create(&self.output).map_err(not_written)?;
        embeddings.write(&mut file).and_then(|()| file.flush()).map_err(not_written)?;
        file.commit().map_err(not_written)?;
        let written = Written {
            schema: "embed_file/1",
            path: Shown(&self.output),
            files: embeddings.len(),
            dim: weights.architecture().dim,
            weights_hash: hex::encode(weights.hash()),
            model,
            left_out: data.left_out(),
        };
        let Written { files, dim, .. } = written;
        let path = self.output.display();
        output.result(format_args!("{path}  {files} embeddings of {dim} integers"), &written)?;
        data.ended()
    }

    /// The weights of the public model that predicts the data best, and its number.
    fn find(
        &self,
        global: &Global,
        data: &Data,
        engine: &Engine,
        output: &Output,
    ) -> Result<(Weights, Option<u32>)> {
        let home = Home::find(global)?;
        let (client, weights) =
            (network::client(global, output)?, network::weights(global, &home)?);
        let scores = self.search.scores(&home);
        let scoring = Scoring { engine, weights: &weights, scores: &scores };
        network::block_on(async {
            let mut finder = Finder::new(&client, scoring).await?;
            let found = self.search.best(&mut finder, data, output).await?;
            Ok((finder.open(&found, output).await?, Some(found.id)))
        })
    }
}

/// Embeds the files in their order; one that has no embedding is told and left out.
fn embed(engine: &Engine, weights: &Weights, data: &Data, output: &Output) -> Result<Embeddings> {
    // The directions only change the loss, so any seed gives the same embeddings.
    let directions = Directions::new(weights.architecture(), [0; 32]);
    let bytes = data.files.iter().map(|file| file.size_bytes).sum();
    let mut advance = output.start("embedding", Some(bytes));
    let mut done = 0;
    let mut embeddings = Embeddings::new(weights);
    for batch in data.batches(BATCH_BYTES) {
        let batch = data.read_all(batch, output)?;
        let contents: Vec<&[u8]> = batch.iter().map(|(_, content)| &content[..]).collect();
        let reports = soma_model::score_all(engine, weights, &contents, &directions, |bytes| {
            done += bytes as u64;
            advance(done);
        })?;
        for ((file, _), report) in batch.iter().zip(reports) {
            match report {
                Ok(report) => {
                    let name = file.path.display().to_string();
                    embeddings.push(name, &report.score.embedding);
                }
                Err(error) => {
                    data.leave_out::<()>(&file.path, error.into(), output)?;
                }
            }
        }
    }
    if embeddings.is_empty() {
        return Err(Error::new(Code::NoScore, "no file has an embedding"));
    }
    Ok(embeddings)
}

/// Only safetensors is written: what else a name asks for would surprise whoever reads the file.
fn check_name(path: &Path) -> Result {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    if extension == "safetensors" {
        return Ok(());
    }
    let format = match extension.as_str() {
        "" => "the name has no ending".to_owned(),
        "parquet" => "Parquet is not written".to_owned(),
        other => format!("`.{other}` is not written"),
    };
    Err(Error::usage(format!("embeddings are written as safetensors only: {format}"))
        .hint("name it NAME.safetensors; pandas and pyarrow convert it to other formats"))
}

//! `soma run`: continues a text with a model, or embeds files.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use soma_model::{Directions, Engine, Sampling, Weights, generate};

use crate::data::{Data, Shown};
use crate::error::Result;
use crate::harmless::one_line;
use crate::model_flags::{self, Arch, ScoringArgs};
use crate::output::Output;
use crate::seed::Seed;

/// Continue a text with a model, or embed files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma run --model owl.safetensors \"To be, or\" \
                  --bytes 200 --temperature 0.8")]
pub(crate) struct Run {
    /// The weights file.
    #[arg(short, long, value_name = "WEIGHTS")]
    model: PathBuf,
    /// `nano`, `v1` or a JSON file [default: from the file's metadata].
    #[arg(long)]
    arch: Option<Arch>,
    /// The text to continue.
    #[arg(required_unless_present = "embed")]
    text: Option<String>,
    /// Print the embeddings of these files, or folders of files, instead: integers, one line each;
    /// after the file's name and a tab if there are several.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "text")]
    embed: Vec<PathBuf>,
    /// Maximum number of bytes to generate; the model may end the text earlier.
    #[arg(long, default_value_t = 256, value_name = "N")]
    bytes: usize,
    /// 0 chooses the most likely byte; 1 samples from the model's distribution.
    #[arg(long, default_value_t = 0.8, value_name = "T", value_parser = temperature)]
    temperature: f32,
    /// The same seed gives the same text: an integer, or 64 hex digits.
    #[arg(long, default_value = "0")]
    seed: Seed,
    #[command(flatten)]
    engine: ScoringArgs,
}

fn temperature(text: &str) -> std::result::Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("a temperature must be a number, 0 or greater".to_owned()),
    }
}

#[derive(Serialize)]
struct Continued {
    schema: &'static str,
    prompt: String,
    /// As text; bytes that are not UTF-8 are replaced.
    text: String,
    /// The bytes themselves, in hex.
    bytes: String,
}

#[derive(Serialize)]
struct Embedded<'a> {
    schema: &'static str,
    file: Shown<'a>,
    weights_hash: &'a str,
    embedding: Vec<i16>,
}

impl Run {
    pub(crate) fn run(self, output: &Output) -> Result {
        let engine = self.engine.build(output)?;
        let weights = model_flags::open(&self.model, self.arch.as_ref())?;
        if !self.embed.is_empty() {
            return self.embed(&engine, &weights, output);
        }
        let prompt = self.text.unwrap_or_default();
        let sampling = Sampling { temperature: self.temperature, seed: self.seed.0 };
        let mut generated = Vec::new();
        let mut stdout = (!output.is_json()).then(Output::bytes);
        if let Some(stdout) = &mut stdout {
            // A closed pipe ends the generation below.
            let _closed = stdout.write(prompt.as_bytes())?;
        }
        generate(&engine, &weights, prompt.as_bytes(), self.bytes, sampling, |byte| {
            generated.push(byte);
            match stdout.as_mut().map(|stdout| stdout.write(&[byte])) {
                Some(Ok(false) | Err(_)) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            }
        })?;
        if let Some(mut stdout) = stdout {
            let _closed = stdout.write(b"\n")?;
            return Ok(());
        }
        let text = String::from_utf8_lossy(&generated).into_owned();
        let continued = Continued { schema: "run/1", prompt, text, bytes: hex::encode(&generated) };
        output.result("", &continued)
    }

    /// Prints the embedding of each file; one without is told and left out.
    fn embed(&self, engine: &Engine, weights: &Weights, output: &Output) -> Result {
        let data = Data::find(&self.embed, output)?;
        let several = data.files.len() > 1 || self.embed.iter().any(|path| path.is_dir());
        let directions = Directions::new(weights.architecture(), self.seed.0);
        let weights_hash = hex::encode(weights.hash());
        for file in &data.files {
            let Some(content) = data.read(file, output)? else {
                continue;
            };
            let path = &file.path;
            let embedding = match soma_model::score(engine, weights, &content, &directions) {
                Ok(report) => report.score.embedding,
                Err(error) => {
                    data.leave_out::<()>(path, error.into(), output)?;
                    continue;
                }
            };
            let integers: Vec<String> = embedding.iter().map(ToString::to_string).collect();
            let name =
                if several { format!("{}\t", one_line(path.display())) } else { String::new() };
            let text = format!("{name}{}", integers.join(" "));
            let (file, weights_hash) = (Shown(path), &weights_hash);
            let embedded = Embedded { schema: "embed/1", file, weights_hash, embedding };
            if !output.line(text, &embedded)? {
                return Ok(());
            }
        }
        data.ended()
    }
}

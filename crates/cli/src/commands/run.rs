//! `soma run`: continues a text with a model, or embeds a file.

use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use soma_model::{Directions, Sampling, generate};

use crate::error::{Error, Result};
use crate::model_flags::{self, Arch, EngineArgs};
use crate::output::Output;
use crate::seed::Seed;

/// Continue a text with a model, or embed a file.
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
    /// Print the embedding of this file instead: integers, one line.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    embed: Option<PathBuf>,
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
    engine: EngineArgs,
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
struct Embedded {
    schema: &'static str,
    weights_hash: String,
    embedding: Vec<i16>,
}

impl Run {
    pub(crate) fn run(self, output: &Output) -> Result {
        let engine = self.engine.build()?;
        let weights = model_flags::open(&self.model, self.arch.as_ref())?;
        if let Some(file) = &self.embed {
            let data = std::fs::read(file).map_err(|error| Error::file(file, "read", &error))?;
            let directions = Directions::new(weights.architecture(), self.seed.0);
            let report = soma_model::score(&engine, &weights, &data, &directions)?;
            let embedding = report.score.embedding;
            let text: Vec<String> = embedding.iter().map(ToString::to_string).collect();
            let weights_hash = hex::encode(weights.hash());
            let embedded = Embedded { schema: "embed/1", weights_hash, embedding };
            return output.result(text.join(" "), &embedded);
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
}

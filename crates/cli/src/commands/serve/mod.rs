//! `soma serve`: a model as a completion endpoint on this machine, for programs that speak the API
//! of OpenAI.
//!
//! It listens on loopback only and answers no page of another site: whoever uses this machine may
//! use the model, and nobody else.

mod api;
mod completion;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::error::Result;
use crate::harmless::one_line;
use crate::model_flags::{self, Arch, ScoringArgs};
use crate::network;
use crate::output::Output;
use crate::signals;
use api::Server;

/// Serve a model to programs on this machine, as OpenAI's completions and embeddings.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: soma serve --model owl.safetensors\n         \
                  curl http://127.0.0.1:8650/v1/completions -H 'content-type: application/json' \
                  \\\n           -d '{\"prompt\": \"To be, or\", \"max_tokens\": 100}'")]
pub(crate) struct Serve {
    /// The weights file.
    #[arg(short, long, value_name = "WEIGHTS")]
    model: PathBuf,
    /// `nano`, `v1` or a JSON file [default: from the file's metadata].
    #[arg(long)]
    arch: Option<Arch>,
    /// Port on loopback; 0 chooses a free one.
    #[arg(long, default_value_t = 8650)]
    port: u16,
    /// The most bytes that a request may ask for.
    #[arg(long, default_value_t = 4096, value_name = "N")]
    bytes_max: u32,
    #[command(flatten)]
    engine: ScoringArgs,
}

/// What is served, and where.
#[derive(Serialize)]
struct Serving<'a> {
    schema: &'static str,
    url: &'a str,
    model: &'a str,
    weights_hash: &'a str,
}

impl Serve {
    pub(crate) fn run(self, output: &Output) -> Result {
        let engine = self.engine.build(output)?;
        let weights = model_flags::open(&self.model, self.arch.as_ref())?;
        let name = self
            .model
            .file_stem()
            .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
        let server = Arc::new(Server::new(engine, weights, name, self.bytes_max));
        network::block_on(async {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
            let hint = "choose another port with --port, or 0 for a free one";
            let (listener, url) = network::listen(address, hint).await?;
            let url = format!("{url}/v1");
            output.say(format_args!("serving {} until Ctrl-C", one_line(server.name())));
            let serving = Serving {
                schema: "serve/1",
                url: &url,
                model: server.name(),
                weights_hash: server.weights_hash(),
            };
            output.value("url", &url, &serving)?;
            let router = api::router(Arc::clone(&server));
            let ended = tokio::select! {
                ended = axum::serve(listener, router) =>
                    ended.map_err(|error| network::not_served(&error)),
                signal = signals::stopped() => signal,
            };
            server.stop();
            ended
        })
    }
}

//! Architectures, weights files and kernels as flags name them.

use std::path::Path;
use std::str::FromStr;

use soma_codes::Coded as _;
use soma_model::{Architecture, DeviceChoice, Engine, KernelChoice, Weights};
use soma_os::data::read_text;

use crate::error::Result;
use crate::output::Output;

/// Size limit of an architecture's JSON.
const ARCHITECTURE_BYTES_MAX: usize = 64 << 10;

/// `nano`, `v1`, or a JSON file with the numbers.
#[derive(Clone, Debug)]
pub(crate) struct Arch(pub(crate) Architecture);

impl FromStr for Arch {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        if let Some(preset) = Architecture::preset(text) {
            return Ok(Self(preset));
        }
        let json = read_text(Path::new(text), ARCHITECTURE_BYTES_MAX).map_err(|error| {
            format!("neither `nano` nor `v1`, and not a readable file: {error}")
        })?;
        Architecture::from_json(&json).map(Self).map_err(|error| error.to_string())
    }
}

/// How to compute; the bits are always the same.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EngineArgs {
    /// The kernels; all compute the same bits.
    #[arg(long, default_value = "auto", value_name = "NAME")]
    kernel: KernelChoice,
    /// Threads [default: all cores].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

impl EngineArgs {
    /// The kernels on a pool of threads.
    pub(crate) fn build(&self) -> Result<Engine> {
        let threads = self.threads.map_or_else(
            || std::thread::available_parallelism().map_or(1, usize::from),
            usize::from,
        );
        Ok(Engine::new(self.kernel, threads)?)
    }
}

/// How to compute scores; the bits are always the same.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ScoringArgs {
    #[command(flatten)]
    engine: EngineArgs,
    /// Where scores are computed: auto, cpu, cuda or cuda:N; all compute the same bits.
    // The kernels for cards have been run on an emulated card only: whoever has one decides.
    #[arg(long, default_value = "cpu", value_name = "NAME")]
    device: DeviceChoice,
}

impl ScoringArgs {
    /// The kernels on a pool of threads, and the device; a card that fails is warned of.
    pub(crate) fn build(&self, output: &Output) -> Result<Engine> {
        let output = output.clone();
        let warn = move |error: &soma_model::Error| {
            let hint = error.hint();
            output.warn(format_args!("{error}; this processor computes instead; hint: {hint}"));
        };
        Ok(self.engine.build()?.on(self.device, warn)?)
    }
}

/// Opens and checks a weights file; an error names it.
pub(crate) fn open(path: &Path, arch: Option<&Arch>) -> Result<Weights> {
    Ok(soma_compete::open(path, arch.map(|arch| &arch.0))?)
}

/// A number of threads, as text.
pub(crate) fn threads(count: usize) -> String {
    if count == 1 { "1 thread".to_owned() } else { format!("{count} threads") }
}

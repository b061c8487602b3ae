//! Searches for weights that make a score slow: the time of a score with the weights of every
//! hostile recipe, as a multiple of the time with honest ones, on every kernel of this CPU.
//!
//! `cargo run --release -p soma-model --example slow_weights -- [--kernel NAME] [--arch NAME]
//! [--layers N] [--bytes N] [--rounds N] [--threads N] [RECIPE...]`
//!
//! It fails if any multiple is more than 1.2: nobody may be able to slow auditors down.

use std::error::Error;

use soma_model::bench::{hostile, score_ratio};
use soma_model::{Architecture, Engine, KernelChoice, KernelKind};

/// The largest multiple that is accepted.
const MOST: f64 = 1.2;

#[expect(clippy::print_stdout, reason = "an example that runs in a terminal")]
fn main() -> Result<(), Box<dyn Error>> {
    let mut kinds: Vec<KernelKind> = KernelKind::ALL.into();
    kinds.retain(|kind| kind.is_available() && *kind != KernelKind::Reference);
    let (mut architecture, mut layers) = (Architecture::v1(), 1);
    let (mut bytes, mut rounds, mut threads) = (1024, 3, 1);
    let mut names = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--kernel" => {
                let name = value();
                kinds.retain(|kind| kind.name() == name);
            }
            "--arch" => architecture = Architecture::preset(&value()).ok_or("nano or v1?")?,
            "--layers" => layers = value().parse()?,
            "--bytes" => bytes = value().parse()?,
            "--rounds" => rounds = value().parse()?,
            "--threads" => threads = value().parse()?,
            _ => names.push(argument),
        }
    }
    architecture.layers = layers;
    let honest = hostile::honest(&architecture)?;
    let mut worst = 0.0;
    for recipe in hostile::RECIPES {
        if !names.is_empty() && !names.iter().any(|name| recipe.name.contains(name.as_str())) {
            continue;
        }
        let weights = hostile::hostile(&architecture, recipe)?;
        let mut line = format!("{:36}", recipe.name);
        for &kind in &kinds {
            let engine = Engine::new(KernelChoice::Kind(kind), threads)?;
            let ratio = score_ratio(&engine, [&honest, &weights], bytes, rounds);
            line += &format!(" {kind} {ratio:.3}");
            if ratio > worst {
                worst = ratio;
            }
        }
        println!("{line}");
    }
    println!("the slowest takes {worst:.3} times the honest time");
    if worst > MOST { Err(format!("more than {MOST}").into()) } else { Ok(()) }
}

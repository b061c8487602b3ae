//! Trains `nano` on the files given, holds out the last tenth of their bytes, and prints what it
//! did.
//!
//! `cargo run --release -p soma-model --example train_nano -- [--steps N] [--threads N] FILE...`
//!
//! Run it twice, or with other thread counts: the weights hash is the same.

use std::error::Error;
use std::time::Instant;

use soma_model::train::{Corpus, Recipe, Trainer};
use soma_model::{Architecture, Engine, KernelChoice, Weights};

#[expect(clippy::print_stdout, reason = "an example that runs in a terminal")]
fn main() -> Result<(), Box<dyn Error>> {
    let (mut recipe, mut threads, mut corpus) = (Recipe::default(), 0, Corpus::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_default();
        match argument.as_str() {
            "--steps" => recipe.steps = value().parse()?,
            "--threads" => threads = value().parse()?,
            path => corpus.push(&std::fs::read(path)?),
        }
    }
    let (corpus, held_out) = corpus.hold_out();
    let engine = Engine::new(KernelChoice::Auto, threads)?;
    let weights = Weights::init(&Architecture::nano(), recipe.seed)?;
    let steps = recipe.steps;
    let mut trainer = Trainer::new(&engine, &weights, recipe, corpus)?;
    let (start, mut tokens) = (Instant::now(), 0);
    for _ in 0..steps {
        let report = trainer.step()?;
        tokens += report.tokens;
        if report.step.is_multiple_of(100) || report.step == steps {
            println!(
                "step {:5}  cross-entropy {:.4}  SIGReg {:.3}  gradient {:.3}  rate {:.6}",
                report.step,
                report.cross_entropy,
                report.sigreg,
                report.gradient_norm,
                report.learning_rate,
            );
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "an approximate speed")]
    let speed = tokens as f64 / seconds;
    println!("{seconds:.1} s on {} threads, {speed:.0} tokens/s", engine.threads());
    println!("held out      {:.4} nats per byte", trainer.evaluate(&held_out)?);
    println!("weights hash  {}", blake3::Hash::from(trainer.weights().hash()));
    Ok(())
}

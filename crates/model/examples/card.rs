//! Compares a card with this CPU, bit by bit, and then computes scores as often as it is told to.
//!
//! `cargo run --release -p soma-model --example card -- [--device cuda:N] [--seed TEXT]
//! [--products N] [--layers N] [--serve]`
//!
//! It fails at the first bit that differs. With `--serve` it then reads numbers of bytes from
//! standard input, one a line, scores as many on the card, and prints the seconds: `bench/gpu.sh`
//! measures so in turn with PyTorch.

use std::error::Error;
use std::io::BufRead as _;
use std::time::Instant;

use soma_model::{
    Architecture, CardInfo, DeviceChoice, Directions, Dump, Engine, KernelChoice, Weights, score,
    score_all, score_with_dump,
};

/// What the command line says.
struct Arguments {
    index: u32,
    seed: String,
    products: u32,
    layers: u32,
    serve: bool,
}

impl Arguments {
    fn read() -> Result<Self, Box<dyn Error>> {
        let mut read =
            Self { index: 0, seed: "0".to_owned(), products: 20, layers: 24, serve: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_default();
            match argument.as_str() {
                "--device" => match value().parse()? {
                    DeviceChoice::Cuda(index) => read.index = index,
                    device => return Err(format!("{device} is not a card").into()),
                },
                "--seed" => read.seed = value(),
                "--products" => read.products = value().parse()?,
                "--layers" => read.layers = value().parse()?,
                "--serve" => read.serve = true,
                _ => return Err(format!("unknown argument {argument}").into()),
            }
        }
        Ok(read)
    }
}

/// Bytes that look like nothing.
fn noise(seed: &str, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[expect(clippy::print_stderr, reason = "an example that runs in a terminal")]
fn progress(text: &str) {
    eprintln!("card: {text}");
}

#[expect(clippy::print_stdout, reason = "an example that runs in a terminal")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let begun = Instant::now();
    let card = CardInfo::find(arguments.index)?;
    let opened = begun.elapsed().as_secs_f64();
    progress(&format!("cuda:{} is {}", card.index, card.name));
    progress(&format!("opened, its kernels compiled and tested in {opened:.2} s"));
    let cpu = Engine::new(KernelChoice::Auto, 0)?;
    for number in 0..arguments.products {
        let seed = format!("{} {number}", arguments.seed);
        let extents = card.compare_product(&cpu, seed.as_bytes())?;
        progress(&format!("product {extents}: equal"));
    }
    let engine = Engine::new(KernelChoice::Auto, 0)?.on(
        DeviceChoice::Cuda(arguments.index),
        // Without this, the CPU would be compared with itself.
        |error| {
            progress(&error.to_string());
            std::process::abort();
        },
    )?;
    let architecture = Architecture { layers: arguments.layers, ..Architecture::v1() };
    let begun = Instant::now();
    let weights =
        Weights::init(&architecture, *blake3::hash(arguments.seed.as_bytes()).as_bytes())?;
    progress(&format!(
        "{} layers of V1 in {:.1} s",
        weights.architecture().layers,
        begun.elapsed().as_secs_f64()
    ));
    let directions = Directions::new(&architecture, [0; 32]);
    compare(&cpu, &engine, &weights, &directions, &arguments.seed)?;
    if arguments.serve {
        println!("ready");
        for line in std::io::stdin().lock().lines() {
            let data = noise(&arguments.seed, line?.trim().parse()?);
            let begun = Instant::now();
            score(&engine, &weights, &data, &directions)?;
            println!("{}", begun.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// Scores the same data on both, and compares everything that a score is made of.
fn compare(
    cpu: &Engine,
    card: &Engine,
    weights: &Weights,
    directions: &Directions,
    seed: &str,
) -> Result<(), Box<dyn Error>> {
    let data = noise(&format!("{seed} data"), 2 * 1024 + 100);
    for count in [1, 100, 1024, data.len()] {
        let data = &data[..count];
        let (expected, expected_dump) = score_with_dump(cpu, weights, data, directions)?;
        let (got, dump) = score_with_dump(card, weights, data, directions)?;
        if expected != got {
            return Err(format!("the score of {count} bytes differs").into());
        }
        if !same_bits(&expected_dump, &dump) {
            return Err(format!("the rows of {count} bytes differ").into());
        }
        progress(&format!(
            "{count} bytes: score, nll, representations and logits equal, loss_q32 {}",
            got.score.loss_q32
        ));
    }
    let documents: Vec<&[u8]> = data.chunks(97).collect();
    let scores = |engine| score_all(engine, weights, &documents, directions, |_| ());
    let (expected, got) = (scores(cpu)?, scores(card)?);
    for (expected, got) in expected.into_iter().zip(got) {
        if expected? != got? {
            return Err("the score of a document among others differs".into());
        }
    }
    progress(&format!("{} documents in one pass: equal", documents.len()));
    Ok(())
}

fn same_bits(a: &Dump, b: &Dump) -> bool {
    let same = |a: &[f32], b: &[f32]| {
        a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits())
    };
    same(&a.representations, &b.representations)
        && same(&a.logits, &b.logits)
        && same(&a.nll, &b.nll)
}

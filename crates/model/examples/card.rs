//! Compares a card with this CPU, bit by bit, and then computes scores as often as it is told to.
//!
//! `cargo run --release -p soma-model --example card -- [--device cuda:N] [--seed TEXT]
//! [--seconds N] [--serve]`
//!
//! It fails at the first bit that differs. What would take longer than `--seconds` on this CPU, or
//! has no room in memory, it leaves out, and says so. With `--serve` it then prints `ready` and the
//! layers of its model, reads numbers of bytes from standard input, one a line, scores as many on
//! the card, and prints the seconds: `bench/gpu.sh` measures so in turn with PyTorch.

use std::error::Error;
use std::io::BufRead as _;
use std::time::{Duration, Instant};

use soma_model::{
    Architecture, CardInfo, DeviceChoice, Directions, Dump, Engine, KernelChoice, Weights, score,
    score_all, score_with_dump,
};
use soma_os::data::check_memory;

/// Products that are compared, if there is time.
const PRODUCTS: u32 = 20;
/// Layers of the models that are compared, each if there is time and memory; the last is V1.
const LAYERS: [u32; 3] = [2, 8, 24];
/// Memory that a pass needs besides the model.
const PASS_BYTES: u64 = 2 << 30;

/// What the command line says.
struct Arguments {
    index: u32,
    seed: String,
    time: Duration,
    serve: bool,
}

impl Arguments {
    fn read() -> Result<Self, Box<dyn Error>> {
        let time = Duration::from_hours(1);
        let mut read = Self { index: 0, seed: "0".to_owned(), time, serve: false };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().unwrap_or_default();
            match argument.as_str() {
                "--device" => match value().parse()? {
                    DeviceChoice::Cuda(index) => read.index = index,
                    device => return Err(format!("{device} is not a card").into()),
                },
                "--seed" => read.seed = value(),
                "--seconds" => read.time = Duration::from_secs(value().parse()?),
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

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let begun = Instant::now();
    let card = CardInfo::find(arguments.index)?;
    let opened = begun.elapsed().as_secs_f64();
    let free = card.free_bytes >> 20;
    progress(&format!("cuda:{} is {}, {free} MiB free", card.index, card.name));
    progress(&format!("opened, its kernels compiled and tested in {opened:.2} s"));
    let cpu = Engine::new(KernelChoice::Auto, 0)?;
    products(&arguments, &card, &cpu, begun)?;
    let engine = Engine::new(KernelChoice::Auto, 0)?.on(
        DeviceChoice::Cuda(arguments.index),
        // Without this, the CPU would be compared with itself.
        |error| {
            progress(&error.to_string());
            std::process::abort();
        },
    )?;
    let largest = models(&arguments, &card, &cpu, &engine, begun)?;
    if arguments.serve { serve(&arguments, &engine, largest) } else { Ok(()) }
}

/// Compares products for a quarter of the time.
fn products(
    arguments: &Arguments,
    card: &CardInfo,
    cpu: &Engine,
    begun: Instant,
) -> Result<(), Box<dyn Error>> {
    for number in 0..PRODUCTS {
        if begun.elapsed() > arguments.time / 4 {
            progress(&format!("skipped: {} of {PRODUCTS} products", PRODUCTS - number));
            break;
        }
        let seed = format!("{} {number}", arguments.seed);
        let extents = card.compare_product(cpu, seed.as_bytes())?;
        progress(&format!("product {extents}, in every tile with every epilogue: equal"));
    }
    Ok(())
}

/// Compares models of ever more layers of V1 while there is time. Returns the most layers that
/// there is memory for.
fn models(
    arguments: &Arguments,
    card: &CardInfo,
    cpu: &Engine,
    engine: &Engine,
    begun: Instant,
) -> Result<u32, Box<dyn Error>> {
    let mut largest = 0;
    let mut took_each = Duration::ZERO;
    for layers in LAYERS {
        let architecture = Architecture { layers, ..Architecture::v1() };
        let bytes = architecture.parameters() * 4;
        if card.free_bytes as u64 <= bytes + PASS_BYTES || check_memory(bytes + PASS_BYTES).is_err()
        {
            let gib = (bytes + PASS_BYTES) >> 30;
            progress(&format!("skipped: {layers} layers of V1, which need more than {gib} GiB"));
            break;
        }
        largest = layers;
        let left = arguments.time.saturating_sub(begun.elapsed());
        let expected = took_each * layers;
        if expected > left {
            let seconds = expected.as_secs();
            progress(&format!(
                "skipped: {layers} layers of V1, about {seconds} s on this processor"
            ));
            continue;
        }
        let model_begun = Instant::now();
        let weights = weights(arguments, layers)?;
        compare(cpu, engine, &weights, &arguments.seed)?;
        took_each = model_begun.elapsed() / layers;
    }
    Ok(largest)
}

fn weights(arguments: &Arguments, layers: u32) -> Result<Weights, Box<dyn Error>> {
    let architecture = Architecture { layers, ..Architecture::v1() };
    Ok(Weights::init(&architecture, *blake3::hash(arguments.seed.as_bytes()).as_bytes())?)
}

/// Scores as many bytes as each line of standard input says.
#[expect(clippy::print_stdout, reason = "an example that another program reads")]
fn serve(arguments: &Arguments, engine: &Engine, layers: u32) -> Result<(), Box<dyn Error>> {
    if layers == 0 {
        return Err("there is no memory for two layers of V1".into());
    }
    let weights = weights(arguments, layers)?;
    let directions = Directions::new(weights.architecture(), [0; 32]);
    println!("ready {layers}");
    for line in std::io::stdin().lock().lines() {
        let data = noise(&arguments.seed, line?.trim().parse()?);
        let begun = Instant::now();
        score(engine, &weights, &data, &directions)?;
        println!("{}", begun.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Scores the same data on both, and compares everything that a score is made of.
fn compare(
    cpu: &Engine,
    card: &Engine,
    weights: &Weights,
    seed: &str,
) -> Result<(), Box<dyn Error>> {
    let layers = weights.architecture().layers;
    let directions = &Directions::new(weights.architecture(), [0; 32]);
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
            "{layers} layers of V1, {count} bytes: score, nll, representations and logits equal, \
             loss_q32 {}",
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
    progress(&format!("{layers} layers of V1, {} documents in one pass: equal", documents.len()));
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
